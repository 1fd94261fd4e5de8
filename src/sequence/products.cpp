#include "sequence/products.h"

#include <algorithm>
#include <cstring>

namespace fastrnn {
namespace {

// Bytes of a row prepared for small weights: none for float32, and for bf16, which takes rows as they are.
template <class Real>
Index row_bytes(const Cell<Real>& cell, Index depth) {
  if (cell.precision == Precision::float32) return 0;
  const SmallFormat& format = small_kernels()[cell.precision];
  return format.row_bytes ? format.row_bytes(depth) : 0;
}

// The rows of a product's left operand, for float32 as they are.
template <class Real>
struct Operand {
  const Real* const* rows;
  SmallRows small;
};
// scratch: of each row, where `offset` bytes are in use.
template <class Real>
Operand<Real> operand(const Cell<Real>& cell, Index count, Index depth, const Real* const* rows,
                      unsigned char* const* scratch, Index offset = 0) {
  Operand<Real> out = {rows, {}};
  if constexpr (sizeof(Real) == sizeof(float)) {
    out.small = {rows, scratch, offset};
    if (row_bytes(cell, depth) > 0)
      small_kernels()[cell.precision].prepare(count, depth, rows, scratch, offset);
  }
  return out;
}

// p, but for its a and weights, which are given here.
template <class Real>
void multiply(const Cell<Real>& cell, int width, const Operand<Real>& a,
              const Panels<Real>& weights, Product<Real> p) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (cell.precision != Precision::float32)
      return small_kernels()[cell.precision].product[width](
          {p.rows, p.depth, p.panel_begin, p.panel_end, p.columns, a.small, weights.words.data(),
           weights.scales.data(), weights.sums.data(), p.start, p.c, p.c_offset, p.c_stride,
           p.last_first});
  }
  p.a = a.rows;
  p.weights = weights.values.data();
  cell.kernels.product[width](p);
}

// p, but for its weights, which are those of the input.
template <class Real>
void gather(const Cell<Real>& cell, int width, Gather<Real> p) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (cell.precision != Precision::float32)
      return small_kernels()[cell.precision].gather[width](
          {p.rows, p.depth, p.panel_begin, p.panel_end, p.tokens, cell.input.words.data(),
           cell.input.scales.data(), p.start, p.c, p.c_stride});
  }
  p.weights = cell.input.values.data();
  cell.kernels.gather[width](p);
}

// Panels of `width` vectors; `offset`: where the first of them stands in a group of z.
template <class Real>
void state_product(const Cell<Real>& cell, const ZRows<Real>& rows, int width, Index offset,
                   const Operand<Real>& a, const Panels<Real>& weights) {
  const int lanes = cell.kernels.lanes, panels = group_panels(cell.kind);
  multiply(cell, width, a, weights,
           {rows.count, cell.output_size, panels * rows.group_begin, panels * rows.group_end,
            cell.groups * panels * width * lanes, nullptr, 0, nullptr,
            cell.normalizes ? cell.start.data() : nullptr, rows.z, offset,
            group_values(cell.kind, lanes) / panels, rows.last_first});
}

template <class Real>
void recurrent_part(const Cell<Real>& cell, const ZRows<Real>& rows, const Operand<Real>& h_prev) {
  const int width = cell.kind == CellKind::gru_reset_before ? 2 : panel_width(cell.kind);
  const Index offset = is_gru(cell.kind) ? cell.kernels.lanes : 0;
  state_product(cell, rows, width, offset, h_prev, cell.recurrent);
}

template <class Real>
void input_part(const Cell<Real>& cell, const ZRows<Real>& rows, const Operand<Real>& x,
                const Index* tokens) {
  const int width = panel_width(cell.kind), lanes = cell.kernels.lanes;
  const int panels = group_panels(cell.kind);
  const Index begin = panels * rows.group_begin, end = panels * rows.group_end;
  const Index z_stride = group_values(cell.kind, lanes), panel_stride = z_stride / panels;
  if (tokens) {
    gather(cell, width,
           {rows.count, cell.input_size, begin, end, tokens, nullptr, cell.start.data(), rows.z,
            panel_stride});
  } else {
    multiply(cell, width, x, cell.input,
             {rows.count, cell.input_size, begin, end, cell.groups * panels * width * lanes,
              nullptr, 0, nullptr, cell.start.data(), rows.z, 0, panel_stride, rows.last_first});
  }
  if (cell.kind != CellKind::gru) return;
  for (Index row = 0; row < rows.count; ++row)  // n_h begins at its own bias
    for (Index group = rows.group_begin; group < rows.group_end; ++group)
      std::memcpy(rows.z[row] + group * z_stride + 3 * lanes,
                  cell.candidate_start.data() + group * lanes, lanes * sizeof(Real));
}

