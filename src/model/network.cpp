#include "model/network.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "model/sequences.h"
#include "ops/elementwise.h"

namespace fastrnn {
namespace {

using Kind = NetworkLayer::Kind;

Buffer<float> copied(const float* from, Index count) {
  Buffer<float> to(static_cast<std::size_t>(count));
  std::copy_n(from, count, to.data());
  return to;
}

// As many as a product of `columns` columns begins at: those given, then zeros.
Buffer<float> product_start(const float* from, Index columns) {
  const int lanes = kernels<float>().lanes;
  const Index count = plain_panels(columns, lanes) * plain_width * lanes;
  Buffer<float> to(static_cast<std::size_t>(count));
  std::fill_n(to.data(), count, 0.0f);
  if (from) std::copy_n(from, columns, to.data());
  return to;
}

void gather_linear(const NetworkLayer& layer, Index token, float* y) {
  const Index width = plain_width * kernels<float>().lanes;
  for (Index begin = 0; begin < layer.out; begin += width) {
    const float *start = layer.bias.data() + begin,
                *column = layer.weight.data() + begin * layer.in + token * width;
    for (Index j = 0; j < std::min(width, layer.out - begin); ++j)
      y[begin + j] = start[j] + column[j];
  }
}

// Beyond these the weights no longer fit the second-level cache, and what one call saves is little.
constexpr Index step_most_weights = 65536;
constexpr Index step_most_head = 16;  // outputs of a linear layer that is done with the cell

// A cell that the kernels of step.h know.
void use_step(NetworkLayer& layer) {
  const Cell<float>& cell = *layer.cells[0];
  const Index weights = (cell.input_size + cell.hidden_size) * cell.z_values;
  const bool fits = cell.hidden_size <= step_most_units && weights <= step_most_weights;
  const bool plain = !cell.general && !cell.projects && cell.precision == Precision::float32;
  if (layer.cells.size() > 1 || !plain || !fits) return;
  layer.cell_step = step_kernels().cells[static_cast<int>(cell.kind)];
  layer.step_cell = {cell.input_size,
                     cell.hidden_size,
                     cell.start.data(),
                     cell.candidate_start.data(),
                     cell.input.values.data(),
                     cell.recurrent.values.data(),
                     cell.candidate.values.data(),
                     {}};
}

void relu(const float* x, float* y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = x[i] < 0.0f ? 0.0f : x[i];  // NaN passes
}

void activate(ActivationLayer function, const float* x, float* y, Index n) {
  switch (function) {
    case ActivationLayer::tanh: return kernels<float>().tanh(x, y, n);
    case ActivationLayer::sigmoid: return kernels<float>().sigmoid(x, y, n);
    case ActivationLayer::relu: return relu(x, y, n);
    case ActivationLayer::softmax: return softmax_row(x, n, y);
  }
}

}  // namespace

void forward_rows(const NetworkLayer& layer, Index rows, const float* const* x, const Index* tokens,
                  float* const* y) {
  const Kernels<float>& k = kernels<float>();
  const Index n = layer.out;
  switch (layer.kind) {
    case Kind::embedding:
      for (Index i = 0; i < rows; ++i) std::copy_n(layer.weight.data() + tokens[i] * n, n, y[i]);
      return;
    case Kind::linear:
      for (Index i = 0; tokens && i < rows; ++i) gather_linear(layer, tokens[i], y[i]);
      if (!tokens)
        k.product[plain_width]({rows, layer.in, 0, plain_panels(n, k.lanes), n, x, 0,
                                layer.weight.data(), layer.bias.data(), y, 0,
                                plain_width * k.lanes});
      return;
    case Kind::layer_norm:
      for (Index i = 0; i < rows; ++i)
        k.layer_norm({1, n, x[i], layer.weight.data(), layer.bias.data(), layer.epsilon, y[i],
                      nullptr, nullptr});
      return;
    case Kind::activation:
      for (Index i = 0; i < rows; ++i) activate(layer.activation, x[i], y[i], n);
      return;
    default: return;
  }
}

std::size_t NetworkLayer::memory() const {
  std::size_t bytes = sizeof(*this) + (weight.size() + bias.size()) * sizeof(float);
  for (const auto& cell : cells) bytes += cell->bytes();
  return bytes;
}

// Activations take any width, so those that come first learn it from the first layer that has one.
NetworkLayer& Network::add(Kind kind, Index in, Index out) {
  for (auto layer = layers_.rbegin(); in > 0 && layer != layers_.rend() && layer->out == 0; ++layer)
    layer->in = layer->out = in;
  layers_.emplace_back();
  layers_.back().kind = kind;
  layers_.back().in = in;
  layers_.back().out = out;
  return layers_.back();
}

void Network::add_embedding(Index rows, Index width, const float* weight) {
  add(Kind::embedding, rows, width).weight =
      copied(weight, static_cast<Index>(checked_product(rows, width)));
}

void Network::add_linear(Index in, Index out, const float* weight, const float* bias) {
  NetworkLayer& layer = add(Kind::linear, in, out);
  layer.bias = product_start(bias, out);
  layer.weight = Buffer<float>(checked_product(layer.bias.size(), in));
  pack_transposed(weight, out, in, kernels<float>().lanes, layer.weight.data());
  if (in * out > step_most_weights) return;
  layer.linear_step = step_kernels().linear;
  layer.step_linear = {in, out, layer.bias.data(), layer.weight.data()};
  if (layers_.size() < 2) return;
  NetworkLayer& before = layers_[layers_.size() - 2];
  if (before.cell_step && out <= step_most_head) before.step_cell.head = layer.step_linear;
}

void Network::add_layer_norm(Index features, const float* weight, const float* bias,
                             float epsilon) {
  NetworkLayer& layer = add(Kind::layer_norm, features, features);
  layer.weight = weight ? copied(weight, features) : Buffer<float>(features);
  if (!weight) std::fill_n(layer.weight.data(), features, 1.0f);
  if (bias) layer.bias = copied(bias, features);
  layer.epsilon = epsilon;
}

void Network::add_activation(ActivationLayer function) {
  const Index width = output_size();
  add(Kind::activation, width, width).activation = function;
}

void Network::add_recurrent(const RecurrentLayers& layers) {
  if (layers.directions == 2 || layers.go_backwards) streams_ = false;
  if (layers.go_backwards) add(Kind::reverse, layers.cells->input_size, layers.cells->input_size);
  for (int layer = 0; layer < layers.num_layers; ++layer) add_cells(layers, layer);
}

void Network::add_cells(const RecurrentLayers& layers, int index) {
  const int directions = layers.directions, first = index * directions;
  const CellWeights<float>& w = layers.cells[first];
  const Index P = w.output_size, H = has_cell_state(w.kind) ? w.hidden_size : 0;
  const bool wide = layers.merge_mode == MergeMode::concat;
  NetworkLayer& layer = add(Kind::recurrent, w.input_size, wide ? directions * P : P);
  for (int d = 0; d < directions; ++d)
    layer.cells.push_back(std::make_unique<Cell<float>>(layers.cells[first + d], false));
  layer.merge_mode = layers.merge_mode;
  layer.weight = Buffer<float>(directions * (P + H));
  float *h = layer.weight.data(), *c = h + directions * P;
  std::fill_n(h, layer.weight.size(), 0.0f);
  if (layers.h0) std::copy_n(layers.h0 + first * P, directions * P, h);
  if (layers.c0 && H) std::copy_n(layers.c0 + first * H, directions * H, c);
  if (layer.cells[0]->projects) layer.bias = product_start(nullptr, P);
  layer.state_at = state_size_;
  use_step(layer);
  state_size_ += directions * (P + H);
}

bool Network::takes_tokens() const {
  return !layers_.empty() && layers_.front().kind == Kind::embedding;
}

bool Network::accepts_tokens() const {
  if (layers_.empty()) return false;
  const Kind first = layers_.front().kind;
  return first != Kind::layer_norm && first != Kind::activation;
}

std::size_t Network::memory() const {
  std::size_t bytes = sizeof(*this);
  for (const NetworkLayer& layer : layers_) bytes += layer.memory();
  return bytes;
}

Index Network::widest() const {
  Index width = 0;
  for (const NetworkLayer& layer : layers_) width = std::max(width, layer.out);
  return width;
}

void Network::initial_state(float* state) const {
  for (const NetworkLayer& layer : layers_)
    if (layer.kind == Kind::recurrent)
      std::copy_n(layer.weight.data(), layer.weight.size(), state + layer.state_at);
}

void Network::run(const float* x, const std::int32_t* tokens, Index batch, Index steps,
                  const Index* lengths, float* y) const {
  run_sequences(*this, {x, tokens, batch, steps, lengths, y});
}

}  // namespace fastrnn
