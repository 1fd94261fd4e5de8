#include "sequence/recompute.h"

#include "sequence/products.h"

namespace fastrnn {

template <class Real>
Recompute<Real>::Recompute(const Cell<Real>* const* cells, int directions,
                           const LayerInput<Real>& in, const LayerOutput<Real>& out,
                           Workspace& workspace, Interrupt interrupt)
    : Pass<Real>(cells, directions, in, out, workspace, interrupt),
      recomputes_(out.checkpoint_every > 0 && cells[0]->cached > 0) {
  if (!recomputes_) return;
  const Index rows = std::min(out.checkpoint_every, this->rows_.steps) * this->rows_.batch;
  for (int d = 0; d < directions; ++d)
    window_cache_[d] = workspace.template take<Real>(rows * cells[0]->cached);
}

template <class Real>
void Recompute<Real>::prepare(Window& w, int member, const Part& part, Group* group,
                              const Window& sharing) {
  if (!recomputes_) return;
  Workspace& workspace = this->workspace_;
  const Cell<Real>& cell = *this->cells_[0];
  const Index units = group_units(cell.kind, cell.kernels.lanes), hidden = this->hidden_;
  w.member = member;
  w.part = &part;
  w.group = group;
  w.group_begin = part.unit_begin / units;
  w.group_end = (part.unit_end + units - 1) / units;
  w.chunk_rows =
      z_chunk_rows(cell, part.count, std::min(this->out_.checkpoint_every, this->rows_.steps));
  const auto rows_of = [&](Index count, Index values, Index stride) {
    Real** rows = workspace.template take<Real*>(count);
    Real* data = workspace.template take<Real>(values);
    for (Index i = 0; i < count; ++i) rows[i] = data + i * stride;
    return rows;
  };
  w.z = rows_of(w.chunk_rows, w.chunk_rows * cell.z_values, cell.z_values);
  if (cell.normalizes) w.z_state = this->scratch_rows(w.chunk_rows, cell.z_values);
  w.h = rows_of(part.count, cell.projects ? 0 : hidden, 0);
  if (has_cell_state(cell.kind)) w.c = rows_of(part.count, part.count * hidden, hidden);
  if (cell.kind == CellKind::gru_reset_before)
    w.reset_h =
        part.unit_part > 0 ? sharing.reset_h : rows_of(w.chunk_rows, w.chunk_rows * hidden, hidden);
  w.x = workspace.template take<const Real*>(w.chunk_rows);
  w.tokens = workspace.template take<Index>(w.chunk_rows);
  w.h_prev = workspace.template take<const Real*>(w.chunk_rows);
  w.masked = this->masked_rows(w.chunk_rows);
  w.product_h = w.masked ? workspace.template take<const Real*>(w.chunk_rows) : w.h_prev;
  w.options = OptionRows<Real>::take(this->in_.options, w.chunk_rows, workspace);
  w.cache = workspace.template take<Real*>(w.chunk_rows);
}

// Chunk by chunk, as the forward pass. Where the call is to stop, what is left undone is void.
template <class Real>
void Recompute<Real>::refill(Window& w, int d, Index last) {
  const Part& part = *w.part;
  w.begin = last - last % this->out_.checkpoint_every;
  if (has_cell_state(this->cells_[d]->kind)) restore_c(w, d);
  Index alive = part.count;
  for (Index s = w.begin; s <= last;) {
    if (this->stopped(*w.group, w.member, part.unit_part == 0)) return;
    Index end = s, used = 0;
    for (Index n = alive; end <= last; ++end) {
      n = part.alive(this->rows_, end, n);
      if (n == 0 || used + n > w.chunk_rows) break;
      collect(w, d, end, n, used);
      used += n;
    }
    if (used == 0) return;
    products(w, d, used);
    for (Index row = 0; s < end; ++s, row += alive) {
      alive = part.alive(this->rows_, s, alive);
      gates(w, d, alive, row);
    }
    w.group->barrier.wait();  // all have read reset_h
  }
}

template <class Real>
void Recompute<Real>::restore_c(Window& w, int d) {
  const Part& part = *w.part;
  const Index n = part.alive(this->rows_, w.begin, part.count);
  for (Index i = 0; i < n; ++i)
    std::copy(this->checkpoint_at(d, w.begin, part.row(i)) + part.unit_begin,
              this->checkpoint_at(d, w.begin, part.row(i)) + part.unit_end,
              w.c[i] + part.unit_begin);
}

template <class Real>
void Recompute<Real>::collect(Window& w, int d, Index s, Index n, Index at) {
  for (Index i = 0; i < n; ++i) {
    const Index j = w.part->row(i), b = this->rows_.order[j], t = this->rows_.time(d, s, j);
    if (this->in_.tokens.data)
      w.tokens[at + i] = *this->in_.tokens.at(t, b);
    else
      w.x[at + i] = this->in_.x.at(t, b);
    w.h_prev[at + i] = this->h_at(d, s - 1, j);
    if (w.masked) w.product_h[at + i] = this->masked(d, b, w.h_prev[at + i], w.masked[at + i]);
    w.options.set(at + i, this->in_.options, t, b, d * this->hidden_);
    w.cache[at + i] = cache_at(d, s, j);
  }
}

template <class Real>
void Recompute<Real>::products(Window& w, int d, Index rows) {
  const Cell<Real>& cell = *this->cells_[d];
  const ZRows<Real> z = {rows, w.group_begin, w.group_end, w.z};
  input_product(cell, z, w.x, this->in_.tokens.data ? w.tokens : nullptr);
  if (cell.normalizes)
    normalized_product(cell, z, w.z_state, w.product_h, w.cache);
  else
    recurrent_product(cell, z, w.product_h);
  if (cell.kind != CellKind::gru_reset_before) return;
  cell.steps.forward_reset({rows, w.group_begin, w.group_end, this->hidden_, w.z, w.product_h,
                            nullptr, nullptr, w.cache, w.reset_h, cell.options(), nullptr, nullptr,
                            nullptr});
  w.group->barrier.wait();
  if (cell.normalizes)
    normalized_candidate(cell, z, w.z_state, w.reset_h, w.cache);
  else
    candidate_product(cell, z, w.reset_h);
}

template <class Real>
void Recompute<Real>::gates(Window& w, int d, Index n, Index at) {
  const Cell<Real>& cell = *this->cells_[d];
  for (Index i = 0; cell.projects && i < n; ++i) w.h[i] = w.cache[at + i] + cell.units_at;
  const OptionRows<Real> options = w.options.from(at);
  cell.steps.forward({n, w.group_begin, w.group_end, this->hidden_, w.z + at, w.h_prev + at, w.h,
                      w.c, w.cache + at, w.reset_h ? w.reset_h + at : nullptr, cell.options(),
                      options.attention, options.keep_h, options.keep_c});
}

template class Recompute<float>;
template class Recompute<double>;

}  // namespace fastrnn
