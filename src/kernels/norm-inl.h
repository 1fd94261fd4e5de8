// Layer normalisation of rows (Ba, Kiros & Hinton 2016, "Layer normalization"), and sums over a row that
// every instruction set takes in one order. Limit: the latency of an addition for short rows, memory
// for long ones.
#pragma once

#include <cmath>

#include "kernels/gemm-inl.h"  // unroll, load_some

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// x in the first `count` lanes, zero in the others.
template <class Real>
inline Vec<Real> set_some(Real x, Index count) {
  constexpr int lanes = Vec<Real>::lanes;
  if (count >= lanes) return set1(x);
  Real values[lanes] = {};
  for (Index i = 0; i < count; ++i) values[i] = x;
  return load(values);
}

// A sum over i in [0, n), as 16 partial sums: of all i that are equal modulo 16, from zero in ascending
// order. These are added in a fixed tree, so that the number of lanes does not change the bits.
// add(sum, at, count) is `sum` plus the terms of i = at ... at + lanes - 1, of which those from `count`
// on do not exist and must count as +0 (count may be 0, at the end of the row).
constexpr int partial_sums = 16;
template <class Real, class Add>
inline __attribute__((always_inline)) Real row_sum(Index n, Add add) {
  constexpr Index lanes = Vec<Real>::lanes;
  constexpr int vectors = partial_sums / lanes;
  Vec<Real> sums[vectors];
  unroll<vectors>([&](auto j) { sums[j] = set1(Real(0)); });
  Index at = 0;
  for (; at + partial_sums <= n; at += partial_sums)
    unroll<vectors>([&](auto j) { sums[j] = add(sums[j], at + j * lanes, lanes); });
  if (at < n)
    unroll<vectors>([&](auto j) {
      const Index first = at + j * lanes, left = n - first;
      sums[j] = add(sums[j], first, left > lanes ? lanes : left > 0 ? left : 0);
    });
  Real parts[partial_sums];
  unroll<vectors>([&](auto j) { store(parts + j * lanes, sums[j]); });
  for (int half = partial_sums / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

template <class Real>
inline Real row_mean(const Real* x, Index n) {
  const Real sum = row_sum<Real>(
      n, [=](Vec<Real> part, Index at, Index count) { return part + load_some(x + at, count); });
  return sum / static_cast<Real>(n);
}

// 1 / sqrt(variance + eps), the variance about the mean in a pass of its own: E[x^2] - E[x]^2 would
// cancel.
template <class Real>
inline Real row_rstd(const Real* x, Index n, Real mean, Real eps) {
  const Real sum = row_sum<Real>(n, [=](Vec<Real> part, Index at, Index count) {
    const Vec<Real> centred = load_some(x + at, count) - set_some(mean, count);
    return fma(centred, centred, part);
  });
  return Real(1) / std::sqrt(sum / static_cast<Real>(n) + eps);
}

// Calls body(at, count) for the vectors of a row of n values.
template <class Real, class Body>
inline __attribute__((always_inline)) void over_row(Index n, Body body) {
  constexpr Index lanes = Vec<Real>::lanes;
  Index at = 0;
  for (; at + lanes <= n; at += lanes) body(at, lanes);
  if (at < n) body(at, n - at);
}

template <class Real>
void layer_norm(const LayerNormForward<Real>& p) {
  for (Index row = 0; row < p.rows; ++row) {
    const Real* x = p.x + row * p.features;
    Real* y = p.y + row * p.features;
    const Real mean = row_mean(x, p.features), rstd = row_rstd(x, p.features, mean, p.eps);
    if (p.mean) p.mean[row] = mean;
    if (p.rstd) p.rstd[row] = rstd;
    over_row<Real>(p.features, [&](Index at, Index count) {
      const Vec<Real> normal = (load_some(x + at, count) - set1(mean)) * set1(rstd);
      const Vec<Real> shift = p.bias ? load_some(p.bias + at, count) : set1(Real(0));
      store_some(y + at, fma(normal, load_some(p.weight + at, count), shift), count);
    });
  }
}

// With g = d_y weight and n = (x - mean) rstd: d_x = rstd (g - mean(g) - n mean(g n)).
template <class Real>
void layer_norm_backward(const LayerNormBackward<Real>& p) {
  const Real features = static_cast<Real>(p.features);
  for (Index row = 0; row < p.rows; ++row) {
    const Real *x = p.x + row * p.features, *d_y = p.d_y + row * p.features;
    const Real mean = p.mean[row], rstd = p.rstd[row];
    Real* d_x = p.d_x + row * p.features;
    const auto gradient = [&](Index at, Index count) {
      return load_some(d_y + at, count) * load_some(p.weight + at, count);
    };
    const auto normal = [&](Index at, Index count) {
      return (load_some(x + at, count) - set_some(mean, count)) * set1(rstd);
    };
    const Real along = row_sum<Real>(p.features, [&](Vec<Real> part, Index at, Index count) {
      return part + gradient(at, count);
    });
    const Real across = row_sum<Real>(p.features, [&](Vec<Real> part, Index at, Index count) {
      return fma(gradient(at, count), normal(at, count), part);
    });
    const Vec<Real> shift = set1(along / features), slope = set1(-(across / features));
    over_row<Real>(p.features, [&](Index at, Index count) {
      const Vec<Real> rest = fma(normal(at, count), slope, gradient(at, count) - shift);
      store_some(d_x + at, rest * set1(rstd), count);
    });
  }
}

template <class Real>
void layer_norm_columns(const LayerNormColumns<Real>& p) {
  for (Index at = p.begin; at < p.end; at += Vec<Real>::lanes) {
    const Index count = p.end - at;
    Vec<Real> sum = set1(Real(0));
    for (Index row = 0; row < p.rows; ++row) {
      const Index from = row * p.features + at;
      const Vec<Real> centred = load_some(p.x + from, count) - set1(p.mean[row]);
      sum = fma(load_some(p.d_y + from, count), centred * set1(p.rstd[row]), sum);
    }
    store_some(p.d_weight + at, load_some(p.d_weight + at, count) + sum, count);
  }
}

// A row of z (kernels.h) as `gates` times n values: unit `at` of gate g.
template <class Item>
struct GateRow {
  Item* row;
  Index group_units, group_values, lanes;
  Item* at(Index unit, Index gate) const {
    return row + unit / group_units * group_values + unit % group_units + gate * lanes;
  }
};

template <class Real>
void normalize(const Normalize<Real>& p) {
  constexpr Index lanes = Vec<Real>::lanes;
  const Real count_all = static_cast<Real>(p.hidden * p.gates);
  for (Index row = 0; row < p.rows; ++row) {
    const GateRow<const Real> from = {p.source[row] + p.source_gate * lanes, p.group_units,
                                      p.group_values, lanes};
    const GateRow<Real> to = {p.target[row] + p.target_gate * lanes, p.group_units, p.group_values,
                              lanes};
    const Real sum = row_sum<Real>(p.hidden, [&](Vec<Real> part, Index at, Index count) {
      for (Index g = 0; g < p.gates; ++g) part = part + load_some(from.at(at, g), count);
      return part;
    });
    const Real mean = sum / count_all;
    const Real squares = row_sum<Real>(p.hidden, [&](Vec<Real> part, Index at, Index count) {
      for (Index g = 0; g < p.gates; ++g) {
        const Vec<Real> centred = load_some(from.at(at, g), count) - set_some(mean, count);
        part = fma(centred, centred, part);
      }
      return part;
    });
    const Real scale = Real(1) / std::sqrt(squares / count_all + p.epsilon);
    Real* const cache = p.cache ? p.cache[row] : nullptr;
    if (cache) cache[p.scale_at] = scale;
    over_row<Real>(p.hidden, [&](Index at, Index count) {
      for (Index g = 0; g < p.gates; ++g) {
        const Index unit = g * p.hidden + at;
        const Vec<Real> normal = (load_some(from.at(at, g), count) - set1(mean)) * set1(scale);
        if (cache) store_some(cache + p.values_at + unit, normal, count);
        Vec<Real> shift = p.bias ? load_some(p.bias + unit, count) : set1(Real(0));
        if (p.add) shift = shift + load_some(static_cast<const Real*>(to.at(at, g)), count);
        store_some(to.at(at, g), fma(normal, load_some(p.gain + unit, count), shift), count);
      }
    });
  }
}

template <class Real>
void normalize_back(const NormalizeBack<Real>& p) {
  const Index n = p.hidden * p.gates;
  const Real count_all = static_cast<Real>(n);
  for (Index row = 0; row < p.rows; ++row) {
    const Real *const d = p.d_z[row] + p.d_at, *const normal = p.cache[row] + p.values_at;
    Real *const raw = p.d_z[row] + p.raw_at, *const d_gain = p.d_z[row] + p.gain_at;
    const auto scaled = [&](Index at, Index count) {
      return load_some(d + at, count) * load_some(p.gain + at, count);
    };
    const Real along = row_sum<Real>(
        n, [&](Vec<Real> part, Index at, Index count) { return part + scaled(at, count); });
    const Real across = row_sum<Real>(n, [&](Vec<Real> part, Index at, Index count) {
      return fma(scaled(at, count), load_some(normal + at, count), part);
    });
    const Vec<Real> scale = set1(p.cache[row][p.scale_at]);
    const Vec<Real> mean = set1(along / count_all), slope = set1(across / count_all);
    over_row<Real>(n, [&](Index at, Index count) {
      const Vec<Real> value = load_some(normal + at, count), d_out = load_some(d + at, count);
      const Vec<Real> g = d_out * load_some(p.gain + at, count);
      store_some(raw + at, scale * (g - fma(value, slope, mean)), count);
      store_some(d_gain + at, d_out * value, count);
    });
  }
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
