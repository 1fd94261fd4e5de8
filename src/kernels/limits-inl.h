// What this instruction set can do at best: not work, but the two loops that the limits of the
// benchmarks are measured with. Both keep `accumulators` sums in registers, more than it takes to
// hide the latency of an addition or FMA; their limits are the FMA units and the load units.
#pragma once

#include "kernels/kernels.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// sums = sums * factor + addend in registers alone, which tends to addend / (1 - factor).
template <class Real>
double multiply_adds(Index rounds, Real* sum) {
  const Vec<Real> factor = set1(Real(0.5)), addend = set1(*sum);
  Vec<Real> sums[accumulators];
  for (int j = 0; j < accumulators; ++j) sums[j] = set1(Real(j));
  for (Index round = 0; round < rounds; ++round)
    for (int j = 0; j < accumulators; ++j) sums[j] = fma(sums[j], factor, addend);
  for (int j = 1; j < accumulators; ++j) sums[0] = sums[0] + sums[j];
  store(sum, sums[0], 1);
  return static_cast<double>(rounds) * accumulators * Vec<Real>::lanes;
}

// Loads all of x, `passes` times, and adds it up so that no load can be left out.
template <class Real>
void read(const Real* x, Index n, Index passes, Real* sum) {
  constexpr Index lanes = Vec<Real>::lanes, round = accumulators * lanes;
  static_assert(read_multiple % round == 0, "n is whole rounds");
  Vec<Real> sums[accumulators];
  for (int j = 0; j < accumulators; ++j) sums[j] = set1(Real(0));
  for (Index pass = 0; pass < passes; ++pass)
    for (Index at = 0; at < n; at += round)
      for (int j = 0; j < accumulators; ++j) sums[j] = sums[j] + load(x + at + j * lanes);
  for (int j = 1; j < accumulators; ++j) sums[0] = sums[0] + sums[j];
  store(sum, sums[0], 1);
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
