// What the machine can do at best, measured: the bounds that the benchmarks compare with. Each call
// takes some tens of milliseconds and gives the best of several trials, as noise only ever takes
// away. Throws std::runtime_error where the runtime has fewer threads to give than asked for.
#pragma once

#include <string>

#include "types.h"

namespace fastrnn {

// float32 operations per second of all threads together, a multiply-add being two.
double peak_flops(const std::string& isa, int threads);

// Bytes per second that all threads read together, each over its own `thread_bytes` again and again: from the cache they fit in, or from memory. Of the active instruction set.
double read_bandwidth(Index thread_bytes, int threads);

// One passage of a SpinBarrier by all threads; one run_team whose body does nothing.
double barrier_seconds(int threads);
double team_seconds(int threads);

}  // namespace fastrnn
