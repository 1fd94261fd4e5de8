// The kernels of step.h. Some groups of units at a time: both products into accumulators that stay in
// registers, then the gates. The gates' long chains of operations overlap with the next groups'
// products, which do not wait for them. Limit: for up to 16 units the latency of the chain from h_{t-1}
// to h_t (LSTM on AVX2: 4 cycles for each unit, then about 150), then loads of weights, two a cycle.
#pragma once

#include "simd/math-inl.h"
//
#include "kernels/cells-inl.h"
#include "kernels/gemm-inl.h"
#include "kernels/step.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

using StepVec = Vec<float>;
constexpr Index step_lanes = StepVec::lanes;

// acc[n][Offset + v] += a[k] * w[k] for k in [0, depth): the vectors v of group n, in Panels panels of
// Width vectors each.
template <int N, int Panels, int Width, int Offset, int Vectors>
inline __attribute__((always_inline)) void add_product(StepVec (&acc)[N][Vectors], const float* a,
                                                       const float* w, Index depth) {
  const Index panel = depth * Width * step_lanes;
  for (Index k = 0; k < depth; ++k, w += Width * step_lanes) {
    const StepVec x = set1(a[k]);
    unroll<N>([&](auto n) {
      unroll<Panels * Width>([&](auto v) {
        const StepVec b = load(w + (n * Panels + v / Width) * panel + v % Width * step_lanes);
        acc[n][Offset + v] = fma(x, b, acc[n][Offset + v]);
      });
    });
  }
}

// The same from z on: start, input and recurrent part of N groups from `group` on.
template <int N, int Panels, int Width, int Offset, int Vectors>
inline __attribute__((always_inline)) void add_both(StepVec (&acc)[N][Vectors], const StepCell& s,
                                                    Index group, const float* x, const float* h) {
  constexpr Index values = Panels * Width * step_lanes;
  add_product<N, Panels, Width, 0>(acc, x, s.input + group * values * s.input_size, s.input_size);
  add_product<N, Panels, Width, Offset>(acc, h, s.recurrent + group * values * s.hidden_size,
                                        s.hidden_size);
}

// Units of one vector in a row of `hidden`, whole or not.
struct StepUnits {
  Index unit, count;
  StepVec get(const float* row) const { return load_some(row + unit, count); }
  void set(float* row, StepVec a) const { store_some(row + unit, a, count); }
};
inline StepUnits units_at(const StepCell& s, Index vector) {
  return {vector * step_lanes, s.hidden_size - vector * step_lanes};
}

inline void linear_step(const StepLinear& p, const float* x, float* y) {
  for (Index column = 0; column < p.out; column += 2 * step_lanes) {
    const float *start = p.start + column, *w = p.weight + column * p.in;
    const Index left = p.out - column;
    if (left <= step_lanes) {
      StepVec a = load(start);
      FASTRNN_UNROLL_STEPS
      for (Index k = 0; k < p.in; ++k) a = fma(set1(x[k]), load(w + k * 2 * step_lanes), a);
      store_some(y + column, a, left);
      return;
    }
    StepVec a[1][2] = {{load(start), load(start + step_lanes)}};
    add_product<1, 1, 2, 0>(a, x, w, p.in);
    store(y + column, a[0][0]);
    store_some(y + column + step_lanes, a[0][1], left - step_lanes);
  }
}

// Calls part<N>(group), N groups at a time, at most `Most`, about as many each time.
template <int Most, class Part, int N = Most>
inline __attribute__((always_inline)) void run_part(Index n, Index group, const Part& part) {
  if constexpr (N > 1) {
    if (n < N) return run_part<Most, Part, N - 1>(n, group, part);
  }
  part(std::integral_constant<int, N>(), group);
}
template <int Most, class Part>
inline __attribute__((always_inline)) void in_parts(Index groups, bool last_first,
                                                    const Part& part) {
  for (Index done = 0, n = 0; done < groups; done += n) {
    const Index left = groups - done, parts = (left + Most - 1) / Most;
    n = left <= Most ? left : (left + parts - 1) / parts;
    run_part<Most>(n, last_first ? left - n : done, part);
  }
}

// Calls step(where h_t goes): its place, if all products are done before, else elsewhere first. Then
// the head.
template <class Step>
inline __attribute__((always_inline)) void finish_step(const StepCell& s, bool at_once,
                                                       const StepRow& row, const Step& step) {
  if (at_once) {
    step(row.h);
  } else {
    float next[step_most_units];
    step(next);
    for (Index i = 0; i < s.hidden_size; i += step_lanes)
      units_at(s, i / step_lanes).set(row.h, units_at(s, i / step_lanes).get(next));
  }
  if (s.head.out > 0) linear_step(s.head, row.h, row.y);
}

template <int N>
inline __attribute__((always_inline)) void lstm_part(const StepCell& s, Index group,
                                                     const StepRow& row, float* h_next) {
  StepVec z[N][4], c_next[N];
  unroll<N>([&](auto n) {
    unroll<4>([&](auto v) { z[n][v] = load(s.start + ((group + n) * 4 + v) * step_lanes); });
  });
  add_both<N, 2, 2, 0>(z, s, group, row.x, row.h);
  Logistic<float> o[N];
  unroll<N>([&](auto n) {
    const StepUnits at = units_at(s, group + n);
    const Logistic<float> i = sigmoid(z[n][0]), f = sigmoid(z[n][1]);
    const Tangent<float> g = tanh(z[n][2]);
    o[n] = sigmoid(z[n][3]);
    c_next[n] = fma(value(f), at.get(row.c), product(i, g));
    at.set(row.c, c_next[n]);
  });
  unroll<N>([&](auto n) { units_at(s, group + n).set(h_next, product(o[n], tanh(c_next[n]))); });
}

