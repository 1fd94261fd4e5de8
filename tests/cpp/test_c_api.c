/* The C API from C99, and, as test_c_api_cpp.cpp includes this file, from C++: every function, against
 * the formulas of a GRU and against each other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn/fastrnn.h"
#include "small_model.h"

enum { inputs = 2, units = 3, outputs = 2, steps = 50, rows = 5 };

static int failures = 0;

static void report(int ok, const char* what, int line) {
  if (ok) return;
  ++failures;
  printf("line %d: %s (last error: %s)\n", line, what, fr_last_error());
}
#define CHECK(condition) report((condition) ? 1 : 0, #condition, __LINE__)
/* A status, and a part of the message. */
#define CHECK_FAILS(call, status, part) \
  report((call) == (status) && strstr(fr_last_error(), part), #call, __LINE__)

static int same(const float* a, const float* b, size_t count) {
  return memcmp(a, b, count * sizeof *a) == 0;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One step by the formulas, in double precision; h is changed. */
static void reference_step(const float* values, const float* x, double* h, double* y) {
  const float *w_ih = values, *w_hh = w_ih + 9 * inputs, *b_ih = w_hh + 9 * units, *b_hh = b_ih + 9;
  const float *weight = b_hh + 9, *bias = weight + outputs * units;
  double from_x[9], from_h[9];
  int i, j;
  for (i = 0; i < 9; ++i) {
    from_x[i] = b_ih[i];
    from_h[i] = b_hh[i];
    for (j = 0; j < inputs; ++j) from_x[i] += (double)w_ih[i * inputs + j] * x[j];
    for (j = 0; j < units; ++j) from_h[i] += w_hh[i * units + j] * h[j];
  }
  for (j = 0; j < units; ++j) {
    const double r = sigmoid(from_x[j] + from_h[j]);
    const double z = sigmoid(from_x[3 + j] + from_h[3 + j]);
    const double n = tanh(from_x[6 + j] + r * from_h[6 + j]);
    h[j] = (1 - z) * n + z * h[j];
  }
  for (i = 0; i < outputs; ++i) {
    y[i] = bias[i];
    for (j = 0; j < units; ++j) y[i] += weight[i * units + j] * h[j];
  }
}

static void make_input(float* x, int count) {
  int i;
  for (i = 0; i < count; ++i) x[i] = (float)((i * 7919) % 201 - 100) / 50.0f;
}

static void test_library(void) {
  int status;
  CHECK(strcmp(fr_last_error(), "") == 0);
  CHECK(fr_abi_version() == FR_ABI_VERSION);
  CHECK(strlen(fr_version()) >= 5);
  CHECK(fr_isa() && strlen(fr_isa()) > 0);
  for (status = FR_OK; status <= FR_SHUT_DOWN; ++status)
    CHECK(strncmp(fr_status_name((fr_status)status), "FR_", 3) == 0);
  CHECK(strcmp(fr_status_name((fr_status)99), "unknown") == 0);
}

static void test_model(const fr_model* model) {
  fr_model_info info;
  info.struct_size = sizeof info;
  CHECK(fr_model_get_info(model, &info) == FR_OK);
  CHECK(info.input_size == inputs && info.output_size == outputs && info.state_size == units);
  CHECK(info.streams == 1 && info.takes_tokens == 0 && info.precision == FR_PRECISION_FLOAT32);
  CHECK(info.memory > sizeof(float) * SMALL_MODEL_VALUES);
  CHECK(strcmp(fr_model_metadata(model), "{\"rate\":8000}") == 0);
}

static void test_streams(const fr_model* model, const float* values) {
  fr_stream* stream = NULL;
  const fr_stream_options options = {sizeof options, 7};
  float x[steps * inputs], single[steps * outputs], block[steps * outputs], state[units],
      y[outputs];
  double h[units] = {0, 0, 0}, expected[outputs];
  int t, i;
  make_input(x, steps * inputs);
  CHECK(fr_stream_create(model, &options, &stream) == FR_OK);
  for (t = 0; t < steps; ++t) {
    CHECK(fr_stream_step(stream, x + t * inputs, single + t * outputs) == FR_OK);
    reference_step(values, x + t * inputs, h, expected);
    for (i = 0; i < outputs; ++i) CHECK(fabs(single[t * outputs + i] - expected[i]) < 1e-5);
  }
  CHECK(fr_stream_reset(stream) == FR_OK);
  CHECK(fr_stream_process(stream, x, 20, block) == FR_OK);
  CHECK(fr_stream_get_state(stream, state, units) == FR_OK);
  fr_stream_free(stream);
  CHECK(fr_stream_create(model, NULL, &stream) == FR_OK);
  CHECK(fr_stream_set_state(stream, state, units) == FR_OK);
  CHECK(fr_stream_process(stream, x + 20 * inputs, 30, block + 20 * outputs) == FR_OK);
  CHECK(same(single, block, steps * outputs));
  CHECK(fr_model_run(model, x, 1, steps, NULL, block) == FR_OK);
  CHECK(same(single, block, steps * outputs));
  CHECK(fr_stream_reset(stream) == FR_OK);
  CHECK(fr_stream_step_token(stream, 1, y) == FR_OK);
  CHECK(fr_stream_reset(stream) == FR_OK);
  {
    const float one_hot[inputs] = {0, 1};
    CHECK(fr_stream_step(stream, one_hot, block) == FR_OK);
    CHECK(same(block, y, outputs));
  }
  fr_stream_free(stream);
}

/* Many streams in one call, the same ones one by one, and the same as a batch of whole sequences. */
static void test_many(const fr_model* model) {
  fr_stream *streams[rows], *twice[2];
  float x[steps * rows * inputs], y[steps * rows * outputs], turned[steps * rows * inputs];
  float whole[rows * steps * outputs], tokens_y[2 * rows * outputs];
  const size_t lengths[rows] = {steps, 0, 3, steps, 17};
  int32_t tokens[2 * rows];
  int b, t, i;
  make_input(x, steps * rows * inputs);
  for (b = 0; b < rows; ++b) CHECK(fr_stream_create(model, NULL, &streams[b]) == FR_OK);
  for (t = 0; t < steps; ++t)
    CHECK(fr_streams_step(streams, rows, x + t * rows * inputs, y + t * rows * outputs) == FR_OK);
  for (b = 0; b < rows; ++b)
    for (t = 0; t < steps; ++t)
      memcpy(turned + (b * steps + t) * inputs, x + (t * rows + b) * inputs,
             inputs * sizeof(float));
  CHECK(fr_model_run(model, turned, rows, steps, lengths, whole) == FR_OK);
  for (b = 0; b < rows; ++b)
    for (t = 0; t < steps; ++t) {
      const float zeros[outputs] = {0, 0}, *got = whole + (b * steps + t) * outputs;
      const float* expected = (size_t)t < lengths[b] ? y + (t * rows + b) * outputs : zeros;
      CHECK(same(got, expected, outputs));
    }
  for (i = 0; i < 2 * rows; ++i) tokens[i] = i % 2;
  for (b = 0; b < rows; ++b) fr_stream_reset(streams[b]);
  CHECK(fr_streams_step_tokens(streams, rows, tokens, y) == FR_OK);
  for (b = 0; b < rows; ++b) {
    fr_stream_reset(streams[b]);
    CHECK(fr_stream_process_tokens(streams[b], tokens + b, 1, whole) == FR_OK);
    CHECK(same(whole, y + b * outputs, outputs));
  }
  CHECK(fr_model_run_tokens(model, tokens, rows, 2, NULL, tokens_y) == FR_OK);
  CHECK(same(tokens_y, y, outputs));
  CHECK_FAILS(fr_streams_step_tokens(streams, rows, tokens, NULL), FR_INVALID_ARGUMENT, "y: ");
  twice[0] = twice[1] = streams[0];
  CHECK_FAILS(fr_streams_step(twice, 2, x, y), FR_INVALID_ARGUMENT, "got one again at 1");
  for (b = 0; b < rows; ++b) fr_stream_free(streams[b]);
}

static void test_files(const small_model* file) {
  const char* path = "test_c_api.safetensors";
  fr_model* model = NULL;
  size_t size;
  FILE* out = fopen(path, "wb");
  CHECK(out && fwrite(file->bytes, sizeof file->bytes, 1, out) == 1);
  if (out) fclose(out);
  CHECK(fr_model_load(path, NULL, &model) == FR_OK);
  test_model(model);
  fr_model_free(model);
  remove(path);
  CHECK_FAILS(fr_model_load(path, NULL, &model), FR_IO_ERROR, path);
  CHECK(!model);
  for (size = 0; size < sizeof file->bytes; ++size)
    CHECK_FAILS(fr_model_load_memory(file->bytes, size, NULL, &model), FR_INVALID_MODEL,
                "data: not a whole safetensors file");
}

int main(void) {
  static small_model file;
  fr_model* model = NULL;
  fr_stream* stream = NULL;
  float x[inputs] = {1, 2}, y[outputs];
  small_model_make(&file);
  test_library();
  CHECK(fr_model_load_memory(file.bytes, sizeof file.bytes, NULL, &model) == FR_OK);
  if (!model) return EXIT_FAILURE;
  test_model(model);
  test_streams(model, file.values);
  test_many(model);
  test_files(&file);
  CHECK(fr_stream_create(model, NULL, &stream) == FR_OK);
  fr_model_free(model); /* the stream keeps what it needs */
  CHECK(fr_stream_step(stream, x, y) == FR_OK);
  fr_stream_free(stream);
  fr_model_free(NULL);
  fr_stream_free(NULL);
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
