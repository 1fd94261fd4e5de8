// Backpropagation through time, in chunks of steps from the last to the first. Per chunk: the time
// loop leaves the gradients of the pre-activations of all its entries in d_z; then d_x and the weight
// gradients are products over all rows of the chunk. A chunk depends on the lengths alone, never on
// threads, and a weight gradient is a sum over blocks of block_rows entries: so its bits are fixed.
#include <utility>

#include "sequence/products.h"
#include "sequence/recompute.h"

namespace fastrnn {
namespace {

constexpr Index chunk_entries = 2 * block_rows;

template <class Real>
const CellGradientKernels<Real>& gradient_steps(const Cell<Real>& cell) {
  const TrainingKernels<Real>& k = training_kernels<Real>();
  return (cell.general ? k.general : k.cells)[static_cast<int>(cell.kind)];
}

// The right side of a weight gradient: rows whose outer product with d_z it is.
enum Source { input, state, reset_state, units, sources };  // x, h_{t-1}, r h_{t-1}, projected h_t

// Values of d_z (count from d_z on, contiguous there and in the weights' rows) that the same right
// sides go with, and the first row in each weight.
struct Side {
  Source source;
  Weight weight;
  Index row;
};
struct Segment {
  Index d_z, count;
  Side side[outer_sides];
  int sides;
};
struct Segments {
  Segment segment[4];
  int size;
};
template <class Real>
Segments segments(const Cell<Real>& cell) {
  const Index H = cell.hidden_size, gates = gate_count(cell.kind) * H;
  const auto in = [](Index row) { return Side{input, Weight::weight_ih, row}; };
  const auto past = [](Index row, Source source = state) {
    return Side{source, Weight::weight_hh, row};
  };
  const Segment output = {cell.d_output_at, cell.output_size, {{units, Weight::weight_hr, 0}}, 1};
  if (cell.normalizes) {
    const Index x = cell.input_d_at, h = cell.state_d_at;
    if (cell.kind == CellKind::gru)
      return {{{x, H, {in(2 * H)}, 1}, {x + H, 2 * H, {in(0)}, 1}, {h, gates, {past(0)}, 1}}, 3};
    if (is_gru(cell.kind))
      return {{{x, H, {in(2 * H)}, 1},
               {x + H, 2 * H, {in(0)}, 1},
               {h, 2 * H, {past(0)}, 1},
               {h + 2 * H, H, {past(2 * H, reset_state)}, 1}},
              4};
    return {{{x, gates, {in(0)}, 1}, {h, gates, {past(0)}, 1}, output}, cell.projects ? 3 : 2};
  }
  if (cell.kind == CellKind::gru)
    return {{{0, H, {in(2 * H)}, 1}, {H, 2 * H, {in(0), past(0)}, 2}, {3 * H, H, {past(2 * H)}, 1}},
            3};
  if (cell.kind == CellKind::gru_reset_before)
    return {{{0, H, {in(2 * H), past(2 * H, reset_state)}, 2}, {H, 2 * H, {in(0), past(0)}, 2}}, 2};
  if (cell.kind == CellKind::indrnn) return {{{0, gates, {in(0)}, 1}}, 1};
  return {{{0, gates, {in(0), past(0)}, 2}, output}, cell.projects ? 2 : 1};
}

template <class Real>
class Backward : Recompute<Real> {
  using Base = Recompute<Real>;
  using Base::cells_, Base::directions_, Base::grid_, Base::hidden_, Base::in_, Base::out_,
      Base::output_, Base::rows_, Base::workspace_;

 public:
  Backward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
           const LayerOutput<Real>& out, const LayerGradients<Real>& gradients,
           Workspace& workspace, Interrupt interrupt)
      : Base(cells, directions, in, out, workspace, interrupt),
        gradients_(gradients),
        segments_(segments(*cells[0])),
        d_z_stride_(cells[0]->d_z_values + 64 / Index(sizeof(Real))) {
    // Room for the largest chunk; the padding of a row keeps rows from sharing cache sets.
    for (Index s = rows_.steps; s > 0; s = chunk_begin(s))
      capacity_ = std::max(capacity_, rows_.first_entry[s] - rows_.first_entry[chunk_begin(s)]);
    for (int d = 0; d < directions; ++d)
      d_z_[d] = workspace.template take<Real>(capacity_ * d_z_stride_);
    if (gradients.d_x.data && directions == 2)
      d_x_reverse_ = workspace.template take<Real>(rows_.entries() * cells[0]->input_size);
  }

