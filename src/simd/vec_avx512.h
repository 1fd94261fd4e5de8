// AVX-512 (F, DQ, VL, BW): the vocabulary of vec_generic.h over its registers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int accumulators = 24;  // of 32 registers; a 6 x 4 tile needs 6 + 1 more
constexpr int unrolled_steps = 4;

template <class Real>
struct Vec;
template <>
struct Vec<float> {
  static constexpr int lanes = 16;
  __m512 v;
};
template <>
struct Vec<double> {
  static constexpr int lanes = 8;
  __m512d v;
};
template <class Real>
struct Mask;
template <>
struct Mask<float> {
  __mmask16 v;
};
template <>
struct Mask<double> {
  __mmask8 v;
};

// The first n lanes.
inline unsigned first(std::ptrdiff_t n) { return (1u << n) - 1u; }

inline Vec<float> load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Vec<float> a) { _mm512_storeu_ps(p, a.v); }
inline Vec<float> load(const float* p, std::ptrdiff_t n) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(first(n)), p)};
}
inline void store(float* p, Vec<float> a, std::ptrdiff_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first(n)), a.v);
}
inline Vec<float> set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vec<float> operator+(Vec<float> a, Vec<float> b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec<float> operator-(Vec<float> a, Vec<float> b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec<float> operator*(Vec<float> a, Vec<float> b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec<float> operator/(Vec<float> a, Vec<float> b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec<float> sqrt(Vec<float> a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec<float> min(Vec<float> a, Vec<float> b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec<float> negative_abs(Vec<float> a) { return {_mm512_or_ps(_mm512_set1_ps(-0.0f), a.v)}; }
inline Vec<float> copysign(Vec<float> a, Vec<float> b) {
  const __m512 sign = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(sign, a.v), _mm512_and_ps(sign, b.v))};
}
inline Mask<float> operator>=(Vec<float> a, Vec<float> b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)};
}
inline Mask<float> operator>(Vec<float> a, Vec<float> b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<float> select(Mask<float> mask, Vec<float> a, Vec<float> b) {
  return {_mm512_mask_blend_ps(mask.v, b.v, a.v)};
}
inline Vec<float> shift_to_exponent(Vec<float> a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}

inline Vec<double> load(const double* p) { return {_mm512_loadu_pd(p)}; }
inline void store(double* p, Vec<double> a) { _mm512_storeu_pd(p, a.v); }
inline Vec<double> load(const double* p, std::ptrdiff_t n) {
  return {_mm512_maskz_loadu_pd(static_cast<__mmask8>(first(n)), p)};
}
inline void store(double* p, Vec<double> a, std::ptrdiff_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first(n)), a.v);
}
inline Vec<double> set1(double x) { return {_mm512_set1_pd(x)}; }
inline Vec<double> operator+(Vec<double> a, Vec<double> b) { return {_mm512_add_pd(a.v, b.v)}; }
inline Vec<double> operator-(Vec<double> a, Vec<double> b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline Vec<double> operator*(Vec<double> a, Vec<double> b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline Vec<double> operator/(Vec<double> a, Vec<double> b) { return {_mm512_div_pd(a.v, b.v)}; }
inline Vec<double> sqrt(Vec<double> a) { return {_mm512_sqrt_pd(a.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return {_mm512_fmadd_pd(a.v, b.v, c.v)};
}
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm512_max_pd(a.v, b.v)}; }
inline Vec<double> min(Vec<double> a, Vec<double> b) { return {_mm512_min_pd(a.v, b.v)}; }
inline Vec<double> negative_abs(Vec<double> a) { return {_mm512_or_pd(_mm512_set1_pd(-0.0), a.v)}; }
inline Vec<double> copysign(Vec<double> a, Vec<double> b) {
  const __m512d sign = _mm512_set1_pd(-0.0);
  return {_mm512_or_pd(_mm512_andnot_pd(sign, a.v), _mm512_and_pd(sign, b.v))};
}
inline Mask<double> operator>=(Vec<double> a, Vec<double> b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_GE_OQ)};
}
inline Mask<double> operator>(Vec<double> a, Vec<double> b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<double> select(Mask<double> mask, Vec<double> a, Vec<double> b) {
  return {_mm512_mask_blend_pd(mask.v, b.v, a.v)};
}
inline Vec<double> shift_to_exponent(Vec<double> a) {
  return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52))};
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
