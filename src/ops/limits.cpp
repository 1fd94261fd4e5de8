#include "ops/limits.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "dispatch.h"
#include "memory.h"
#include "parallel.h"

namespace fastrnn {
namespace {

constexpr int trials = 15;
constexpr double longest = 0.5;  // seconds

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
void run_all(int threads, Body& body) {
  const int got = run_team(threads, body);
  if (got != threads)
    throw std::runtime_error("threads: expected at most " + std::to_string(got) + ", got " +
                             std::to_string(threads));
}

// The shortest time in which all threads together do make(member)(), of several trials; of fewer
// where the machine is busy and they take long.
template <class Make>
double best_seconds(int threads, Make make) {
  SpinBarrier barrier;
  barrier.set_members(threads);
  double best = 1e30;
  bool more = true;  // written by member 0 between the barriers
  auto body = [&](int member, int) {
    auto work = make(member);
    work();
    const double begin = now();
    for (int trial = 1;; ++trial) {
      barrier.wait();
      if (!more) return;
      const double start = now();
      work();
      barrier.wait();
      if (member == 0) {
        const double end = now();
        best = std::min(best, end - start);
        more = trial < trials && end - begin < longest;
      }
    }
  };
  run_all(threads, body);
  return best;
}

}  // namespace

double peak_flops(const std::string& isa, int threads) {
  const LimitKernels& k = limit_kernels(isa);
  const Index rounds = 100000;  // 0.15 to 1 ms, short enough to be left alone in some trial
  double count = 0;
  const double seconds = best_seconds(threads, [&](int member) {
    return [&, member] {
      float sum = 1;
      const double done = k.multiply_adds(rounds, &sum);
      if (member == 0) count = done;
    };
  });
  return 2 * count * threads / seconds;
}

double read_bandwidth(Index thread_bytes, int threads) {
  const LimitKernels& k = limit_kernels(active_isa());
  const Index rounds = thread_bytes / static_cast<Index>(sizeof(float) * read_multiple);
  const Index n = std::max<Index>(rounds, 1) * read_multiple;
  const Index passes = std::max<Index>(1, (Index(16) << 20) / (n * sizeof(float)));
  std::vector<Buffer<float>> shares;
  for (int member = 0; member < threads; ++member) shares.emplace_back(n);
  const double seconds = best_seconds(threads, [&](int member) {
    float* const x = shares[member].data();
    std::fill_n(x, n, 1.0f);  // memory belongs to the processor that touches it first
    return [&k, x, n, passes] {
      float sum;
      k.read(x, n, passes, &sum);
    };
  });
  return static_cast<double>(n) * sizeof(float) * passes * threads / seconds;
}

double barrier_seconds(int threads) {
  constexpr int turns = 500;
  SpinBarrier barrier;
  barrier.set_members(threads);
  return best_seconds(threads,
                      [&](int) {
                        return [&] {
                          for (int turn = 0; turn < turns; ++turn) barrier.wait();
                        };
                      }) /
         turns;
}

double team_seconds(int threads) {
  constexpr int turns = 50;
  auto nothing = [](int, int) {};
  double best = 1e30;
  const double begin = now();
  for (int trial = 0; trial < trials && now() - begin < longest; ++trial) {
    const double start = now();
    for (int turn = 0; turn < turns; ++turn) run_all(threads, nothing);
    best = std::min(best, (now() - start) / turns);
  }
  return best;
}

}  // namespace fastrnn
