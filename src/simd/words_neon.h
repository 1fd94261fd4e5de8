// NEON of 64-bit ARM, with its dot product where the compiler may use it: the vocabulary of
// words_generic.h.
#pragma once

#include "simd/vec_neon.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int float_lanes = Vec<float>::lanes;
struct Words {
  uint32x4_t v;
};
struct Ints {
  int32x4_t v;
};
inline Words load_words(const std::uint32_t* p) { return {vld1q_u32(p)}; }
inline Vec<float> low_half(Words w) { return {vreinterpretq_f32_u32(vshlq_n_u32(w.v, 16))}; }
inline Vec<float> high_half(Words w) {
  return {vreinterpretq_f32_u32(vandq_u32(w.v, vdupq_n_u32(0xffff0000u)))};
}

constexpr bool bf16_tile_fits(int rows, int columns) { return rows * columns <= 16; }

inline Ints ints(std::int32_t x) { return {vdupq_n_s32(x)}; }
inline Ints byte_of(Words w, int i) {
  const int32x4_t up = vshlq_s32(vreinterpretq_s32_u32(w.v), vdupq_n_s32(24 - 8 * i));
  return {vshrq_n_s32(up, 24)};
}

constexpr std::ptrdiff_t quad_bytes = 4;
struct Quad {
  int8x16_t v;
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  std::int32_t word;
  __builtin_memcpy(&word, row + i * quad_bytes, sizeof word);
  return {vreinterpretq_s8_s32(vdupq_n_s32(word))};
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, Ints q) {
  const int16x4_t half = vmovn_s32(q.v);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(half, half));
  const std::int32_t word = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  __builtin_memcpy(row + k, &word, sizeof word);
}
inline Ints dot(Ints acc, Words w, Quad x) {
  const int8x16_t weights = vreinterpretq_s8_u32(w.v);
#ifdef __ARM_FEATURE_DOTPROD
  return {vdotq_s32(acc.v, weights, x.v)};
#else
  // Two products fit 16 bits: 2 * 127 * 127 < 2^15.
  const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(x.v));
  const int16x8_t high = vmull_high_s8(weights, x.v);
  return {vpadalq_s16(acc.v, vpaddq_s16(low, high))};
#endif
}
inline Ints finish(Ints acc, const std::int32_t*, std::int32_t) { return acc; }

constexpr bool dot_tile_fits(int rows, int columns) { return rows * columns <= 16; }

inline Vec<float> to_float(Ints a) { return {vcvtq_f32_s32(a.v)}; }
inline Ints round_to_int(Vec<float> a) { return {vcvtnq_s32_f32(a.v)}; }
inline Ints magnitude(Vec<float> a) { return {vreinterpretq_s32_f32(vabsq_f32(a.v))}; }
inline Ints add(Ints a, Ints b) { return {vaddq_s32(a.v, b.v)}; }
inline Ints min(Ints a, Ints b) { return {vminq_s32(a.v, b.v)}; }
inline Ints max(Ints a, Ints b) { return {vmaxq_s32(a.v, b.v)}; }
inline std::int32_t total(Ints a) { return vaddvq_s32(a.v); }
inline std::int32_t largest(Ints a) { return vmaxvq_s32(a.v); }

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
