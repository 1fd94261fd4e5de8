#include "parallel.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <stdexcept>
#include <string>
#include <thread>

#ifdef FASTRNN_OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastrnn {
namespace {

int available() {
#ifdef FASTRNN_OPENMP
  return omp_get_max_threads();  // OMP_NUM_THREADS, or the processors this process may run on
#else
  return 1;
#endif
}

int initial() {
  const char* text = std::getenv("FASTRNN_NUM_THREADS");
  if (!text || !*text) return available();
  char* end = nullptr;
  const long asked = std::strtol(text, &end, 10);
  if (*end || asked < 1 || asked > thread_limit)
    throw std::runtime_error("FASTRNN_NUM_THREADS: expected a number from 1 to " +
                             std::to_string(thread_limit) + ", got '" + text + "'");
  return static_cast<int>(asked);
}

std::atomic<int> limit{0};  // 0: not yet asked
std::atomic<bool> forked{false};

#if defined(FASTRNN_OPENMP) && (defined(__unix__) || defined(__APPLE__))
// libgomp's pool belongs to the parent; a team in the child would wait for threads that are gone.
const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif

using Clock = std::chrono::steady_clock;

#ifdef FASTRNN_OPENMP
// Time for which this thread had a core.
Clock::duration on_core() {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec time;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
#endif
  return Clock::now().time_since_epoch();  // as if no thread ever lost it
}
#endif

thread_local Clock::duration asleep{0};  // time that this thread slept at barriers

// Where other programs use the machine, a member may wait for a core while the others wait for it, and
// a team be slower than one thread. Then there are no teams for eight times as long as was lost, and
// for longer each time it happens again: so a machine that stays busy costs little, and one that was
// busy for a moment loses its teams for a few of those.
class Crowding {
 public:
  bool now() const {
    return until_.load(std::memory_order_relaxed) > Clock::now().time_since_epoch().count();
  }

  // How long a team took, and how long one of its members was without a core.
  void note(Clock::duration lost, Clock::duration total) {
    const int factor = factor_.load(std::memory_order_relaxed);
    if (lost < std::chrono::microseconds(300) || 2 * lost < total) {
      if (factor > least) factor_.store(factor - 1, std::memory_order_relaxed);
      return;
    }
    const auto pause = std::min<Clock::duration>(factor * lost, std::chrono::seconds(1));
    until_.store((Clock::now() + pause).time_since_epoch().count(), std::memory_order_relaxed);
    factor_.store(std::min(2 * factor, most), std::memory_order_relaxed);
  }

 private:
  static constexpr int least = 8, most = 256;
  std::atomic<Clock::rep> until_{0};
  std::atomic<int> factor_{least};
};

Crowding crowding;

bool in_team() {
#ifdef FASTRNN_OPENMP
  return omp_in_parallel();
#else
  return false;
#endif
}

}  // namespace

bool has_openmp() {
#ifdef FASTRNN_OPENMP
  return true;
#else
  return false;
#endif
}

int max_threads() {
  int n = limit.load(std::memory_order_relaxed);
  if (n == 0) limit.store(n = initial(), std::memory_order_relaxed);
  return !has_openmp() || forked.load(std::memory_order_relaxed) || in_team() ? 1 : n;
}

int usable_threads() { return crowding.now() ? 1 : max_threads(); }

void set_max_threads(int n) { limit.store(n, std::memory_order_relaxed); }

int run_team(int members, void (*body)(void*, int, int), void* context) {
  if (members <= 1) {
    body(context, 0, 1);
    return members;
  }
#ifdef FASTRNN_OPENMP
  int got = members;
  std::atomic<Clock::rep> lost{0};
  const Clock::time_point start = Clock::now();
#pragma omp parallel num_threads(members) default(shared)
  {
    const int size = omp_get_num_threads();
    if (size == members) {
      const Clock::duration before = on_core() + asleep;
      body(context, omp_get_thread_num(), size);
      const Clock::duration own = on_core() + asleep - before;
      const Clock::rep mine = (Clock::now() - start - own).count();
      Clock::rep most = lost.load(std::memory_order_relaxed);
      while (mine > most && !lost.compare_exchange_weak(most, mine, std::memory_order_relaxed)) {
      }
    } else if (omp_get_thread_num() == 0) {
      got = size;
    }
  }
  if (got == members) crowding.note(Clock::duration(lost.load()), Clock::now() - start);
  return got;
#else
  return 1;
#endif
}

void SpinBarrier::spin_until_changed(unsigned turn) {
  const unsigned patience = patience_.load(std::memory_order_relaxed);
  unsigned spins = 0;
  Clock::time_point fell_asleep;
  for (; turn_.load(std::memory_order_acquire) == turn; ++spins) {
    if (spins > patience) {
      if (spins == patience + 1) fell_asleep = Clock::now();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      continue;
    }
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }
  if (spins > patience + 1) asleep += Clock::now() - fell_asleep;
  // Once a member has had to wait for a core, the next wait is likely to be as long.
  patience_.store(spins > patience ? least_patience : std::min(patience + 20, most_patience),
                  std::memory_order_relaxed);
}

}  // namespace fastrnn
