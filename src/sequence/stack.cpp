// The sequence passes through the layers in chunks of time, so that what lies between two layers stays
// small and in cache; a chunk continues from the state that the one before left in h_n and c_n. With
// two directions there is one chunk, the whole.
//
// Threads share out rows, as far as there are enough, and do not meet before the end. Where there are
// not, and cells are small, they share out layers: at each tick a thread takes its layers through one
// chunk, the next thread takes its own through the chunk before, and all meet. Else they work on one
// layer at a time, as layer_forward does.
#include "sequence/stack.h"

#include <new>

#include "sequence/pass.h"

namespace fastrnn {
namespace {

// What a team agrees on: its calling thread asks the interrupt, the others look here.
class Stop {
 public:
  explicit Stop(Interrupt interrupt) : interrupt_(interrupt) {}
  Interrupt interrupt(int member) {
    if (member == 0) return interrupt_;
    return {[](void* stop) { return static_cast<Stop*>(stop)->now(); }, this};
  }
  bool now() const { return stop_.load(); }

  // Runs work(), which returns false where it was interrupted; nothing may be thrown in a team.
  template <class Work>
  void guard(Work work) {
    try {
      if (!work()) stop_.store(true);
    } catch (const std::bad_alloc&) {
      out_of_memory_.store(true);
      stop_.store(true);
    }
  }
  // After the team: whether its work was done.
  bool done() const {
    if (out_of_memory_.load()) throw std::bad_alloc();
    return !now();
  }

 private:
  const Interrupt interrupt_;
  std::atomic<bool> stop_{false}, out_of_memory_{false};
};

// Multiply-adds of one row's step in one of the layers, the last.
template <class Real>
double row_work(const Stack<Real>& stack) {
  const Cell<Real>& cell = *stack.cells[stack.layers - 1];
  return static_cast<double>(cell.input_size + cell.output_size) *
         static_cast<double>(cell.hidden_size * gate_count(cell.kind));
}

template <class Real>
class StackForward {
 public:
  // states: rows of a layer's state in h0, c0, h_n and c_n, of which these are `in.batch`.
  StackForward(const Stack<Real>& stack, const LayerInput<Real>& in, const LayerOutput<Real>& out,
               Index states, Workspace& workspace, Interrupt interrupt)
      : stack_(stack),
        in_(in),
        out_(out),
        workspace_(workspace),
        stop_(interrupt),
        width_(stack.directions * stack.cells[0]->output_size),
        h_values_(states * width_),
        c_values_(states * stack.directions * stack.cells[0]->hidden_size),
        order_(in.lengths ? longest_first(in.lengths, in.batch, workspace) : nullptr) {
    if (in.batch > 0) steps_ = in.lengths ? in.lengths[order_[0]] : in.steps;
    members_ = choose_members();
    chunk_ = stack.directions == 2 ? steps_ : std::min(steps_, chunk_steps());
    if (chunk_ > 0) chunks_ = (steps_ + chunk_ - 1) / chunk_;
    if (in.lengths) lengths_ = workspace.template take<Index>(members_ * in.batch);
    const int buffers = members_ > 1 ? stack.layers : 1;
    buffers_ = workspace.template take<Real>(buffers * chunk_ * in.batch * width_);
  }

  bool run() {
    auto body = [this](int member, int) { run_member(member); };
    barrier_.set_members(members_);
    if (run_team(members_, body) != members_) {  // the runtime has no more threads now
      barrier_.set_members(members_ = 1);
      run_team(1, body);
    }
    return stop_.done();
  }

 private:
  // Worth it where a row's step is shorter than threads that share its units would need to meet: its
  // recurrent weights stay in the second-level cache of one core.
  int choose_members() const {
    const Cell<Real>& cell = *stack_.cells[0];
    const int threads = usable_threads(), members = std::min(threads, stack_.layers);
    const double H = static_cast<double>(cell.hidden_size);
    const bool few_rows = in_.batch < static_cast<Index>(members) * cell.kernels.row_tile;
    const bool small = H * H * gate_count(cell.kind) * sizeof(Real) <= 256 * 1024;
    const bool pays = few_rows && small && threads <= 2 * members && stack_.directions == 1 &&
                      row_work(stack_) * static_cast<double>(in_.batch * steps_) >= 4 * tick_work;
    return pays ? members : 1;
  }

