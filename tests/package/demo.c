/* Streams a GRU; prints the bits of what came out, which are the same everywhere. */
#include <fastrnn/fastrnn.h>
#include <stdio.h>

#include "model.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, fr_last_error());
  return 1;
}

int main(void) {
  fr_model* model;
  fr_stream* stream;
  size_t size;
  uint64_t state = 2;
  char* file = make_model(&size);
  if (fr_model_load_memory(file, size, NULL, &model)) return failed("model");
  if (fr_stream_create(model, NULL, &stream)) return failed("stream");
  free(file);
  for (int step = 0; step < 200; ++step) {
    float x[inputs], y[outputs];
    uint32_t bits[outputs];
    for (int i = 0; i < inputs; ++i) x[i] = 4 * next_value(&state);
    if (fr_stream_step(stream, x, y)) return failed("step");
    memcpy(bits, y, sizeof bits);
    printf("%08x %08x\n", (unsigned)bits[0], (unsigned)bits[1]);
  }
  fr_stream_free(stream);
  fr_model_free(model);
  fprintf(stderr, "fastrnn %s, %s\n", fr_version(), fr_isa());
  return 0;
}
