// AVX2, and AVX-VNNI where the compiler may use it: the vocabulary of words_generic.h.
#pragma once

#include "simd/vec_avx2.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int float_lanes = Vec<float>::lanes;
struct Words {
  __m256i v;
};
struct Ints {
  __m256i v;
};
inline Words load_words(const std::uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
inline Vec<float> low_half(Words w) { return {_mm256_castsi256_ps(_mm256_slli_epi32(w.v, 16))}; }
inline Vec<float> high_half(Words w) {
  return {_mm256_castsi256_ps(_mm256_and_si256(w.v, _mm256_set1_epi32(-65536)))};
}

// Beside the accumulators: the mask, one value, and what waits.
constexpr bool bf16_tile_fits(int rows, int columns) {
  return rows * columns + (rows < columns ? rows : columns) + 2 <= 15;
}

inline Ints ints(std::int32_t x) { return {_mm256_set1_epi32(x)}; }
inline Ints byte_of(Words w, int i) {
  return {_mm256_srai_epi32(_mm256_slli_epi32(w.v, 24 - 8 * i), 24)};
}

inline __m256i broadcast_word(const unsigned char* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}
// The lowest byte of each int32, four to a word, in the lowest word of each half of the register.
inline __m256i low_bytes(Ints q) { return _mm256_shuffle_epi8(q.v, _mm256_set1_epi32(0x0c080400)); }

#ifdef __AVXVNNI__
// The instruction multiplies bytes without a sign by signed ones: x + 128 in place of x, and so 128
// times the sum of the weights too much.
constexpr std::ptrdiff_t quad_bytes = 4;
struct Quad {
  __m256i v;
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  return {broadcast_word(row + i * quad_bytes)};
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, Ints q) {
  const __m256i bytes = _mm256_xor_si256(low_bytes(q), _mm256_set1_epi8(-128));
  const __m256i both = _mm256_unpacklo_epi32(bytes, _mm256_permute4x64_epi64(bytes, 0x4e));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(row + k), _mm256_castsi256_si128(both));
}
inline Ints dot(Ints acc, Words w, Quad x) { return {_mm256_dpbusd_avx_epi32(acc.v, x.v, w.v)}; }
constexpr bool dot_tile_fits(int rows, int columns) { return rows * columns <= accumulators; }
inline Ints finish(Ints acc, const std::int32_t* sums, std::int32_t) {
  const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums));
  return {_mm256_sub_epi32(acc.v, _mm256_slli_epi32(s, 7))};
}
#else
// |x| times the weight or, where x is negative, times the weight's complement, -weight - 1: the sum lacks
// |x| for each such x, the same for all columns. Two such products, at most 2 * 127 * 128, fit the 16
// bits that the multiplication saturates to. (Exact signs, by vpsignb, take a third operation of the two
// units that multiply; two vpmaddwd need the weights widened first, which takes as long for one row.)
constexpr std::ptrdiff_t quad_bytes = 8;
struct Quad {
  __m256i magnitude, flips;
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  return {broadcast_word(row + i * quad_bytes), broadcast_word(row + i * quad_bytes + 4)};
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, Ints q) {
  const __m256i bytes = low_bytes(q), flips = _mm256_cmpgt_epi8(_mm256_setzero_si256(), bytes);
  const __m256i pairs = _mm256_unpacklo_epi32(_mm256_abs_epi8(bytes), flips);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + 2 * k),
                   _mm256_castsi256_si128(_mm256_permute4x64_epi64(pairs, 0x08)));
}
inline Ints dot(Ints acc, Words w, Quad x) {
  const __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_xor_si256(w.v, x.flips));
  return {_mm256_add_epi32(acc.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}
// Beside the accumulators: ones, a product, and two of a row with a vector of each column, or three of both.
constexpr bool dot_tile_fits(int rows, int columns) { return rows * columns <= 9; }
inline Ints finish(Ints acc, const std::int32_t*, std::int32_t negatives) {
  return {_mm256_sub_epi32(acc.v, _mm256_set1_epi32(negatives))};
}
#endif

inline Vec<float> to_float(Ints a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline Ints round_to_int(Vec<float> a) { return {_mm256_cvtps_epi32(a.v)}; }
inline Ints magnitude(Vec<float> a) {
  return {_mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(0x7fffffff))};
}
inline Ints add(Ints a, Ints b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline Ints min(Ints a, Ints b) { return {_mm256_min_epi32(a.v, b.v)}; }
inline Ints max(Ints a, Ints b) { return {_mm256_max_epi32(a.v, b.v)}; }
inline std::int32_t total(Ints a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
inline std::int32_t largest(Ints a) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtsi128_si32(m);
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