  bool run() {
    const bool done = Base::run_grid(
        true, [this] { prepare(); },
        [this](int member) {
          Member& m = members_[member];
          for (int d = 0; d < directions_; ++d)
            if (grid_.directions == 1 || d == m.part.direction) run_direction(m, d, member);
        });
    if (done && gradients_.d_x.data) finish_d_x();
    return done;
  }

 private:
  struct Member {
    Part part;
    Group *group, *team;  // those that share its rows; those that share its direction
    int team_member, team_size;
    const Real **cache, **h, **h_prev, **c_prev, **d_y, **d_z;
    Real **d_h, **d_c;
    Real **d_reset_h, **d_units;  // shared by the group; d_units: gradient of what is projected
    const Real** product_h;       // what the recurrent product took: h_prev, or masked
    Real **masked, **through;     // through: gradient of the masked state, shared by the group
    OptionRows<Real> options;
    Real** d_x;
    const Real** rows;
    Real** masked_block;
    Real* packed[sources];  // a block of each right side, in whole panels
    Real* token_sum;
    typename Base::Window window;
  };

  // First step of the chunk that ends before step `end`.
  Index chunk_begin(Index end) const {
    Index begin = end - 1;
    while (begin > 0 && rows_.first_entry[end] - rows_.first_entry[begin - 1] <= chunk_entries)
      --begin;
    return begin;
  }

  void prepare() {
    const Cell<Real>& cell = *cells_[0];
    const int team_size = grid_.row_parts * grid_.unit_parts;
    groups_.reset(new Group[grid_.directions * grid_.row_parts]);
    teams_.reset(new Group[grid_.directions]);
    members_ = workspace_.template take_zeroed<Member>(grid_.members());
    for (int i = 0; i < grid_.members(); ++i) {
      Member& m = members_[i];
      m.part = part_of(grid_, i, rows_, cell);
      m.group = &groups_[i / grid_.unit_parts];
      m.group->barrier.set_members(grid_.unit_parts);
      m.team = &teams_[i / team_size];
      m.team->barrier.set_members(team_size);
      m.team_member = i % team_size;
      m.team_size = team_size;
      const Index n = m.part.count;
      for (const Real*** rows : {&m.cache, &m.h, &m.h_prev, &m.c_prev, &m.d_y})
        *rows = workspace_.template take<const Real*>(n);
      m.d_h = workspace_.template take<Real*>(n);
      m.d_c = workspace_.template take<Real*>(n);
      m.d_z = workspace_.template take<const Real*>(std::max(n, capacity_));
      m.d_x = workspace_.template take<Real*>(capacity_);
      m.rows = workspace_.template take<const Real*>(block_rows);
      m.masked_block = Base::masked_rows(block_rows);
      m.masked = Base::masked_rows(n);
      m.product_h = m.masked ? workspace_.template take<const Real*>(n) : m.h_prev;
      m.options = OptionRows<Real>::take(in_.options, n, workspace_);
      take_right_sides(m, cell);
      take_shared_rows(m, members_[i - m.part.unit_part], cell);
      Base::prepare(m.window, i, m.part, m.group, members_[i - m.part.unit_part].window);
    }
  }

