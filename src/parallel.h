// Threads: the only header that knows of OpenMP (parallel.cpp is the only source). Without it, one.
#pragma once

#include <atomic>

#include "types.h"

namespace fastrnn {

// The most threads a call may use: FASTRNN_NUM_THREADS, else OMP_NUM_THREADS, else the processors this
// process may run on, until set. 1 in a forked child, as the parent's threads do not exist there, and
// within a team. The first call throws std::runtime_error where the variable holds no number from 1 to
// thread_limit.
constexpr int thread_limit = 4096;
int max_threads();

// Those that are of use now: one where other programs just kept a team from its cores.
int usable_threads();
void set_max_threads(int n);
bool has_openmp();

// Runs body(context, member, members) on `members` threads at once and returns `members`; or, where
// the runtime has fewer to give, runs nothing and returns how many it has: plan again with those.
int run_team(int members, void (*body)(void* context, int member, int members), void* context);

// The same for any callable.
template <class Body>
int run_team(int members, Body& body) {
  return run_team(
      members, [](void* context, int member, int n) { (*static_cast<Body*>(context))(member, n); },
      &body);
}

// Runs body(begin, end) over parts of [0, count), on as many threads as `wanted` and the limit allow.
template <class Body>
void parallel_ranges(Index count, int wanted, Body body) {
  auto part = [&](int member, int members) {
    const Index begin = count * member / members, end = count * (member + 1) / members;
    if (begin < end) body(begin, end);
  };
  for (int n = wanted; (wanted = run_team(n, part)) != n;) n = wanted;
}

// A point that all members pass together. It spins, as a step of a small network is shorter than a
// system call. After a while it sleeps: where other programs use the machine, the member that all wait
// for may wait for a core itself, and gets the one that is left idle.
class SpinBarrier {
 public:
  void set_members(int members) { members_ = members; }
  void wait() {
    if (members_ == 1) return;
    const unsigned turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == members_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
    } else {
      spin_until_changed(turn);
    }
  }

 private:
  static constexpr unsigned least_patience = 2000, most_patience = 10000;  // 40 us to 0.5 ms
  void spin_until_changed(unsigned turn);
  int members_ = 1;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> turn_{0};
  std::atomic<unsigned> patience_{most_patience};
};

}  // namespace fastrnn
