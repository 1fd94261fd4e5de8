// One step of each cell: gates and state, forward, and directly below it backward. Elementwise over
// units and vectorised along them; the products around a step are in gemm-inl.h. Limit: the
// exponentials, about 14 operations each, and the divisions, one for a product of two gates.
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
// Calls body(at) for each vector of units [begin, end) of `hidden`.
template <class Real, class Body>
inline void for_units(Index begin, Index end, Index hidden, Body body) {
  constexpr Index lanes = Vec<Real>::lanes;
  if (end > hidden) end = hidden;
  Index unit = begin;
  for (; unit + lanes <= end; unit += lanes) body(Whole<Real>{unit});
  if (unit < end) body(Part<Real>{unit, end - unit});
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

// For each row calls row_body(row) once, and what it returns for each vector of the row's units: as
// (at, z of the group) and (at). A row's pointers are read once: the compiler cannot know that a
// store into the row leaves the arrays of pointers alone. Where several bodies are given, each takes
// all of a row before the next: a gate that waits for another is better apart, as a processor does
// not look far enough ahead in one long chain of operations to begin with the next vector.
template <class Real, class... RowBodies>
inline void for_each_group(const CellForward<Real>& s, Index group_values_,
                           RowBodies... row_bodies) {
  constexpr Index lanes = Vec<Real>::lanes;
  const auto pass = [&](Real* z, auto body) {
    for_units<Real>(s.group_begin * lanes, s.group_end * lanes, s.hidden,
                    [=](auto at) { body(at, z + at.unit / lanes * group_values_); });
  };
  for (Index row = 0; row < s.rows; ++row) (pass(s.z[row], row_bodies(row)), ...);
}
template <class Real, class RowBody>
inline void for_each_vector(const CellBackward<Real>& s, RowBody row_body) {
  for (Index row = 0; row < s.rows; ++row)
    for_units<Real>(s.unit_begin, s.unit_end, s.hidden, row_body(row));
}

// LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000):
// i, f, o = sigmoid(z_i, z_f, z_o), g = tanh(z_g), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).
template <class Real>
void lstm_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  const auto cell = [&](Index row) {
    Real *const c_row = s.c[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, Real* z) {
      const Logistic<Real> i = sigmoid(load(z)), f = sigmoid(load(z + lanes));
      const Tangent<Real> g = tanh(load(z + 2 * lanes));
      const Vec<Real> forget = value(f);
      const Vec<Real> c = fma(forget, at.get(c_row), product(i, g));
      at.set(c_row, c);
      if (cache) {
        at.set(cache, value(i));
        at.set(cache + H, forget);
        at.set(cache + 2 * H, value(g));
        at.set(cache + 4 * H, c);
      }
    };
  };
  const auto output = [&](Index row) {
    const Real* const c = s.c[row];
    Real *const h = s.h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, const Real* z) {
      const Logistic<Real> o = sigmoid(load(z + 3 * lanes));
      at.set(h, product(o, tanh(at.get(c))));
      if (cache) at.set(cache + 3 * H, value(o));
    };
  };
  for_each_group(s, group_values(CellKind::lstm, lanes), cell, output);
}

template <class Real>
void lstm_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row) {
    const Real *const cache = s.cache[row], *const c_prev = s.c_prev[row], *const d_y = s.d_y[row];
    Real *const d_h_row = s.d_h[row], *const d_c_row = s.d_c[row], *const d_z = s.d_z[row];
    return [=](auto at) {
      const Vec<Real> i = at.get(cache), f = at.get(cache + H), g = at.get(cache + 2 * H);
      const Vec<Real> o = at.get(cache + 3 * H), tanh_c = value(tanh(at.get(cache + 4 * H)));
      const Vec<Real> d_h = at.get(d_h_row) + at.get(d_y);
      const Vec<Real> d_c = fma(d_h * o, tanh_slope(tanh_c), at.get(d_c_row));
      at.set(d_z, d_c * g * sigmoid_slope(i));
      at.set(d_z + H, d_c * at.get(c_prev) * sigmoid_slope(f));
      at.set(d_z + 2 * H, d_c * i * tanh_slope(g));
      at.set(d_z + 3 * H, d_h * tanh_c * sigmoid_slope(o));
      at.set(d_c_row, d_c * f);
    };
  });
}

// GRU with the reset gate after the product, as PyTorch and cuDNN (Cho et al. 2014 in the variant of
// cuDNN): r, z = sigmoid(...), n = tanh(n_x + r n_h), h_t = n + z (h_{t-1} - n).
template <class Real>
void gru_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  const auto reset = [&](Index row) {
    Real* const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, Real* z) {
      const Vec<Real> r = value(sigmoid(load(z + lanes))), n_h = load(z + 3 * lanes);
      store(z, fma(r, n_h, load(z)));
      if (cache) {
        at.set(cache, r);
        at.set(cache + 3 * H, n_h);
      }
    };
  };
  const auto output = [&](Index row) {
    const Real* const h_prev = s.h_prev[row];
    Real *const h = s.h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, const Real* z) {
      const Vec<Real> update = value(sigmoid(load(z + 2 * lanes))), n = value(tanh(load(z)));
      at.set(h, fma(update, at.get(h_prev) - n, n));
      if (cache) {
        at.set(cache + H, update);
        at.set(cache + 2 * H, n);
      }
    };
  };
  for_each_group(s, group_values(CellKind::gru, lanes), reset, output);
}