  // 128 KiB between two layers, beside z and weights in the second-level cache; but at least 48 rows,
  // so that input weights are streamed seldom, and in small cells enough steps to outweigh what it
  // takes to begin with a row. Threads that share out layers need short chunks, as at first and at
  // last some of them wait.
  Index chunk_steps() const {
    const Index row_bytes = width_ * static_cast<Index>(sizeof(Real));
    Index rows = std::max<Index>(48, 131072 / row_bytes);
    if (members_ > 1)
      rows = std::min(rows, std::max({Index(16), static_cast<Index>(tick_work / row_work(stack_)),
                                      steps_ / 32}));
    const Index least = static_cast<Index>(std::min(64.0, 16e3 / row_work(stack_)));
    return std::max({Index(1), least, rows / std::max<Index>(1, in_.batch)});
  }

  // Member 0 says at each meeting whether all leave; the members read it before the next one, which
  // it comes to with the other flag.
  void run_member(int member) {
    ScratchLease own;
    Workspace& workspace = member == 0 ? workspace_ : *own;
    const Interrupt interrupt = stop_.interrupt(member);
    for (Index tick = 0; tick < chunks_ + members_ - 1; ++tick) {
      const Index chunk = tick - member;
      if (chunk >= 0 && chunk < chunks_)
        stop_.guard([&] {
          if (chunk > 0 && interrupt.asked && interrupt.asked(interrupt.context)) return false;
          return run_chunk(member, chunk, workspace, interrupt);
        });
      bool& leave = leave_[tick % 2];
      if (member == 0) leave = stop_.now();
      barrier_.wait();
      if (leave) return;
    }
  }

  bool run_chunk(int member, Index chunk, Workspace& workspace, Interrupt interrupt) {
    const Index begin = chunk * chunk_, end = std::min(begin + chunk_, steps_);
    Index* lengths = in_.lengths ? lengths_ + member * in_.batch : nullptr;
    for (Index b = 0; lengths && b < in_.batch; ++b)
      lengths[b] = std::clamp<Index>(in_.lengths[b] - begin, 0, end - begin);
    const int last = stack_.layers * (member + 1) / members_;
    for (int layer = stack_.layers * member / members_; layer < last; ++layer) {
      LayerInput<Real> in = input(layer, chunk);
      // The last layer's last chunk also writes the zeros past the longest row.
      const bool to_end = layer == stack_.layers - 1 && end == steps_;
      in.steps = (to_end ? in_.steps : end) - begin;
      in.lengths = lengths;
      const LayerOutput<Real> out = {output(layer, chunk), at(out_.h_n, layer * h_values_),
                                     at(out_.c_n, layer * c_values_), nullptr, 0};
      const Workspace::Mark mark = workspace.mark();
      const bool done = layer_forward(stack_.cells + layer * stack_.directions, stack_.directions,
                                      in, out, workspace, interrupt);
      workspace.rewind(mark);
      if (!done) return false;
    }
    return true;
  }

  // All but steps and lengths.
  LayerInput<Real> input(int layer, Index chunk) const {
    LayerInput<Real> in = {};
    in.batch = in_.batch;
    in.order = order_;
    if (layer > 0) {
      const Sequence<Real> x = output(layer - 1, chunk);
      in.x = {x.data, x.step, x.row};
    } else {
      in.x = from(in_.x, chunk * chunk_);
      in.tokens = from(in_.tokens, chunk * chunk_);
    }
    in.h0 = at(chunk > 0 ? out_.h_n : in_.h0, layer * h_values_);
    in.c0 = at(chunk > 0 ? out_.c_n : in_.c0, layer * c_values_);
    return in;
  }

  // Layers write to y and to a buffer in turn, the last one to y. Among threads each such layer has
  // two buffers: the next thread reads the chunk before.
  Sequence<Real> output(int layer, Index chunk) const {
    if ((stack_.layers - layer) % 2 == 1) return from(out_.y, chunk * chunk_);
    const Index buffer = members_ > 1 ? layer / 2 * 2 + chunk % 2 : 0;
    const Index step = in_.batch * width_;
    return {buffers_ + buffer * chunk_ * step, step, width_};
  }

