// Same bits on every instruction set, for every number of threads. `test_bits ISA` prints a hash of
// every output of forward, backward and the other operations; the text is the same on all machines,
// so that of another architecture can be compared with diff. Without arguments, the program runs
// itself once for each instruction set of this machine and compares.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "dispatch.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "parallel.h"
#include "sequence/stack.h"

using namespace fastrnn;

namespace {

bool failed = false;

template <class Real>
using Values = std::vector<Real>;

// Multiples of 2^-23 in [-1, 1) from a 64-bit linear congruential generator: exact everywhere.
class Random {
 public:
  template <class Real>
  Values<Real> operator()(Index n, double scale) {
    Values<Real> out(n);
    for (Real& x : out) x = static_cast<Real>(scale * (static_cast<double>(next()) * 0x1p-23 - 1));
    return out;
  }
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 40);
  }

 private:
  std::uint64_t state_ = 1;
};

// FNV-1a over the bytes; all NaNs count as the same one, as the payload is the processor's choice.
template <class Real>
std::string hash(const Values<Real>& values) {
  std::uint64_t h = 14695981039346656037u;
  for (Real x : values) {
    if (x != x) x = std::numeric_limits<Real>::quiet_NaN();
    unsigned char bytes[sizeof x];
    std::memcpy(bytes, &x, sizeof x);
    for (unsigned char byte : bytes) h = (h ^ byte) * 1099511628211u;
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(h));
  return text;
}

// One line of hashes, in the making.
struct Line {
  std::string text;
  template <class Real>
  void add(const char* name, const Values<Real>& values) {
    text += std::string(" ") + name + " " + hash(values);
  }
};

// Prints what a case gives with one thread, and complains where more threads give something else.
template <class Case>
void print_case(const std::string& name, Case run) {
  Line first;
  for (int threads = 1; threads <= 3; ++threads) {
    set_max_threads(threads);
    Line line;
    run(line);
    if (threads == 1) first = line;
    if (line.text == first.text) continue;
    failed = true;
    std::printf("%s: %d threads differ\n%s\n", name.c_str(), threads, line.text.c_str());
  }
  std::printf("%s%s\n", name.c_str(), first.text.c_str());
}

// A cell with options: those of CellOptions, what weights it has, and what goes with each step.
struct Variant {
  const char* name;
  CellKind kind;
  Function f, g, h;
  double clip, cell_clip, keep_h, keep_c;
  bool projects = false, peephole = false, slope = false;
  bool keep_rows = false, attention = false, recurrent_mask = false;
  bool layer_norm = false;
};

struct Shape {
  CellKind kind;
  Index T, B, I, H, D;
  bool ragged, tokens;
  const Variant* variant = nullptr;
  Precision precision = Precision::float32;
  Index rows() const { return gate_count(kind) * H; }
  Index outputs() const { return variant && variant->projects ? (H + 1) / 2 : H; }
};

// Weights of one direction, and the gradients that are added to them.
template <class Real>
struct Direction {
  Values<Real> weights[weight_count];  // empty: absent
  Direction(const Shape& s, Random& random, double scale) {
    const Index P = s.outputs();
    const Variant* v = s.variant;
    const bool norm = v && v->layer_norm;
    const Index gains = norm ? s.rows() : 0, of_c = norm && has_cell_state(s.kind) ? s.H : 0;
    const Index sizes[weight_count] = {s.rows() * s.I,
                                       s.kind == CellKind::indrnn ? s.H : s.rows() * P,
                                       s.rows(),
                                       s.rows(),
                                       v && v->projects ? P * s.H : 0,
                                       v && v->peephole ? s.rows() - s.H : 0,
                                       v && v->slope ? s.H : 0,
                                       gains,
                                       gains,
                                       of_c,
                                       of_c};
    for (int i = 0; i < weight_count; ++i) weights[i] = random.operator()<Real>(sizes[i], scale);
  }
  template <class Pointer, class Self>
  static WeightPointers<Pointer> pointers(Self& self) {
    WeightPointers<Pointer> out;
    for (int i = 0; i < weight_count; ++i)
      out.at[i] = self.weights[i].empty() ? nullptr : self.weights[i].data();
    return out;
  }
  WeightPointers<Real*> gradients() { return pointers<Real*>(*this); }
  Cell<Real> packed(const Shape& s) const {
    CellOptions<Real> options = {};
    if (const Variant* v = s.variant) {
      const auto function = [](Function f) { return Activation<Real>{f, Real(0.75), Real(0.25)}; };
      options = {function(v->f),
                 function(v->g),
                 function(v->h),
                 static_cast<Real>(v->clip),
                 static_cast<Real>(v->cell_clip),
                 nullptr,
                 nullptr,
                 nullptr,
                 v->keep_h != 0 || v->keep_c != 0 || v->keep_rows,
                 static_cast<Real>(v->keep_h),
                 static_cast<Real>(v->keep_c),
                 {}};
      options.norm.epsilon = Real(1e-5);
    }
    return Cell<Real>({s.kind, s.I, s.H, s.outputs(), pointers<const Real*>(*this),
                       s.variant ? &options : nullptr, s.precision},
                      s.precision == Precision::float32);
  }
};

