// What the forward and the backward pass over a layer share: the grid of threads at work, their
// meeting points, and stopping early.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "sequence/layer.h"
#include "sequence/plan.h"

namespace fastrnn {

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
        in_(in),
        out_(out),
        workspace_(workspace),
        interrupt_(interrupt),
        rows_(Rows::make(in.steps, in.batch, in.lengths, in.order, workspace)),
        zeros_(workspace.take_zeroed<Real>(zero_count(*cells[0]))) {}

  // Zeros for a state, and for the start of any plain product, in whole panels.
  static Index zero_count(const Cell<Real>& cell) {
    const int lanes = cell.kernels.lanes;
    const Index columns = std::max(cell.input_size, cell.hidden_size);
    return plain_panels(columns, lanes) * plain_width * lanes;
  }

  Grid grid(bool backward, int limit) const {
    const Cell<Real>& cell = *cells_[0];
    return choose_grid(cell.kind, cell.input_size, hidden_, cell.kernels.lanes,
                       cell.kernels.row_tile, sizeof(Real), directions_, rows_, backward, limit);
  }

  // Prepares with a grid and runs the members; again with fewer where the runtime has no more.
  template <class Prepare, class Run>
  bool run_grid(bool backward, Prepare prepare, Run run) {
    stop_.store(false, std::memory_order_relaxed);
    for (int limit = max_threads();;) {
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

  // Row b of a (D, B, H) state, or zeros where there is none.
  const Real* state(const Real* states, int direction, Index b) const {
    return states ? states + (direction * in_.batch + b) * hidden_ : zeros_;
  }
  Real* state_out(Real* states, int direction, Index b) const {
    return states + (direction * in_.batch + b) * hidden_;
  }
  // h of sorted row j after step s of a direction; s = -1: the initial state.
  const Real* h_at(int direction, Index s, Index j) const {
    const Index b = rows_.order[j];
    if (s < 0) return state(in_.h0, direction, b);
    return out_.y.at(rows_.time(direction, s, j), b) + direction * hidden_;
  }
  Real* cache_at(int direction, Index s, Index j) const {
    const Index entry = direction * rows_.entries() + rows_.first_entry[s] + j;
    return out_.cache + entry * cached_values(cells_[0]->kind) * hidden_;
  }
  // LSTM: c before step s, where s is a multiple of checkpoint_every.
  Real* checkpoint_at(int direction, Index s, Index j) const {
    const Index every = out_.checkpoint_every, checkpoints = (in_.steps + every - 1) / every;
    return out_.cache + ((direction * checkpoints + s / every) * in_.batch + j) * hidden_;
  }

  const Cell<Real>* const* cells_;
  const int directions_;
  const Index hidden_;
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