void lstm_step(const StepCell& s, const StepRow& row) {
  constexpr int most = 3;
  const Index groups = (s.hidden_size + step_lanes - 1) / step_lanes;
  finish_step(s, groups <= most, row, [&](float* h_next) {
    in_parts<most>(groups, row.last_first,
                   [&](auto n, Index group) { lstm_part<n>(s, group, row, h_next); });
  });
}

template <int N>
inline __attribute__((always_inline)) void gru_part(const StepCell& s, Index group,
                                                    const StepRow& row, float* h_next) {
  StepVec z[N][4];  // n_x, r, z, n_h
  unroll<N>([&](auto n) {
    unroll<3>([&](auto v) { z[n][v] = load(s.start + ((group + n) * 3 + v) * step_lanes); });
    z[n][3] = load(s.candidate_start + (group + n) * step_lanes);
  });
  add_both<N, 1, 3, 1>(z, s, group, row.x, row.h);
  StepVec candidate[N], update[N];
  unroll<N>([&](auto n) {
    candidate[n] = fma(value(sigmoid(z[n][1])), z[n][3], z[n][0]);
    update[n] = value(sigmoid(z[n][2]));
  });
  unroll<N>([&](auto n) {
    const StepUnits at = units_at(s, group + n);
    const StepVec value_n = value(tanh(candidate[n]));
    at.set(h_next, fma(update[n], at.get(row.h) - value_n, value_n));
  });
}

void gru_step(const StepCell& s, const StepRow& row) {
  constexpr int most = 4;
  const Index groups = (s.hidden_size + step_lanes - 1) / step_lanes;
  finish_step(s, groups <= most, row, [&](float* h_next) {
    in_parts<most>(groups, row.last_first,
                   [&](auto n, Index group) { gru_part<n>(s, group, row, h_next); });
  });
}

// Reset gate before the product: n waits for r of all units.
void gru_before_step(const StepCell& s, const StepRow& row) {
  constexpr int most = 4;
  const Index groups = (s.hidden_size + step_lanes - 1) / step_lanes;
  float candidate[step_most_units], update[step_most_units], reset_h[step_most_units];
  in_parts<most>(groups, row.last_first, [&](auto count, Index group) {
    constexpr int N = count;
    StepVec z[N][3];  // n, r, z
    unroll<N>([&](auto n) {
      unroll<3>([&](auto v) { z[n][v] = load(s.start + ((group + n) * 3 + v) * step_lanes); });
    });
    add_product<N, 1, 3, 0>(z, row.x, s.input + group * 3 * step_lanes * s.input_size,
                            s.input_size);
    add_product<N, 1, 2, 1>(z, row.h, s.recurrent + group * 2 * step_lanes * s.hidden_size,
                            s.hidden_size);
    unroll<N>([&](auto n) {
      const StepUnits at = units_at(s, group + n);
      at.set(candidate, z[n][0]);
      at.set(reset_h, value(sigmoid(z[n][1])) * at.get(row.h));
      at.set(update, value(sigmoid(z[n][2])));
    });
  });
  in_parts<most>(groups, row.last_first, [&](auto count, Index group) {
    constexpr int N = count;
    StepVec z[N][1];
    unroll<N>([&](auto n) { z[n][0] = units_at(s, group + n).get(candidate); });
    add_product<N, 1, 1, 0>(z, reset_h, s.candidate + group * step_lanes * s.hidden_size,
                            s.hidden_size);
    unroll<N>([&](auto n) {
      const StepUnits at = units_at(s, group + n);
      const StepVec value_n = value(tanh(z[n][0]));
      at.set(row.h, fma(at.get(update), at.get(row.h) - value_n, value_n));
    });
  });
  if (s.head.out > 0) linear_step(s.head, row.h, row.y);
}

// A group of an RNN is two vectors of units.
template <class Activation>
void rnn_step(const StepCell& s, const StepRow& row) {
  constexpr int most = 4;
  const Index groups = (s.hidden_size + 2 * step_lanes - 1) / (2 * step_lanes);
  finish_step(s, groups <= most, row, [&](float* h_next) {
    in_parts<most>(groups, row.last_first, [&](auto count, Index group) {
      constexpr int N = count;
      StepVec z[N][2];
      unroll<N>([&](auto n) {
        unroll<2>([&](auto v) { z[n][v] = load(s.start + ((group + n) * 2 + v) * step_lanes); });
      });
      add_both<N, 1, 2, 0>(z, s, group, row.x, row.h);
      unroll<N>([&](auto n) {
        unroll<2>([&](auto v) {
          units_at(s, (group + n) * 2 + v).set(h_next, Activation::apply(z[n][v]));
        });
      });
    });
  });
}

}  // namespace

const StepKernels step_kernels = {
    {rnn_step<Tanh>, rnn_step<Relu>, lstm_step, gru_step, gru_before_step}, linear_step};

}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
