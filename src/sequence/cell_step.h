// One step of a cell, of rows at once: its products and gates in the order that the cell needs. What
// the passes over sequences and streams share.
#pragma once

#include "sequence/products.h"

namespace fastrnn {

// x, tokens: both null where input_product was made before, as normalisation needs. product_h: what
// the recurrent product takes, gates.h_prev or a masked one. z_state: as in normalized_product.
template <class Real>
struct StepRows {
  ZRows<Real> z;
  Real* const* z_state;
  const Real* const* x;
  const Index* tokens;
  const Real* const* product_h;
};

// gates.h_prev: h_{t-1}, also with a projection. meet() is called where threads that share rows wait
// for one another's units. What is projected is left to project_step.
template <class Real, class Meet>
void cell_step(const Cell<Real>& cell, const StepRows<Real>& rows, CellForward<Real> gates,
               Meet meet) {
  if (cell.normalizes)
    normalized_product(cell, rows.z, rows.z_state, rows.product_h, gates.cache);
  else if (rows.x || rows.tokens)
    step_product(cell, rows.z, rows.x, rows.tokens, rows.product_h);
  else
    recurrent_product(cell, rows.z, rows.product_h);
  if (cell.kind == CellKind::gru_reset_before) {
    CellForward<Real> reset = gates;
    reset.h_prev = rows.product_h;
    cell.steps.forward_reset(reset);
    meet();
    if (cell.normalizes)
      normalized_candidate(cell, rows.z, rows.z_state, gates.reset_h, gates.cache);
    else
      candidate_product(cell, rows.z, gates.reset_h);
  }
  if (cell.projects) gates.h_prev = nullptr;  // the output, not the units
  cell.steps.forward(gates);
  meet();
}

// Outputs [begin, end) of the units; begin is a multiple of a panel. zeros: for all panels. scratch: as in
// ZRows.
template <class Real>
void project_step(const Cell<Real>& cell, Index rows, Index begin, Index end, const Real* zeros,
                  const Real* const* units, Real* const* y, unsigned char* const* scratch) {
  const Index width = plain_width * cell.kernels.lanes;
  projection_product(cell, rows, begin / width, (end + width - 1) / width, units, zeros, y,
                     scratch);
}

}  // namespace fastrnn
