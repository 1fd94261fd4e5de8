#include "sequence/products.h"

#include <algorithm>
#include <cstring>

namespace fastrnn {
namespace {

// Panels of `width` vectors; `offset`: where the first of them stands in a group of z.
template <class Real>
void state_product(const Cell<Real>& cell, const ZRows<Real>& rows, int width, Index offset,
                   const Real* const* a, const Buffer<Real>& weights) {
  const int lanes = cell.kernels.lanes, panels = group_panels(cell.kind);
  cell.kernels.product[width]({rows.count, cell.output_size, panels * rows.group_begin,
                               panels * rows.group_end, cell.groups * panels * width * lanes, a, 0,
                               weights.data(), nullptr, rows.z, offset,
                               group_values(cell.kind, lanes) / panels, rows.last_first});
}

}  // namespace

// 256 KiB of z: a chunk passes through the second-level cache twice. But at least 48 rows, so that
// a few rows stream the input weights seldom.
template <class Real>
Index z_chunk_rows(const Cell<Real>& cell, Index rows, Index steps) {
  const Index row_bytes = cell.z_values * static_cast<Index>(sizeof(Real));
  const Index wanted = std::min<Index>(1024, std::max<Index>(48, 262144 / row_bytes));
  return std::max(rows, std::min(wanted, rows * steps));
}

template <class Real>
void input_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                   const Index* tokens) {
  const int width = panel_width(cell.kind), lanes = cell.kernels.lanes;
  const int panels = group_panels(cell.kind);
  const Index begin = panels * rows.group_begin, end = panels * rows.group_end;
  const Index z_stride = group_values(cell.kind, lanes), panel_stride = z_stride / panels;
  if (tokens) {
    cell.kernels.gather[width]({rows.count, cell.input_size, begin, end, tokens, cell.input.data(),
                                cell.start.data(), rows.z, panel_stride});
  } else {
    cell.kernels.product[width]({rows.count, cell.input_size, begin, end,
                                 cell.groups * panels * width * lanes, x, 0, cell.input.data(),
                                 cell.start.data(), rows.z, 0, panel_stride, rows.last_first});
  }
  if (cell.kind != CellKind::gru) return;
  for (Index row = 0; row < rows.count; ++row)  // n_h begins at its own bias
    for (Index group = rows.group_begin; group < rows.group_end; ++group)
      std::memcpy(rows.z[row] + group * z_stride + 3 * lanes,
                  cell.candidate_start.data() + group * lanes, lanes * sizeof(Real));
}

template <class Real>
void recurrent_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* h_prev) {
  if (cell.kind == CellKind::indrnn) return;
  const int width = cell.kind == CellKind::gru_reset_before ? 2 : panel_width(cell.kind);
  const Index offset = is_gru(cell.kind) ? cell.kernels.lanes : 0;
  state_product(cell, rows, width, offset, h_prev, cell.recurrent);
}

template <class Real>
void candidate_product(const Cell<Real>& cell, const ZRows<Real>& rows,
                       const Real* const* reset_h) {
  state_product(cell, rows, 1, 0, reset_h, cell.candidate);
}

template <class Real>
void step_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                  const Index* tokens, const Real* const* h_prev) {
  // Blocks of both weights: the next step, which goes the other way, finds the last ones of both in
  // the cache. Groups enough for a tile of four panels, and calls few enough not to count.
  constexpr Index block = 8;
  const Index blocks = (rows.group_end - rows.group_begin + block - 1) / block;
  for (Index i = 0; i < blocks; ++i) {
    const Index begin = rows.group_begin + (rows.last_first ? blocks - 1 - i : i) * block;
    const ZRows<Real> part = {rows.count, begin, std::min(begin + block, rows.group_end), rows.z,
                              rows.last_first};
    input_product(cell, part, x, tokens);
    recurrent_product(cell, part, h_prev);
  }
}

#define FASTRNN_PRODUCTS(Real)                                                                \
  template Index z_chunk_rows(const Cell<Real>&, Index, Index);                               \
  template void input_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*,      \
                              const Index*);                                                  \
  template void recurrent_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*); \
  template void candidate_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*); \
  template void step_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*,       \
                             const Index*, const Real* const*);
FASTRNN_PRODUCTS(float)
FASTRNN_PRODUCTS(double)
#undef FASTRNN_PRODUCTS

}  // namespace fastrnn
