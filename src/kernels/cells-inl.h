// One step of each cell: gates and state, forward, and directly below it backward. Elementwise over
// units and vectorised along them; the products around a step are in gemm-inl.h. Limit: the
// exponentials, about 14 operations each, and the divisions, which Ratio halves.
#pragma once

#include "kernels/kernels.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// The part of a row that one vector at `unit` covers: all lanes, or the last `count` of the row.
template <class Real>
struct Whole {
  Index unit;
  Vec<Real> get(const Real* row) const { return load(row + unit); }
  void set(Real* row, Vec<Real> a) const { store(row + unit, a); }
};
template <class Real>
struct Part {
  Index unit, count;
  Vec<Real> get(const Real* row) const { return load(row + unit, count); }
  void set(Real* row, Vec<Real> a) const { store(row + unit, a, count); }
};
template <class Real, class Body>
inline void at_unit(Index unit, Index hidden, Body body) {
  if (unit + Vec<Real>::lanes <= hidden)
    body(Whole<Real>{unit});
  else if (unit < hidden)
    body(Part<Real>{unit, hidden - unit});
}

template <class Real>
inline Vec<Real> one_minus(Vec<Real> a) {
  return set1(Real(1)) - a;
}

// Derivatives, from the value of the function.
template <class Real>
inline Vec<Real> sigmoid_slope(Vec<Real> y) {
  return y * one_minus(y);
}
template <class Real>
inline Vec<Real> tanh_slope(Vec<Real> y) {
  return fma(set1(Real(0)) - y, y, set1(Real(1)));
}

// Calls body(row, at, z of the group) for each row and each vector of its units.
template <class Real, class Body>
inline void for_each_group(const CellForward<Real>& s, Index group_values_, Body body) {
  for (Index row = 0; row < s.rows; ++row)
    for (Index group = s.group_begin; group < s.group_end; ++group)
      at_unit<Real>(group * Vec<Real>::lanes, s.hidden,
                    [&](auto at) { body(row, at, s.z[row] + group * group_values_); });
}
template <class Real, class Body>
inline void for_each_vector(const CellBackward<Real>& s, Body body) {
  for (Index row = 0; row < s.rows; ++row)
    for (Index unit = s.unit_begin; unit < s.unit_end; unit += Vec<Real>::lanes)
      at_unit<Real>(unit, s.hidden, [&](auto at) { body(row, at); });
}

// LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000):
// i, f, o = sigmoid(z_i, z_f, z_o), g = tanh(z_g), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).
template <class Real>
void lstm_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  for_each_group(s, group_values(CellKind::lstm, lanes), [&](Index row, auto at, Real* z) {
    const Ratio<Real> i = sigmoid(load(z)), f = sigmoid(load(z + lanes));
    const Ratio<Real> g = tanh(load(z + 2 * lanes)), o = sigmoid(load(z + 3 * lanes));
    const Vec<Real> forget = value(f);
    const Vec<Real> c = fma(forget, at.get(s.c[row]), product(i, g));
    at.set(s.c[row], c);
    at.set(s.h[row], product(o, tanh(c)));
    if (s.cache) {
      Real* cache = s.cache[row];
      at.set(cache, value(i));
      at.set(cache + H, forget);
      at.set(cache + 2 * H, value(g));
      at.set(cache + 3 * H, value(o));
      at.set(cache + 4 * H, c);
    }
  });
}

template <class Real>
void lstm_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row, auto at) {
    const Real* cache = s.cache[row];
    const Vec<Real> i = at.get(cache), f = at.get(cache + H), g = at.get(cache + 2 * H);
    const Vec<Real> o = at.get(cache + 3 * H), tanh_c = value(tanh(at.get(cache + 4 * H)));
    const Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]);
    const Vec<Real> d_c = fma(d_h * o, tanh_slope(tanh_c), at.get(s.d_c[row]));
    Real* d_z = s.d_z[row];
    at.set(d_z, d_c * g * sigmoid_slope(i));
    at.set(d_z + H, d_c * at.get(s.c_prev[row]) * sigmoid_slope(f));
    at.set(d_z + 2 * H, d_c * i * tanh_slope(g));
    at.set(d_z + 3 * H, d_h * tanh_c * sigmoid_slope(o));
    at.set(s.d_c[row], d_c * f);
  });
}