template <class Real>
Operand<Real> input_operand(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                            const Index* tokens) {
  if (tokens) return {};
  return operand(cell, rows.count, cell.input_size, x, rows.scratch);
}

// Gates that are normalised as one: the first of them in the weights' order and in z, how many, and
// where their scale is kept.
struct Span {
  int weight, z, gates, scale;
};
struct Spans {
  Span span[2];
  int size;
};
Spans input_spans(CellKind kind) {
  if (is_gru(kind)) return {{{0, 1, 2, 0}, {2, 0, 1, 1}}, 2};
  return {{{0, 0, gate_count(kind), 0}, {}}, 1};
}
Span candidate_span(CellKind kind) { return {2, kind == CellKind::gru ? 3 : 0, 1, 3}; }
Spans state_spans(CellKind kind) {
  if (kind == CellKind::gru) return {{{0, 1, 2, 2}, candidate_span(kind)}, 2};
  if (is_gru(kind)) return {{{0, 1, 2, 2}, {}}, 1};
  return {{{0, 0, gate_count(kind), 2}, {}}, 1};
}

// of_state: the recurrent product's, else the input's.
template <class Real>
void normalize(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* from,
               const Span& span, bool of_state, Real* const* cache) {
  const CellNorm<Real>& norm = cell.options()->norm;
  const Index H = cell.hidden_size, at = span.weight * H;
  const Real* const bias = of_state ? norm.bias_hh : norm.bias_ih;
  const bool add = of_state && !(cell.kind == CellKind::gru && span.weight == 2);  // n_h is apart
  cell.kernels.normalize({rows.count, H, span.gates, group_units(cell.kind, cell.kernels.lanes),
                          group_values(cell.kind, cell.kernels.lanes), from, rows.z, span.z, span.z,
                          add, (of_state ? norm.gain_hh : norm.gain_ih) + at,
                          bias ? bias + at : nullptr, norm.epsilon, cache,
                          norm.values_at + (of_state ? gate_count(cell.kind) * H : 0) + at,
                          norm.scales_at + span.scale});
}

template <class Real>
void normalize_back(const Cell<Real>& cell, Index rows, Real* const* d_z, const Real* const* cache,
                    const Span& span, bool of_state) {
  const CellNorm<Real>& norm = cell.options()->norm;
  const Index H = cell.hidden_size, at = span.weight * H;
  const Index side = of_state ? gate_count(cell.kind) * H : 0;
  const Index raw_at = of_state ? cell.state_d_at + at : cell.input_d_at + span.z * H;
  training_kernels<Real>().normalize_back(
      {rows, H, span.gates, d_z, span.z * H, raw_at, cell.d_gain_at + side + at,
       (of_state ? norm.gain_hh : norm.gain_ih) + at, cache, norm.values_at + side + at,
       norm.scales_at + span.scale});
}

}  // namespace

template <class Real>
void normalized_product(const Cell<Real>& cell, const ZRows<Real>& rows, Real* const* z_state,
                        const Real* const* h_prev, Real* const* cache) {
  const Spans of_input = input_spans(cell.kind), of_state = state_spans(cell.kind);
  for (int i = 0; i < of_input.size; ++i)
    normalize(cell, rows, const_cast<const Real* const*>(rows.z), of_input.span[i], false, cache);
  ZRows<Real> state = rows;
  state.z = z_state;
  recurrent_product(cell, state, h_prev);
  for (int i = 0; i < of_state.size; ++i)
    normalize(cell, rows, const_cast<const Real* const*>(z_state), of_state.span[i], true, cache);
}

template <class Real>
void normalized_candidate(const Cell<Real>& cell, const ZRows<Real>& rows, Real* const* z_state,
                          const Real* const* reset_h, Real* const* cache) {
  ZRows<Real> state = rows;
  state.z = z_state;
  candidate_product(cell, state, reset_h);
  normalize(cell, rows, const_cast<const Real* const*>(z_state), candidate_span(cell.kind), true,
            cache);
}

template <class Real>
void normalized_product_back(const Cell<Real>& cell, Index rows, Real* const* d_z,
                             const Real* const* cache, bool candidate) {
  if (candidate) return normalize_back(cell, rows, d_z, cache, candidate_span(cell.kind), true);
  const Spans of_input = input_spans(cell.kind), of_state = state_spans(cell.kind);
  for (int i = 0; i < of_input.size; ++i)
    normalize_back(cell, rows, d_z, cache, of_input.span[i], false);
  for (int i = 0; i < of_state.size; ++i)
    normalize_back(cell, rows, d_z, cache, of_state.span[i], true);
}

