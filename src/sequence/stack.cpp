// The sequence passes through all layers in chunks of time, so that what lies between two layers
// stays small and in cache; a chunk continues from the state that the one before left in h_n and c_n.
// With two directions there is one chunk, the whole. Layers write to y and to a buffer in turn, the
// last one to y.
#include "sequence/stack.h"

#include "sequence/plan.h"

namespace fastrnn {
namespace {

template <class Real>
class StackForward {
 public:
  StackForward(const Stack<Real>& stack, const LayerInput<Real>& in, const LayerOutput<Real>& out,
               Workspace& workspace, Interrupt interrupt)
      : stack_(stack),
        in_(in),
        out_(out),
        workspace_(workspace),
        interrupt_(interrupt),
        width_(stack.directions * stack.cells[0]->hidden_size),
        order_(in.lengths ? longest_first(in.lengths, in.batch, workspace) : nullptr) {
    if (in.batch > 0) steps_ = in.lengths ? in.lengths[order_[0]] : in.steps;
    chunk_ = stack.directions == 2 ? steps_ : std::min(steps_, chunk_steps());
    if (in.lengths) lengths_ = workspace.template take<Index>(in.batch);
    buffer_ = workspace.template take<Real>(chunk_ * in.batch * width_);
  }

  bool run() {
    for (Index begin = 0;;) {
      const Index end = std::min(begin + chunk_, steps_);
      if (!run_chunk(begin, end)) return false;
      if ((begin = end) >= steps_) return true;
      if (interrupt_.asked && interrupt_.asked(interrupt_.context)) return false;
    }
  }

 private:
  // 128 KiB between two layers, beside z and weights in the second-level cache; but at least 48 rows,
  // so that input weights are streamed seldom.
  Index chunk_steps() const {
    const Index row_bytes = width_ * static_cast<Index>(sizeof(Real));
    const Index rows = std::max<Index>(48, 131072 / row_bytes);
    return std::max<Index>(1, rows / std::max<Index>(1, in_.batch));
  }

  bool run_chunk(Index begin, Index end) {
    for (Index b = 0; in_.lengths && b < in_.batch; ++b)
      lengths_[b] = std::clamp<Index>(in_.lengths[b] - begin, 0, end - begin);
    Sequence<const Real> x = {};  // what the layer before gave
    for (int layer = 0; layer < stack_.layers; ++layer) {
      const bool last = layer == stack_.layers - 1;
      const Index state = layer * in_.batch * width_;
      // The last layer's last chunk also writes the zeros past the longest row.
      LayerInput<Real> in = {};
      in.steps = (last && end == steps_ ? in_.steps : end) - begin;
      in.batch = in_.batch;
      in.x = layer > 0 ? x : from(in_.x, begin);
      if (layer == 0) in.tokens = from(in_.tokens, begin);
      in.lengths = lengths_;
      in.order = order_;
      in.h0 = at(begin > 0 ? out_.h_n : in_.h0, state);
      in.c0 = at(begin > 0 ? out_.c_n : in_.c0, state);
      const bool to_y = (stack_.layers - layer) % 2 == 1;
      const Sequence<Real> y =
          to_y ? from(out_.y, begin) : Sequence<Real>{buffer_, in_.batch * width_, width_};
      const LayerOutput<Real> out = {y, at(out_.h_n, state), at(out_.c_n, state), nullptr};
      const Workspace::Mark mark = workspace_.mark();
      const bool done = layer_forward(stack_.cells + layer * stack_.directions, stack_.directions,
                                      in, out, workspace_, interrupt_);
      workspace_.rewind(mark);
      if (!done) return false;
      x = {y.data, y.step, y.row};
    }
    return true;
  }

  template <class Item>
  static Sequence<Item> from(const Sequence<Item>& all, Index begin) {
    return {all.data ? all.data + begin * all.step : nullptr, all.step, all.row};
  }
  template <class Pointer>
  static Pointer at(Pointer values, Index offset) {
    return values ? values + offset : nullptr;
  }

  const Stack<Real>& stack_;
  const LayerInput<Real>& in_;
  const LayerOutput<Real>& out_;
  Workspace& workspace_;
  const Interrupt interrupt_;
  const Index width_;
  const Index* const order_;
  Index steps_ = 0;  // of the longest row
  Index chunk_;
  Index* lengths_ = nullptr;  // left of each row in the chunk
  Real* buffer_;
};

}  // namespace

template <class Real>
bool stack_forward(const Stack<Real>& stack, const LayerInput<Real>& in,
                   const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt) {
  if (stack.layers == 1)
    return layer_forward(stack.cells, stack.directions, in, out, workspace, interrupt);
  return StackForward<Real>(stack, in, out, workspace, interrupt).run();
}

template bool stack_forward(const Stack<float>&, const LayerInput<float>&,
                            const LayerOutput<float>&, Workspace&, Interrupt);
template bool stack_forward(const Stack<double>&, const LayerInput<double>&,
                            const LayerOutput<double>&, Workspace&, Interrupt);

}  // namespace fastrnn
