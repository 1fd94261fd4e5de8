/* A guitar amplifier as a real-time effect: a recording goes through a trained network in blocks of
 * 64 frames, as an audio driver would ask for them, and each block is timed.
 *
 *     amplifier model.safetensors input.wav output.wav
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include <fastrnn/fastrnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../wav.h"

enum { BLOCK = 64 };

/* All that the audio thread needs, made before it begins. */
typedef struct {
  size_t channels;
  fr_stream** streams; /* one for each channel: it holds the state */
} effect;

/* As all below that return text: null, or what is wrong. */
static const char* effect_create(effect* e, const fr_model* model, size_t channels) {
  fr_model_info info = {.struct_size = sizeof info};
  if (fr_model_get_info(model, &info)) return fr_last_error();
  if (info.takes_tokens || info.input_size != 1 || info.output_size != 1) {
    return "expected a model of one input and one output";
  }
  e->channels = channels;
  e->streams = calloc(channels, sizeof *e->streams);
  if (!e->streams) return "no memory for the streams";
  for (size_t c = 0; c < channels; ++c) {
    if (fr_stream_create(model, NULL, &e->streams[c])) return fr_last_error();
  }
  return NULL;
}

static void effect_free(effect* e) {
  for (size_t c = 0; e->streams && c < e->channels; ++c) fr_stream_free(e->streams[c]);
  free(e->streams);
}

/* The audio callback: count <= BLOCK frames, in place. Allocates nothing, takes no lock, makes no
 * system call. */
static const char* process(const effect* e, float* frames, size_t count) {
  float x[BLOCK], y[BLOCK];
  for (size_t c = 0; c < e->channels; ++c) {
    for (size_t t = 0; t < count; ++t) x[t] = frames[t * e->channels + c];
    if (fr_stream_process(e->streams[c], x, count, y)) return fr_last_error();
    for (size_t t = 0; t < count; ++t) frames[t * e->channels + c] = y[t];
  }
  return NULL;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Stands for the audio driver; `times` takes the seconds of each block. */
static const char* play(const effect* e, const wav* recording, double* times) {
  for (size_t start = 0; start < recording->frames; start += BLOCK) {
    const size_t left = recording->frames - start;
    const double before = seconds_now();
    const char* problem =
        process(e, recording->samples + start * recording->channels, left < BLOCK ? left : BLOCK);
    if (problem) return problem;
    *times++ = seconds_now() - before;
  }
  return NULL;
}

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void report(const wav* in, double* times, size_t blocks) {
  double total = 0;
  for (size_t b = 0; b < blocks; ++b) total += times[b];
  qsort(times, blocks, sizeof *times, by_value);
  const double length = (double)in->frames / in->rate, deadline = (double)BLOCK / in->rate;
  printf("%.1f s of %u channels at %u Hz in %.3f s: %.1f times real time (%s)\n", length,
         (unsigned)in->channels, (unsigned)in->rate, total, length / total, fr_isa());
  printf("blocks of %d frames: median %.1f us, longest %.1f us, deadline %.1f us\n", BLOCK,
         1e6 * times[blocks / 2], 1e6 * times[blocks - 1], 1e6 * deadline);
}

/* The whole recording, in place. */
static const char* amplify(const fr_model* model, const wav* recording) {
  const size_t blocks = (recording->frames + BLOCK - 1) / BLOCK;
  double* times = malloc((blocks + 1) * sizeof *times);
  if (!times) return "no memory for the times";
  effect e = {0, NULL};
  const char* problem = effect_create(&e, model, recording->channels);
  if (!problem) problem = play(&e, recording, times);
  if (!problem && blocks) report(recording, times, blocks);
  effect_free(&e);
  free(times);
  return problem;
}

static int complain(const char* path, const char* problem) {
  fprintf(stderr, "amplifier: %s%s%s\n", path, *path ? ": " : "", problem);
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fputs("usage: amplifier MODEL.safetensors INPUT.wav OUTPUT.wav\n", stderr);
    return 2;
  }
  wav recording;
  const char* problem = wav_read(argv[2], &recording);
  if (problem) return complain(argv[2], problem);
  fr_model* model;
  int status = 0;
  if (fr_model_load(argv[1], NULL, &model)) {
    status = complain("", fr_last_error());
  } else if ((problem = amplify(model, &recording)) != NULL) {
    status = complain("", problem);
  } else if ((problem = wav_write(argv[3], &recording)) != NULL) {
    status = complain(argv[3], problem);
  }
  fr_model_free(model);
  free(recording.samples);
  return status;
}
