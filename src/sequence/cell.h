// The weights of one direction of one layer, packed for the kernels: immutable once made, so any
// number of threads may use it at once.
#pragma once

#include "dispatch.h"
#include "memory.h"
#include "types.h"

namespace fastrnn {

// As PyTorch stores them: weight_ih (G H, I), weight_hh (G H, H), biases (G H) or null.
template <class Real>
struct CellWeights {
  CellKind kind;
  Index input_size, hidden_size;
  const Real *weight_ih, *weight_hh, *bias_ih, *bias_hh;
};

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

// Panels of a product without gates that has that many columns.
Index plain_panels(Index columns, int lanes);

template <class Real>
class Cell {
 public:
  // `training` also packs the transposed weights that backward needs.
  Cell(const CellWeights<Real>& weights, bool training);

  const CellKind kind;
  const Index input_size, hidden_size;
  const Index groups;    // of hidden units
  const Index z_values;  // from a row of z to the next: a cache line more, as rows a power of two
                         // apart share cache sets
  const bool training;
  const Kernels<Real>& kernels;
  const CellKernels<Real>& steps;

  Buffer<Real> start;             // biases as accumulators begin: panels of the input product
  Buffer<Real> input;             // weight_ih
  Buffer<Real> recurrent;         // weight_hh; GRU reset before: its r and z
  Buffer<Real> candidate;         // GRU reset before: weight_hh of n
  Buffer<Real> candidate_start;   // GRU: b_hn, [group][lane], the start of n_h
  Buffer<Real> input_transposed;  // d_z -> d_x: depth is the blocks of d_z that weight_ih has
  Buffer<Real> recurrent_transposed;
  Buffer<Real> candidate_transposed;

 private:
  void pack_forward(const CellWeights<Real>& w);
  void pack_backward(const CellWeights<Real>& w);
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
