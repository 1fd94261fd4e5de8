// The longest step beside the median: `steps` (10^6, or the argument) of an LSTM and a GRU of 32 units
// with a linear layer, by inputs: a normal signal; silence, in which the state decays towards numbers too
// small to be normal; and saturating ones. Then 10^7 steps without growth of memory.
//   g++ -std=c++17 -O2 -Isrc/include benchmarks/embedded/steps.cpp build/core/libfastrnn.a -o steps
// Times include the clock's (its median is printed). The longest step of a system that also does other
// things is that of an interruption: run it alone, at best on a core of its own (taskset, chrt -f 50).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "fastrnn/fastrnn.h"
#include "model_file.h"

namespace {

using Clock = std::chrono::steady_clock;

void check(fr_status status) {
  if (!status) return;
  std::fprintf(stderr, "%s\n", fr_last_error());
  std::exit(1);
}

long resident_pages() {
  long size = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident;
}

template <class Body>
void print_times(const char* name, std::vector<float>& times, Body body) {
  for (std::size_t t = 0; t < times.size(); ++t) {
    const auto start = Clock::now();
    body(t);
    times[t] = std::chrono::duration<float, std::nano>(Clock::now() - start).count();
  }
  const auto at = [&](double share) {
    const auto place =
        times.begin() + static_cast<long>(share * static_cast<double>(times.size() - 1));
    std::nth_element(times.begin(), place, times.end());
    return static_cast<double>(*place);
  };
  std::printf("%-22s | %8.0f | %8.0f | %8.0f | %9.0f\n", name, at(0.5), at(0.99), at(0.9999),
              at(1));
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<float> times(count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 1000000);
  std::printf("ns of a step           |   median |      99 %% |   99.99 %% |   longest\n");
  print_times("the clock alone", times, [](std::size_t) {});
  for (bool lstm : {true, false}) {
    const std::string file = model_file(random_weights(lstm, 32, 1));
    fr_model* model = nullptr;
    fr_stream* stream = nullptr;
    check(fr_model_load_memory(file.data(), file.size(), nullptr, &model));
    check(fr_stream_create(model, nullptr, &stream));
    float y = 0;
    const auto step = [&](float x) { fr_stream_step(stream, &x, &y); };
    const std::string name = lstm ? "LSTM 32, " : "GRU 32, ";
    print_times((name + "signal").c_str(), times,
                [&](std::size_t t) { step(std::sin(0.05f * static_cast<float>(t % 100000))); });
    print_times((name + "silence").c_str(), times,
                [&](std::size_t t) { step(t < 1000 ? 1.0f : 0.0f); });
    print_times((name + "denormal inputs").c_str(), times,
                [&](std::size_t t) { step(1e-40f * static_cast<float>(t % 7)); });
    print_times((name + "saturating").c_str(), times,
                [&](std::size_t t) { step(t % 2 ? 1e30f : -1e30f); });
    const long before = resident_pages();
    for (int t = 0; t < 10000000; ++t) step(static_cast<float>(t % 3));
    std::printf("%s10^7 steps: %ld pages before, %ld after\n", name.c_str(), before,
                resident_pages());
    fr_stream_free(stream);
    fr_model_free(model);
  }
}
