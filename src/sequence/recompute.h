// What backward reads of the forward pass beyond y: values of the gates, the cache. It is all there as
// the forward pass left it; or, where that kept checkpoints only, it is made anew for one window of
// checkpoint_every steps at a time, from the last window to the first (Chen et al. 2016, "Training deep
// nets with sublinear memory cost"; Gruslys et al. 2016, "Memory-efficient backpropagation through
// time"). As y holds every h_{t-1}, the products of a window need no time loop; c of an LSTM runs on
// from the checkpoint. The order of each sum is that of the forward pass, and so are the bits.
#pragma once

#include "sequence/pass.h"

namespace fastrnn {

template <class Real>
class Recompute : protected Pass<Real> {
 protected:
  // The steps whose cache is at hand, and one member's scratch for making it: of its rows and units,
  // which are the only ones that it reads.
  struct Window {
    Index begin;
    int member;
    const Part* part;
    Group* group;  // shares the rows
    Index chunk_rows, group_begin, group_end;
    Real** z;
    Real** z_state;  // of a normalised recurrent product
    const Real** x;
    Index* tokens;
    const Real** h_prev;
    const Real** product_h;  // of the recurrent product: h_prev, or masked
    Real** masked;
    OptionRows<Real> options;
    Real** cache;
    Real** h;  // all one row, written and not read: y has it; or in the cache, to be projected
    Real** c;  // running, of each row
    Real** reset_h;  // of the chunk's rows, shared by the group
  };

  Recompute(const Cell<Real>* const* cells, int directions, const LayerInput<Real>& in,
            const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt);

  // Before the members start, in their order: `sharing` is the window of the group's first member.
  void prepare(Window& window, int member, const Part& part, Group* group, const Window& sharing);
  void start(Window& window) const { window.begin = recomputes_ ? this->rows_.steps : 0; }
  // To be called for each step from the last, by all members of a group.
  void reach(Window& window, int direction, Index s) {
    if (s < window.begin) refill(window, direction, s);
  }

  // A row keeps its place in a window, so that members may be at different windows.
  Real* cache_at(int direction, Index s, Index j) const {
    if (!recomputes_) return Pass<Real>::cache_at(direction, s, j);
    const Index entry = s % this->out_.checkpoint_every * this->rows_.batch + j;
    return window_cache_[direction] + entry * this->cells_[0]->cached;
  }
  // LSTM: c before step s.
  const Real* c_prev(const Window& window, int direction, Index s, Index j) const {
    if (s > window.begin) return cache_at(direction, s - 1, j) + this->cells_[0]->c_at;
    if (recomputes_) return this->checkpoint_at(direction, s, j);
    return this->c_state(this->in_.c0, direction, this->rows_.order[j]);
  }

 private:
  void refill(Window& window, int direction, Index last);
  void restore_c(Window& window, int direction);
  void collect(Window& window, int direction, Index s, Index n, Index at);
  void products(Window& window, int direction, Index rows);
  void gates(Window& window, int direction, Index n, Index at);

  const bool recomputes_;
  Real* window_cache_[2] = {nullptr, nullptr};
};

}  // namespace fastrnn
