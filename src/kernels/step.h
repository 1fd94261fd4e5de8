// One step of one row through a small plain cell or a linear layer, each in one call: where the work of
// a step is short, calls, arrays of rows and z on its way through memory take as long as the work. The
// order of the sums is the canonical one (kernels.h), so the bits are those of the kernels for many
// rows. A table of its own: programs that only handle batches do not contain it.
#pragma once

#include "kernels/kernels.h"

namespace fastrnn {

constexpr Index step_most_units = 128;  // of a cell: what the kernels have room for

// As for Product with panels of plain_width: columns `out` of x (in).
struct StepLinear {
  Index in, out;
  const float *start, *weight;
};

// Packed weights as Cell (sequence/cell.h) has them: start, of GRU's n_h, input, recurrent, candidate.
// head: a linear layer that takes h_t; out 0: none.
struct StepCell {
  Index input_size, hidden_size;
  const float *start, *candidate_start, *input, *recurrent, *candidate;
  StepLinear head;
};

// A row's states h and c, which are replaced by those after the step. y: of the head. last_first: as of
// Product, for weights that do not fit the first-level cache.
struct StepRow {
  const float* x;
  float *h, *c, *y;
  bool last_first;
};

struct StepKernels {
  void (*cells[5])(const StepCell& cell, const StepRow& row);  // by kind: those with a fast path
  void (*linear)(const StepLinear& linear, const float* x, float* y);  // y must not overlap x
};

// Of the active instruction set (dispatch.h).
const StepKernels& step_kernels();

#define FASTRNN_DECLARE_STEP(target)     \
  namespace target {                     \
  extern const StepKernels step_kernels; \
  }
FASTRNN_DECLARE_STEP(generic)
FASTRNN_DECLARE_STEP(avx2)
FASTRNN_DECLARE_STEP(avx512)
FASTRNN_DECLARE_STEP(neon)
#undef FASTRNN_DECLARE_STEP

}  // namespace fastrnn
