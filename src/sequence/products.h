// z, the pre-activations of a step, for any rows at once: of one step where h_{t-1} is just being
// made, or of many where it is known. One canonical order, so the same bits either way.
#pragma once

#include "sequence/cell.h"

namespace fastrnn {

// Rows of z, and the groups of hidden units to be computed of them; last_first as in Product. scratch:
// for each row scratch_bytes(cell) of the caller's own, null where that is 0.
template <class Real>
struct ZRows {
  Index count, group_begin, group_end;
  Real* const* z;
  bool last_first = false;
  unsigned char* const* scratch = nullptr;
};

// What products need of scratch for a row: to prepare it for small weights (kernels/quantized.h).
template <class Real>
Index scratch_bytes(const Cell<Real>& cell);

// Rows of z to have at once, for `rows` rows a step and that many steps: whole steps, at least one.
template <class Real>
Index z_chunk_rows(const Cell<Real>& cell, Index rows, Index steps);

// z = biases + weight_ih times x or, where tokens is not null, times one-hot rows. GRU: n_h begins.
template <class Real>
void input_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                   const Index* tokens);

// z += weight_hh times h_{t-1}, but for IndRNN, which has no such product; for a GRU with the reset gate before the product only r and z, and
// then the candidate's n, which takes r * h_{t-1}.
template <class Real>
void recurrent_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* h_prev);
template <class Real>
void candidate_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* reset_h);

// Of a cell with layer normalisation, after input_product: normalises z, and adds to it the recurrent
// product, which is made in z_state and normalised there; and so for the candidate. cache: rows that
// keep what backward needs, or null.
template <class Real>
void normalized_product(const Cell<Real>& cell, const ZRows<Real>& rows, Real* const* z_state,
                        const Real* const* h_prev, Real* const* cache);
template <class Real>
void normalized_candidate(const Cell<Real>& cell, const ZRows<Real>& rows, Real* const* z_state,
                          const Real* const* reset_h, Real* const* cache);
// Backward, in rows of d_z: from gradients of what was normalised to those of the products. `candidate`:
// of the candidate's product alone; else of all but that.
template <class Real>
void normalized_product_back(const Cell<Real>& cell, Index rows, Real* const* d_z,
                             const Real* const* cache, bool candidate);

// input_product and recurrent_product of a single step, in one pass over both weights.
template <class Real>
void step_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                  const Index* tokens, const Real* const* h_prev);

// y = weight_hr times h, for columns of the panels [panel_begin, panel_end) of plain_width vectors; zeros: as
// many as those have columns. scratch as in ZRows.
template <class Real>
void projection_product(const Cell<Real>& cell, Index rows, Index panel_begin, Index panel_end,
                        const Real* const* h, const Real* zeros, Real* const* y,
                        unsigned char* const* scratch);

}  // namespace fastrnn
