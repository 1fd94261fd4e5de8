#include "sequence/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace fastrnn {

void quantize_rows_int8(const float* w, Index rows, Index columns, std::int8_t* q, float* scales) {
  for (Index row = 0; row < rows; ++row, w += columns, q += columns) {
    float most = 0,
          sum = 0;  // the sum is NaN where a weight is infinite or NaN, and so is the scale
    for (Index k = 0; k < columns; ++k) {
      most = std::max(most, std::fabs(w[k]));
      sum += w[k] * 0.0f;
    }
    const float scale = scales[row] = most / 127.0f + sum;
    for (Index k = 0; k < columns; ++k) {
      // A denormal scale is so coarse that a quotient may pass 127.
      const float quotient = scale > 0 ? std::nearbyint(w[k] / scale) : 0.0f;
      q[k] = static_cast<std::int8_t>(std::min(127.0f, std::max(-127.0f, quotient)));
    }
  }
}

void to_bf16(const float* values, Index n, std::uint16_t* out) {
  for (Index i = 0; i < n; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1);
    out[i] = static_cast<std::uint16_t>(nan ? (bits >> 16) | 0x40u : rounded >> 16);
  }
}

namespace {

std::int32_t pack_row(const std::int8_t* row, Index depth, std::uint32_t* words) {
  std::int32_t sum = 0;
  for (Index k = 0; k < depth; ++k) {
    if (row[k] == -128) throw std::invalid_argument("weights: expected int8 from -127 to 127");
    words[k / 4] |= std::uint32_t(static_cast<std::uint8_t>(row[k])) << (8 * (k % 4));
    sum += row[k];
  }
  return sum;
}

void pack_row(const std::uint16_t* row, Index depth, std::uint32_t* words) {
  for (Index k = 0; k < depth; ++k) words[k / 2] |= std::uint32_t(row[k]) << (16 * (k % 2));
}

}  // namespace

WordRows word_rows(Precision precision, const float* w, SmallMatrix small, Index rows,
                   Index depth) {
  const bool int8 = precision == Precision::int8;
  if (int8 && depth > max_int8_depth)
    throw std::invalid_argument("weights: expected at most " + std::to_string(max_int8_depth) +
                                " columns of int8, got " + std::to_string(depth));
  if (!small.values && !w) throw std::invalid_argument("weights: expected a matrix");
  if (int8 && small.values && !small.scales)
    throw std::invalid_argument("weights: expected scales with int8");
  WordRows out;
  out.words = (depth + word_values(precision) - 1) / word_values(precision);
  out.values = Buffer<std::uint32_t>(checked_product(rows, out.words));
  std::fill_n(out.values.data(), out.values.size(), 0u);
  out.scales = Buffer<float>(int8 ? rows : 0);
  out.sums = Buffer<std::int32_t>(int8 ? rows : 0);
  Buffer<std::int8_t> q(int8 && !small.values ? depth : 0);
  Buffer<std::uint16_t> halves(!int8 && !small.values ? depth : 0);
  for (Index row = 0; row < rows; ++row) {
    std::uint32_t* const words = out.values.data() + row * out.words;
    if (int8) {
      const std::int8_t* from = q.data();
      if (small.values) {
        from = static_cast<const std::int8_t*>(small.values) + row * depth;
        out.scales.data()[row] = small.scales[row];
      } else {
        quantize_rows_int8(w + row * depth, 1, depth, q.data(), out.scales.data() + row);
      }
      out.sums.data()[row] = pack_row(from, depth, words);
    } else if (small.values) {
      pack_row(static_cast<const std::uint16_t*>(small.values) + row * depth, depth, words);
    } else {
      to_bf16(w + row * depth, depth, halves.data());
      pack_row(halves.data(), depth, words);
    }
  }
  return out;
}

}  // namespace fastrnn
