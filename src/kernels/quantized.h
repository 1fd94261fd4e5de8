// Products with small weights, for inference in float32: bf16 or int8 where kernels.h has float. The
// contract is that of Product there but for what is said here.
//
// Packed weights are words of 32 bits, two bf16 or four int8 of consecutive k in one column, the first
// in the lowest bits: [panel][word][width * lanes], zero past the last column and the last k. Panels,
// columns and lanes are those of Kernels<float>.
//
// bf16: the canonical order over weights widened to float, hence the bits of a float32 product with
// weights that were rounded to bf16.
// bf16_dot: rows of a are rounded to bf16, too, and two products are summed at once (AVX512-BF16). What
// the instruction does with the last bit and with denormals is its own: outside the same-bits promise.
// Where a processor has no such instruction this is bf16.
// int8: a row of a is prepared as q = round(a * (127 / max)), half to even, with the scale max / 127,
// where max is its largest |a|; c = fma(float(sum over k of q * weight), scale * scales[j], start or c).
// Sums are of integers and exact in any order. If 127 / max is no finite number, q is 0 and so is the
// scale; where a is infinite or NaN, the scale is NaN and so the row of c.
#pragma once

#include "types.h"

namespace fastrnn {

enum class Precision { float32, bf16, bf16_dot, int8 };

// Weights in a word, and the most of them in a column: the sums of int8 must fit 32 bits.
constexpr Index word_values(Precision precision) { return precision == Precision::int8 ? 4 : 2; }
constexpr Index max_int8_depth = 133144;  // 2^31 / 127^2

// Rows of a as products take them: as they are, or prepared, from `offset` bytes on.
struct SmallRows {
  const float* const* a;
  const unsigned char* const* prepared;
  Index offset;
};

// Of int8, for each column in the order of the panels: scales, and sums of the weights.
struct SmallProduct {
  Index rows, depth;
  Index panel_begin, panel_end;
  Index columns;
  SmallRows a;
  const std::uint32_t* weights;
  const float* scales;
  const std::int32_t* sums;
  const float* start;
  float* const* c;
  Index c_offset, c_stride;
  bool last_first;
};

// As SmallProduct for a one-hot row: bf16 as Gather; int8 what the product gives for it, where q is 127
// and the scale 1 / 127.
struct SmallGather {
  Index rows, depth;
  Index panel_begin, panel_end;
  const Index* tokens;
  const std::uint32_t* weights;
  const float* scales;
  const float* start;
  float* const* c;
  Index c_stride;
};

// Of one precision. prepare: null where rows are taken as they are; else writes rows of `depth` values
// as the products of this table want them, row_bytes(depth) from prepared[row] + offset on.
struct SmallFormat {
  Index (*row_bytes)(Index depth);
  void (*prepare)(Index rows, Index depth, const float* const* a, unsigned char* const* prepared,
                  Index offset);
  void (*product[4])(const SmallProduct&);  // by panel width in vectors, 1 .. 3
  void (*gather[4])(const SmallGather&);
};

// A table has all formats, or those that a feature of some processors does better: a format without
// products is to be had from the table that it adds to.
struct SmallKernels {
  const char* name;
  int lanes;
  SmallFormat bf16, bf16_dot, int8;

  SmallKernels with(const SmallKernels& feature) const {
    SmallKernels all = *this;
    all.name = feature.name;
    if (feature.bf16_dot.product[1]) all.bf16_dot = feature.bf16_dot;
    if (feature.int8.product[1]) all.int8 = feature.int8;
    return all;
  }

  const SmallFormat& operator[](Precision precision) const {
    if (precision == Precision::int8) return int8;
    return precision == Precision::bf16_dot ? bf16_dot : bf16;
  }
};

#define FASTRNN_DECLARE_SMALL(target)      \
  namespace target {                       \
  extern const SmallKernels kernels_small; \
  }
FASTRNN_DECLARE_SMALL(generic)
FASTRNN_DECLARE_SMALL(avx2)
FASTRNN_DECLARE_SMALL(avxvnni)
FASTRNN_DECLARE_SMALL(avx512)
FASTRNN_DECLARE_SMALL(avx512vnni)
FASTRNN_DECLARE_SMALL(avx512bf16)
FASTRNN_DECLARE_SMALL(neon)
FASTRNN_DECLARE_SMALL(neondot)
#undef FASTRNN_DECLARE_SMALL

}  // namespace fastrnn
