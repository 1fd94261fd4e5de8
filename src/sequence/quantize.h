// Weights made small: what kernels/quantized.h multiplies by.
#pragma once

#include "kernels/quantized.h"
#include "memory.h"
#include "types.h"

namespace fastrnn {

// Per row j of w (rows, columns): scales[j] = max |w[j]| / 127 and q = w / scale, rounded half to even;
// zeros where the scale is 0. A row with an infinity or NaN has the scale NaN.
void quantize_rows_int8(const float* w, Index rows, Index columns, std::int8_t* q, float* scales);

// The nearest bf16, half to even; NaN stays NaN.
void to_bf16(const float* values, Index n, std::uint16_t* out);

// A matrix as a file holds it. bf16: uint16_t; int8: int8_t from -127 to 127 and a scale for each row.
// values null: to be made from floats.
struct SmallMatrix {
  const void* values = nullptr;
  const float* scales = nullptr;
};

// A matrix (rows, depth) as words along each row, the last filled up with zeros.
struct WordRows {
  Index words;  // in a row
  Buffer<std::uint32_t> values;
  Buffer<float> scales;  // int8: of each row, and the sum of its weights
  Buffer<std::int32_t> sums;
};
// Of `small`, or where that has no values of the floats `w`. Throws std::invalid_argument for what is
// no such matrix.
WordRows word_rows(Precision precision, const float* w, SmallMatrix small, Index rows, Index depth);

}  // namespace fastrnn
