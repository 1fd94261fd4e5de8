#include "parallel.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
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
  return omp_get_num_procs();
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

void set_max_threads(int n) { limit.store(n, std::memory_order_relaxed); }

int run_team(int members, void (*body)(void*, int, int), void* context) {
  if (members <= 1) {
    body(context, 0, 1);
    return members;
  }
#ifdef FASTRNN_OPENMP
  int got = members;
#pragma omp parallel num_threads(members) default(shared)
  {
    const int size = omp_get_num_threads();
    if (size == members)
      body(context, omp_get_thread_num(), size);
    else if (omp_get_thread_num() == 0)
      got = size;
  }
  return got;
#else
  return 1;
#endif
}

void SpinBarrier::spin_until_changed(unsigned turn) {
  const unsigned patience = patience_.load(std::memory_order_relaxed);
  unsigned spins = 0;
  for (; turn_.load(std::memory_order_acquire) == turn; ++spins) {
    if (spins > patience) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      continue;
    }
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }
  // Once a member has had to wait for a core, the next wait is likely to be as long.
  patience_.store(spins > patience ? least_patience : std::min(patience + 20, most_patience),
                  std::memory_order_relaxed);
}

}  // namespace fastrnn
