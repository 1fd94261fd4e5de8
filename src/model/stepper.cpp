#include "model/stepper.h"

#include <algorithm>
#include <utility>

#include "sequence/cell_step.h"

namespace fastrnn {

// A pass of some rows through all layers: a block of steps of one stream, or a step of each of some.
// Arrays of row pointers stand on the stack.
class StepperPass {
 public:
  // Rows that are steps of one stream.
  StepperPass(Stepper& stepper, float* state, Index rows)
      : first_(stepper), rows_(rows), per_step_(1), layers_(stepper.network_.layers()) {
    for (Index i = 0; i < rows; ++i) use_row(i, stepper, i);
    use_stream(0, stepper, 0, state);
  }
  // A row of each stream; each with memory of its own stepper, or all with that of one.
  StepperPass(Stepper* const* steppers, bool one, const StepOfStream* steps, Index rows)
      : first_(**steppers), rows_(rows), per_step_(rows), layers_(first_.network_.layers()) {
    for (Index i = 0; i < rows; ++i) {
      Stepper& stepper = *steppers[one ? 0 : i];
      use_row(i, stepper, one ? i : 0);
      use_stream(i, stepper, one ? i : 0, steps[i].state);
      x_[i] = steps[i].x;
      tokens_[i] = steps[i].token;
      out_[i] = steps[i].y;
    }
    has_tokens_ = steps[0].x == nullptr;
  }

  void run(const float* x, const std::int32_t* tokens, float* y) {
    const Index in = layers_.front().in, out = layers_.back().out;
    for (Index i = 0; i < rows_; ++i) {
      if (tokens)
        tokens_[i] = tokens[i];
      else
        x_[i] = x + i * in;
      out_[i] = y + i * out;
    }
    has_tokens_ = tokens != nullptr;
    run();
  }

  void run() {
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const bool last = layer + 1 == layers_.size();
      y_ = last ? out_ : between_[layer % 2];
      forward(layers_[layer]);
      std::copy_n(y_, rows_, x_);
      has_tokens_ = false;
    }
  }

 private:
  void use_row(Index i, Stepper& stepper, Index row) {
    z_[i] = stepper.z_ + row * stepper.z_stride_;
    for (int side = 0; side < 2; ++side)
      between_[side][i] = stepper.between_[side] + row * stepper.width_;
    scratch_[i] = stepper.scratch_.data() + row * stepper.scratch_stride_;
  }
  void use_stream(Index i, Stepper& stepper, Index at, float* state) {
    state_[i] = state;
    z_state_[i] = stepper.z_state_ + at * stepper.z_stride_;
    units_[i] = stepper.units_ + at * stepper.units_stride_;
    reset_h_[i] = stepper.reset_h_ + at * stepper.units_stride_;
  }
  const Index* tokens() const { return has_tokens_ ? tokens_ : nullptr; }

  void forward(const NetworkLayer& layer) {
    if (layer.kind != NetworkLayer::Kind::recurrent)
      return forward_rows(layer, rows_, x_, tokens(), y_);
    const Cell<float>& cell = *layer.cells[0];
    for (Index i = 0; i < per_step_; ++i) {
      h_prev_[i] = h_[i] = state_[i] + layer.state_at;
      c_[i] = h_[i] + cell.output_size;
    }
    const bool hoist = cell.normalizes || rows_ > per_step_;
    if (hoist) input_product(cell, {rows_, 0, cell.groups, z_, false, scratch_}, x_, tokens());
    for (Index row = 0; row < rows_; row += per_step_) step(layer, row, hoist);
    for (Index i = 0; i < per_step_; ++i) std::copy_n(h_prev_[i], cell.output_size, h_[i]);
  }

