// The contract of the kernels: what each takes, and the tables through which the rest of the core
// reaches the ones of the active instruction set: those of inference, of training and of measuring
// apart, so that a program has only what it links. A kernel works on rows given as arrays of pointers
// (so a batch may be strided, sorted by length or made of different time steps), has no time loop,
// allocates nothing and never reads or writes outside of what is stated here.
//
// Packed weights: a panel is `width * lanes` columns, stored [panel][depth][width * lanes], zero past
// the last column, so that a tile streams memory linearly. For the recurrent products a panel holds
// all gates of one group of hidden units, and z, the pre-activations, has the same order:
//   LSTM               z row [group][i, f, g, o][lane]        group = lanes units, two panels
//   GRU                z row [group][n_x, r, z, n_h][lane]    n_x, n_h: input and recurrent part of n
//   GRU, reset before  z row [group][n, r, z][lane]
//   LSTM, coupled      z row [group][i, g, o][lane]
//   RNN                z row [group][lane]                    group = 2 lanes units
// Rows of z are as long as all groups; hidden units past H exist there as zeros and never leave it.
#pragma once

#include "types.h"

namespace fastrnn {

// c[row][c_offset + panel * c_stride + j] = start or c, then fma over k = 0 .. depth - 1 of
// a[row][k] * weights[panel][k][j], in that order: the canonical order that fixes the bits.
// Accumulators begin at start[panel][j], or where it is null at what c holds. Columns at and past
// `columns` (counted over all panels) are neither read nor written. a and c must not overlap.
// last_first: few rows go from the last panel to the first. A caller that takes turns finds what it
// used last still in the cache, where all the weights do not fit.
template <class Real>
struct Product {
  Index rows, depth;
  Index panel_begin, panel_end;
  Index columns;
  const Real* const* a;
  Index a_offset;  // added to each a[row]
  const Real* weights;
  const Real* start;
  Real* const* c;
  Index c_offset, c_stride;
  bool last_first = false;
};

// As Product for a one-hot a: c = start + the packed weights' row tokens[row], for all columns.
template <class Real>
struct Gather {
  Index rows, depth;
  Index panel_begin, panel_end;
  const Index* tokens;
  const Real* weights;
  const Real* start;
  Real* const* c;
  Index c_stride;
};

// The rows of a block (depth <= block_rows) as a packed right operand of OuterProduct:
// packed[panel][k][j] = rows[k][panel * width + j], zero at and past `columns`.
template <class Real>
struct PackRows {
  Index depth, columns;
  Index panel_begin, panel_end;
  const Real* const* rows;
  Real* packed;
};

// c[m][panel * width + j] += sum over k of a[k * a_stride + m] * b[panel][k][j] for m in [m_begin,
// m_end) and for each of the sides: the sum is taken from zero by fma over k ascending and then added
// to c once. b is packed (PackRows). depth <= block_rows.
template <class Real>
struct OuterSide {
  Index columns;
  Index panel_begin, panel_end;
  const Real* b;
  Real* c;
  Index c_stride;
};
constexpr int outer_sides = 2;  // at most
template <class Real>
struct OuterProduct {
  Index depth;
  Index m_begin, m_end;
  const Real* a;
  Index a_stride;
  int side_count;
  OuterSide<Real> sides[outer_sides];
};
constexpr Index block_rows = 128;  // rows that share one partial sum in weight gradients

// Layer normalisation of a cell (Ba et al. 2016, eq. 20-25): z = LN(weight_ih x) + LN(weight_hh h), each
// with its gain (G H) and the bias of that name, null: none; an LSTM's h_t takes LN(c_t), with gain_c
// and bias_c (H). What backward needs lies in a row of the cache: normalised values of both products,
// in the weights' order, then of c, from values_at on; 1 / deviations from scales_at on: of the input's
// spans (LSTM one, GRU r with z, and n), at 2 of the state's, at 4 of c. gain null: not normalised.
template <class Real>
struct CellNorm {
  const Real *gain_ih, *gain_hh, *bias_ih, *bias_hh, *gain_c, *bias_c;
  Real epsilon;
  Index values_at, scales_at;
};

// Normalises gates of z as one, each `hidden` values: target = (z - mean) / deviation * gain + bias, or
// added to target; source and target are rows of z, gate g of them `lanes` after gate g - 1. cache
// (null: not kept): normalised values from values_at on, gate by gate, 1 / deviation at scale_at.
template <class Real>
struct Normalize {
  Index rows, hidden, gates;
  Index group_units, group_values;
  const Real* const* source;
  Real* const* target;
  Index source_gate, target_gate;
  bool add;
  const Real *gain, *bias;
  Real epsilon;
  Real* const* cache;
  Index values_at, scale_at;
};
// Its gradient, in rows of d_z: of what came out, from d_at on, gate by gate; writes that of what went
// in, from raw_at on, and what the gain's is the column sum of, from gain_at on.
template <class Real>
struct NormalizeBack {
  Index rows, hidden, gates;
  Real* const* d_z;
  Index d_at, raw_at, gain_at;
  const Real* gain;
  const Real* const* cache;
  Index values_at, scale_at;
};

// What makes a cell other than the plain one. Activations: f of all gates (RNN: of its one), g of the
// candidate, h of the output, ONNX's names. clip bounds what activations take, cell_clip c; infinite:
// not at all. Null vectors: absent. peephole: p_i, p_f, p_o (coupled: p_i, p_o), H each.
// keep_h, keep_c: zoneout's share of the old state in the new, for inference.
template <class Real>
struct CellOptions {
  Activation<Real> f, g, h;
  Real clip, cell_clip;
  const Real *peephole, *slope, *recurrent;  // recurrent: IndRNN
  bool zoneout;
  Real keep_h, keep_c;
  CellNorm<Real> norm;
};

// One step of a cell, forward. Gates are applied to z for the units of groups
// [group_begin, group_end), of `hidden` in all. h: written. c (LSTM): c_{t-1} in, c_t out.
// h_prev (GRU, IndRNN, zoneout): h_{t-1}; null where h is to be projected. cache: written where not null, blocks of H (cell.h).
// z is overwritten where a second call needs it. reset_h (GRU, reset before): r * h_{t-1}, written
// by forward_reset, which must come before the candidate's product and forward.
// With options: attention (GRU), one value a row, or null; keep_h, keep_c instead of the options' own.
template <class Real>
struct CellForward {
  Index rows, group_begin, group_end, hidden;
  Real* const* z;
  const Real* const* h_prev;
  Real* const* h;
  Real* const* c;
  Real* const* cache;
  Real* const* reset_h;
  const CellOptions<Real>* options;
  const Real *const *attention, *const *keep_h, *const *keep_c;
};

// One step of a cell, backward, for units [unit_begin, unit_end). In: cache, dy (gradient of the
// output, per row), d_h: gradient that came from step t+1. Out: d_z, gradients of the pre-activations
// in rows of blocks of H:
//   LSTM i, f, g, o;  coupled i, g, o;  GRU n_x, r, z, n_h;  GRU, reset before: n, r, z, r * h_{t-1};
//   RNN: one;  then, with options, what the gradients of vectors are column sums of:
//   LSTM peephole i, f, o;  coupled i, o;  IndRNN weight_hh;  RNN slope;  and of attention a row sum
//   d_normal_c_at (LSTM with layer normalisation): bias_c, gain_c
// and d_h: the part of dL/dh_{t-1} that does not pass through the recurrent product (GRU, IndRNN,
// zoneout: written; others: left alone, the product overwrites it). d_c (LSTM): dL/dc_t in,
// dL/dc_{t-1} out. c_prev (LSTM), h_prev (GRU): state before the step; h (RNN): after it.
// GRU, reset before: backward writes n and z of d_z and d_h; then d_reset_h = d_n W_hn, and
// backward_reset writes r and r * h_{t-1} of d_z and adds to d_h.
template <class Real>
struct CellBackward {
  Index rows, unit_begin, unit_end, hidden;
  const Real* const* cache;
  const Real* const* h;
  const Real* const* h_prev;
  const Real* const* c_prev;
  const Real* const* d_y;
  Real* const* d_h;
  Real* const* d_c;
  Real* const* d_z;
  const Real* const* d_reset_h;
  const CellOptions<Real>* options;
  const Real *const *attention, *const *keep_h, *const *keep_c;
  Index d_normal_c_at;
};

template <class Real>
struct CellKernels {
  void (*forward)(const CellForward<Real>&);
  void (*forward_reset)(const CellForward<Real>&);
};
template <class Real>
struct CellGradientKernels {
  void (*backward)(const CellBackward<Real>&);
  void (*backward_reset)(const CellBackward<Real>&);
};

// Optimiser steps over n elements, PyTorch's formulas; buffers that are null are not used. What is
// 1 minus a constant is taken in float64 and rounded once: in float32 1 - 0.999 is off by 5e-5.
template <class Real>
struct SgdStep {
  Index n;
  Real *param, *momentum_buffer;
  const Real* grad;
  Real lr, momentum, fresh, weight_decay;  // fresh = 1 - dampening
  bool nesterov, first;
};
template <class Real>
struct RmspropStep {
  Index n;
  Real *param, *square_avg, *momentum_buffer, *grad_avg;
  const Real* grad;
  Real lr, alpha, rest, eps, weight_decay, momentum;  // rest = 1 - alpha
};
template <class Real>
struct AdamStep {
  Index n;
  Real *param, *exp_avg, *exp_avg_sq;
  const Real* grad;
  Real rest1, beta2, rest2, eps;  // rest = 1 - beta
  Real weight_decay, step_size, root_correction, decay;
};

// Softmax cross-entropy of one row: returns log(sum(exp(logits - max))) + max - logits[target];
// d_logits, where not null, is (softmax - onehot(target)) * weight.
template <class Real>
struct CrossEntropyRow {
  Index classes, target;
  const Real* logits;
  Real weight;
  Real* d_logits;
};

// Layer normalisation of contiguous rows: y = (x - mean) * rstd * weight + bias with the row's mean and
// rstd = 1 / sqrt(variance + eps). bias, mean and rstd may be null.
template <class Real>
struct LayerNormForward {
  Index rows, features;
  const Real *x, *weight, *bias;
  Real eps;
  Real *y, *mean, *rstd;
};
template <class Real>
struct LayerNormBackward {
  Index rows, features;
  const Real *x, *weight, *mean, *rstd, *d_y;
  Real* d_x;
};
// For columns m in [begin, end) d_weight[m] += sum over the rows of d_y * (x - mean) * rstd, by fma, and
// d_bias[m] += sum of d_y, from zero, added once. Each may be null.
template <class Real>
struct LayerNormColumns {
  Index rows, features, begin, end;
  const Real *x, *d_y, *mean, *rstd;
  Real *d_weight, *d_bias;
};

template <class Real>
struct Kernels {
  int lanes;
  int row_tile;  // rows that make good use of the registers: what the thread rule aims to fill
  void (*product[4])(const Product<Real>&);  // by panel width in vectors, 1 .. 3
  void (*gather[4])(const Gather<Real>&);
  CellKernels<Real> cells[cell_kinds];    // null where a kind has options only
  CellKernels<Real> general[cell_kinds];  // with options; null for rnn_tanh and rnn_relu
  void (*normalize)(const Normalize<Real>&);
  void (*layer_norm)(const LayerNormForward<Real>&);
  void (*exp)(const Real* x, Real* y, Index n);
  void (*tanh)(const Real* x, Real* y, Index n);
  void (*sigmoid)(const Real* x, Real* y, Index n);
};

template <class Real>
struct TrainingKernels {
  void (*pack_rows)(const PackRows<Real>&);  // width 2
  void (*outer_product)(const OuterProduct<Real>&);
  // out[m] += sum over k of a[k * stride + m] for m in [begin, end), from zero, added once
  void (*column_sum)(Index depth, const Real* a, Index stride, Index begin, Index end, Real* out);
  CellGradientKernels<Real> cells[cell_kinds], general[cell_kinds];  // as in Kernels
  void (*sgd)(const SgdStep<Real>&);
  void (*rmsprop)(const RmspropStep<Real>&);
  void (*adam)(const AdamStep<Real>&);
  double (*cross_entropy)(const CrossEntropyRow<Real>&);
  void (*normalize_back)(const NormalizeBack<Real>&);
  void (*layer_norm_backward)(const LayerNormBackward<Real>&);
  void (*layer_norm_columns)(const LayerNormColumns<Real>&);
};

// For src/ops/limits.h.
struct LimitKernels {
  // Returns how many multiply-adds it did; *sum is in and out.
  double (*multiply_adds)(Index rounds, float* sum);
  // Reads x `passes` times over; n is a multiple of read_multiple.
  void (*read)(const float* x, Index n, Index passes, float* sum);
};

// Vectors in a panel of the input weights, panels of a group, and its hidden units, given the lanes.
constexpr int panel_width(CellKind kind) { return gate_count(kind) == 3 ? 3 : 2; }
constexpr int group_panels(CellKind kind) { return kind == CellKind::lstm ? 2 : 1; }
constexpr int group_units(CellKind kind, int lanes) {
  return gate_count(kind) == 1 ? 2 * lanes : lanes;
}
constexpr int group_values(CellKind kind, int lanes) {
  if (kind == CellKind::lstm || kind == CellKind::gru) return 4 * lanes;
  return gate_count(kind) == 3 ? 3 * lanes : 2 * lanes;
}
constexpr int plain_width = 2;        // of panels without gates
constexpr Index read_multiple = 384;  // 24 vectors of 16, the most accumulators and lanes there are

#define FASTRNN_DECLARE_KERNELS(target)                 \
  namespace target {                                    \
  extern const Kernels<float> kernels_float;            \
  extern const Kernels<double> kernels_double;          \
  extern const TrainingKernels<float> training_float;   \
  extern const TrainingKernels<double> training_double; \
  extern const LimitKernels limits;                     \
  }
FASTRNN_DECLARE_KERNELS(generic)
FASTRNN_DECLARE_KERNELS(avx2)
FASTRNN_DECLARE_KERNELS(avx512)
FASTRNN_DECLARE_KERNELS(neon)
#undef FASTRNN_DECLARE_KERNELS

}  // namespace fastrnn
