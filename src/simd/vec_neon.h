// NEON of 64-bit ARM: the vocabulary of vec_generic.h over its registers.
#pragma once

#include <arm_neon.h>

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
  static constexpr int lanes = 4;
  float32x4_t v;
};
template <>
struct Vec<double> {
  static constexpr int lanes = 2;
  float64x2_t v;
};
template <class Real>
struct Mask;
template <>
struct Mask<float> {
  uint32x4_t v;
};
template <>
struct Mask<double> {
  uint64x2_t v;
};

inline Vec<float> load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, Vec<float> a) { vst1q_f32(p, a.v); }
inline Vec<float> load(const float* p, std::ptrdiff_t n) {
  float edge[4] = {};
  for (std::ptrdiff_t i = 0; i < n; ++i) edge[i] = p[i];
  return load(edge);
}
inline void store(float* p, Vec<float> a, std::ptrdiff_t n) {
  float edge[4];
  store(edge, a);
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = edge[i];
}
inline Vec<float> set1(float x) { return {vdupq_n_f32(x)}; }
inline Vec<float> operator+(Vec<float> a, Vec<float> b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec<float> operator-(Vec<float> a, Vec<float> b) { return {vsubq_f32(a.v, b.v)}; }
inline Vec<float> operator*(Vec<float> a, Vec<float> b) { return {vmulq_f32(a.v, b.v)}; }
inline Vec<float> operator/(Vec<float> a, Vec<float> b) { return {vdivq_f32(a.v, b.v)}; }
inline Vec<float> sqrt(Vec<float> a) { return {vsqrtq_f32(a.v)}; }
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return {vfmaq_f32(c.v, a.v, b.v)};
}
inline Vec<float> max(Vec<float> a, Vec<float> b) {
  return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)};
}
inline Vec<float> min(Vec<float> a, Vec<float> b) {
  return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)};
}
inline Vec<float> negative_abs(Vec<float> a) { return {vnegq_f32(vabsq_f32(a.v))}; }
inline Vec<float> copysign(Vec<float> a, Vec<float> b) {
  return {vbslq_f32(vdupq_n_u32(uint32_t(1) << 31), b.v, a.v)};
}
inline Mask<float> operator>=(Vec<float> a, Vec<float> b) { return {vcgeq_f32(a.v, b.v)}; }
inline Mask<float> operator>(Vec<float> a, Vec<float> b) { return {vcgtq_f32(a.v, b.v)}; }
inline Vec<float> select(Mask<float> mask, Vec<float> a, Vec<float> b) {
  return {vbslq_f32(mask.v, a.v, b.v)};
}
inline Vec<float> shift_to_exponent(Vec<float> a) {
  return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.v), 23))};
}

inline Vec<double> load(const double* p) { return {vld1q_f64(p)}; }
inline void store(double* p, Vec<double> a) { vst1q_f64(p, a.v); }
inline Vec<double> load(const double* p, std::ptrdiff_t n) {
  double edge[2] = {};
  for (std::ptrdiff_t i = 0; i < n; ++i) edge[i] = p[i];
  return load(edge);
}
inline void store(double* p, Vec<double> a, std::ptrdiff_t n) {
  double edge[2];
  store(edge, a);
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = edge[i];
}
inline Vec<double> set1(double x) { return {vdupq_n_f64(x)}; }
inline Vec<double> operator+(Vec<double> a, Vec<double> b) { return {vaddq_f64(a.v, b.v)}; }
inline Vec<double> operator-(Vec<double> a, Vec<double> b) { return {vsubq_f64(a.v, b.v)}; }
inline Vec<double> operator*(Vec<double> a, Vec<double> b) { return {vmulq_f64(a.v, b.v)}; }
inline Vec<double> operator/(Vec<double> a, Vec<double> b) { return {vdivq_f64(a.v, b.v)}; }
inline Vec<double> sqrt(Vec<double> a) { return {vsqrtq_f64(a.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return {vfmaq_f64(c.v, a.v, b.v)};
}
inline Vec<double> max(Vec<double> a, Vec<double> b) {
  return {vbslq_f64(vcgtq_f64(a.v, b.v), a.v, b.v)};
}
inline Vec<double> min(Vec<double> a, Vec<double> b) {
  return {vbslq_f64(vcltq_f64(a.v, b.v), a.v, b.v)};
}
inline Vec<double> negative_abs(Vec<double> a) { return {vnegq_f64(vabsq_f64(a.v))}; }
inline Vec<double> copysign(Vec<double> a, Vec<double> b) {
  return {vbslq_f64(vdupq_n_u64(uint64_t(1) << 63), b.v, a.v)};
}
inline Mask<double> operator>=(Vec<double> a, Vec<double> b) { return {vcgeq_f64(a.v, b.v)}; }
inline Mask<double> operator>(Vec<double> a, Vec<double> b) { return {vcgtq_f64(a.v, b.v)}; }
inline Vec<double> select(Mask<double> mask, Vec<double> a, Vec<double> b) {
  return {vbslq_f64(mask.v, a.v, b.v)};
}
inline Vec<double> shift_to_exponent(Vec<double> a) {
  return {vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(a.v), 52))};
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