template <class Real>
void gru_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row) {
    const Real *const cache = s.cache[row], *const h_prev = s.h_prev[row], *const d_y = s.d_y[row];
    Real *const d_h_row = s.d_h[row], *const d_z = s.d_z[row];
    return [=](auto at) {
      const Vec<Real> reset = at.get(cache), update = at.get(cache + H);
      const Vec<Real> n = at.get(cache + 2 * H), n_h = at.get(cache + 3 * H);
      const Vec<Real> d_h = at.get(d_h_row) + at.get(d_y);
      const Vec<Real> d_n = d_h * one_minus(update) * tanh_slope(n);
      at.set(d_z, d_n);
      at.set(d_z + H, d_n * n_h * sigmoid_slope(reset));
      at.set(d_z + 2 * H, d_h * (at.get(h_prev) - n) * sigmoid_slope(update));
      at.set(d_z + 3 * H, d_n * reset);
      at.set(d_h_row, d_h * update);
    };
  });
}

// GRU with the reset gate before the product (Cho et al. 2014, eq. 5-8):
// n = tanh(W x + U (r h_{t-1})), in two calls around the product with U.
template <class Real>
void gru_before_forward_reset(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes), [&](Index row) {
    const Real* const h_prev = s.h_prev[row];
    Real *const reset_h = s.reset_h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, const Real* z) {
      const Vec<Real> reset = value(sigmoid(load(z + lanes)));
      at.set(reset_h, reset * at.get(h_prev));
      if (cache) at.set(cache, reset);
    };
  });
}

template <class Real>
void gru_before_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index H = s.hidden;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes), [&](Index row) {
    const Real* const h_prev = s.h_prev[row];
    Real *const h = s.h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=](auto at, const Real* z) {
      const Vec<Real> update = value(sigmoid(load(z + 2 * lanes))), n = value(tanh(load(z)));
      at.set(h, fma(update, at.get(h_prev) - n, n));
      if (cache) {
        at.set(cache + H, update);
        at.set(cache + 2 * H, n);
      }
    };
  });
}

template <class Real>
void gru_before_backward(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row) {
    const Real *const cache = s.cache[row], *const h_prev = s.h_prev[row], *const d_y = s.d_y[row];
    Real *const d_h_row = s.d_h[row], *const d_z = s.d_z[row];
    return [=](auto at) {
      const Vec<Real> update = at.get(cache + H), n = at.get(cache + 2 * H);
      const Vec<Real> d_h = at.get(d_h_row) + at.get(d_y);
      at.set(d_z, d_h * one_minus(update) * tanh_slope(n));
      at.set(d_z + 2 * H, d_h * (at.get(h_prev) - n) * sigmoid_slope(update));
      at.set(d_h_row, d_h * update);
    };
  });
}

template <class Real>
void gru_before_backward_reset(const CellBackward<Real>& s) {
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row) {
    const Real *const cache = s.cache[row], *const h_prev_row = s.h_prev[row];
    const Real* const d_reset_h_row = s.d_reset_h[row];
    Real *const d_h = s.d_h[row], *const d_z = s.d_z[row];
    return [=](auto at) {
      const Vec<Real> reset = at.get(cache), h_prev = at.get(h_prev_row);
      const Vec<Real> d_reset_h = at.get(d_reset_h_row);
      at.set(d_z + H, d_reset_h * h_prev * sigmoid_slope(reset));
      at.set(d_z + 3 * H, reset * h_prev);
      at.set(d_h, fma(d_reset_h, reset, at.get(d_h)));
    };
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
  constexpr int units = group_units(CellKind::rnn_tanh, Vec<Real>::lanes);
  for (Index row = 0; row < s.rows; ++row) {
    const Real* const z = s.z[row];
    Real* const h = s.h[row];
    for_units<Real>(s.group_begin * units, s.group_end * units, s.hidden,
                    [=](auto at) { at.set(h, Activation::apply(load(z + at.unit))); });
  }
}

template <class Real, class Activation>
void rnn_backward(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row) {
    const Real *const h = s.h[row], *const d_y = s.d_y[row], *const d_h = s.d_h[row];
    Real* const d_z = s.d_z[row];
    return
        [=](auto at) { at.set(d_z, (at.get(d_h) + at.get(d_y)) * Activation::slope(at.get(h))); };
  });
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
