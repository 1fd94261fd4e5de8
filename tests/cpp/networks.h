// Networks of random weights, with every kind of layer, for the tests of streams.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "model/network.h"

namespace fastrnn::testing {

using Values = std::vector<float>;

// Multiples of 2^-23 in [-scale, scale) from a 64-bit linear congruential generator.
class Random {
 public:
  Values operator()(Index n, float scale) {
    Values out(static_cast<std::size_t>(n));
    for (float& x : out) x = scale * (static_cast<float>(next()) * 0x1p-23f - 1);
    return out;
  }
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 40);
  }

 private:
  std::uint64_t state_ = 1;
};

// What makes a recurrent layer; functions f, g, h with their options where `general`.
struct Recurrent {
  std::string name;
  CellKind kind;
  bool general = false, projects = false, peephole = false, norm = false;
  Function f = Function::sigmoid, g = Function::tanh, h = Function::tanh;
  float clip = std::numeric_limits<float>::infinity(), cell_clip = clip;
  float keep_h = 0, keep_c = 0;
  bool slope = false;
};

// All cells, plain and with each option.
inline std::vector<Recurrent> recurrent_layers() {
  using K = CellKind;
  using F = Function;
  std::vector<Recurrent> all = {{"rnn_tanh", K::rnn_tanh},
                                {"rnn_relu", K::rnn_relu},
                                {"lstm", K::lstm},
                                {"gru", K::gru},
                                {"gru_reset_before", K::gru_reset_before}};
  const auto add = [&](std::string name, K kind, auto change) {
    Recurrent r = {name, kind};
    r.general = true;
    change(r);
    all.push_back(r);
  };
  const auto nothing = [](Recurrent&) {};
  const auto norm = [](Recurrent& r) { r.norm = true; };
  const auto zoneout = [](Recurrent& r) { r.keep_h = 0.1f, r.keep_c = 0.3f; };
  add("lstm projected", K::lstm, [](Recurrent& r) { r.projects = true; });
  add("lstm peephole", K::lstm, [](Recurrent& r) { r.peephole = true; });
  add("lstm clips", K::lstm, [](Recurrent& r) { r.clip = 0.6f, r.cell_clip = 0.5f; });
  add("lstm functions", K::lstm,
      [](Recurrent& r) { r.f = F::hard_sigmoid, r.g = F::softsign, r.h = F::elu; });
  add("lstm norm", K::lstm, norm);
  add("lstm norm projected", K::lstm, [](Recurrent& r) { r.norm = r.projects = true; });
  add("lstm zoneout", K::lstm, zoneout);
  add("coupled", K::lstm_coupled, nothing);
  add("coupled peephole projected", K::lstm_coupled,
      [](Recurrent& r) { r.peephole = r.projects = true; });
  add("gru zoneout", K::gru, zoneout);
  add("gru norm", K::gru, norm);
  add("gru_reset_before norm", K::gru_reset_before, norm);
  add("gru_reset_before functions", K::gru_reset_before,
      [](Recurrent& r) { r.f = F::hard_sigmoid, r.g = F::leaky_relu; });
  add("rnn softplus", K::rnn, [](Recurrent& r) { r.f = F::softplus; });
  add("rnn prelu", K::rnn, [](Recurrent& r) { r.f = F::prelu, r.slope = true; });
  add("rnn norm", K::rnn, [](Recurrent& r) { r.f = F::tanh, r.norm = true; });
  add("indrnn", K::indrnn, [](Recurrent& r) { r.f = F::relu; });
  add("indrnn zoneout", K::indrnn, [](Recurrent& r) { r.f = F::tanh, r.keep_h = 0.2f; });
  return all;
}

// Weights of all cells of a recurrent layer, and what describes them.
class RandomRecurrent {
 public:
  RandomRecurrent(const Recurrent& r, Index in, Index H, int num_layers, int directions,
                  Random& random, MergeMode merge = MergeMode::concat)
      : P_(r.projects ? (H + 1) / 2 : H) {
    const auto function = [](Function f) { return Activation<float>{f, 0.75f, 0.25f}; };
    options_ = {
        function(r.f), function(r.g), function(r.h),           r.clip,   r.cell_clip, nullptr,
        nullptr,       nullptr,       r.keep_h + r.keep_c > 0, r.keep_h, r.keep_c,    {}};
    options_.norm.epsilon = 1e-5f;
    const Index width = merge == MergeMode::concat ? directions * P_ : P_;
    for (int i = 0; i < num_layers * directions; ++i)
      cells_.push_back(cell(r, i < directions ? in : width, H, random));
    h0_ = random(num_layers * directions * P_, 0.5f);
    c0_ = random(num_layers * directions * H, 0.5f);
    layers = {num_layers, directions, cells_.data(), merge, false, nullptr, nullptr};
  }
  RandomRecurrent(const RandomRecurrent&) = delete;
  void learn_state() { layers.h0 = h0_.data(), layers.c0 = c0_.data(); }
  Index output_size() const { return P_; }