// GRU with the reset gate after the product, as PyTorch and cuDNN (Cho et al. 2014 in the variant of
// cuDNN): r, z = sigmoid(...), n = tanh(n_x + r n_h), h_t = n + z (h_{t-1} - n).
template <class Real>
void gru_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  for_each_group(s, group_values(CellKind::gru, lanes), [&](Index row, auto at, Real* z) {
    const Vec<Real> reset = value(sigmoid(load(z + lanes)));
    const Vec<Real> update = value(sigmoid(load(z + 2 * lanes)));
    const Vec<Real> n_h = load(z + 3 * lanes);
    const Vec<Real> n = value(tanh(fma(reset, n_h, load(z))));
    at.set(s.h[row], fma(update, at.get(s.h_prev[row]) - n, n));
    if (s.cache) {
      Real* cache = s.cache[row];
      at.set(cache, reset);
      at.set(cache + H, update);
      at.set(cache + 2 * H, n);
      at.set(cache + 3 * H, n_h);
    }
  });
}

template <class Real>
void gru_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row, auto at) {
    const Real* cache = s.cache[row];
    const Vec<Real> reset = at.get(cache), update = at.get(cache + H);
    const Vec<Real> n = at.get(cache + 2 * H), n_h = at.get(cache + 3 * H);
    const Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]);
    const Vec<Real> d_n = d_h * one_minus(update) * tanh_slope(n);
    Real* d_z = s.d_z[row];
    at.set(d_z, d_n);
    at.set(d_z + H, d_n * n_h * sigmoid_slope(reset));
    at.set(d_z + 2 * H, d_h * (at.get(s.h_prev[row]) - n) * sigmoid_slope(update));
    at.set(d_z + 3 * H, d_n * reset);
    at.set(s.d_h[row], d_h * update);
  });
}

// GRU with the reset gate before the product (Cho et al. 2014, eq. 5-8):
// n = tanh(W x + U (r h_{t-1})), in two calls around the product with U.
template <class Real>
void gru_before_forward_reset(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes),
                 [&](Index row, auto at, Real* z) {
                   const Vec<Real> reset = value(sigmoid(load(z + lanes)));
                   at.set(s.reset_h[row], reset * at.get(s.h_prev[row]));
                   if (s.cache) at.set(s.cache[row], reset);
                 });
}

template <class Real>
void gru_before_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes),
                 [&](Index row, auto at, Real* z) {
                   const Vec<Real> update = value(sigmoid(load(z + 2 * lanes)));
                   const Vec<Real> n = value(tanh(load(z)));
                   at.set(s.h[row], fma(update, at.get(s.h_prev[row]) - n, n));
                   if (s.cache) {
                     at.set(s.cache[row] + H, update);
                     at.set(s.cache[row] + 2 * H, n);
                   }
                 });
}

template <class Real>
void gru_before_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row, auto at) {
    const Real* cache = s.cache[row];
    const Vec<Real> update = at.get(cache + H), n = at.get(cache + 2 * H);
    const Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]);
    Real* d_z = s.d_z[row];
    at.set(d_z, d_h * one_minus(update) * tanh_slope(n));
    at.set(d_z + 2 * H, d_h * (at.get(s.h_prev[row]) - n) * sigmoid_slope(update));
    at.set(s.d_h[row], d_h * update);
  });
}

template <class Real>
void gru_before_backward_reset(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row, auto at) {
    const Vec<Real> reset = at.get(s.cache[row]), h_prev = at.get(s.h_prev[row]);
    const Vec<Real> d_reset_h = at.get(s.d_reset_h[row]);
    at.set(s.d_z[row] + H, d_reset_h * h_prev * sigmoid_slope(reset));
    at.set(s.d_z[row] + 3 * H, reset * h_prev);
    at.set(s.d_h[row], fma(d_reset_h, reset, at.get(s.d_h[row])));
  });
}

// Vanilla cell (Elman 1990): h_t = f(z), f = tanh or relu.
struct Tanh {
  template <class Real>
  static Vec<Real> apply(Vec<Real> z) {
    return value(tanh(z));
  }
  template <class Real>
  static Vec<Real> slope(Vec<Real> y) {
    return tanh_slope(y);
  }
};
struct Relu {
  template <class Real>
  static Vec<Real> apply(Vec<Real> z) {
    return max(set1(Real(0)), z);  // in this order NaN passes
  }
  template <class Real>
  static Vec<Real> slope(Vec<Real> y) {
    const Vec<Real> zero = set1(Real(0));
    return select(y > zero, set1(Real(1)), zero);
  }
};

template <class Real, class Activation>
void rnn_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for (Index row = 0; row < s.rows; ++row)
    for (Index unit = s.group_begin * 2 * lanes; unit < s.group_end * 2 * lanes; unit += lanes)
      at_unit<Real>(unit, s.hidden,
                    [&](auto at) { at.set(s.h[row], Activation::apply(load(s.z[row] + unit))); });
}

template <class Real, class Activation>
void rnn_backward(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row, auto at) {
    const Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]);
    at.set(s.d_z[row], d_h * Activation::slope(at.get(s.h[row])));
  });
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