// 256 KiB of z: a chunk passes through the second-level cache twice. But at least 48 rows, so that
// a few rows stream the input weights seldom.
template <class Real>
Index z_chunk_rows(const Cell<Real>& cell, Index rows, Index steps) {
  const Index row_bytes = cell.z_values * static_cast<Index>(sizeof(Real));
  const Index wanted = std::min<Index>(1024, std::max<Index>(48, 262144 / row_bytes));
  return std::max(rows, std::min(wanted, rows * steps));
}

template <class Real>
Index scratch_bytes(const Cell<Real>& cell) {
  const Index both = row_bytes(cell, cell.input_size) + row_bytes(cell, cell.output_size);
  return std::max(both, row_bytes(cell, cell.hidden_size));
}

template <class Real>
void input_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                   const Index* tokens) {
  input_part(cell, rows, input_operand(cell, rows, x, tokens), tokens);
}

template <class Real>
void recurrent_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* h_prev) {
  if (cell.kind == CellKind::indrnn) return;
  recurrent_part(cell, rows, operand(cell, rows.count, cell.output_size, h_prev, rows.scratch));
}

template <class Real>
void candidate_product(const Cell<Real>& cell, const ZRows<Real>& rows,
                       const Real* const* reset_h) {
  const Operand<Real> a = operand(cell, rows.count, cell.output_size, reset_h, rows.scratch);
  state_product(cell, rows, 1, 0, a, cell.candidate);
}

template <class Real>
void step_product(const Cell<Real>& cell, const ZRows<Real>& rows, const Real* const* x,
                  const Index* tokens, const Real* const* h_prev) {
  const Operand<Real> input = input_operand(cell, rows, x, tokens);
  Operand<Real> state = {};
  if (cell.kind != CellKind::indrnn)
    state = operand(cell, rows.count, cell.output_size, h_prev, rows.scratch,
                    row_bytes(cell, cell.input_size));
  // Blocks of both weights: the next step, which goes the other way, finds the last ones of both in
  // the cache. Groups enough for a tile of four panels, and calls few enough not to count.
  constexpr Index block = 8;
  const Index blocks = (rows.group_end - rows.group_begin + block - 1) / block;
  for (Index i = 0; i < blocks; ++i) {
    const Index begin = rows.group_begin + (rows.last_first ? blocks - 1 - i : i) * block;
    const ZRows<Real> part = {rows.count, begin, std::min(begin + block, rows.group_end), rows.z,
                              rows.last_first};
    input_part(cell, part, input, tokens);
    if (cell.kind != CellKind::indrnn) recurrent_part(cell, part, state);
  }
}

template <class Real>
void projection_product(const Cell<Real>& cell, Index rows, Index panel_begin, Index panel_end,
                        const Real* const* h, const Real* zeros, Real* const* y,
                        unsigned char* const* scratch) {
  multiply(cell, plain_width, operand(cell, rows, cell.hidden_size, h, scratch), cell.projection,
           {rows, cell.hidden_size, panel_begin, panel_end, cell.output_size, nullptr, 0, nullptr,
            zeros, y, 0, plain_width * cell.kernels.lanes});
}

#define FASTRNN_PRODUCTS(Real)                                                                 \
  template Index z_chunk_rows(const Cell<Real>&, Index, Index);                                \
  template Index scratch_bytes(const Cell<Real>&);                                             \
  template void projection_product(const Cell<Real>&, Index, Index, Index, const Real* const*, \
                                   const Real*, Real* const*, unsigned char* const*);          \
  template void input_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*,       \
                              const Index*);                                                   \
  template void recurrent_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*);  \
  template void candidate_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*);  \
  template void normalized_product(const Cell<Real>&, const ZRows<Real>&, Real* const*,        \
                                   const Real* const*, Real* const*);                          \
  template void normalized_candidate(const Cell<Real>&, const ZRows<Real>&, Real* const*,      \
                                     const Real* const*, Real* const*);                        \
  template void normalized_product_back(const Cell<Real>&, Index, Real* const*,                \
                                        const Real* const*, bool);                             \
  template void step_product(const Cell<Real>&, const ZRows<Real>&, const Real* const*,        \
                             const Index*, const Real* const*);
FASTRNN_PRODUCTS(float)
FASTRNN_PRODUCTS(double)
#undef FASTRNN_PRODUCTS

}  // namespace fastrnn