  RecurrentLayers layers;

 private:
  CellWeights<float> cell(const Recurrent& r, Index I, Index H, Random& random) {
    const Index rows = gate_count(r.kind) * H, gains = r.norm ? rows : 0;
    const Index of_c = r.norm && has_cell_state(r.kind) ? H : 0;
    const Index sizes[weight_count] = {rows * I,
                                       r.kind == CellKind::indrnn ? H : rows * P_,
                                       rows,
                                       rows,
                                       r.projects ? P_ * H : 0,
                                       r.peephole ? rows - H : 0,
                                       r.slope ? H : 0,
                                       gains,
                                       gains,
                                       of_c,
                                       of_c};
    CellWeights<float> w = {};
    w.kind = r.kind;
    w.input_size = I;
    w.hidden_size = H;
    w.output_size = P_;
    for (int i = 0; i < weight_count; ++i)
      if (sizes[i] > 0) {
        weights_.push_back(std::make_unique<Values>(random(sizes[i], 0.7f)));
        w.weights.at[i] = weights_.back()->data();
      }
    if (r.general) w.options = &options_;
    return w;
  }

  const Index P_;
  CellOptions<float> options_;
  std::vector<std::unique_ptr<Values>> weights_;
  std::vector<CellWeights<float>> cells_;
  Values h0_, c0_;
};

struct Named {
  std::string name;
  std::unique_ptr<Network> network;
};

// Every recurrent layer, one and two of it, by itself and in a stack with all other layers; streams all.
inline std::vector<Named> networks() {
  std::vector<Named> all;
  Random random;
  const auto start = [&](std::string name) -> Network& {
    all.push_back({std::move(name), std::make_unique<Network>()});
    return *all.back().network;
  };
  const auto linear = [&](Network& net, Index in, Index out, bool bias) {
    const Values weight = random(in * out, 0.5f), b = random(out, 0.5f);
    net.add_linear(in, out, weight.data(), bias ? b.data() : nullptr);
  };
  for (const Recurrent& r : recurrent_layers())
    for (const auto& [I, H, layers] :
         {std::array<Index, 3>{1, 8, 1}, {3, 5, 2}, {20, 40, 1}, {7, 130, 1}}) {
      const std::string size = " " + std::to_string(I) + " " + std::to_string(H);
      RandomRecurrent given(r, I, H, static_cast<int>(layers), 1, random);
      if (H == 5) given.learn_state();
      start(r.name + size).add_recurrent(given.layers);
      Network& stack = start(r.name + size + " linear");
      stack.add_recurrent(given.layers);
      linear(stack, given.output_size(), 1, true);
    }
  linear(start("linear"), 5, 19, true);
  Network& mixed = start("mixed");
  mixed.add_activation(ActivationLayer::tanh);
  linear(mixed, 3, 33, false);
  mixed.add_activation(ActivationLayer::relu);
  const Values gain = random(33, 1), shift = random(33, 1);
  mixed.add_layer_norm(33, gain.data(), shift.data(), 1e-5f);
  RandomRecurrent gru({"gru", CellKind::gru}, 33, 12, 2, 1, random);
  mixed.add_recurrent(gru.layers);
  mixed.add_layer_norm(12, gain.data(), nullptr, 1e-3f);
  mixed.add_activation(ActivationLayer::sigmoid);
  mixed.add_last_step();
  linear(mixed, 12, 21, true);
  mixed.add_activation(ActivationLayer::softmax);
  Network& tokens = start("tokens");
  const Values table = random(11 * 6, 1);
  tokens.add_embedding(11, 6, table.data());
  RandomRecurrent lstm({"lstm", CellKind::lstm}, 6, 9, 1, 1, random);
  tokens.add_recurrent(lstm.layers);
  linear(tokens, 9, 11, true);
  return all;
}

}  // namespace fastrnn::testing
