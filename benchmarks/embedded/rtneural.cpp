// Nanoseconds a step through fastrnn's C API, beside RTNeural compiled for the same size: an LSTM or GRU
// of one input and a linear layer to one output. All take turns, `rounds` times; medians and, in
// brackets, the least. rtneural.py builds and runs it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "fastrnn/fastrnn.h"
#include "rtneural_peer.h"

namespace {

constexpr int steps = 1000, rounds = 101;

void check(fr_status status) {
  if (!status) return;
  std::fprintf(stderr, "%s\n", fr_last_error());
  std::exit(1);
}

fr_stream* stream_of(const Weights& w) {
  const std::string file = model_file(w);
  fr_model* model = nullptr;
  fr_stream* stream = nullptr;
  check(fr_model_load_memory(file.data(), file.size(), nullptr, &model));
  check(fr_stream_create(model, nullptr, &stream));
  fr_model_free(model);
  return stream;
}

using Clock = std::chrono::steady_clock;

void compare(const Weights& w) {
  fr_stream *stepped = stream_of(w), *blocks = stream_of(w);
  const std::unique_ptr<Peer> peers[] = {eigen_peer(w, false), xsimd_peer(w, false),
                                         eigen_peer(w, true), xsimd_peer(w, true)};
  std::vector<float> x(steps), y(steps);
  for (int t = 0; t < steps; ++t) x[t] = std::sin(0.05f * static_cast<float>(t));
  std::vector<std::function<void()>> runs = {
      [&] {
        for (int t = 0; t < steps; ++t) fr_stream_step(stepped, &x[t], &y[t]);
      },
      [&] { fr_stream_process(blocks, x.data(), steps, y.data()); }};
  for (const auto& peer : peers) runs.push_back([&] { peer->run(x.data(), steps, y.data()); });

  std::vector<std::vector<double>> times(runs.size());
  std::vector<float> last;
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const auto start = Clock::now();
      runs[i]();
      times[i].push_back(std::chrono::duration<double, std::nano>(Clock::now() - start).count() /
                         steps);
      if (round == 0) last.push_back(y[steps - 1]);
    }
  std::printf("%-4s %2d", w.lstm ? "LSTM" : "GRU", w.hidden);
  for (auto& t : times) {
    std::sort(t.begin(), t.end());
    std::printf(" | %6.1f (%6.1f)", t[t.size() / 2], t[0]);
  }
  std::printf("\n");
  for (std::size_t i = 1; i < 4; ++i)  // without approximations all agree
    if (std::abs(last[i] - last[0]) > 1e-4f) std::printf("  not the same network: %zu\n", i);
  fr_stream_free(stepped);
  fr_stream_free(blocks);
}

}  // namespace

int main(int count, char** arguments) {
  const float scale = count > 1 ? static_cast<float>(std::atof(arguments[1])) : 1.0f;
  std::printf("fastrnn %s, %s; weights +-%g / sqrt(H); ns a step, median (least)\n", fr_version(),
              fr_isa(), static_cast<double>(scale));
  std::printf(
      "         | step            | process         | Eigen           | xsimd           "
      "| Eigen, fast     | xsimd, fast\n");
  for (bool lstm : {true, false})
    for (int H : {8, 16, 24, 32, 40, 64}) compare(random_weights(lstm, H, scale));
}