  void take_right_sides(Member& m, const Cell<Real>& cell) {
    const Index panel_block = plain_width * cell.kernels.lanes * block_rows;
    for (const Source source : all_sources) {
      const bool used = source == input         ? !in_.tokens.data
                        : source == state       ? cell.kind != CellKind::indrnn
                        : source == reset_state ? cell.kind == CellKind::gru_reset_before
                                                : cell.projects;
      m.packed[source] =
          used ? workspace_.template take<Real>(panels(cell, source) * panel_block) : nullptr;
    }
    if (in_.tokens.data)
      m.token_sum = workspace_.template take<Real>(gate_count(cell.kind) * hidden_);
  }
  Index columns(const Cell<Real>& cell, Source source) const {
    return source == input ? cell.input_size : source == units ? hidden_ : output_;
  }
  Index panels(const Cell<Real>& cell, Source source) const {
    return plain_panels(columns(cell, source), cell.kernels.lanes);
  }

  void take_shared_rows(Member& m, const Member& sharing, const Cell<Real>& cell) {
    const bool first = m.part.unit_part == 0;
    const Index n = m.part.count;
    if (cell.kind == CellKind::gru_reset_before)
      m.d_reset_h = first ? Base::scratch_rows(n, hidden_) : sharing.d_reset_h;
    if (cell.projects) m.d_units = first ? Base::scratch_rows(n, hidden_) : sharing.d_units;
    m.through = first ? Base::masked_rows(n) : sharing.through;
  }

  void run_direction(Member& m, int d, int member) {
    begin(m, d);
    for (Index end = rows_.steps; end > 0;) {
      const Index begin = chunk_begin(end);
      // All of the team have left the last chunk's d_z behind them when they pass here.
      if (Base::stopped(*m.team, member, m.team_member == 0)) return;
      Index alive = 0;
      for (Index s = end - 1; s >= begin; --s) {
        alive = m.part.alive(rows_, s, m.part.count);
        step(m, d, s, alive, rows_.first_entry[begin]);
      }
      m.team->barrier.wait();
      if (gradients_.d_x.data) chunk_d_x(m, d, begin, end);
      chunk_weights(m, d, begin, end);
      if (in_.tokens.data && gradients_.cells[d][Weight::weight_ih]) chunk_tokens(m, d, begin, end);
      chunk_vectors(m, d, begin, end);
      if (gradients_.d_attention.data) chunk_attention(m, d, begin, end);
      end = begin;
    }
  }

  Real* d_z_row(int d, Index entry, Index first_entry) const {
    return d_z_[d] + (entry - first_entry) * d_z_stride_;
  }

  // d_h and d_c live in the output d_h0 and d_c0; a row's wait there for its last step.
  void begin(Member& m, int d) {
    Base::start(m.window);
    const Part& part = m.part;
    const Index width = part.output_end - part.output_begin, from = part.output_begin;
    for (Index i = 0; i < part.count; ++i) {
      const Index b = rows_.order[part.row(i)];
      m.d_h[i] = Base::h_state_out(gradients_.d_h0, d, b);
      std::copy_n(Base::h_state(gradients_.d_h_n, d, b) + from, width, m.d_h[i] + from);
      if (!has_cell_state(cells_[d]->kind)) continue;
      m.d_c[i] = Base::c_state_out(gradients_.d_c0, d, b);
      std::copy_n(Base::c_state(gradients_.d_c_n, d, b) + part.unit_begin,
                  part.unit_end - part.unit_begin, m.d_c[i] + part.unit_begin);
    }
  }

  void step(Member& m, int d, Index s, Index n, Index first_entry) {
    const Cell<Real>& cell = *cells_[d];
    Base::reach(m.window, d, s);
    for (Index i = 0; i < n; ++i) {
      const Index j = m.part.row(i), b = rows_.order[j], t = rows_.time(d, s, j);
      m.cache[i] = Base::cache_at(d, s, j);
      m.h[i] = Base::h_at(d, s, j);
      m.h_prev[i] = Base::h_at(d, s - 1, j);
      if (m.masked) m.product_h[i] = Base::masked(d, b, m.h_prev[i], m.masked[i]);
      if (has_cell_state(cell.kind)) m.c_prev[i] = Base::c_prev(m.window, d, s, j);
      const Sequence<const Real>& d_y = gradients_.d_y;
      m.d_y[i] = d_y.data ? d_y.at(t, b) + d * output_ : this->zeros_;
      m.d_z[i] = d_z_row(d, rows_.first_entry[s] + j, first_entry);
      m.options.set(i, in_.options, t, b, d * hidden_);
    }
    if (cell.projects) project_back(m, cell, s, n);
    CellBackward<Real> cell_step = {n,
                                    m.part.unit_begin,
                                    m.part.unit_end,
                                    hidden_,
                                    m.cache,
                                    m.h,
                                    m.h_prev,
                                    m.c_prev,
                                    m.d_y,
                                    cell.projects ? m.d_units : m.d_h,
                                    m.d_c,
                                    const_cast<Real* const*>(m.d_z),
                                    m.d_reset_h,
                                    cell.options(),
                                    m.options.attention,
                                    m.options.keep_h,
                                    m.options.keep_c,
                                    cell.d_gain_at + 2 * gate_count(cell.kind) * hidden_};
    gradient_steps(cell).backward(cell_step);
    m.group->barrier.wait();
    if (cell.kind != CellKind::indrnn) recurrent_back(m, d, cell, s, cell_step);
  }

