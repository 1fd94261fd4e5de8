// Memory does not grow: stream steps, and models loaded, used and freed, with loads that fail among
// them. `test_soak [steps] [cycles]`: 10^5 and 10^2 by default, 10^7 and 10^4 in tools/trust.sh.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>
#if defined(__linux__)
#include <unistd.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "fastrnn/fastrnn.h"
#include "model_file.h"

namespace {

constexpr int inputs = 4, outputs = 2;

// Bytes, or -1 where the platform does not tell.
struct Memory {
  long allocated, resident;
};

Memory memory() {
  Memory now = {-1, -1};
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
  const struct mallinfo2 info = mallinfo2();
  if (info.arena > 0) now.allocated = static_cast<long>(info.uordblks + info.hblkhd);
#endif
#if defined(__linux__)
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    long all = 0, pages = 0;
    if (std::fscanf(file, "%ld %ld", &all, &pages) == 2)
      now.resident = pages * sysconf(_SC_PAGESIZE);
    std::fclose(file);
  }
#endif
  return now;
}

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "test_soak: %s: %s\n", what, fr_last_error());
  std::exit(1);
}

// The allocator's own count must be the same to the byte. What is resident may differ by what the
// system does behind the program's back; sanitizers keep what was freed.
bool same(const char* what, Memory before, Memory after) {
  constexpr long slack = 256 * 1024;
  std::printf("%s: allocated %ld -> %ld, resident %ld -> %ld bytes\n", what, before.allocated,
              after.allocated, before.resident, after.resident);
  if (before.allocated < 0) return true;
  const bool good =
      before.allocated == after.allocated && after.resident <= before.resident + slack;
  if (!good) std::printf("%s: memory has grown\n", what);
  return good;
}

// All functions of a stream; about `steps` steps.
void run_stream(fr_stream* stream, long steps) {
  constexpr int block = 25;
  float x[block * inputs], y[block * outputs];
  std::vector<float> state(4096);
  for (int i = 0; i < block * inputs; ++i) x[i] = std::sin(static_cast<float>(i));
  for (long done = 0; done < steps; done += 2 * block) {
    for (int i = 0; i < block; ++i)
      must(fr_stream_step(stream, x + i * inputs, y) == FR_OK, "fr_stream_step");
    must(fr_stream_process(stream, x, block, y) == FR_OK, "fr_stream_process");
    must(fr_streams_step(&stream, 1, x, y) == FR_OK, "fr_streams_step");
    must(fr_stream_step(stream, nullptr, y) == FR_INVALID_ARGUMENT, "null input");
  }
  must(std::isfinite(y[0]), "finite output");
  must(fr_stream_reset(stream) == FR_OK, "fr_stream_reset");
}

fr_model* loaded(const std::string& file, fr_precision precision) {
  fr_model* model = nullptr;
  const fr_model_options options = {sizeof options, precision};
  must(fr_model_load_memory(file.data(), file.size(), &options, &model) == FR_OK, "load");
  return model;
}

fr_stream* started(const fr_model* model) {
  fr_stream* stream = nullptr;
  must(fr_stream_create(model, nullptr, &stream) == FR_OK, "fr_stream_create");
  return stream;
}

bool soak_steps(const std::string& file, long steps) {
  fr_model* model = loaded(file, FR_PRECISION_AS_STORED);
  fr_stream* stream = started(model);
  memory();
  run_stream(stream, 1000);
  const Memory before = memory();
  run_stream(stream, steps);
  const bool good = same("stream steps", before, memory());
  fr_stream_free(stream);
  fr_model_free(model);
  return good;
}

// The `i`-th cycle: a model in one of the precisions, whole sequences, two streams, one of which outlives
// the model; and the file cut somewhere, which must fail.
void cycle(const std::string& file, long i) {
  constexpr fr_precision precisions[] = {FR_PRECISION_AS_STORED, FR_PRECISION_BF16,
                                         FR_PRECISION_INT8};
  fr_model* model = loaded(file, precisions[static_cast<std::size_t>(i) % std::size(precisions)]);
  float x[3 * inputs] = {}, y[3 * outputs];
  must(fr_model_run(model, x, 1, 3, nullptr, y) == FR_OK, "fr_model_run");
  fr_stream* first = started(model);
  fr_stream* second = started(model);
  run_stream(first, 50);
  fr_stream_free(first);
  fr_model_free(model);
  run_stream(second, 50);
  fr_stream_free(second);
  const std::size_t cut = static_cast<std::size_t>(i) * 97 % file.size();
  must(fr_model_load_memory(file.data(), cut, nullptr, &model) != FR_OK && !model, "cut file");
}

bool soak_cycles(const std::string& file, long cycles) {
  for (long i = 0; i < 30; ++i) cycle(file, i);
  const Memory before = memory();
  for (long i = 0; i < cycles; ++i) cycle(file, i);
  cycle(file, 29);  // so that the thread's last message is the same
  return same("load, use and free", before, memory());
}

}  // namespace

int main(int count, char** arguments) {
  const long steps = count > 1 ? std::atol(arguments[1]) : 100000;
  const long cycles = count > 2 ? std::atol(arguments[2]) : 100;
  const std::string gru = recurrent_model("GRU", 3, inputs, 16, outputs);
  const std::string lstm = recurrent_model("LSTM", 4, inputs, 32, outputs);
  std::printf("%ld steps, %ld cycles\n", steps, cycles);
  bool good = soak_steps(gru, steps);
  good = soak_cycles(lstm, cycles) && good;
  return good ? 0 : 1;
}
