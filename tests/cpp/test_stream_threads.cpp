// One model, many threads: each with streams of its own, while others load and free models and provoke
// errors. All give the same values, and each thread finds its own message. For ThreadSanitizer first of
// all (tools/trust.sh tsan).
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "fastrnn/fastrnn.h"
#include "model_file.h"

namespace {

constexpr int inputs = 3, outputs = 2, steps = 60;

std::atomic<int> failures{0};

void must(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("%s: %s\n", what, fr_last_error());
}

// Outputs of a stream over fixed inputs, half of them step by step.
std::vector<float> outputs_of(const fr_model* model) {
  std::vector<float> x(steps * inputs), y(steps * outputs);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) / 8 - 0.75f;
  fr_stream* stream = nullptr;
  must(fr_stream_create(model, nullptr, &stream) == FR_OK, "fr_stream_create");
  constexpr int half = steps / 2;
  for (int t = 0; t < half; ++t)
    must(fr_stream_step(stream, &x[t * inputs], &y[t * outputs]) == FR_OK, "fr_stream_step");
  must(fr_stream_process(stream, &x[half * inputs], half, &y[half * outputs]) == FR_OK,
       "fr_stream_process");
  fr_stream_free(stream);
  return y;
}

void use(const fr_model* model, const std::vector<float>& expected, int rounds) {
  for (int round = 0; round < rounds; ++round)
    must(outputs_of(model) == expected, "the same outputs");
}

void load_and_free(const std::string& file, const std::vector<float>& expected, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    fr_model* model = nullptr;
    must(fr_model_load_memory(file.data(), file.size(), nullptr, &model) == FR_OK, "load");
    must(outputs_of(model) == expected, "the same outputs of another copy");
    fr_model_free(model);
  }
}

// `name` must come back in this thread's message.
void fail(const std::string& name, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    fr_model* model = nullptr;
    const std::string path = "/nonexistent/" + name;
    must(fr_model_load(path.c_str(), nullptr, &model) == FR_IO_ERROR && !model, "no such file");
    must(std::strstr(fr_last_error(), name.c_str()) != nullptr, "the thread's own message");
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 20;
  const std::string file = recurrent_model("GRU", 3, inputs, 24, outputs);
  fr_model* model = nullptr;
  must(fr_model_load_memory(file.data(), file.size(), nullptr, &model) == FR_OK, "load");
  if (!model) return 1;
  const std::vector<float> expected = outputs_of(model);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(use, model, expected, rounds);
  for (int i = 0; i < 2; ++i) threads.emplace_back(load_and_free, file, expected, rounds);
  for (const char* name : {"first", "second"}) threads.emplace_back(fail, name, rounds);
  for (std::thread& thread : threads) thread.join();
  fr_model_free(model);
  std::printf("%zu threads, %d rounds, %d failures\n", threads.size(), rounds, failures.load());
  return failures.load() ? 1 : 0;
}