  // d_h += the recurrent blocks of d_z times weight_hh; where the cell left a direct part in d_h, the
  // product continues from it. Where the product took a masked state, so is its gradient.
  void recurrent_back(Member& m, int d, const Cell<Real>& cell, Index s,
                      CellBackward<Real>& cell_step) {
    const Index n = cell_step.rows;
    const Real* start = cell.has_direct_gradient() ? nullptr : this->zeros_;
    Real* const* out = m.d_h;
    if (m.masked) {
      out = m.through;
      for (Index i = 0; i < n; ++i)
        std::fill(out[i] + m.part.output_begin, out[i] + m.part.output_end, Real(0));
    }
    const bool before = cell.kind == CellKind::gru_reset_before, normal = cell.normalizes;
    if (before) {
      if (normal) normalized_product_back(cell, n, cell_step.d_z, m.cache, true);
      const Index candidate = normal ? cell.state_d_at + 2 * hidden_ : 0;
      product(m, cell, s, n, candidate, hidden_, cell.candidate_transposed, this->zeros_,
              m.d_reset_h);
      cell_step.h_prev = m.product_h;
      cell_step.d_h = out;
      gradient_steps(cell).backward_reset(cell_step);
      m.group->barrier.wait();
    }
    if (normal) normalized_product_back(cell, n, cell_step.d_z, m.cache, false);
    product(m, cell, s, n, cell.state_d_at, recurrent_blocks(cell.kind).block[0].count * hidden_,
            cell.recurrent_transposed, m.masked ? nullptr : start, out);
    for (Index i = 0; m.masked && i < n; ++i) {
      const Index b = rows_.order[m.part.row(i)];
      const Real* mask = Base::h_state_out(in_.options.recurrent_mask, d, b);
      for (Index k = m.part.output_begin; k < m.part.output_end; ++k)
        m.d_h[i][k] = (start ? Real(0) : m.d_h[i][k]) + out[i][k] * mask[k];
    }
  }

  // From the output's gradient, d_h + d_y, which d_z keeps, to that of the units, as the cell takes it.
  void project_back(Member& m, const Cell<Real>& cell, Index s, Index n) {
    const Part& part = m.part;
    for (Index i = 0; i < n; ++i) {
      Real* const d_z = const_cast<Real*>(m.d_z[i]);
      for (Index k = part.output_begin; k < part.output_end; ++k)
        d_z[cell.d_output_at + k] = m.d_h[i][k] + m.d_y[i][k];
      std::copy(m.cache[i] + cell.units_at + part.unit_begin,
                m.cache[i] + cell.units_at + part.unit_end,
                d_z + cell.d_units_at + part.unit_begin);
      m.d_y[i] = this->zeros_;
    }
    m.group->barrier.wait();
    const Index width = plain_width * cell.kernels.lanes;
    cell.kernels.product[plain_width]({n, output_, part.unit_begin / width,
                                       (part.unit_end + width - 1) / width, hidden_, m.d_z,
                                       cell.d_output_at, cell.projection_transposed.data(),
                                       this->zeros_, m.d_units, 0, width, s % 2 == 1});
  }

