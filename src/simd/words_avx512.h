// AVX-512, with VNNI where the compiler may use it: the vocabulary of words_generic.h.
#pragma once

#include "simd/vec_avx512.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int float_lanes = Vec<float>::lanes;
struct Words {
  __m512i v;
};
struct Ints {
  __m512i v;
};
inline Words load_words(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Vec<float> low_half(Words w) { return {_mm512_castsi512_ps(_mm512_slli_epi32(w.v, 16))}; }
inline Vec<float> high_half(Words w) {
  return {_mm512_castsi512_ps(_mm512_and_si512(w.v, _mm512_set1_epi32(-65536)))};
}

constexpr bool bf16_tile_fits(int rows, int columns) { return rows * columns <= 16; }

inline Ints ints(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Ints byte_of(Words w, int i) {
  return {_mm512_srai_epi32(_mm512_slli_epi32(w.v, static_cast<unsigned>(24 - 8 * i)), 24)};
}

inline __m512i broadcast_word(const unsigned char* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}

// As in words_avx2.h.
#ifdef __AVX512VNNI__
constexpr std::ptrdiff_t quad_bytes = 4;
struct Quad {
  __m512i v;
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  return {broadcast_word(row + i * quad_bytes)};
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, Ints q) {
  const __m128i bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(q.v), _mm_set1_epi8(-128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + k), bytes);
}
inline Ints dot(Ints acc, Words w, Quad x) { return {_mm512_dpbusd_epi32(acc.v, x.v, w.v)}; }
inline Ints finish(Ints acc, const std::int32_t* sums, std::int32_t) {
  return {_mm512_sub_epi32(acc.v, _mm512_slli_epi32(_mm512_loadu_si512(sums), 7))};
}
#else
constexpr std::ptrdiff_t quad_bytes = 8;
struct Quad {
  __m512i magnitude, flips;
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  return {broadcast_word(row + i * quad_bytes), broadcast_word(row + i * quad_bytes + 4)};
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, Ints q) {
  const __m128i bytes = _mm512_cvtepi32_epi8(q.v), magnitude = _mm_abs_epi8(bytes);
  const __m128i flips = _mm_cmpgt_epi8(_mm_setzero_si128(), bytes);
  __m128i* const to = reinterpret_cast<__m128i*>(row + 2 * k);
  _mm_storeu_si128(to, _mm_unpacklo_epi32(magnitude, flips));
  _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(magnitude, flips));
}
inline Ints dot(Ints acc, Words w, Quad x) {
  const __m512i pairs = _mm512_maddubs_epi16(x.magnitude, _mm512_xor_si512(w.v, x.flips));
  return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
inline Ints finish(Ints acc, const std::int32_t*, std::int32_t negatives) {
  return {_mm512_sub_epi32(acc.v, _mm512_set1_epi32(negatives))};
}
#endif

constexpr bool dot_tile_fits(int rows, int columns) { return rows * columns <= 16; }

#ifdef __AVX512BF16__
// To bf16, in memory; and acc + the two products of a word of either.
inline void store_bf16(unsigned char* p, Vec<float> a) {
  const __m256i halves = (__m256i)_mm512_cvtneps_pbh(a.v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves);
}
inline Vec<float> dot_bf16(Vec<float> acc, Words w, Words x) {
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)x.v, (__m512bh)w.v)};
}
#endif

inline Vec<float> to_float(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline Ints round_to_int(Vec<float> a) { return {_mm512_cvtps_epi32(a.v)}; }
inline Ints magnitude(Vec<float> a) {
  return {_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fffffff))};
}
inline Ints add(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Ints min(Ints a, Ints b) { return {_mm512_min_epi32(a.v, b.v)}; }
inline Ints max(Ints a, Ints b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline std::int32_t total(Ints a) { return _mm512_reduce_add_epi32(a.v); }
inline std::int32_t largest(Ints a) { return _mm512_reduce_max_epi32(a.v); }

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