// What goes with each step of a variant.
template <class Real>
struct StepValues {
  Values<Real> attention, recurrent_mask, keep_h, keep_c, d_attention;
  StepValues(const Shape& s, Random& random) {
    const Variant* v = s.variant;
    if (!v) return;
    const Index entries = s.T * s.B;
    if (v->attention) attention = d_attention = random.operator()<Real>(entries, 1);
    if (v->recurrent_mask) recurrent_mask = zeros_and(2, s.D * s.B * s.outputs(), random);
    if (v->keep_rows) {
      keep_h = zeros_and(1, entries * s.D * s.H, random);
      if (has_cell_state(s.kind)) keep_c = zeros_and(1, entries * s.D * s.H, random);
    }
  }
  StepOptions<Real> options(const Shape& s) const {
    StepOptions<Real> out = {};
    const Index width = s.D * s.H;
    if (!attention.empty()) out.attention = {attention.data(), s.B, 1};
    if (!recurrent_mask.empty()) out.recurrent_mask = recurrent_mask.data();
    if (!keep_h.empty()) out.keep_h = {keep_h.data(), s.B * width, width};
    if (!keep_c.empty()) out.keep_c = {keep_c.data(), s.B * width, width};
    return out;
  }

 private:
  static Values<Real> zeros_and(Real value, Index n, Random& random) {
    Values<Real> out(n);
    for (Real& x : out) x = random.next() % 2 ? value : Real(0);
    return out;
  }
};