  void product(Member& m, const Cell<Real>& cell, Index s, Index n, Index offset, Index depth,
               const Buffer<Real>& weights, const Real* start, Real* const* out) {
    const Index width = plain_width * cell.kernels.lanes;
    cell.kernels.product[plain_width]({n, depth, m.part.output_begin / width,
                                       (m.part.output_end + width - 1) / width, output_, m.d_z,
                                       offset, weights.data(), start, out, 0, width, s % 2 == 1});
  }

  // Calls body(entry, s, j) for entries first + k, k in [begin, end), of a chunk that starts at step s.
  template <class Body>
  void for_entries(Index s, Index begin, Index end, Body body) const {
    for (Index entry = begin; entry < end; ++entry) {
      while (entry >= rows_.first_entry[s + 1]) ++s;
      body(entry, s, entry - rows_.first_entry[s]);
    }
  }

  void chunk_d_x(Member& m, int d, Index step_begin, Index step_end) {
    const Cell<Real>& cell = *cells_[d];
    const Index first = rows_.first_entry[step_begin], I = cell.input_size;
    const Index count = rows_.first_entry[step_end] - first;
    const Index begin = first + count * m.team_member / m.team_size;
    const Index end = first + count * (m.team_member + 1) / m.team_size;
    for_entries(step_begin, begin, end, [&](Index entry, Index s, Index j) {
      m.d_z[entry - begin] = d_z_row(d, entry, first);
      m.d_x[entry - begin] =
          d == 0 ? gradients_.d_x.at(s, rows_.order[j]) : d_x_reverse_ + entry * I;
    });
    const int lanes = cell.kernels.lanes;
    cell.kernels.product[plain_width]({end - begin, gate_count(cell.kind) * hidden_, 0,
                                       plain_panels(I, lanes), I, m.d_z, cell.input_d_at,
                                       cell.input_transposed.data(), this->zeros_, m.d_x, 0,
                                       plain_width * lanes});
  }

  // The team shares out the rows of the gates, each of which is then read and packed by one member,
  // and where these are few the panels of the weights' columns: no two members write to one place,
  // and none sums what another began.
  void chunk_weights(Member& m, int d, Index step_begin, Index step_end) {
    const Cell<Real>& cell = *cells_[d];
    constexpr Index least_rows = 48;  // below, packing the right sides costs more than it spares
    const Index rows = cell.d_z_values;
    const Index row_parts = std::min<Index>(m.team_size, std::max<Index>(1, rows / least_rows));
    const Index panel_parts = m.team_size / row_parts;
    if (m.team_member >= row_parts * panel_parts) return;
    const Index row_part = m.team_member % row_parts, panel_part = m.team_member / row_parts;
    Share share = {rows * row_part / row_parts, rows * (row_part + 1) / row_parts, {}, {}};
    for (const Source source : all_sources) {
      if (!m.packed[source] || !gradients_.cells[d][weight_of(source)]) continue;
      const Index count = panels(cell, source);
      share.panel_begin[source] = count * panel_part / panel_parts;
      share.panel_end[source] = count * (panel_part + 1) / panel_parts;
    }
    const Index first = rows_.first_entry[step_begin], last = rows_.first_entry[step_end];
    for (Index block = first; block < last; block += block_rows) {
      const Index depth = std::min(block_rows, last - block);
      for (const Source source : all_sources)
        if (share.panel_begin[source] < share.panel_end[source])
          pack_right_side(m, d, step_begin, {block, depth, first}, source, share);
      block_weights(m, d, {block, depth, first}, share);
    }
  }

  // What a member does of the weight gradients: rows of d_z and panels of each right side.
  struct Share {
    Index row_begin, row_end;
    Index panel_begin[sources], panel_end[sources];
  };
  // Entries [first, first + depth) of a chunk that begins at chunk_first.
  struct Block {
    Index first, depth, chunk_first;
  };

  static Weight weight_of(Source source) {
    return source == input   ? Weight::weight_ih
           : source == units ? Weight::weight_hr
                             : Weight::weight_hh;
  }

