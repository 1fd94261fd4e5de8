// The weights of one direction of one layer, packed for the kernels: immutable once made, so any
// number of threads may use it at once.
#pragma once

#include "dispatch.h"
#include "dispatch_small.h"
#include "memory.h"
#include "sequence/quantize.h"
#include "types.h"

namespace fastrnn {

// Sizes of a cell: inputs I, hidden units H, and outputs P, which are the units or their projection.
// As PyTorch stores them: weight_ih (G H, I), weight_hh (G H, P), biases (G H) or null, weight_hr
// (P, H), where there is a projection; peephole and slope as in CellOptions; IndRNN: weight_hh (H).
// options: null for the plain cell; their pointers are set here, from the weights.
// precision (float alone, inference alone): of the matrices, but for IndRNN's weight_hh; small_*: they
// themselves, or else they are made from `weights`.
template <class Real>
struct CellWeights {
  CellKind kind;
  Index input_size, hidden_size, output_size;
  WeightPointers<const Real*> weights;
  const CellOptions<Real>* options;
  Precision precision = Precision::float32;
  SmallMatrix small_ih = {}, small_hh = {}, small_hr = {};
};

// A matrix packed for products: `values`, or with a small precision words, and for int8 the others.
template <class Real>
struct Panels {
  Buffer<Real> values;
  Buffer<std::uint32_t> words;
  Buffer<float> scales;
  Buffer<std::int32_t> sums;
};
struct PanelLayout;

// Blocks of H values that training keeps of a row's step; general: of a cell with options.
int cached_blocks(CellKind kind, bool general);

// Blocks of a row of d_z (kernels.h) and the rows of a PyTorch weight that they belong to, in H.
struct GateBlock {
  int d_z, weight, count;
};
struct GateBlocks {
  GateBlock block[2];
  int size;
};
GateBlocks input_blocks(CellKind kind);      // d_z of weight_ih and bias_ih
GateBlocks recurrent_blocks(CellKind kind);  // d_z of weight_hh and bias_hh
// d_z whose column sums are the gradient of a vector; none: size 0.
template <class Real>
class Cell;
template <class Real>
GateBlocks vector_blocks(const Cell<Real>& cell, Weight vector);

// Panels of a product without gates that has that many columns.
Index plain_panels(Index columns, int lanes);

template <class Real>
class Cell {
 public:
  // `training` also packs the transposed weights that backward needs. Throws std::invalid_argument
  // where precision or its matrices are not what CellWeights says.
  Cell(const CellWeights<Real>& weights, bool training);

  const CellKind kind;
  const Index input_size, hidden_size, output_size;
  const bool projects;   // the units to the output
  const Index groups;    // of hidden units
  const Index z_values;  // from a row of z to the next: a cache line more, as rows a power of two
                         // apart share cache sets
  const bool training, general;
  const Precision precision;
  const Kernels<Real>& kernels;
  const CellKernels<Real>& steps;

  // Values that training keeps of a row's step. LSTM i, f, g, o, c (coupled: i, g, o, c); GRU r, z, n
  // and, with the reset after the product, that product; RNN none, as the output is enough. With
  // options, RNN one, and of all gates the pre-activations. Then what a projection takes, at units_at.
  // With layer normalisation then what CellNorm says.
  const Index cached, units_at;
  const Index c_at;  // LSTM: of c in the cache
  // Values of a row of d_z (kernels.h). With a projection the last of them are what it takes and the
  // gradient of its output.
  // With layer normalisation before these: gradients of both products before it, input_d_at (blocks
  // in the order of input_blocks) and state_d_at (in the weights' order), which elsewhere are the
  // first of d_z and as recurrent_blocks says; d_gain_at: blocks for gain_ih, gain_hh, bias_c, gain_c.
  const bool normalizes;
  const Index d_gain_at, input_d_at, state_d_at;
  const Index d_z_values, d_units_at, d_output_at;

  Buffer<Real> start;             // biases as accumulators begin: panels of the input product
  Panels<Real> input;             // weight_ih
  Panels<Real> recurrent;         // weight_hh; GRU reset before: its r and z
  Panels<Real> candidate;         // GRU reset before: weight_hh of n
  Panels<Real> projection;        // weight_hr
  Buffer<Real> candidate_start;   // GRU: b_hn, [group][lane], the start of n_h
  Buffer<Real> input_transposed;  // d_z -> d_x: depth is the blocks of d_z that weight_ih has
  Buffer<Real> recurrent_transposed;
  Buffer<Real> candidate_transposed;
  Buffer<Real> projection_transposed;

  const CellOptions<Real>* options() const { return general ? &options_ : nullptr; }
  std::size_t bytes() const;  // of all that is packed
  // Whether d_h holds, before the recurrent product, a part that is not to be overwritten.
  bool has_direct_gradient() const {
    return is_gru(kind) || kind == CellKind::indrnn || (options_.zoneout && !projects);
  }

 private:
  void pack_forward(const CellWeights<Real>& w);
  Panels<Real> pack_matrix(const CellWeights<Real>& w, Weight weight, Index rows, Index depth,
                           const PanelLayout& layout);
  void pack_backward(const CellWeights<Real>& w);
  void keep_vectors(const CellWeights<Real>& w);

  CellOptions<Real> options_;
  Buffer<Real> vectors_;  // of the options: peephole, slope or recurrent, and of the norm
};

// The packed right operand of x (N, columns) times weight (rows, columns) transposed:
// plain_panels(rows) * plain_width * lanes * columns values.
template <class Real>
void pack_transposed(const Real* weight, Index rows, Index columns, int lanes, Real* out);

// Rows [first_row, first_row + rows) of weight (., columns) at depth_offset of a packed right
// operand of that depth in all: plain_panels(columns) * plain_width * lanes * depth values.
template <class Real>
void pack_plain(const Real* weight, Index columns, Index first_row, Index rows, Index depth_offset,
                Index depth, int lanes, Real* out);

}  // namespace fastrnn