  template <class Item>
  static Sequence<Item> from(const Sequence<Item>& all, Index begin) {
    return {all.data ? all.data + begin * all.step : nullptr, all.step, all.row};
  }
  template <class Pointer>
  static Pointer at(Pointer values, Index offset) {
    return values ? values + offset : nullptr;
  }

  static constexpr double tick_work = 200e3;  // multiply-adds beside which a meeting is short

  const Stack<Real>& stack_;
  const LayerInput<Real>& in_;
  const LayerOutput<Real>& out_;
  Workspace& workspace_;
  Stop stop_;
  const Index width_, h_values_, c_values_;
  const Index* const order_;
  Index steps_ = 0;  // of the longest row
  int members_ = 1;
  Index chunk_, chunks_ = 1;
  Index* lengths_ = nullptr;  // what is left of each row in a member's chunk
  Real* buffers_;
  SpinBarrier barrier_;
  bool leave_[2] = {};
};

// Threads that get rows of their own, enough to fill tiles, and enough work to be woken for.
template <class Real>
int row_parts(const Stack<Real>& stack, const LayerInput<Real>& in) {
  const double entries = static_cast<double>(in.steps) * static_cast<double>(in.batch);
  const double work = row_work(stack) * stack.layers * entries;
  const int threads = static_cast<int>(std::min<double>(usable_threads(), work / work_per_thread));
  const bool enough = in.batch >= static_cast<Index>(threads) * stack.cells[0]->kernels.row_tile;
  return enough && stack.directions == 1 ? std::max(1, threads) : 1;
}

// The first row of a part, when each has about the same number of steps.
template <class Real>
Index part_begin(const LayerInput<Real>& in, int part, int parts) {
  if (!in.lengths || part == parts) return in.batch * part / parts;
  Index all = 0, before = 0, row = 0;
  for (Index b = 0; b < in.batch; ++b) all += in.lengths[b];
  while (row < in.batch && before < all * part / parts) before += in.lengths[row++];
  return row;
}

template <class Item>
Sequence<Item> from_row(const Sequence<Item>& all, Index row) {
  return {all.data ? all.data + row * all.row : nullptr, all.step, all.row};
}

template <class Real>
bool forward_in_parts(int parts, const Stack<Real>& stack, const LayerInput<Real>& in,
                      const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt) {
  Stop stop(interrupt);
  auto body = [&](int part, int members) {
    stop.guard([&] {
      const Index row = part_begin(in, part, members);
      const Index h = row * stack.cells[0]->output_size, c = row * stack.cells[0]->hidden_size;
      LayerInput<Real> mine = in;
      mine.batch = part_begin(in, part + 1, members) - row;
      mine.x = from_row(in.x, row);
      mine.tokens = from_row(in.tokens, row);
      if (in.lengths) mine.lengths += row;
      if (in.h0) mine.h0 += h;
      if (in.c0) mine.c0 += c;
      const LayerOutput<Real> to = {from_row(out.y, row), out.h_n + h,
                                    out.c_n ? out.c_n + c : nullptr, nullptr, 0};
      ScratchLease own;
      return StackForward<Real>(stack, mine, to, in.batch, part == 0 ? workspace : *own,
                                stop.interrupt(part))
          .run();
    });
  };
  for (int n = parts; (parts = run_team(n, body)) != n;) n = parts;
  return stop.done();
}

}  // namespace

template <class Real>
bool stack_forward(const Stack<Real>& stack, const LayerInput<Real>& in,
                   const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt) {
  if (stack.layers == 1)
    return layer_forward(stack.cells, stack.directions, in, out, workspace, interrupt);
  const int parts = row_parts(stack, in);
  if (parts > 1) return forward_in_parts(parts, stack, in, out, workspace, interrupt);
  return StackForward<Real>(stack, in, out, in.batch, workspace, interrupt).run();
}

template bool stack_forward(const Stack<float>&, const LayerInput<float>&,
                            const LayerOutput<float>&, Workspace&, Interrupt);
template bool stack_forward(const Stack<double>&, const LayerInput<double>&,
                            const LayerOutput<double>&, Workspace&, Interrupt);

}  // namespace fastrnn
