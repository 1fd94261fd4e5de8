#include "model/runner.h"

#include <algorithm>
#include <utility>

#include "sequence/cell_step.h"

namespace fastrnn {

// A pass of some rows through all layers: a block of steps of one stream, or a step of each of some.
// Arrays of row pointers stand on the stack.
class RunnerPass {
 public:
  // in_turn: the rows are steps of streams[0].
  RunnerPass(Runner* const* streams, Index rows, bool in_turn)
      : streams_(streams),
        rows_(rows),
        per_step_(in_turn ? 1 : rows),
        layers_(streams[0]->network_.layers()) {
    for (Index i = 0; i < rows; ++i) row_of_[i] = in_turn ? i : 0;
  }

  void run(const float* x, const std::int32_t* tokens, float* y) {
    const Index in = layers_.front().in, out = layers_.back().out;
    for (Index i = 0; i < rows_; ++i) {
      if (tokens)
        tokens_[i] = tokens[i];
      else
        x_[i] = x + i * in;
    }
    has_tokens_ = tokens != nullptr;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const bool last = layer + 1 == layers_.size();
      for (Index i = 0; i < rows_; ++i)
        y_[i] = last ? y + i * out : stream(i).between_[layer % 2] + row_of_[i] * stream(i).width_;
      forward(layers_[layer]);
      std::copy_n(y_, rows_, x_);
      has_tokens_ = false;
    }
  }

 private:
  Runner& stream(Index row) const { return *streams_[per_step_ == 1 ? 0 : row]; }
  const Index* tokens() const { return has_tokens_ ? tokens_ : nullptr; }

  void forward(const NetworkLayer& layer) {
    if (layer.kind != NetworkLayer::Kind::recurrent)
      return forward_rows(layer, rows_, x_, tokens(), y_);
    const Cell<float>& cell = *layer.cells[0];
    for (Index i = 0; i < rows_; ++i) z_[i] = stream(i).z_ + row_of_[i] * stream(i).z_stride_;
    for (Index i = 0; i < per_step_; ++i) {
      Runner& s = stream(i);
      h_[i] = s.state_ + layer.state_at;
      c_[i] = h_[i] + cell.output_size;
      h_prev_[i] = h_[i];
      z_state_[i] = s.z_state_;
      units_[i] = s.units_;
      reset_h_[i] = s.reset_h_;
    }
    for (Index i = 0; i < rows_; ++i)
      scratch_[i] = stream(i).scratch_.data() + row_of_[i] * stream(i).scratch_stride_;
    const bool hoist = cell.normalizes || rows_ > per_step_;
    if (hoist) input_product(cell, {rows_, 0, cell.groups, z_, false, scratch_}, x_, tokens());
    for (Index row = 0; row < rows_; row += per_step_) step(layer, row, hoist);
    for (Index i = 0; i < per_step_; ++i) std::copy_n(h_prev_[i], cell.output_size, h_[i]);
  }

  // The recurrent part of a step, of rows from `row` on.
  void step(const NetworkLayer& layer, Index row, bool hoisted) {
    const Cell<float>& cell = *layer.cells[0];
    const Index n = per_step_, groups = cell.groups;
    bool& last_first = streams_[0]->last_first_;
    last_first = !last_first;
    const StepRows<float> rows = {{n, 0, groups, z_ + row, last_first, scratch_},
                                  z_state_,
                                  hoisted || has_tokens_ ? nullptr : x_,
                                  hoisted ? nullptr : tokens(),
                                  h_prev_};
    float* const* const y = y_ + row;
    const CellForward<float> gates = {
        n,  0,       groups,   cell.hidden_size, z_ + row, h_prev_, cell.projects ? units_ : y,
        c_, nullptr, reset_h_, cell.options(),   nullptr,  nullptr, nullptr};
    cell_step(cell, rows, gates, [] {});
    if (cell.projects)
      project_step(cell, n, 0, cell.output_size, layer.bias.data(), units_, y, scratch_);
    std::copy_n(y, n, h_prev_);
  }

  static constexpr Index most = Runner::max_block;
  Runner* const* const streams_;
  const Index rows_, per_step_;
  const std::vector<NetworkLayer>& layers_;
  bool has_tokens_ = false;
  Index row_of_[most], tokens_[most];
  const float *x_[most], *h_prev_[most];
  float *y_[most], *z_[most], *h_[most], *c_[most], *z_state_[most], *units_[most], *reset_h_[most];
  unsigned char* scratch_[most];
};

namespace {

// 128 KiB of z at most, and at least 8 rows of it, so that each weight is read for a few of them.
Index suitable_block(Index z_stride) {
  return std::clamp<Index>(32768 / std::max<Index>(z_stride, 1), 8, 48);
}

Index padded(Index n) { return (n + 15) / 16 * 16; }  // to whole cache lines

}  // namespace

