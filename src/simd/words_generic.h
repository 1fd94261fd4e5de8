// The vocabulary of products with small weights (kernels/quantized.h), beside that of vec_generic.h: this
// file is its documentation, words_<isa>.h hold the same names over one instruction set's registers.
//
//   Words, load_words(p)       a word of 32 bits in each of Vec<float>::lanes lanes
//   low_half(w), high_half(w)  of each word, as a bf16, widened to float
//   Ints                       an int32 in each lane
//   Quad, load_quad(row, i)    the i-th four int8 of a prepared row, for all lanes
//   quad_bytes                 that such a quad takes of the row
//   store_quads(row, k, q)     the other way: q[lane] in [-127, 127], for k, k + 1, ...; k % lanes == 0
//   dot(acc, w, x)             acc + the four products of a word's int8 with the quad: exact
//   finish(acc, sums, negatives)  what dot() has summed; sums: of the int8 of each lane's column,
//                              negatives: of those int8 of the row that are less than 0
//   dot_tile_fits(rows, columns), bf16_tile_fits(...)  whether the registers hold a tile of dot(), or of
//                              fma with halves of words, with its operands
//   to_float(a)                rounded to the nearest, half to even
//   round_to_int(v)            likewise; |v| < 2^22
//   magnitude(v)               the bits of |v| as an int32: ordered as the values, NaN above infinity
//   add(a, b), min(a, b), max(a, b) of Ints; total(a), largest(a)  of all lanes
//   byte_of(w, i)              the i-th int8 of each word, 0 the lowest
#pragma once

#include "simd/vec_generic.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

constexpr int float_lanes = Vec<float>::lanes;
struct Words {
  std::uint32_t v[float_lanes];
};
struct Ints {
  std::int32_t v[float_lanes];
};
inline Words load_words(const std::uint32_t* p) {
  Words out;
  std::memcpy(out.v, p, sizeof out.v);
  return out;
}
inline Vec<float> from_bits(const Words& w) {
  Vec<float> out;
  std::memcpy(out.v, w.v, sizeof out.v);
  return out;
}
inline Vec<float> low_half(Words w) {
  for (std::uint32_t& x : w.v) x <<= 16;
  return from_bits(w);
}
inline Vec<float> high_half(Words w) {
  for (std::uint32_t& x : w.v) x &= 0xffff0000u;
  return from_bits(w);
}

constexpr bool bf16_tile_fits(int rows, int columns) { return rows * columns <= 3; }

inline Ints ints(std::int32_t x) {
  Ints out;
  for (std::int32_t& lane : out.v) lane = x;
  return out;
}
inline Ints byte_of(const Words& w, int i) {
  Ints out;
  for (int lane = 0; lane < float_lanes; ++lane)
    out.v[lane] = static_cast<std::int8_t>(w.v[lane] >> (8 * i));
  return out;
}

constexpr std::ptrdiff_t quad_bytes = 4;
struct Quad {
  std::int8_t v[4];
};
inline Quad load_quad(const unsigned char* row, std::ptrdiff_t i) {
  Quad out;
  std::memcpy(out.v, row + i * quad_bytes, sizeof out.v);
  return out;
}
inline void store_quads(unsigned char* row, std::ptrdiff_t k, const Ints& q) {
  for (int lane = 0; lane < float_lanes; ++lane)
    row[k + lane] = static_cast<unsigned char>(q.v[lane]);
}
inline Ints dot(Ints acc, const Words& w, const Quad& x) {
  for (int lane = 0; lane < float_lanes; ++lane)
    for (int i = 0; i < 4; ++i)
      acc.v[lane] += static_cast<std::int8_t>(w.v[lane] >> (8 * i)) * x.v[i];
  return acc;
}
constexpr bool dot_tile_fits(int rows, int columns) { return rows * columns <= 3; }
inline Ints finish(Ints acc, const std::int32_t*, std::int32_t) { return acc; }

inline Vec<float> to_float(const Ints& a) {
  return each_lane<float>([&](int i) { return static_cast<float>(a.v[i]); });
}
inline Ints round_to_int(const Vec<float>& a) {
  Ints out;
  for (int i = 0; i < float_lanes; ++i) {
    const float shifted = a.v[i] + 12582912.0f;  // 1.5 * 2^23: its last bit counts ones
    std::int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    out.v[i] = bits - 0x4b400000;
  }
  return out;
}
inline Ints magnitude(const Vec<float>& a) {
  Ints out;
  std::memcpy(out.v, a.v, sizeof out.v);
  for (std::int32_t& lane : out.v) lane &= 0x7fffffff;
  return out;
}
inline Ints add(Ints a, const Ints& b) {
  for (int i = 0; i < float_lanes; ++i) a.v[i] += b.v[i];
  return a;
}
inline Ints min(Ints a, const Ints& b) {
  for (int i = 0; i < float_lanes; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline Ints max(Ints a, const Ints& b) {
  for (int i = 0; i < float_lanes; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline std::int32_t total(const Ints& a) {
  std::int32_t out = 0;
  for (const std::int32_t lane : a.v) out += lane;
  return out;
}
inline std::int32_t largest(const Ints& a) {
  std::int32_t out = a.v[0];
  for (int i = 1; i < float_lanes; ++i) out = a.v[i] > out ? a.v[i] : out;
  return out;
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
