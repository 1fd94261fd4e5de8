// One recurrent layer over a whole sequence, in one or both directions: what the time loops take.
#pragma once

#include "memory.h"
#include "sequence/cell.h"

namespace fastrnn {

// Values of row b at step t: data + t * step + b * row, the last axis contiguous.
template <class Real>
struct Sequence {
  Real* data;
  Index step, row;
  Real* at(Index t, Index b) const { return data + t * step + b * row; }
};

// Asked now and then by the calling thread; true stops the call early (its results are then void).
struct Interrupt {
  bool (*asked)(void* context);
  void* context;
};

// What cells with options take beside x, each null where it is not used. attention (T, B), one
// direction. recurrent_mask (D, B, P): factors of h_{t-1} in the recurrent product, the same for all
// steps (Gal & Ghahramani 2016). keep_h, keep_c (T, B, D H): zoneout's share of the old state.
template <class Real>
struct StepOptions {
  Sequence<const Real> attention;
  const Real* recurrent_mask;
  Sequence<const Real> keep_h, keep_c;
};

// Input: x or tokens (one-hot vectors given by their index), the other null. States are h (D, B, P)
// and c (D, B, H), contiguous; P: output_size of the cells. lengths (B), 0 <= length <= T, or null where all are T; order: null, or what
// longest_first (plan.h) gives for them, should it be known. Null h0, c0: zeros.
template <class Real>
struct LayerInput {
  Index steps, batch;
  Sequence<const Real> x;
  Sequence<const Index> tokens;
  const Index *lengths, *order;
  const Real *h0, *c0;
  StepOptions<Real> options;
};

// y: D blocks of P per row, zeros past a row's length. h_n, c_n: the state after its last step; may be
// h0 and c0.
// cache: null in inference; else cache_values() values, to be given to layer_backward: the gates of all
// steps; or, with checkpoint_every > 0, c of every that many steps, and backward computes gates anew.
template <class Real>
struct LayerOutput {
  Sequence<Real> y;
  Real *h_n, *c_n;
  Real* cache;
  Index checkpoint_every;
};

// Gradients are added to the weights' (null: not wanted) and written to the rest. d_y may be null
// (zeros), d_h_n and d_c_n too. d_x null: not wanted, as always with tokens. d_attention: as it.
template <class Real>
struct LayerGradients {
  Sequence<const Real> d_y;
  const Real *d_h_n, *d_c_n;
  Sequence<Real> d_x;
  Real *d_h0, *d_c0;
  WeightPointers<Real*> cells[2];
  Sequence<Real> d_attention;
};

// Values that the cache of a forward pass has, for all directions.
template <class Real>
Index cache_values(const Cell<Real>& cell, int directions, const LayerInput<Real>& in,
                   Index checkpoint_every);

// Block `block` of H values of what a forward pass without checkpoints kept of each step (Cell::cached),
// at its place in `to` (T, B, D H); padding is left alone.
template <class Real>
void read_cache(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                const LayerOutput<Real>& out, Index block, const Sequence<Real>& to,
                Workspace& workspace);

// Both return false where the interrupt stopped them. `cells` has one or two of the same kind.
template <class Real>
bool layer_forward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                   const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt);
template <class Real>
bool layer_backward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                    const LayerOutput<Real>& out, const LayerGradients<Real>& gradients,
                    Workspace& workspace, Interrupt interrupt);

}  // namespace fastrnn
