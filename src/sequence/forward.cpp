// The forward time loop. Per chunk of steps: the input's part of z for all rows of the chunk at once
// (as many rows as steps x batch), then step by step the recurrent part and the gates. Both products
// continue the same accumulators, so the chunk's size does not change the bits.
#include "sequence/cell_step.h"
#include "sequence/pass.h"

namespace fastrnn {
namespace {

template <class Real>
class Forward : Pass<Real> {
  using Base = Pass<Real>;
  using Base::cells_, Base::directions_, Base::grid_, Base::hidden_, Base::in_, Base::out_,
      Base::output_, Base::rows_, Base::workspace_;

 public:
  Forward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
          const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt)
      : Base(cells, directions, in, out, workspace, interrupt) {}

  bool run() {
    return Base::run_grid(
        false, [this] { prepare(); },
        [this](int member) {
          Member& m = members_[member];
          for (int d = 0; d < directions_; ++d)
            if (grid_.directions == 1 || d == m.part.direction) run_direction(m, d, member);
        });
  }

 private:
  struct Member {
    Part part;
    Group* group;  // shares the rows
    Index chunk_rows;
    Index group_begin, group_end;
    Real* z;
    Real** z_rows;
    Real** z_state;           // of a normalised recurrent product
    unsigned char** scratch;  // of products
    const Real** x;
    Index* tokens;
    const Real** h_prev;
    const Real** product_h;  // what the recurrent product takes: h_prev, or masked
    Real** masked;
    Real** y;
    Real** h;  // y, or what is projected to it
    Real** c;
    Real** cache;
    Real **reset_h, **units;  // shared by the group; units: h where it is not kept
    OptionRows<Real> options;
  };

  // Everything that the members need is taken here, before they start.
  void prepare() {
    const Cell<Real>& cell = *cells_[0];
    const Index units = group_units(cell.kind, cell.kernels.lanes);
    Group* groups = workspace_.template take<Group>(grid_.members() / grid_.unit_parts);
    members_ = workspace_.template take<Member>(grid_.members());
    for (int i = 0; i < grid_.members(); ++i) {
      Member& m = members_[i];
      m.part = part_of(grid_, i, rows_, cell);
      m.group = groups + i / grid_.unit_parts;
      if (m.part.unit_part == 0) new (m.group) Group();
      m.group->barrier.set_members(grid_.unit_parts);
      m.group_begin = m.part.unit_begin / units;
      m.group_end = (m.part.unit_end + units - 1) / units;
      const Index n = m.part.count;
      m.chunk_rows = z_chunk_rows(cell, n, rows_.steps);
      m.z = workspace_.template take<Real>(m.chunk_rows * cell.z_values);
      m.z_rows = workspace_.template take<Real*>(m.chunk_rows);
      for (Index row = 0; row < m.chunk_rows; ++row) m.z_rows[row] = m.z + row * cell.z_values;
      if (cell.normalizes) m.z_state = Base::scratch_rows(n, cell.z_values);
      m.scratch = product_scratch(cell, m.chunk_rows);
      m.x = workspace_.template take<const Real*>(m.chunk_rows);
      m.tokens = workspace_.template take<Index>(m.chunk_rows);
      m.h_prev = workspace_.template take<const Real*>(n);
      m.masked = Base::masked_rows(n);
      m.product_h = m.masked ? workspace_.template take<const Real*>(n) : m.h_prev;
      m.y = workspace_.template take<Real*>(n);
      m.h = cell.projects ? workspace_.template take<Real*>(n) : m.y;
      m.c = workspace_.template take<Real*>(n);
      m.cache = workspace_.template take<Real*>(n);
      m.options = OptionRows<Real>::take(in_.options, n, workspace_);
      const bool first = m.part.unit_part == 0;
      const Member& sharing = members_[i - m.part.unit_part];
      if (cell.kind == CellKind::gru_reset_before)
        m.reset_h = first ? Base::scratch_rows(n, hidden_) : sharing.reset_h;
      if (cell.projects && !keeps())
        m.units = first ? Base::scratch_rows(n, hidden_) : sharing.units;
    }
  }