  void pack_right_side(Member& m, int d, Index step_begin, Block block, Source source,
                       const Share& share) {
    for_entries(step_begin, block.first, block.first + block.depth,
                [&](Index entry, Index s, Index j) {
                  const Index i = entry - block.first, b = rows_.order[j];
                  const Real* d_z = d_z_row(d, entry, block.chunk_first);
                  m.rows[i] = source == input         ? in_.x.at(rows_.time(d, s, j), b)
                              : source == reset_state ? d_z + 3 * hidden_
                              : source == units       ? d_z + cells_[d]->d_units_at
                              : m.masked_block
                                  ? Base::masked(d, b, Base::h_at(d, s - 1, j), m.masked_block[i])
                                  : Base::h_at(d, s - 1, j);
                });
    training_kernels<Real>().pack_rows({block.depth, columns(*cells_[d], source),
                                        share.panel_begin[source], share.panel_end[source], m.rows,
                                        m.packed[source]});
  }

  void block_weights(Member& m, int d, Block block, const Share& share) {
    const Cell<Real>& cell = *cells_[d];
    for (int i = 0; i < segments_.size; ++i) {
      const Segment& s = segments_.segment[i];
      OuterProduct<Real> product = {block.depth,
                                    std::max(share.row_begin - s.d_z, Index(0)),
                                    std::min(share.row_end - s.d_z, s.count),
                                    d_z_row(d, block.first, block.chunk_first) + s.d_z,
                                    d_z_stride_,
                                    0,
                                    {}};
      for (int k = 0; k < s.sides; ++k) {
        const Side& side = s.side[k];
        if (share.panel_begin[side.source] >= share.panel_end[side.source]) continue;
        const Index width = columns(cell, side.source);
        product.sides[product.side_count++] = {width,
                                               share.panel_begin[side.source],
                                               share.panel_end[side.source],
                                               m.packed[side.source],
                                               gradients_.cells[d][side.weight] + side.row * width,
                                               width};
      }
      if (product.side_count > 0 && product.m_begin < product.m_end)
        training_kernels<Real>().outer_product(product);
    }
  }

  // The gradient of weight_ih for one-hot rows: per block the rows of d_z with one token are summed
  // in order and added to that token's column, which is what the product would have given.
  void chunk_tokens(Member& m, int d, Index step_begin, Index step_end) {
    const Cell<Real>& cell = *cells_[d];
    const Index first = rows_.first_entry[step_begin], last = rows_.first_entry[step_end];
    const GateBlocks blocks = input_blocks(cell.kind);
    std::pair<Index, Index> token_entry[block_rows];
    for (Index block = first; block < last; block += block_rows) {
      const Index depth = std::min(block_rows, last - block);
      for_entries(step_begin, block, block + depth, [&](Index entry, Index s, Index j) {
        const Index token = *in_.tokens.at(rows_.time(d, s, j), rows_.order[j]);
        token_entry[entry - block] = {token, entry};
      });
      std::sort(token_entry, token_entry + depth);
      for (Index run = 0, end; run < depth; run = end) {
        end = run + 1;
        while (end < depth && token_entry[end].first == token_entry[run].first) ++end;
        for (int i = 0; i < blocks.size; ++i)
          add_token(m, d, blocks.block[i], token_entry + run, end - run, first);
      }
    }
  }

  void add_token(Member& m, int d, const GateBlock& block,
                 const std::pair<Index, Index>* token_entry, Index count, Index first_entry) {
    const Index values = block.count * hidden_, columns = cells_[d]->input_size;
    const Index begin = values * m.team_member / m.team_size;
    const Index end = values * (m.team_member + 1) / m.team_size;
    Real* sum = m.token_sum;
    std::fill(sum + begin, sum + end, Real(0));
    for (Index i = 0; i < count; ++i) {
      const Real* d_z = d_z_row(d, token_entry[i].second, first_entry) + cells_[d]->input_d_at +
                        block.d_z * hidden_;
      for (Index k = begin; k < end; ++k) sum[k] += d_z[k];
    }
    Real* column = gradients_.cells[d][Weight::weight_ih] + block.weight * hidden_ * columns +
                   token_entry[0].first;
    for (Index k = begin; k < end; ++k) column[k * columns] += sum[k];
  }

