// The functions of CellOptions and their derivatives, chosen at run time: the choice is the same for
// all vectors of a step, so the branch is foreseen.
#pragma once

#include "kernels/cells-inl.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// exp(x) - 1 for x <= 0, without cancellation.
template <class Real>
inline Vec<Real> expm1_nonpositive(Vec<Real> x) {
  const ReducedExp<Real> e = reduce_exp(max(set1(ExpConstants<Real>::tangent_end), x), Real(0));
  return fma(e.scale, e.p, e.scale - set1(Real(1)));
}

// log(1 + y) for 0 <= y <= 1 as 2 artanh(s), s = y / (2 + y) <= 1/3, by its series: the first term
// that is left out is below a quarter of the last place.
template <class Real>
inline Vec<Real> log1p_unit(Vec<Real> y) {
  constexpr int terms = sizeof(Real) == 4 ? 8 : 17;
  const Vec<Real> s = y / (set1(Real(2)) + y), s2 = s * s;
  Vec<Real> sum = set1(Real(1) / Real(2 * terms + 1));
  for (int k = terms - 1; k > 0; --k) sum = fma(sum, s2, set1(Real(1) / Real(2 * k + 1)));
  const Vec<Real> twice = s + s;
  return fma(twice * s2, sum, twice);
}

// The functions but sigmoid and tanh, apart from the loops of the cells: most cells have none of them.
template <class Real>
__attribute__((noinline)) Vec<Real> activate_other(const Activation<Real>& a, Vec<Real> x) {
  const Vec<Real> zero = set1(Real(0)), one = set1(Real(1));
  const Vec<Real> alpha = set1(a.alpha), beta = set1(a.beta);
  switch (a.function) {
    case Function::relu: return max(zero, x);  // in this order NaN passes, here and below
    case Function::affine: return fma(alpha, x, beta);
    case Function::leaky_relu: return select(zero > x, alpha * x, x);
    case Function::thresholded_relu: return select(alpha >= x, zero, x);
    case Function::scaled_tanh: return alpha * value(tanh(beta * x));
    case Function::hard_sigmoid: return max(zero, min(one, fma(alpha, x, beta)));
    case Function::elu: return select(zero > x, alpha * expm1_nonpositive(x), x);
    case Function::softsign: return x / (one - negative_abs(x));
    case Function::softplus: return max(zero, x) + log1p_unit(exp_nonpositive(negative_abs(x)));
    default: return x;  // prelu has its own slopes: see RNN
  }
}

template <class Real>
inline Vec<Real> activate(const Activation<Real>& a, Vec<Real> x) {
  if (a.function == Function::sigmoid) return value(sigmoid(x));
  if (a.function == Function::tanh) return value(tanh(x));
  return activate_other(a, x);
}

template <class Real>
__attribute__((noinline)) Vec<Real> slope_other(const Activation<Real>& a, Vec<Real> x,
                                                Vec<Real> y) {
  const Vec<Real> zero = set1(Real(0)), one = set1(Real(1));
  const Vec<Real> alpha = set1(a.alpha), beta = set1(a.beta);
  switch (a.function) {
    case Function::relu: return select(y > zero, one, zero);
    case Function::affine: return alpha;
    case Function::leaky_relu: return select(x > zero, one, alpha);
    case Function::thresholded_relu: return select(x > alpha, one, zero);
    case Function::scaled_tanh: return alpha * (beta * tanh_slope(value(tanh(beta * x))));
    case Function::hard_sigmoid: return select(y > zero, select(y >= one, zero, alpha), zero);
    case Function::elu: return select(x > zero, one, alpha * exp_nonpositive(min(zero, x)));
    case Function::softsign: {
      const Vec<Real> shrink = one / (one - negative_abs(x));
      return shrink * shrink;
    }
    case Function::softplus: return value(sigmoid(x));
    default: return one;
  }
}

// The derivative at x, given y = activate(a, x).
template <class Real>
inline Vec<Real> slope(const Activation<Real>& a, Vec<Real> x, Vec<Real> y) {
  if (a.function == Function::sigmoid) return sigmoid_slope(y);
  if (a.function == Function::tanh) return tanh_slope(y);
  return slope_other(a, x, y);
}

// What a gate takes: bounded by clip; and its gradient, none where the bound was at work.
template <class Real>
inline Vec<Real> clipped(Real limit, Vec<Real> x) {
  return min(set1(limit), max(set1(-limit), x));
}
template <class Real>
inline Vec<Real> clipped_gradient(Real limit, Vec<Real> x, Vec<Real> gradient) {
  return select(set1(-limit) > negative_abs(x), set1(Real(0)), gradient);
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
