// exp, tanh and the logistic function from + - * / and fma alone: the same operations in the same
// order for every instruction set, so the same bits. No tables, no approximate reciprocals.
//
// exp(x) = 2^n (1 + p(r)) with n = round(x / ln 2), r = x - n ln 2 in two steps (Cody & Waite,
// "Software Manual for the Elementary Functions", 1980, ch. 6) and p(r) = r + r^2 q(r) close to
// exp(r) - 1 on |r| <= ln(2) / 2, q interpolated at Chebyshev points. Errors: docs/numerics.md.
#pragma once

#include <limits>

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

template <class Real>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float inverse_ln2 = 0x1.715476p+0f;
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the mantissa's low bits.
  static constexpr float magic = 12582912.0f;
  static constexpr float exponent_bias = 127.0f;
  static constexpr float headroom = 64.0f, unscale = 0x1p-64f, rescale = 0x1p+64f;
  static constexpr float lowest = -104.0f, highest = 89.0f;  // exp is 0 below, infinite above
  static constexpr float tangent_end = -40.0f;               // tanh(20) rounds to 1
  static constexpr float logistic_end = -40.0f;              // 1 + exp(-40) rounds to 1
  static constexpr float q[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120b6ep-7f,
                                0x1.6d110ap-10f};
};

template <>
struct ExpConstants<double> {
  static constexpr double inverse_ln2 = 0x1.71547652b82fep+0;
  static constexpr double ln2_high = 0x1.62e42fefa2p-1, ln2_low = 0x1.9ef35793c7673p-41;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double exponent_bias = 1023.0;
  static constexpr double headroom = 512.0, unscale = 0x1p-512, rescale = 0x1p+512;
  static constexpr double lowest = -746.0, highest = 710.0;
  static constexpr double tangent_end = -80.0, logistic_end = -80.0;
  static constexpr double q[] = {
      0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d63p-5,  0x1.11111111109b3p-7,
      0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13, 0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19,
      0x1.289185613a3d6p-22, 0x1.af38a9b0ec855p-26};
};

// exp(x) * 2^shift = (1 + p) * scale.
template <class Real>
struct ReducedExp {
  Vec<Real> p, scale;
};

template <class Real>
inline ReducedExp<Real> reduce_exp(Vec<Real> x, Real shift) {
  using C = ExpConstants<Real>;
  const Vec<Real> offset = set1(C::magic + C::exponent_bias + shift);
  const Vec<Real> shifted = fma(x, set1(C::inverse_ln2), offset);
  const Vec<Real> n = shifted - offset;
  Vec<Real> r = fma(n, set1(-C::ln2_high), x);
  r = fma(n, set1(-C::ln2_low), r);
  constexpr int terms = sizeof(C::q) / sizeof(Real);
  Vec<Real> q = set1(C::q[terms - 1]);
  for (int i = terms - 2; i >= 0; --i) q = fma(q, r, set1(C::q[i]));
  // r q by fma, not r^2: some processors take long to multiply where the result is denormal.
  return {fma(fma(r, q, set1(Real(0))), r, r), shift_to_exponent(shifted)};
}

// From its two parts, where neither they nor the result are denormal.
template <class Real>
inline Vec<Real> value(ReducedExp<Real> e) {
  return fma(e.scale, e.p, e.scale);
}

// a * 2^-headroom, where the result may be denormal: by fma, as some processors take long to multiply
// then. Keeps the sign of a zero.
template <class Real>
inline Vec<Real> unscaled(Vec<Real> a) {
  return fma(a, set1(ExpConstants<Real>::unscale), set1(Real(-0.0)));
}

// exp(x) for x <= 0, denormal results rounded once.
template <class Real>
inline Vec<Real> exp_nonpositive(Vec<Real> x) {
  using C = ExpConstants<Real>;
  return unscaled(value(reduce_exp(max(set1(C::lowest), x), C::headroom)));
}

template <class Real>
inline Vec<Real> exp(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> zero = set1(Real(0)), clamped = min(set1(C::highest), max(zero, x));
  const Vec<Real> positive = value(reduce_exp(clamped, -C::headroom)) * set1(C::rescale);
  return select(x > zero, positive, exp_nonpositive(x));
}

// The logistic function 1 / (1 + exp(-x)) as its denominator, 2^-headroom (1 + exp(-x)): with the
// scale neither exp overflows nor is a denormal result lost.
template <class Real>
struct Logistic {
  Vec<Real> den;
};
template <class Real>
inline Logistic<Real> sigmoid(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> minus_x = max(set1(C::logistic_end), set1(Real(0)) - x);
  const ReducedExp<Real> e = reduce_exp(min(set1(-C::lowest), minus_x), -C::headroom);
  return {value(e) + set1(C::unscale)};
}
template <class Real>
inline Vec<Real> value(Logistic<Real> a) {
  return set1(ExpConstants<Real>::unscale) / a.den;
}

// tanh(x) = sign(x) m / (2 + m) with m = exp(-2 |x|) - 1, taken without cancellation, as numerator,
// 2^headroom sign(x) m, and denominator: 1 <= den <= 2. Scaled, as a denormal takes long to divide.
template <class Real>
struct Tangent {
  Vec<Real> num, den;
};
template <class Real>
inline Tangent<Real> tanh(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> y = max(set1(C::tangent_end), negative_abs(x) + negative_abs(x));
  const ReducedExp<Real> e = reduce_exp(y, Real(0));
  const Vec<Real> m = fma(e.scale, e.p, e.scale - set1(Real(1)));
  return {copysign(m * set1(C::rescale), x), set1(Real(2)) + m};
}
template <class Real>
inline Vec<Real> value(Tangent<Real> a) {
  return unscaled(a.num / a.den);
}
// The product of the two, with one division. Below the smallest normal number it may become zero.
template <class Real>
inline Vec<Real> product(Logistic<Real> a, Tangent<Real> b) {
  return unscaled(b.num / ((a.den * set1(ExpConstants<Real>::rescale)) * b.den));
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