  unsigned char** product_scratch(const Cell<Real>& cell, Index rows) const {
    const Index bytes = scratch_bytes(cell);
    if (bytes == 0) return nullptr;
    unsigned char** const out = workspace_.template take<unsigned char*>(rows);
    unsigned char* const from = workspace_.template take<unsigned char>(rows * bytes);
    for (Index row = 0; row < rows; ++row) out[row] = from + row * bytes;
    return out;
  }

  bool keeps() const { return out_.cache && out_.checkpoint_every == 0; }

  void run_direction(Member& m, int d, int member) {
    begin(m, d);
    Index alive = m.part.count;
    for (Index s = 0; s < rows_.steps;) {
      if (s > 0 && Base::stopped(*m.group, member, m.part.unit_part == 0)) return;
      Index end = s, used = 0;
      for (Index n = alive; end < rows_.steps; ++end) {
        n = m.part.alive(rows_, end, n);
        if (n == 0 || (used > 0 && used + n > m.chunk_rows)) break;
        collect_input(m, d, end, n, used);
        used += n;
      }
      if (used == 0) break;
      if (rows_.steps > 1 || cells_[d]->normalizes)
        input_product(*cells_[d], {used, m.group_begin, m.group_end, m.z_rows, false, m.scratch},
                      m.x, tokens(m));
      for (Index row = 0; s < end; ++s, row += alive) {
        alive = m.part.alive(rows_, s, alive);
        step(m, d, s, alive, m.z_rows + row);
      }
    }
    finish(m, d);
  }

  void begin(Member& m, int d) {
    const Index width = m.part.unit_end - m.part.unit_begin;
    for (Index i = 0; i < m.part.count; ++i) {
      const Index b = rows_.order[m.part.row(i)];
      m.h_prev[i] = Base::h_state(in_.h0, d, b);
      if (!has_cell_state(cells_[d]->kind)) continue;
      m.c[i] = Base::c_state_out(out_.c_n, d, b);
      std::copy_n(Base::c_state(in_.c0, d, b) + m.part.unit_begin, width,
                  m.c[i] + m.part.unit_begin);
    }
  }

  void collect_input(Member& m, int d, Index s, Index n, Index at) {
    for (Index i = 0; i < n; ++i) {
      const Index j = m.part.row(i), b = rows_.order[j], t = rows_.time(d, s, j);
      if (in_.tokens.data)
        m.tokens[at + i] = *in_.tokens.at(t, b);
      else
        m.x[at + i] = in_.x.at(t, b);
    }
  }

  const Index* tokens(const Member& m) const { return in_.tokens.data ? m.tokens : nullptr; }

  void step(Member& m, int d, Index s, Index n, Real** z_rows) {
    const Cell<Real>& cell = *cells_[d];
    const Index every = out_.checkpoint_every;
    const bool keep = keeps();
    for (Index i = 0; i < n; ++i) {
      const Index j = m.part.row(i), b = rows_.order[j], t = rows_.time(d, s, j);
      m.y[i] = out_.y.at(t, b) + d * output_;
      if (keep) m.cache[i] = Base::cache_at(d, s, j);
      if (cell.projects) m.h[i] = keep ? m.cache[i] + cell.units_at : m.units[i];
      if (m.masked) m.product_h[i] = Base::masked(d, b, m.h_prev[i], m.masked[i]);
      m.options.set(i, in_.options, t, b, d * hidden_);
    }
    if (every > 0 && out_.cache && has_cell_state(cell.kind) && s % every == 0) keep_c(m, d, s, n);
    const bool hoisted = rows_.steps > 1 || cell.normalizes;
    const StepRows<Real> rows = {
        {n, m.group_begin, m.group_end, z_rows, (s + workspace_.turn()) % 2 == 1, m.scratch},
        m.z_state,
        hoisted ? nullptr : m.x,
        hoisted ? nullptr : tokens(m),
        m.product_h};
    const CellForward<Real> gates = {n,
                                     m.group_begin,
                                     m.group_end,
                                     hidden_,
                                     z_rows,
                                     m.h_prev,
                                     m.h,
                                     m.c,
                                     keep ? m.cache : nullptr,
                                     m.reset_h,
                                     cell.options(),
                                     m.options.attention,
                                     m.options.keep_h,
                                     m.options.keep_c};
    const auto meet = [&] { m.group->barrier.wait(); };
    cell_step(cell, rows, gates, meet);
    if (cell.projects) {
      project_step(cell, n, m.part.output_begin, m.part.output_end, this->zeros_, m.h, m.y,
                   m.scratch);
      meet();
    }
    std::copy_n(m.y, n, m.h_prev);
  }

