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
  static constexpr float tanh_end = -40.0f;                  // tanh(20) rounds to 1
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
  static constexpr double tanh_end = -80.0;
  static constexpr double q[] = {
      0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d63p-5,  0x1.11111111109b3p-7,
      0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13, 0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19,
      0x1.289185613a3d6p-22, 0x1.af38a9b0ec855p-26};
};

// exp(x) = (1 + p) * scale * 2^-shift.
template <class Real>
struct ReducedExp {
  Vec<Real> p, scale;
};

template <class Real>
inline ReducedExp<Real> reduce_exp(Vec<Real> x, Vec<Real> shift) {
  using C = ExpConstants<Real>;
  const Vec<Real> offset = set1(C::magic + C::exponent_bias) + shift;
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

// exp(x) for x <= 0, denormal results rounded once.
template <class Real>
inline Vec<Real> exp_nonpositive(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const ReducedExp<Real> e = reduce_exp(max(set1(C::lowest), x), set1(C::headroom));
  return fma(e.scale, e.p, e.scale) * set1(C::unscale);
}

template <class Real>
inline Vec<Real> exp(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> zero = set1(Real(0));
  const Mask<Real> positive = x > zero;
  const Vec<Real> low = max(set1(C::lowest), x);
  const Vec<Real> clamped = select(low > set1(C::highest), set1(C::highest), low);
  const Vec<Real> shift = select(positive, set1(-C::headroom), set1(C::headroom));
  const ReducedExp<Real> e = reduce_exp(clamped, shift);
  return fma(e.scale, e.p, e.scale) * select(positive, set1(C::rescale), set1(C::unscale));
}

// A value kept as numerator and denominator, so that a product of two costs one division.
template <class Real>
struct Ratio {
  Vec<Real> num, den;
};
template <class Real>
inline Vec<Real> value(Ratio<Real> a) {
  return a.num / a.den;
}
template <class Real>
inline Vec<Real> product(Ratio<Real> a, Ratio<Real> b) {
  return (a.num * b.num) / (a.den * b.den);
}

// 1 / (1 + exp(-x)) = (x >= 0 ? 1 : e) / (1 + e) with e = exp(-|x|): 1 <= den <= 2.
template <class Real>
inline Ratio<Real> sigmoid(Vec<Real> x) {
  const Vec<Real> zero = set1(Real(0)), one = set1(Real(1));
  const Vec<Real> e = exp_nonpositive(zero - abs(x));
  return {select(x >= zero, one, e), one + e};
}

// tanh(x) = sign(x) m / (2 - m) with m = 1 - exp(-2 |x|), taken without cancellation: 1 <= den <= 2.
template <class Real>
inline Ratio<Real> tanh(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> y = set1(Real(-2)) * abs(x);
  const ReducedExp<Real> e = reduce_exp(max(set1(C::tanh_end), y), set1(Real(0)));
  const Vec<Real> expm1 = fma(e.scale, e.p, e.scale - set1(Real(1)));
  return {copysign(expm1, x), set1(Real(2)) + expm1};
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