// With checkpoint_every > 0 all but the cache must be as without.
template <class Real>
void run_layer(const Shape& s, Index checkpoint_every, Line& line) {
  Random random;
  const Index T = s.T, B = s.B, width = s.D * s.outputs(), state = B * width;
  const Index cell_state = has_cell_state(s.kind) ? s.D * B * s.H : 0;
  std::vector<Direction<Real>> weights, gradients;
  std::vector<Cell<Real>> cells;
  cells.reserve(s.D);
  const Cell<Real>* pointers[2];
  for (Index d = 0; d < s.D; ++d) {
    weights.emplace_back(s, random, 0.7);
    gradients.emplace_back(s, random, 1);
    cells.push_back(weights[d].packed(s));
    pointers[d] = &cells[d];
  }
  const auto x = random.operator()<Real>(T * B * s.I, 2);
  const auto h0 = random.operator()<Real>(state, 1);
  const auto c0 = random.operator()<Real>(cell_state, 2);
  StepValues<Real> step(s, random);
  std::vector<Index> tokens(T * B), lengths(B);
  for (Index& token : tokens) token = random.next() % s.I;
  for (Index b = 0; b < B; ++b) lengths[b] = (b * 2 + T) % (T + 1);

  LayerInput<Real> in = {};
  in.steps = T;
  in.batch = B;
  if (s.tokens)
    in.tokens = {tokens.data(), B, 1};
  else
    in.x = {x.data(), B * s.I, s.I};
  if (s.ragged) in.lengths = lengths.data();
  in.h0 = h0.data();
  in.c0 = c0.data();
  in.options = step.options(s);

  Workspace workspace;
  Values<Real> y(T * B * width), h_n(state), c_n(cell_state);
  Values<Real> cache(cache_values(*pointers[0], static_cast<int>(s.D), in, checkpoint_every));
  const LayerOutput<Real> out = {
      {y.data(), B * width, width}, h_n.data(), c_n.data(), cache.data(), checkpoint_every};
  layer_forward(pointers, static_cast<int>(s.D), in, out, workspace, {});
  workspace.reset(0);

  const auto d_y = random.operator()<Real>(T * B * width, 1);
  const auto d_h_n = random.operator()<Real>(state, 1);
  const auto d_c_n = random.operator()<Real>(cell_state, 1);
  Values<Real> d_x(s.tokens ? 0 : T * B * s.I), d_h0(state), d_c0(c_n.size());
  LayerGradients<Real> g = {};
  g.d_y = {d_y.data(), B * width, width};
  g.d_h_n = d_h_n.data();
  g.d_c_n = d_c_n.data();
  if (!s.tokens) g.d_x = {d_x.data(), B * s.I, s.I};
  g.d_h0 = d_h0.data();
  g.d_c0 = d_c0.data();
  if (!step.d_attention.empty()) g.d_attention = {step.d_attention.data(), B, 1};
  for (Index d = 0; d < s.D; ++d) g.cells[d] = gradients[d].gradients();
  layer_backward(pointers, static_cast<int>(s.D), in, out, g, workspace, {});

  line.add("y", y);
  line.add("h_n", h_n);
  line.add("c_n", c_n);
  if (checkpoint_every == 0) line.add("cache", cache);
  line.add("d_x", d_x);
  line.add("d_h0", d_h0);
  line.add("d_c0", d_c0);
  if (!step.d_attention.empty()) line.add("d_attention", step.d_attention);
  const char* const names[weight_count] = {"d_weight_ih", "d_weight_hh", "d_bias_ih", "d_bias_hh",
                                           "d_weight_hr", "d_peephole",  "d_slope",   "d_gain_ih",
                                           "d_gain_hh",   "d_gain_c",    "d_bias_c"};
  for (Index d = 0; d < s.D; ++d)
    for (int i = 0; i < weight_count; ++i)
      if (!gradients[d].weights[i].empty()) line.add(names[i], gradients[d].weights[i]);
}

template <class Real>
std::string named(const char* what) {
  return std::string(sizeof(Real) == 4 ? "float32 " : "float64 ") + what;
}

// Gates that backward computes anew give the bits of those that forward kept.
template <class Real>
void check_checkpoints(const std::string& name, const Shape& s) {
  Line kept;
  run_layer<Real>(s, 0, kept);
  kept.text.erase(kept.text.find(" cache"), std::strlen(" cache ") + 16);
  const Index every = std::max<Index>(2, s.T / 8);
  for (int threads : {1, 2}) {
    set_max_threads(threads);
    Line anew;
    run_layer<Real>(s, every, anew);
    if (anew.text == kept.text) continue;
    failed = true;
    std::printf("%s: checkpoints every %td, %d threads differ\n", name.c_str(), every, threads);
  }
}

template <class Real>
void print_layer(const char* kind, const Shape& s) {
  char text[100];
  std::snprintf(text, sizeof text, "%s T %td B %td I %td H %td D %td%s%s", kind, s.T, s.B, s.I, s.H,
                s.D, s.ragged ? " ragged" : "", s.tokens ? " tokens" : "");
  print_case(named<Real>(text), [&](Line& line) { run_layer<Real>(s, 0, line); });
  check_checkpoints<Real>(named<Real>(text), s);
}

template <class Real>
void print_layers() {
  const char* const kinds[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};
  for (int kind = 0; kind < 5; ++kind) {
    std::vector<Shape> shapes;
    const auto shape = [&](Index T, Index B, Index I, Index H, Index D, bool ragged, bool tokens) {
      shapes.push_back({static_cast<CellKind>(kind), T, B, I, H, D, ragged, tokens});
    };
    for (Index H : {1, 3, 17, 40})
      for (Index B : {1, 5}) shape(5, B, H == 3 ? 20 : 7, H, H == 17 ? 2 : 1, false, false);
    shape(5, 5, 7, 17, 2, true, false);     // padded
    shape(5, 5, 30, 17, 1, true, true);     // one-hot
    shape(60, 3, 5, 20, 1, false, false);   // more entries than one block of the weight gradients
    shape(3, 29, 70, 33, 1, false, false);  // tiles of unequal height
    shape(4, 1, 20, 150, 1, false, false);  // threads share a row
    for (const Shape& s : shapes) print_layer<Real>(kinds[kind], s);
  }
}