  void keep_c(Member& m, int d, Index s, Index n) {
    const Index begin = m.part.unit_begin, width = m.part.unit_end - begin;
    for (Index i = 0; i < n; ++i)
      std::copy_n(m.c[i] + begin, width, Base::checkpoint_at(d, s, m.part.row(i)) + begin);
  }

  // The last state of each row, and zeros past its end.
  void finish(Member& m, int d) {
    const Index begin = m.part.output_begin, width = m.part.output_end - begin;
    for (Index i = 0; i < m.part.count; ++i) {
      const Index j = m.part.row(i), b = rows_.order[j], length = rows_.length[j];
      std::copy_n(Base::h_at(d, length - 1, j) + begin, width,
                  Base::h_state_out(out_.h_n, d, b) + begin);
      for (Index t = length; t < in_.steps; ++t)
        std::fill_n(out_.y.at(t, b) + d * output_ + begin, width, Real(0));
    }
  }

  Member* members_ = nullptr;
};

template <class Real>
class CacheReader : Pass<Real> {
 public:
  CacheReader(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
              const LayerOutput<Real>& out, Workspace& workspace)
      : Pass<Real>(cells, directions, in, out, workspace, {}) {}
  void read(Index block, const Sequence<Real>& to) const {
    const Index H = this->hidden_;
    for (int d = 0; d < this->directions_; ++d)
      for (Index s = 0; s < this->rows_.steps; ++s)
        for (Index j = 0; j < this->rows_.first_entry[s + 1] - this->rows_.first_entry[s]; ++j)
          std::copy_n(this->cache_at(d, s, j) + block * H, H,
                      to.at(this->rows_.time(d, s, j), this->rows_.order[j]) + d * H);
  }
};

}  // namespace

template <class Real>
void read_cache(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                const LayerOutput<Real>& out, Index block, const Sequence<Real>& to,
                Workspace& workspace) {
  CacheReader<Real>(cells, directions, in, out, workspace).read(block, to);
}

template <class Real>
Index cache_values(const Cell<Real>& cell, int directions, const LayerInput<Real>& in,
                   Index checkpoint_every) {
  if (checkpoint_every > 0) {
    const Index checkpoints = (in.steps + checkpoint_every - 1) / checkpoint_every;
    return has_cell_state(cell.kind) ? directions * checkpoints * in.batch * cell.hidden_size : 0;
  }
  Index entries = in.lengths ? 0 : in.steps * in.batch;
  if (in.lengths)
    for (Index b = 0; b < in.batch; ++b) entries += in.lengths[b];
  return directions * entries * cell.cached;
}

template <class Real>
bool layer_forward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                   const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt) {
  return Forward<Real>(cells, directions, in, out, workspace, interrupt).run();
}

template void read_cache(const Cell<float>* const*, int, const LayerInput<float>&,
                         const LayerOutput<float>&, Index, const Sequence<float>&, Workspace&);
template void read_cache(const Cell<double>* const*, int, const LayerInput<double>&,
                         const LayerOutput<double>&, Index, const Sequence<double>&, Workspace&);
template Index cache_values(const Cell<float>&, int, const LayerInput<float>&, Index);
template Index cache_values(const Cell<double>&, int, const LayerInput<double>&, Index);
template bool layer_forward(const Cell<float>* const*, int, const LayerInput<float>&,
                            const LayerOutput<float>&, Workspace&, Interrupt);
template bool layer_forward(const Cell<double>* const*, int, const LayerInput<double>&,
                            const LayerOutput<double>&, Workspace&, Interrupt);

}  // namespace fastrnn