Runner::Runner(const Network& network, Index block_steps) : network_(network) {
  Index z = 0, units = 0;
  for (const NetworkLayer& layer : network.layers())
    for (const auto& cell : layer.cells) {
      z = std::max(z, cell->z_values);
      units = std::max(units, cell->hidden_size);
      scratch_stride_ = std::max(scratch_stride_, scratch_bytes(*cell));
    }
  last_ = network.layers().data() + network.layers().size() - 1;
  small_ = std::all_of(network.layers().begin(), network.layers().end(), [](const auto& layer) {
    return layer.kind != NetworkLayer::Kind::recurrent || layer.cell_step;
  });
  // Where the input's weights stay in the first-level cache, a block has nothing to save.
  by_steps_ =
      small_ &&
      std::all_of(network.layers().begin(), network.layers().end(), [](const NetworkLayer& layer) {
        return layer.cells.empty() || layer.in * layer.cells[0]->z_values <= 2048;
      });
  z_stride_ = padded(z);
  width_ = padded(network.widest());
  block_ = std::min(block_steps > 0 ? block_steps : suitable_block(z_stride_), max_block);
  const Index state = padded(network.state_size()), between = block_ * width_;
  memory_ = Buffer<float>(state + block_ * z_stride_ + 2 * between + z_stride_ + 2 * padded(units));
  float* next = memory_.data();
  const auto take = [&](Index count) { return std::exchange(next, next + count); };
  state_ = take(state);
  z_ = take(block_ * z_stride_);
  for (float*& rows : between_) rows = take(between);
  z_state_ = take(z_stride_);
  units_ = take(padded(units));
  reset_h_ = take(padded(units));
  if (network.layers().size() == 2 && last_[-1].step_cell.head.out > 0) {
    only_step_ = last_[-1].cell_step;
    only_row_ = {nullptr, state_, state_ + last_[-1].out, nullptr, false};
  }
  scratch_ = Buffer<unsigned char>(checked_product(block_, scratch_stride_));
  std::fill_n(memory_.data(), memory_.size(), 0.0f);
  reset();
}

// x and y may be the same, so that a network of one layer writes elsewhere first.
void Runner::one_step(const float* x, const std::int32_t* token, float* y) {
  Runner* self = this;
  const bool apart = network_.layers().size() == 1;
  float* to = apart ? between_[1] : y;
  RunnerPass(&self, 1, true).run(x, token, to);
  if (apart) std::copy_n(to, network_.output_size(), y);
}

// One call a layer, or for a cell and its head.
void Runner::small_step(const float* x, float* y) {
  const NetworkLayer *const first = network_.layers().data(), *const last = last_;
  last_first_ = !last_first_;
  float *to = between_[0], *other = between_[1];
  for (const NetworkLayer* layer = first; layer <= last; ++layer) {
    if (layer->cell_step) {
      float* const h = state_ + layer->state_at;
      const bool has_head = layer->step_cell.head.out > 0;
      float* const out = layer + has_head == last ? y : to;
      layer->cell_step(layer->step_cell, {x, h, h + layer->out, out, last_first_});
      x = has_head ? out : h;
      layer += has_head;
    } else {
      float* out = layer == last && layer != first ? y : to;
      if (layer->linear_step)
        layer->linear_step(layer->step_linear, x, out);
      else
        forward_rows(*layer, 1, &x, nullptr, &out);
      x = out;
    }
    std::swap(to, other);
  }
  if (x != y) std::copy_n(x, last->out, y);
}

void Runner::step(const float* x, float* y) {
  if (only_step_) {
    only_row_.x = x;
    only_row_.y = y;
    only_row_.last_first = !only_row_.last_first;
    only_step_(last_[-1].step_cell, only_row_);
  } else if (small_)
    small_step(x, y);
  else
    one_step(x, nullptr, y);
}
void Runner::step_token(std::int32_t token, float* y) { one_step(nullptr, &token, y); }

void Runner::blocks(const float* x, const std::int32_t* tokens, Index steps, float* y) {
  Runner* self = this;
  const Index in = network_.input_size(), out = network_.output_size();
  for (Index begin = 0; begin < steps; begin += block_)
    RunnerPass(&self, std::min(block_, steps - begin), true)
        .run(x ? x + begin * in : nullptr, tokens ? tokens + begin : nullptr, y + begin * out);
}

void Runner::process(const float* x, Index steps, float* y) {
  if (!by_steps_) return blocks(x, nullptr, steps, y);
  const Index in = network_.input_size(), out = network_.output_size();
  for (Index t = 0; t < steps; ++t) step(x + t * in, y + t * out);
}
void Runner::process_tokens(const std::int32_t* tokens, Index steps, float* y) {
  blocks(nullptr, tokens, steps, y);
}

void Runner::step_many(Runner* const* runners, Index count, const float* x,
                       const std::int32_t* tokens, float* y) {
  for (Index begin = 0; begin < count; begin += max_block) {
    const Network& network = runners[begin]->network_;
    RunnerPass(runners + begin, std::min(max_block, count - begin), false)
        .run(x ? x + begin * network.input_size() : nullptr, tokens ? tokens + begin : nullptr,
             y + begin * network.output_size());
  }
}

void Runner::get_state(float* state) const { std::copy_n(state_, network_.state_size(), state); }
void Runner::set_state(const float* state) { std::copy_n(state, network_.state_size(), state_); }

}  // namespace fastrnn
