// The vocabulary of the kernels, in plain C++: this file is its documentation, vec_<isa>.h hold the
// same names over one instruction set's registers. Adding an instruction set is filling in this form.
//
//   Vec<Real>, lanes            a register of Real (float or double) and how many it holds
//   accumulators                how many Vecs a matrix tile may keep: registers minus its operands
//   unrolled_steps              steps of a product's loop that follow each other without a branch
//   load(p), load(p, n)         lanes values from unaligned memory; only the first n, the rest zero
//   store(p, v), store(p, v, n) the other way; only the first n are written
//   set1(x)                     x in every lane
//   a + b, a - b, a * b, a / b, sqrt(a)   IEEE 754, each rounded once
//   fma(a, b, c)                a * b + c, rounded once
//   max(a, b)                   a > b ? a : b, so b where either is NaN
//   min(a, b)                   a < b ? a : b, likewise
//   negative_abs(a), copysign(a, b)   on the sign bit alone, NaN included
//   a >= b, a > b -> Mask; select(mask, a, b)   a where true; a comparison with NaN is false
//   shift_to_exponent(a)        the bits of a moved left by the mantissa's width (see math-inl.h)
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int accumulators = 8;
constexpr int unrolled_steps = 1;

template <class Real>
struct Vec {
  static constexpr int lanes = 16 / static_cast<int>(sizeof(Real));
  Real v[lanes];
};

template <class Real>
struct Mask {
  bool v[Vec<Real>::lanes];
};

// a * b + c with one rounding. Without a hardware instruction libm's fma is correct but very slow,
// so float goes through double: the product is exact there, and rounding the sum to odd keeps the
// second rounding to float right (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums",
// IEEE Trans. Computers 2008, theorem 5: 53 >= 24 + 2 digits).
inline float fused(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return std::fma(a, b, c);
#else
  const double product = static_cast<double>(a) * b;
  double sum = product + c;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (c - part);
  std::uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if (error != 0 && error == error && (bits & 1) == 0) {
    bits += (error > 0) == (sum > 0) ? 1 : std::uint64_t(-1);
    std::memcpy(&sum, &bits, sizeof bits);
  }
  return static_cast<float>(sum);
#endif
}
inline double fused(double a, double b, double c) { return std::fma(a, b, c); }

template <class Real, class Function>
inline Vec<Real> each_lane(Function function) {
  Vec<Real> out;
  for (int i = 0; i < Vec<Real>::lanes; ++i) out.v[i] = function(i);
  return out;
}

template <class Real>
inline Vec<Real> load(const Real* p) {
  return each_lane<Real>([&](int i) { return p[i]; });
}
template <class Real>
inline Vec<Real> load(const Real* p, std::ptrdiff_t n) {
  return each_lane<Real>([&](int i) { return i < n ? p[i] : Real(0); });
}
template <class Real>
inline void store(Real* p, Vec<Real> a) {
  for (int i = 0; i < Vec<Real>::lanes; ++i) p[i] = a.v[i];
}
template <class Real>
inline void store(Real* p, Vec<Real> a, std::ptrdiff_t n) {
  for (int i = 0; i < Vec<Real>::lanes; ++i)
    if (i < n) p[i] = a.v[i];
}
template <class Real>
inline Vec<Real> set1(Real x) {
  return each_lane<Real>([&](int) { return x; });
}
template <class Real>
inline Vec<Real> operator+(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] + b.v[i]; });
}
template <class Real>
inline Vec<Real> operator-(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] - b.v[i]; });
}
template <class Real>
inline Vec<Real> operator*(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] * b.v[i]; });
}
template <class Real>
inline Vec<Real> operator/(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] / b.v[i]; });
}
template <class Real>
inline Vec<Real> sqrt(Vec<Real> a) {
  return each_lane<Real>([&](int i) { return std::sqrt(a.v[i]); });
}
template <class Real>
inline Vec<Real> fma(Vec<Real> a, Vec<Real> b, Vec<Real> c) {
  return each_lane<Real>([&](int i) { return fused(a.v[i], b.v[i], c.v[i]); });
}
template <class Real>
inline Vec<Real> max(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
template <class Real>
inline Vec<Real> min(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
template <class Real>
inline Vec<Real> negative_abs(Vec<Real> a) {
  return each_lane<Real>([&](int i) { return -std::fabs(a.v[i]); });
}
template <class Real>
inline Vec<Real> copysign(Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return std::copysign(a.v[i], b.v[i]); });
}
template <class Real>
inline Mask<Real> operator>=(Vec<Real> a, Vec<Real> b) {
  Mask<Real> out;
  for (int i = 0; i < Vec<Real>::lanes; ++i) out.v[i] = a.v[i] >= b.v[i];
  return out;
}
template <class Real>
inline Mask<Real> operator>(Vec<Real> a, Vec<Real> b) {
  Mask<Real> out;
  for (int i = 0; i < Vec<Real>::lanes; ++i) out.v[i] = a.v[i] > b.v[i];
  return out;
}
template <class Real>
inline Vec<Real> select(Mask<Real> mask, Vec<Real> a, Vec<Real> b) {
  return each_lane<Real>([&](int i) { return mask.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec<float> shift_to_exponent(Vec<float> a) {
  return each_lane<float>([&](int i) {
    std::uint32_t bits;
    float out;
    std::memcpy(&bits, &a.v[i], sizeof bits);
    bits <<= 23;
    std::memcpy(&out, &bits, sizeof bits);
    return out;
  });
}
inline Vec<double> shift_to_exponent(Vec<double> a) {
  return each_lane<double>([&](int i) {
    std::uint64_t bits;
    double out;
    std::memcpy(&bits, &a.v[i], sizeof bits);
    bits <<= 52;
    std::memcpy(&out, &bits, sizeof bits);
    return out;
  });
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
