// AVX2 and FMA3: the vocabulary of vec_generic.h over its registers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int accumulators = 12;  // of 16 registers; a 3 x 4 tile needs 3 + 1 more
constexpr int unrolled_steps = 4;

template <class Real>
struct Vec;
template <>
struct Vec<float> {
  static constexpr int lanes = 8;
  __m256 v;
};
template <>
struct Vec<double> {
  static constexpr int lanes = 4;
  __m256d v;
};
template <class Real>
struct Mask {
  decltype(Vec<Real>::v) v;
};

// The first n lanes, for 0 <= n <= 8 lanes of 32 bits.
inline __m256i first(std::ptrdiff_t n) {
  alignas(32) static const std::int32_t edge[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(edge + 8 - n));
}

inline Vec<float> load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, Vec<float> a) { _mm256_storeu_ps(p, a.v); }
inline Vec<float> load(const float* p, std::ptrdiff_t n) {
  return {_mm256_maskload_ps(p, first(n))};
}
inline void store(float* p, Vec<float> a, std::ptrdiff_t n) {
  _mm256_maskstore_ps(p, first(n), a.v);
}
inline Vec<float> set1(float x) { return {_mm256_set1_ps(x)}; }
inline Vec<float> operator+(Vec<float> a, Vec<float> b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec<float> operator-(Vec<float> a, Vec<float> b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec<float> operator*(Vec<float> a, Vec<float> b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec<float> operator/(Vec<float> a, Vec<float> b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec<float> sqrt(Vec<float> a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec<float> min(Vec<float> a, Vec<float> b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec<float> negative_abs(Vec<float> a) { return {_mm256_or_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Vec<float> copysign(Vec<float> a, Vec<float> b) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(sign, a.v), _mm256_and_ps(sign, b.v))};
}
inline Mask<float> operator>=(Vec<float> a, Vec<float> b) {
  return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)};
}
inline Mask<float> operator>(Vec<float> a, Vec<float> b) {
  return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<float> select(Mask<float> mask, Vec<float> a, Vec<float> b) {
  return {_mm256_blendv_ps(b.v, a.v, mask.v)};
}
inline Vec<float> shift_to_exponent(Vec<float> a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}

inline Vec<double> load(const double* p) { return {_mm256_loadu_pd(p)}; }
inline void store(double* p, Vec<double> a) { _mm256_storeu_pd(p, a.v); }
inline Vec<double> load(const double* p, std::ptrdiff_t n) {
  return {_mm256_maskload_pd(p, first(2 * n))};
}
inline void store(double* p, Vec<double> a, std::ptrdiff_t n) {
  _mm256_maskstore_pd(p, first(2 * n), a.v);
}
inline Vec<double> set1(double x) { return {_mm256_set1_pd(x)}; }
inline Vec<double> operator+(Vec<double> a, Vec<double> b) { return {_mm256_add_pd(a.v, b.v)}; }
inline Vec<double> operator-(Vec<double> a, Vec<double> b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline Vec<double> operator*(Vec<double> a, Vec<double> b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline Vec<double> operator/(Vec<double> a, Vec<double> b) { return {_mm256_div_pd(a.v, b.v)}; }
inline Vec<double> sqrt(Vec<double> a) { return {_mm256_sqrt_pd(a.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return {_mm256_fmadd_pd(a.v, b.v, c.v)};
}
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm256_max_pd(a.v, b.v)}; }
inline Vec<double> min(Vec<double> a, Vec<double> b) { return {_mm256_min_pd(a.v, b.v)}; }
inline Vec<double> negative_abs(Vec<double> a) { return {_mm256_or_pd(_mm256_set1_pd(-0.0), a.v)}; }
inline Vec<double> copysign(Vec<double> a, Vec<double> b) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  return {_mm256_or_pd(_mm256_andnot_pd(sign, a.v), _mm256_and_pd(sign, b.v))};
}
inline Mask<double> operator>=(Vec<double> a, Vec<double> b) {
  return {_mm256_cmp_pd(a.v, b.v, _CMP_GE_OQ)};
}
inline Mask<double> operator>(Vec<double> a, Vec<double> b) {
  return {_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<double> select(Mask<double> mask, Vec<double> a, Vec<double> b) {
  return {_mm256_blendv_pd(b.v, a.v, mask.v)};
}
inline Vec<double> shift_to_exponent(Vec<double> a) {
  return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52))};
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
