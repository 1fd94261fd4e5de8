// What the forward and the backward pass over a layer share: the grid of threads at work, their
// meeting points, and stopping early.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "sequence/layer.h"
#include "sequence/plan.h"

namespace fastrnn {

// What the kernels of a step with options take of each of its rows: CellOptions in kernels.h.
template <class Real>
struct OptionRows {
  const Real **attention, **keep_h, **keep_c;

  static OptionRows take(const StepOptions<Real>& options, Index rows, Workspace& workspace) {
    const auto rows_of = [&](const Sequence<const Real>& values) {
      return values.data ? workspace.template take<const Real*>(rows) : nullptr;
    };
    return {rows_of(options.attention), rows_of(options.keep_h), rows_of(options.keep_c)};
  }
  // Row i is row b of the batch at step t.
  void set(Index i, const StepOptions<Real>& options, Index t, Index b, Index first_unit) const {
    if (attention) attention[i] = options.attention.at(t, b);
    if (keep_h) keep_h[i] = options.keep_h.at(t, b) + first_unit;
    if (keep_c) keep_c[i] = options.keep_c.at(t, b) + first_unit;
  }
  OptionRows from(Index i) const {
    return {attention ? attention + i : nullptr, keep_h ? keep_h + i : nullptr,
            keep_c ? keep_c + i : nullptr};
  }
};

// Members that meet, and what their leader decided for all of them.
struct Group {
  SpinBarrier barrier;
  bool stop = false;
};

template <class Real>
class Pass {
 protected:
  Pass(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
       const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt)
      : cells_(cells),
        directions_(directions),
        hidden_(cells[0]->hidden_size),
        output_(cells[0]->output_size),
        in_(in),
        out_(out),
        workspace_(workspace),
        interrupt_(interrupt),
        rows_(Rows::make(in.steps, in.batch, in.lengths, in.order, workspace)),
        zeros_(workspace.take_zeroed<Real>(zero_count(*cells[0]))) {}

  // Zeros for a state, and for the start of any plain product, in whole panels.
  static Index zero_count(const Cell<Real>& cell) {
    const int lanes = cell.kernels.lanes;
    const Index columns = std::max({cell.input_size, cell.hidden_size, cell.output_size});
    return plain_panels(columns, lanes) * plain_width * lanes;
  }

  Grid grid(bool backward, int limit) const {
    return choose_grid(*cells_[0], directions_, rows_, backward, limit);
  }

  // Prepares with a grid and runs the members; again with fewer where the runtime has no more.
  template <class Prepare, class Run>
  bool run_grid(bool backward, Prepare prepare, Run run) {
    stop_.store(false, std::memory_order_relaxed);
    for (int limit = usable_threads();;) {
      grid_ = grid(backward, limit);
      prepare();
      auto body = [&](int member, int) { run(member); };
      limit = run_team(grid_.members(), body);
      if (limit == grid_.members()) return !stop_.load();
    }
  }

  // True for all members of the group or for none: its leader asks, and tells at a meeting.
  bool stopped(Group& group, int member, bool leader) {
    if (member == 0 && interrupt_.asked && interrupt_.asked(interrupt_.context)) stop_.store(true);
    if (leader) group.stop = stop_.load();
    group.barrier.wait();
    return group.stop;
  }

  // Row b of a state h (D, B, P) or c (D, B, H), or zeros where there is none.
  const Real* h_state(const Real* h, int direction, Index b) const {
    return h ? h_state_out(h, direction, b) : zeros_;
  }
  const Real* c_state(const Real* c, int direction, Index b) const {
    return c ? c_state_out(c, direction, b) : zeros_;
  }
  template <class Item>
  Item* h_state_out(Item* h, int direction, Index b) const {
    return h + (direction * in_.batch + b) * output_;
  }
  template <class Item>
  Item* c_state_out(Item* c, int direction, Index b) const {
    return c + (direction * in_.batch + b) * hidden_;
  }
  // h of sorted row j after step s of a direction; s = -1: the initial state.
  const Real* h_at(int direction, Index s, Index j) const {
    const Index b = rows_.order[j];
    if (s < 0) return h_state(in_.h0, direction, b);
    return out_.y.at(rows_.time(direction, s, j), b) + direction * output_;
  }
  Real* cache_at(int direction, Index s, Index j) const {
    const Index entry = direction * rows_.entries() + rows_.first_entry[s] + j;
    return out_.cache + entry * cells_[0]->cached;
  }
  // What the recurrent product takes of row b where its state is h; `masked` has room for it.
  const Real* masked(int direction, Index b, const Real* h, Real* masked) const {
    if (!in_.options.recurrent_mask) return h;
    const Real* mask = h_state_out(in_.options.recurrent_mask, direction, b);
    for (Index k = 0; k < output_; ++k) masked[k] = h[k] * mask[k];
    return masked;
  }
  // Rows of that room, where it is needed.
  Real** masked_rows(Index count) const {
    return in_.options.recurrent_mask ? scratch_rows(count, output_) : nullptr;
  }
  Real** scratch_rows(Index count, Index width) const {
    Real** rows = workspace_.template take<Real*>(count);
    Real* values = workspace_.template take<Real>(count * width);
    for (Index i = 0; i < count; ++i) rows[i] = values + i * width;
    return rows;
  }
  // LSTM: c before step s, where s is a multiple of checkpoint_every.
  Real* checkpoint_at(int direction, Index s, Index j) const {
    const Index every = out_.checkpoint_every, checkpoints = (in_.steps + every - 1) / every;
    return out_.cache + ((direction * checkpoints + s / every) * in_.batch + j) * hidden_;
  }

  const Cell<Real>* const* cells_;
  const int directions_;
  const Index hidden_, output_;
  const LayerInput<Real>& in_;
  const LayerOutput<Real>& out_;
  Workspace& workspace_;
  const Interrupt interrupt_;
  const Rows rows_;
  Real* const zeros_;
  Grid grid_{1, 1, 1};
  std::atomic<bool> stop_{false};
};

}  // namespace fastrnn