  void chunk_vectors(Member& m, int d, Index step_begin, Index step_end) {
    for (int i = 0; i < weight_count; ++i)
      if (Real* gradient = gradients_.cells[d].at[i])
        vector_sum(m, d, step_begin, step_end, vector_blocks(*cells_[d], static_cast<Weight>(i)),
                   gradient);
  }

  void vector_sum(Member& m, int d, Index step_begin, Index step_end, const GateBlocks& blocks,
                  Real* gradient) {
    const Index first = rows_.first_entry[step_begin], last = rows_.first_entry[step_end];
    for (Index block = first; block < last; block += block_rows)
      for (int i = 0; i < blocks.size; ++i) {
        const GateBlock& b = blocks.block[i];
        const Index count = b.count * hidden_;
        training_kernels<Real>().column_sum(
            std::min(block_rows, last - block), d_z_row(d, block, first) + b.d_z * hidden_,
            d_z_stride_, count * m.team_member / m.team_size,
            count * (m.team_member + 1) / m.team_size, gradient + b.weight * hidden_);
      }
  }

  // The sum over the units, in 16 partial sums and then over these.
  void chunk_attention(Member& m, int d, Index step_begin, Index step_end) {
    constexpr Index partial_sums = 16;
    const Index first = rows_.first_entry[step_begin];
    const Index count = rows_.first_entry[step_end] - first;
    for_entries(step_begin, first + count * m.team_member / m.team_size,
                first + count * (m.team_member + 1) / m.team_size,
                [&](Index entry, Index s, Index j) {
                  const Real* values = d_z_row(d, entry, first) + 4 * hidden_;
                  Real partial[partial_sums] = {}, sum = 0;
                  for (Index k = 0; k < hidden_; ++k) partial[k % partial_sums] += values[k];
                  for (const Real part : partial) sum += part;
                  *gradients_.d_attention.at(rows_.time(d, s, j), rows_.order[j]) = sum;
                });
  }

  // Adds the reverse direction's d_x, and writes the zeros of the padding.
  void finish_d_x() {
    const Index I = cells_[0]->input_size;
    parallel_ranges(rows_.batch, grid_.members(), [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j) {
        const Index b = rows_.order[j], length = rows_.length[j];
        for (Index s = 0; directions_ == 2 && s < length; ++s) {
          const Real* reverse = d_x_reverse_ + (rows_.first_entry[s] + j) * I;
          Real* d_x = gradients_.d_x.at(rows_.time(1, s, j), b);
          for (Index k = 0; k < I; ++k) d_x[k] += reverse[k];
        }
        for (Index t = length; t < in_.steps; ++t) std::fill_n(gradients_.d_x.at(t, b), I, Real(0));
      }
    });
  }

  const LayerGradients<Real>& gradients_;
  static constexpr Source all_sources[] = {input, state, reset_state, units};
  const Segments segments_;
  const Index d_z_stride_;
  Index capacity_ = 0;  // entries in the largest chunk
  Real* d_z_[2] = {nullptr, nullptr};
  Real* d_x_reverse_ = nullptr;  // [entry][I]
  std::unique_ptr<Group[]> groups_, teams_;
  Member* members_ = nullptr;
};

}  // namespace

template <class Real>
bool layer_backward(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
                    const LayerOutput<Real>& out, const LayerGradients<Real>& gradients,
                    Workspace& workspace, Interrupt interrupt) {
  return Backward<Real>(cells, directions, in, out, gradients, workspace, interrupt).run();
}

template bool layer_backward(const Cell<float>* const*, int, const LayerInput<float>&,
                             const LayerOutput<float>&, const LayerGradients<float>&, Workspace&,
                             Interrupt);
template bool layer_backward(const Cell<double>* const*, int, const LayerInput<double>&,
                             const LayerOutput<double>&, const LayerGradients<double>&, Workspace&,
                             Interrupt);

}  // namespace fastrnn