  // The recurrent part of a step, of rows from `row` on.
  void step(const NetworkLayer& layer, Index row, bool hoisted) {
    const Cell<float>& cell = *layer.cells[0];
    const Index n = per_step_, groups = cell.groups;
    bool& last_first = first_.last_first_;
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

  static constexpr Index most = Stepper::max_rows;
  Stepper& first_;
  const Index rows_, per_step_;
  const std::vector<NetworkLayer>& layers_;
  bool has_tokens_ = false;
  Index tokens_[most];
  const float *x_[most], *h_prev_[most];
  float** y_;
  float *out_[most], *between_[2][most], *z_[most], *state_[most], *h_[most], *c_[most];
  float *z_state_[most], *units_[most], *reset_h_[most];
  unsigned char* scratch_[most];
};

namespace {

// 128 KiB of z at most, and at least 8 rows of it, so that each weight is read for a few of them.
Index suitable_block(Index z_stride) {
  return std::clamp<Index>(32768 / std::max<Index>(z_stride, 1), 8, 48);
}

}  // namespace

Stepper::Stepper(const Network& network, Index block_steps, Index streams)
    : network_(network), streams_(streams) {
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
  units_stride_ = padded(units);
  block_ = std::min(block_steps > 0 ? block_steps : suitable_block(z_stride_), max_rows);
  const Index rows = std::max(block_, streams);
  memory_ =
      Buffer<float>(rows * (z_stride_ + 2 * width_) + streams * (z_stride_ + 2 * units_stride_));
  float* next = memory_.data();
  const auto take = [&](Index count) { return std::exchange(next, next + count); };
  z_ = take(rows * z_stride_);
  for (float*& between : between_) between = take(rows * width_);
  z_state_ = take(streams * z_stride_);
  units_ = take(streams * units_stride_);
  reset_h_ = take(streams * units_stride_);
  if (network.layers().size() == 2 && last_[-1].step_cell.head.out > 0)
    only_step_ = last_[-1].cell_step;
  scratch_ = Buffer<unsigned char>(checked_product(rows, scratch_stride_));
  std::fill_n(memory_.data(), memory_.size(), 0.0f);
}

// x and y may be the same, so that a network of one layer writes elsewhere first.
void Stepper::one_step(float* state, const float* x, const std::int32_t* token, float* y) {
  const bool apart = network_.layers().size() == 1;
  float* to = apart ? between_[1] : y;
  StepperPass(*this, state, 1).run(x, token, to);
  if (apart) std::copy_n(to, network_.output_size(), y);
}

// One call a layer, or for a cell and its head.
void Stepper::small_step(float* state, const float* x, float* y) {
  const NetworkLayer *const first = network_.layers().data(), *const last = last_;
  float *to = between_[0], *other = between_[1];
  for (const NetworkLayer* layer = first; layer <= last; ++layer) {
    if (layer->cell_step) {
      float* const h = state + layer->state_at;
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

void Stepper::step(float* state, const float* x, float* y) {
  if (!small_) return one_step(state, x, nullptr, y);
  last_first_ = !last_first_;
  if (only_step_)
    only_step_(last_[-1].step_cell, {x, state, state + last_[-1].out, y, last_first_});
  else
    small_step(state, x, y);
}

void Stepper::step_token(float* state, std::int32_t token, float* y) {
  one_step(state, nullptr, &token, y);
}

void Stepper::blocks(float* state, const float* x, const std::int32_t* tokens, Index steps,
                     float* y) {
  const Index in = network_.input_size(), out = network_.output_size();
  for (Index begin = 0; begin < steps; begin += block_)
    StepperPass(*this, state, std::min(block_, steps - begin))
        .run(x ? x + begin * in : nullptr, tokens ? tokens + begin : nullptr, y + begin * out);
}

void Stepper::process(float* state, const float* x, const std::int32_t* tokens, Index steps,
                      float* y) {
  if (tokens || !by_steps_) return blocks(state, x, tokens, steps, y);
  const Index in = network_.input_size(), out = network_.output_size();
  for (Index t = 0; t < steps; ++t) step(state, x + t * in, y + t * out);
}

void Stepper::step_each(const StepOfStream* steps, Index count) {
  Stepper* self = this;
  for (Index begin = 0; begin < count; begin += streams_)
    StepperPass(&self, true, steps + begin, std::min(streams_, count - begin)).run();
}

void Stepper::step_each(Stepper* const* steppers, const StepOfStream* steps, Index count) {
  for (Index begin = 0; begin < count; begin += max_rows)
    StepperPass(steppers + begin, false, steps + begin, std::min(max_rows, count - begin)).run();
}

}  // namespace fastrnn
