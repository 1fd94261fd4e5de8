// Streams give the bits of whole sequences, however their steps are cut into calls: step, process,
// step_many, run and, for recurrent layers, the core's own stack_forward.
#include "model/runner.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "dispatch.h"
#include "networks.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "sequence/stack.h"

using namespace fastrnn;
using namespace fastrnn::testing;

namespace {

int failures = 0;

void same(const std::string& what, const Values& a, const Values& b) {
  const std::size_t bytes = a.size() * sizeof(float);
  if (a.size() == b.size() && (bytes == 0 || std::memcmp(a.data(), b.data(), bytes) == 0)) return;
  ++failures;
  std::size_t i = 0;
  while (i < std::min(a.size(), b.size()) && a[i] == b[i]) ++i;
  std::printf("%s: differs, first at %zu of %zu and %zu\n", what.c_str(), i, a.size(), b.size());
}

constexpr Index steps = 70, streams = 66;

// Inputs of all streams, (streams, steps, I) or tokens, and what run() makes of them.
struct Data {
  bool tokens;
  Index in, out;
  Values x, y;
  std::vector<std::int32_t> ids;
  Data(const Network& net, bool tokens_)
      : tokens(tokens_), in(net.input_size()), out(net.output_size()) {
    Random random;
    if (tokens)
      for (Index i = 0; i < streams * steps; ++i)
        ids.push_back(static_cast<std::int32_t>(random.next() % static_cast<std::uint32_t>(in)));
    else
      x = random(streams * steps * in, 2);
    y.resize(streams * steps * out);
    net.run(tokens ? nullptr : x.data(), tokens ? ids.data() : nullptr, streams, steps, nullptr,
            y.data());
  }
  const float* x_at(Index stream, Index t) const {
    return tokens ? nullptr : x.data() + (stream * steps + t) * in;
  }
  const std::int32_t* id_at(Index stream, Index t) const {
    return tokens ? ids.data() + stream * steps + t : nullptr;
  }
};

void one_step(Runner& runner, const Data& d, Index stream, Index t, float* y) {
  if (d.tokens)
    runner.step_token(*d.id_at(stream, t), y);
  else
    runner.step(d.x_at(stream, t), y);
}

void process(Runner& runner, const Data& d, Index t, Index n, float* y) {
  if (d.tokens)
    runner.process_tokens(d.id_at(0, t), n, y);
  else
    runner.process(d.x_at(0, t), n, y);
}

void check_steps(const std::string& name, const Network& net, const Data& d) {
  const Values first(d.y.begin(), d.y.begin() + steps * d.out);
  Runner runner(net, 0);
  Values state(net.state_size()), y(first.size());
  for (int pass = 0; pass < 2; ++pass) {  // the second one after a reset
    for (Index t = 0; t < steps; ++t) one_step(runner, d, 0, t, y.data() + t * d.out);
    same(name + ": step", y, first);
    runner.get_state(state.data());
    runner.reset();
  }
  for (Index block : {0, 1, 5, 64, 1000}) {
    Runner blocks(net, block);
    std::fill(y.begin(), y.end(), 0.0f);
    for (Index t = 0, n = 1; t < steps; t += n, n = std::min<Index>(steps - t, 2 * n + 1))
      process(blocks, d, t, n, y.data() + t * d.out);
    same(name + ": process by " + std::to_string(block), y, first);
    Values after(state.size());
    blocks.get_state(after.data());
    same(name + ": state", after, state);
  }
}

// Migration: the second half in another stream, and x where y goes.
void check_state(const std::string& name, const Network& net, const Data& d) {
  Runner before(net, 0), after(net, 0);
  Values state(net.state_size()), y(steps * d.out), shared(std::max(d.in, d.out));
  for (Index t = 0; t < steps; ++t) {
    if (t == steps / 2) {
      before.get_state(state.data());
      after.set_state(state.data());
    }
    Runner& runner = t < steps / 2 ? before : after;
    if (!d.tokens) std::copy_n(d.x_at(0, t), d.in, shared.data());
    if (d.tokens)
      runner.step_token(*d.id_at(0, t), shared.data());
    else
      runner.step(shared.data(), shared.data());
    std::copy_n(shared.data(), d.out, y.data() + t * d.out);
  }
  same(name + ": state moved", y, Values(d.y.begin(), d.y.begin() + steps * d.out));
}

void check_many(const std::string& name, const Network& net, const Data& d) {
  std::vector<std::unique_ptr<Runner>> owners;
  std::vector<Runner*> runners;
  for (Index i = 0; i < streams; ++i) {
    owners.push_back(std::make_unique<Runner>(net, 1));
    runners.push_back(owners.back().get());
  }
  Values x(streams * d.in), y(streams * d.out), all(d.y.size());
  std::vector<std::int32_t> ids(streams);
  for (Index t = 0; t < steps; ++t) {
    for (Index i = 0; i < streams; ++i) {
      if (d.tokens)
        ids[i] = *d.id_at(i, t);
      else
        std::copy_n(d.x_at(i, t), d.in, x.data() + i * d.in);
    }
    const Index count = t % 2 ? streams : 1;  // in turn all at once, or the first ones alone
    for (Index begin = 0; begin < streams; begin += count)
      Runner::step_many(runners.data() + begin, count, d.tokens ? nullptr : x.data() + begin * d.in,
                        d.tokens ? ids.data() + begin : nullptr, y.data() + begin * d.out);
    for (Index i = 0; i < streams; ++i)
      std::copy_n(y.data() + i * d.out, d.out, all.data() + (i * steps + t) * d.out);
  }
  same(name + ": step_many", all, d.y);
}

// Rows of all lengths: as far as they go the same bits, then zeros; what lies beyond is not looked at.
void check_lengths(const std::string& name, const Network& net, const Data& d) {
  std::vector<Index> lengths(streams);
  Values x = d.x, y(d.y.size(), 1.0f), expected = d.y;
  std::vector<std::int32_t> ids = d.ids;
  for (Index i = 0; i < streams; ++i) {
    lengths[i] = (i * 37) % (steps + 1);
    std::fill(expected.begin() + (i * steps + lengths[i]) * d.out,
              expected.begin() + (i + 1) * steps * d.out, 0.0f);
    if (d.tokens)
      std::fill(ids.begin() + i * steps + lengths[i], ids.begin() + (i + 1) * steps, 1 << 30);
    else
      std::fill(x.begin() + (i * steps + lengths[i]) * d.in, x.begin() + (i + 1) * steps * d.in,
                std::numeric_limits<float>::quiet_NaN());
  }
  net.run(d.tokens ? nullptr : x.data(), d.tokens ? ids.data() : nullptr, streams, steps,
          lengths.data(), y.data());
  same(name + ": lengths", y, expected);
}

// What the core makes of a recurrent layer, (steps, 1, D P), from the initial state given.
Values core_forward(const RandomRecurrent& r, const Values& x, Index in) {
  const RecurrentLayers& l = r.layers;
  std::vector<std::unique_ptr<Cell<float>>> owners;
  std::vector<const Cell<float>*> cells;
  for (int i = 0; i < l.num_layers * l.directions; ++i) {
    owners.push_back(std::make_unique<Cell<float>>(l.cells[i], false));
    cells.push_back(owners.back().get());
  }
  const Index P = r.output_size(), H = l.cells[0].hidden_size, width = l.directions * P;
  Values y(steps * width), h(l.num_layers * width), c(l.num_layers * l.directions * H);
  LayerInput<float> input = {};
  input.steps = steps;
  input.batch = 1;
  input.x = {x.data(), in, in};
  input.h0 = l.h0;
  input.c0 = l.c0;
  Workspace workspace;
  stack_forward<float>({cells.data(), l.num_layers, l.directions}, input,
                       {{y.data(), width, width}, h.data(), c.data(), nullptr, 0}, workspace, {});
  return y;
}

void check_against_core(const Recurrent& r) {
  Random random;
  for (int directions : {1, 2})
    for (bool learned : {false, true}) {
      RandomRecurrent given(r, 3, 20, 2, directions, random);
      if (learned) given.learn_state();
      Network net;
      net.add_recurrent(given.layers);
      const Values x = random(steps * 3, 2);
      Values y(steps * net.output_size());
      net.run(x.data(), nullptr, 1, steps, nullptr, y.data());
      same(r.name + ": run, directions " + std::to_string(directions), y,
           core_forward(given, x, 3));
    }
}

// Bidirectional layers that merge, and backwards ones, from forward ones.
void check_directions() {
  Random random;
  const Recurrent gru = {"gru", CellKind::gru};
  const Values x = random(steps * 3, 2);
  Values backwards(x);
  for (Index t = 0; t < steps; ++t)
    std::copy_n(x.data() + (steps - 1 - t) * 3, 3, backwards.data() + t * 3);
  RandomRecurrent one(gru, 3, 6, 2, 1, random);
  Values y(steps * 6), expected = core_forward(one, backwards, 3);
  Network net;
  one.layers.go_backwards = true;
  net.add_recurrent(one.layers);
  net.run(x.data(), nullptr, 1, steps, nullptr, y.data());
  same("go_backwards", y, expected);
  if (net.streams()) ++failures, std::printf("go_backwards: streams\n");
  for (MergeMode mode : {MergeMode::sum, MergeMode::mean, MergeMode::mul}) {
    RandomRecurrent two(gru, 3, 6, 1, 2, random, mode);
    const Values both = core_forward(two, x, 3);
    for (Index i = 0; i < steps * 6; ++i) {
      const float a = both[i / 6 * 12 + i % 6], b = both[i / 6 * 12 + 6 + i % 6];
      expected[i] = mode == MergeMode::mul   ? a * b
                    : mode == MergeMode::sum ? a + b
                                             : (a + b) * 0.5f;
    }
    Network merged;
    merged.add_recurrent(two.layers);
    merged.run(x.data(), nullptr, 1, steps, nullptr, y.data());
    same("merged", y, expected);
    if (merged.streams()) ++failures, std::printf("merged: streams\n");
  }
}

// Layers that are not recurrent, from the operations that Python calls.
void check_operations() {
  Random random;
  Workspace workspace;
  const Values x = random(steps * 19, 2), weight = random(23 * 19, 1), bias = random(23, 1);
  Values y(steps * 23), expected(steps * 23), last(steps * 23);
  Network net;
  net.add_linear(19, 23, weight.data(), bias.data());
  net.add_layer_norm(23, bias.data(), nullptr, 1e-5f);
  net.add_activation(ActivationLayer::tanh);
  net.run(x.data(), nullptr, 1, steps, nullptr, y.data());
  linear_forward<float>({steps, 19, 23, x.data(), weight.data(), bias.data(), expected.data()},
                        workspace);
  layer_norm_forward<float>(
      {steps, 23, expected.data(), bias.data(), nullptr, 1e-5f, last.data(), nullptr, nullptr});
  kernels<float>().tanh(last.data(), expected.data(), steps * 23);
  same("operations", y, expected);
}

}  // namespace

int main() {
  for (const Named& n : networks()) {
    const Network& net = *n.network;
    if (!net.streams()) ++failures, std::printf("%s: does not stream\n", n.name.c_str());
    for (bool tokens : {false, true}) {
      if (tokens ? !net.accepts_tokens() : net.takes_tokens()) continue;
      const std::string name = n.name + (tokens ? " of tokens" : "");
      const Data d(net, tokens);
      check_steps(name, net, d);
      check_state(name, net, d);
      check_many(name, net, d);
      check_lengths(name, net, d);
    }
  }
  for (const Recurrent& r : recurrent_layers()) check_against_core(r);
  check_directions();
  check_operations();
  if (failures) std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