template <class Real>
void print_variants() {
  using K = CellKind;
  using F = Function;
  constexpr double none = std::numeric_limits<double>::infinity();
  const F s = F::sigmoid, t = F::tanh;
  const Variant variants[] = {
      // clip, cell_clip, keep_h, keep_c, projects, peephole, slope, keep_rows, attention, mask, norm
      {"projection", K::lstm, s, t, t, none, none, 0, 0, 1, 0, 0, 0, 0, 0},
      {"projection, mask", K::lstm, s, t, t, none, none, 0, 0, 1, 0, 0, 0, 0, 1},
      {"peephole", K::lstm, s, t, t, none, none, 0, 0, 0, 1, 0, 0, 0, 0},
      {"all of lstm", K::lstm, s, t, t, 0.5, 0.3, 0, 0.25, 1, 1, 0, 0, 0, 1},
      {"zoneout", K::lstm, s, t, t, none, none, 0.25, 0.5, 0, 0, 0, 0, 0, 0},
      {"zoneout in training", K::lstm, s, t, t, none, none, 0.25, 0.5, 0, 1, 0, 1, 0, 1},
      {"coupled", K::lstm_coupled, s, t, t, none, none, 0, 0, 0, 0, 0, 0, 0, 0},
      {"coupled, all", K::lstm_coupled, s, F::elu, F::softsign, 0.9, 0.6, 0, 0.5, 1, 1, 0, 1, 0, 1},
      {"functions", K::lstm, F::hard_sigmoid, F::scaled_tanh, F::softplus, none, none, 0, 0},
      {"gru, zoneout", K::gru, s, F::elu, t, none, none, 0.5, 0, 0, 0, 0, 0, 0, 1},
      {"gru, all", K::gru, s, t, t, 0.5, none, 0.5, 0, 0, 0, 0, 1, 1, 1},
      {"before, mask", K::gru_reset_before, s, t, t, none, none, 0, 0, 0, 0, 0, 0, 0, 1},
      {"before, all", K::gru_reset_before, F::softsign, t, t, 0.5, none, 0.5, 0, 0, 0, 0, 1, 1, 1},
      {"prelu", K::rnn, F::prelu, t, t, 0.8, none, 0.5, 0, 0, 0, 1, 1, 0, 1},
      {"indrnn", K::indrnn, F::relu, t, t, none, none, 0, 0, 0, 0, 0, 0, 0, 0},
      {"indrnn, all", K::indrnn, F::prelu, t, t, 0.8, none, 0.5, 0, 0, 0, 1, 1, 0, 0},
      {"affine", K::rnn, F::affine, t, t, 2, none, 0, 0},
      {"leaky_relu", K::rnn, F::leaky_relu, t, t, none, none, 0, 0},
      {"thresholded_relu", K::rnn, F::thresholded_relu, t, t, none, none, 0, 0},
      {"sigmoid", K::rnn, s, t, t, none, none, 0.125, 0},
      {"softplus", K::rnn, F::softplus, t, t, 3, none, 0, 0},
      {"norm", K::lstm, s, t, t, none, none, 0, 0, 0, 0, 0, 0, 0, 0, 1},
      {"norm, all", K::lstm_coupled, s, t, F::softsign, 0.5, 0.3, 0, 0.5, 1, 1, 0, 1, 0, 1, 1},
      {"norm, gru", K::gru, s, t, t, none, none, 0.5, 0, 0, 0, 0, 1, 1, 1, 1},
      {"norm, before", K::gru_reset_before, s, t, t, 0.5, none, 0, 0, 0, 0, 0, 0, 0, 1, 1},
      {"norm, rnn", K::rnn, F::relu, t, t, none, none, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
  for (const Variant& v : variants) {
    const Index D = v.attention ? 1 : 2;
    const Shape shapes[] = {{v.kind, 5, 5, 7, 17, D, true, false, &v},
                            {v.kind, 5, 4, 30, 40, 1, true, true, &v},
                            {v.kind, 20, 3, 5, 3, D, false, false, &v},
                            {v.kind, 3, 29, 33, 33, 1, false, false, &v},
                            {v.kind, 4, 1, 20, 150, 1, false, false, &v}};
    for (const Shape& shape : shapes) print_layer<Real>(v.name, shape);
  }
}

// A stack gives what its layers give one after the other, whatever the chunks and the threads.
template <class Real>
void run_stack(const Shape& s, Line& line) {
  constexpr int layers = 3;
  Random random;
  const Index T = s.T, B = s.B, width = s.D * s.H, state = s.D * B * s.H;
  std::vector<Cell<Real>> cells;
  cells.reserve(layers * s.D);
  std::vector<const Cell<Real>*> pointers;
  for (int layer = 0; layer < layers; ++layer)
    for (Index d = 0; d < s.D; ++d) {
      Shape shape = s;
      if (layer > 0) shape.I = width;
      cells.push_back(Direction<Real>(shape, random, 0.3).packed(shape));
      pointers.push_back(&cells.back());
    }
  const auto x = random.operator()<Real>(T * B * s.I, 2);
  const auto h0 = random.operator()<Real>(layers * state, 1);
  const auto c0 = random.operator()<Real>(layers * state, 2);
  std::vector<Index> lengths(B);
  for (Index b = 0; b < B; ++b) lengths[b] = b * 13 % (T - 1);

  LayerInput<Real> in = {};
  in.steps = T;
  in.batch = B;
  in.x = {x.data(), B * s.I, s.I};
  if (s.ragged) in.lengths = lengths.data();
  in.h0 = h0.data();
  in.c0 = c0.data();
  Workspace workspace;
  Values<Real> y(T * B * width, 9), h_n(layers * state), c_n(layers * state);
  const Sequence<Real> y_view = {y.data(), B * width, width};
  stack_forward({pointers.data(), layers, static_cast<int>(s.D)}, in,
                {y_view, h_n.data(), c_n.data(), nullptr, 0}, workspace, {});
  line.add("y", y);
  line.add("h_n", h_n);
  if (has_cell_state(s.kind)) line.add("c_n", c_n);

  Values<Real> outputs[layers], h_one(layers * state), c_one(layers * state);
  for (int layer = 0; layer < layers; ++layer) {
    outputs[layer].resize(T * B * width);
    const LayerOutput<Real> out = {{outputs[layer].data(), B * width, width},
                                   h_one.data() + layer * state,
                                   c_one.data() + layer * state,
                                   nullptr,
                                   0};
    in.h0 = h0.data() + layer * state;
    in.c0 = c0.data() + layer * state;
    layer_forward(&pointers[layer * s.D], static_cast<int>(s.D), in, out, workspace, {});
    in.x = {outputs[layer].data(), B * width, width};
  }
  if (hash(y) != hash(outputs[layers - 1]) || hash(h_n) != hash(h_one) ||
      hash(c_n) != hash(c_one)) {
    std::printf("FAILED: a stack gives something else than its layers\n");
    failed = true;
  }
}

template <class Real>
void print_stacks(Precision precision) {
  const CellKind kinds[] = {CellKind::lstm, CellKind::gru, CellKind::gru_reset_before,
                            CellKind::rnn_tanh};
  const char* const names[] = {"stack", "bf16 stack", "", "int8 stack"};
  for (const CellKind kind : kinds)
    for (const bool ragged : {false, true}) {
      const Index H = gate_count(kind) == 1 ? 100 : 48;
      const Shape shapes[] = {
          {kind, 70, ragged ? 3 : 1, 5, H, 1, ragged, false, nullptr, precision},
          {kind, 9, 5, 5, 17, 2, ragged, false, nullptr, precision},
          {kind, 3, 70, 5, 17, 1, ragged, false, nullptr, precision}};
      for (const Shape& s : shapes) {
        char text[100];
        std::snprintf(text, sizeof text, "%s %d T %td B %td H %td D %td%s",
                      names[static_cast<int>(precision)], static_cast<int>(s.kind), s.T, s.B, s.H,
                      s.D, ragged ? " ragged" : "");
        print_case(named<Real>(text), [&](Line& line) { run_stack<Real>(s, line); });
      }
    }
}

// Wide enough for infinities and denormal results, with NaN.
template <class Real>
void run_nonlinearities(Line& line) {
  Random random;
  const double widest = sizeof(Real) == 4 ? 110 : 760;
  auto x = random.operator()<Real>(40003, 1);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= static_cast<Real>(i % 2 ? widest : 3);
  const Real infinite = std::numeric_limits<Real>::infinity();
  const Real edges[] = {Real(0),
                        -Real(0),
                        infinite,
                        -infinite,
                        infinite - infinite,
                        std::numeric_limits<Real>::denorm_min()};
  std::copy(std::begin(edges), std::end(edges), x.begin());
  Values<Real> y(x.size());
  const char* const names[] = {"exp", "tanh", "sigmoid"};
  for (int i = 0; i < 3; ++i) {
    apply(static_cast<Nonlinearity>(i), x.data(), y.data(), static_cast<Index>(x.size()));
    line.add(names[i], y);
  }
}

template <class Real>
void run_linear(Line& line) {
  Random random;
  const Index N = 131, I = 37, O = 43;
  const auto x = random.operator()<Real>(N * I, 1), weight = random.operator()<Real>(O * I, 1);
  const auto bias = random.operator()<Real>(O, 1), d_y = random.operator()<Real>(N * O, 1);
  Values<Real> y(N * O), d_x(N * I);
  auto d_weight = random.operator()<Real>(O * I, 1), d_bias = random.operator()<Real>(O, 1);
  Workspace workspace;
  linear_forward<Real>({N, I, O, x.data(), weight.data(), bias.data(), y.data()}, workspace);
  workspace.reset(0);
  linear_backward<Real>(
      {N, I, O, x.data(), weight.data(), d_y.data(), d_weight.data(), d_bias.data(), d_x.data()},
      workspace);
  line.add("y", y);
  line.add("d_x", d_x);
  line.add("d_weight", d_weight);
  line.add("d_bias", d_bias);
}

template <class Real>
void run_layer_norm(Line& line) {
  Random random;
  for (const Index F : {1, 7, 16, 43, 300}) {
    const Index N = 261;
    const auto x = random.operator()<Real>(N * F, 3), d_y = random.operator()<Real>(N * F, 1);
    const auto weight = random.operator()<Real>(F, 1), bias = random.operator()<Real>(F, 1);
    auto d_weight = random.operator()<Real>(F, 1), d_bias = random.operator()<Real>(F, 1);
    Values<Real> y(N * F), mean(N), rstd(N), d_x(N * F);
    layer_norm_forward<Real>({N, F, x.data(), weight.data(), bias.data(), Real(1e-5), y.data(),
                              mean.data(), rstd.data()});
    layer_norm_backward<Real>(
        {N, F, x.data(), weight.data(), mean.data(), rstd.data(), d_y.data(), d_x.data()},
        d_weight.data(), d_bias.data());
    line.add("y", y);
    line.add("mean", mean);
    line.add("rstd", rstd);
    line.add("d_x", d_x);
    line.add("d_weight", d_weight);
    line.add("d_bias", d_bias);
  }
}

template <class Real>
void run_cross_entropy(Line& line) {
  Random random;
  const Index N = 301, C = 67;
  const auto logits = random.operator()<Real>(N * C, 9), weights = random.operator()<Real>(N, 1);
  std::vector<Index> targets(N);
  for (Index& target : targets) target = random.next() % C;
  Values<Real> losses(N), d_logits(N * C);
  cross_entropy<Real>(
      {N, C, 3, logits.data(), targets.data(), weights.data(), losses.data(), d_logits.data()});
  line.add("losses", losses);
  line.add("d_logits", d_logits);
}

template <class Real>
void run_optimisers(Line& line) {
  Random random;
  const Index n = 50001;
  const auto grad = random.operator()<Real>(n, 1);
  auto param = random.operator()<Real>(n, 1), momentum = random.operator()<Real>(n, 1);
  auto mean = random.operator()<Real>(n, 0.1), square = random.operator()<Real>(n, 1);
  for (Real& x : square) x = x * x + Real(0.25);
  SgdStep<Real> sgd = {};
  sgd.n = n;
  sgd.param = param.data();
  sgd.momentum_buffer = momentum.data();
  sgd.grad = grad.data();
  sgd.lr = Real(0.01);
  sgd.momentum = sgd.fresh = Real(0.9);
  sgd.weight_decay = Real(0.05);
  sgd.nesterov = true;
  sgd_step(sgd);
  line.add("sgd", param);
  RmspropStep<Real> rmsprop = {};
  rmsprop.n = n;
  rmsprop.param = param.data();
  rmsprop.square_avg = square.data();
  rmsprop.momentum_buffer = momentum.data();
  rmsprop.grad_avg = mean.data();
  rmsprop.grad = grad.data();
  rmsprop.lr = Real(0.01);
  rmsprop.alpha = Real(0.99);
  rmsprop.rest = Real(0.01);
  rmsprop.eps = Real(1e-8);
  rmsprop.weight_decay = Real(0.05);
  rmsprop.momentum = Real(0.9);
  rmsprop_step(rmsprop);
  line.add("rmsprop", param);
  AdamStep<Real> adam = {};
  adam.n = n;
  adam.param = param.data();
  adam.exp_avg = mean.data();
  adam.exp_avg_sq = square.data();
  adam.grad = grad.data();
  adam.rest1 = Real(0.1);
  adam.beta2 = Real(0.99);
  adam.rest2 = Real(0.01);
  adam.eps = Real(1e-8);
  adam.weight_decay = Real(0.05);
  adam.step_size = Real(0.01);
  adam.root_correction = Real(0.3);
  adam.decay = Real(0.999);
  adam_step(adam);
  line.add("adam", param);
  line.add("momentum", momentum);
  line.add("mean", mean);
  line.add("square", square);
  clip_value(param.data(), n, Real(0.5));
  scale(param.data(), n, Real(0.3));
  line.add("clipped", param);
  line.add("sum_of_squares", Values<double>{sum_of_squares(param.data(), n)});
}

template <class Real>
void print_all() {
  print_layers<Real>();
  print_variants<Real>();
  print_stacks<Real>(Precision::float32);
  print_case(named<Real>("non-linearities"), run_nonlinearities<Real>);
  print_case(named<Real>("linear"), run_linear<Real>);
  print_case(named<Real>("layer norm"), run_layer_norm<Real>);
  print_case(named<Real>("cross entropy"), run_cross_entropy<Real>);
  print_case(named<Real>("optimisers"), run_optimisers<Real>);
}

int print_hashes(const char* isa) {
  if (active_isa() != isa) {
    std::fprintf(stderr, "test_bits: expected %s to run, got %s\n", isa, active_isa().c_str());
    return 1;
  }
  print_all<float>();
  print_stacks<float>(Precision::bf16);
  print_stacks<float>(Precision::int8);
  print_all<double>();
  return failed;
}

// What the program prints when it runs with that instruction set alone, and whether it was content.
std::string printed(const std::string& program, const std::string& isa, bool& content) {
  const std::string command = "FASTRNN_ISA=" + isa + " '" + program + "' " + isa;
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return "";
  char part[4096];
  for (std::size_t n; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) text.append(part, n);
  content = pclose(pipe) == 0 && !text.empty();
  return text;
}

int compare_all(const std::string& program) {
  std::string expected;
  bool same = true;
  for (const std::string& isa : supported_isas()) {
    bool content = false;
    const std::string text = printed(program, isa, content);
    if (expected.empty()) expected = text;
    const bool equal = text == expected;
    std::printf("%s: %s, hash of all %s\n", isa.c_str(),
                !content ? "failed"
                : equal  ? "same"
                         : "differs",
                hash(std::vector<float>(text.begin(), text.end())).c_str());
    same = same && content && equal;
  }
  return same ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return count > 1 ? print_hashes(arguments[1]) : compare_all(arguments[0]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_bits: %s\n", error.what());
    return 1;
  }
}
