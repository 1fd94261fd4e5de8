// Kinds, shapes, lengths, options and strides of recurrent layers, read from any bytes: forward and
// backward keep to their arrays, a stack is its layers one after the other, and checkpoints change
// nothing. Arrays of exactly the stated sizes are AddressSanitizer's to watch, gaps within them are
// watched here. Built with FASTRNN_FUZZ=ON; tools/trust.sh fuzz runs it.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "sequence/stack.h"

using namespace fastrnn;

namespace {

template <class Real>
using Values = std::vector<Real>;

void must(bool good) {
  if (!good) std::abort();
}

template <class Real>
bool same(const Values<Real>& a, const Values<Real>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Real)) == 0);
}

// The fuzzer's bytes as choices; zeros when there are no more.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  Index operator()(Index least, Index most) {
    const Index byte = at_ < size_ ? data_[at_++] : 0;
    return least + byte % (most - least + 1);
  }
  bool flag() { return (*this)(0, 1) != 0; }
  template <class Real>
  Values<Real> values(Index n, double scale) {
    Values<Real> out(static_cast<std::size_t>(n));
    for (Real& x : out) {
      state_ = state_ * 1664525u + 1013904223u;
      x = static_cast<Real>(scale * (static_cast<double>(state_ >> 8) * 0x1p-23 - 1));
    }
    return out;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
  std::uint32_t state_ = 1;
};

// (T, B, width) with gaps between rows and steps, which nobody may write to.
template <class Real>
class Strided {
 public:
  Strided(Choices& choose, Index T, Index B, Index width) : T_(T), B_(B), width_(width) {
    const Index row_gap = choose(0, 3), step_gap = choose(0, 3);
    const bool batch_first = choose.flag();
    row_ = batch_first ? T * (width + row_gap) + step_gap : width + row_gap;
    step_ = batch_first ? width + row_gap : B * (width + row_gap) + step_gap;
    values_.assign(static_cast<std::size_t>(T > 0 && B > 0 ? last() + width : 1), gap);
  }
  void fill(const Values<Real>& from) {
    for (Index t = 0; t < T_; ++t)
      for (Index b = 0; b < B_; ++b)
        std::copy_n(from.data() + (t * B_ + b) * width_, width_, view().at(t, b));
  }
  Values<Real> contiguous() const {
    Values<Real> out;
    for (Index t = 0; t < T_; ++t)
      for (Index b = 0; b < B_; ++b) {
        const Real* row = values_.data() + t * step_ + b * row_;
        out.insert(out.end(), row, row + width_);
      }
    return out;
  }
  // After contiguous() has been read: whether all else still is a gap.
  bool gaps_intact() const {
    Values<Real> rest = values_;
    for (Index t = 0; t < T_; ++t)
      for (Index b = 0; b < B_; ++b) std::fill_n(rest.data() + t * step_ + b * row_, width_, gap);
    return rest == Values<Real>(rest.size(), gap);
  }
  Sequence<Real> view() { return {values_.data(), step_, row_}; }
  Sequence<const Real> read() const { return {values_.data(), step_, row_}; }

 private:
  static constexpr Real gap = Real(12345);
  Index last() const { return (T_ - 1) * step_ + (B_ - 1) * row_; }
  const Index T_, B_, width_;
  Index row_, step_;
  Values<Real> values_;
};

// A layer's kind, sizes and options, as Python allows them.
template <class Real>
struct Choice {
  CellKind kind;
  Index T, B, I, H, P;
  int D;
  bool general, ragged, tokens, peephole, slope, norm, attention, mask, keep_rows;
  CellOptions<Real> options = {};
  Index checkpoint_every;

  explicit Choice(Choices& choose)
      : kind(static_cast<CellKind>(choose(0, cell_kinds - 1))),
        T(choose(0, 12)),
        B(choose(0, 14)),
        I(choose(1, 40)),
        H(choose(1, 45)),
        D(static_cast<int>(choose(1, 2))),
        ragged(choose.flag()),
        tokens(choose.flag()),
        checkpoint_every(choose(0, 5)) {
    const bool options_only =
        kind == CellKind::rnn || kind == CellKind::indrnn || kind == CellKind::lstm_coupled;
    const bool plain_only = kind == CellKind::rnn_tanh || kind == CellKind::rnn_relu;
    const bool lstm = has_cell_state(kind), gru = is_gru(kind), one = gate_count(kind) == 1;
    general = options_only || (!plain_only && choose.flag());
    P = general && lstm && H > 1 && choose.flag() ? choose(1, H - 1) : H;
    peephole = general && lstm && choose.flag();
    norm = general && kind != CellKind::indrnn && choose.flag();
    slope = general && one && choose.flag();
    attention = general && gru && D == 1 && choose.flag();
    mask = general && kind != CellKind::indrnn && choose.flag();
    keep_rows = general && P == H && choose.flag();
    if (general) choose_options(choose, lstm);
  }
  Index rows() const { return gate_count(kind) * H; }
  Index width() const { return D * P; }

 private:
  void choose_options(Choices& choose, bool lstm) {
    constexpr Real none = std::numeric_limits<Real>::infinity();
    const auto function = [&] {
      return Activation<Real>{static_cast<Function>(choose(0, 10)), Real(0.75), Real(0.25)};
    };
    options.f = function();
    options.g = function();
    options.h = function();
    if (slope) options.f.function = Function::prelu;
    options.clip = choose.flag() ? Real(0.5) : none;
    options.cell_clip = lstm && choose.flag() ? Real(0.4) : none;
    options.keep_h = P == H && choose.flag() ? Real(0.25) : 0;
    options.keep_c = lstm && choose.flag() ? Real(0.5) : 0;
    options.zoneout = keep_rows || options.keep_h != 0 || options.keep_c != 0;
    options.norm.epsilon = Real(1e-5);
  }
};

// Weights of a cell, or the gradients that are added to them; each vector of exactly its size.
template <class Real>
struct Weights {
  Values<Real> of[weight_count];
  Weights(const Choice<Real>& s, Index inputs, Choices& choose) {
    const bool bias = choose.flag();
    const Index gain = s.norm ? s.rows() : 0, of_c = s.norm && has_cell_state(s.kind) ? s.H : 0;
    const Index sizes[weight_count] = {s.rows() * inputs,
                                       s.kind == CellKind::indrnn ? s.H : s.rows() * s.P,
                                       bias ? s.rows() : 0,
                                       bias ? s.rows() : 0,
                                       s.P != s.H ? s.P * s.H : 0,
                                       s.peephole ? s.rows() - s.H : 0,
                                       s.slope ? s.H : 0,
                                       gain,
                                       gain,
                                       of_c,
                                       of_c};
    for (int i = 0; i < weight_count; ++i) of[i] = choose.values<Real>(sizes[i], 0.6);
  }
  template <class Pointer, class Self>
  static WeightPointers<Pointer> pointers(Self& self) {
    WeightPointers<Pointer> out;
    for (int i = 0; i < weight_count; ++i)
      out.at[i] = self.of[i].empty() ? nullptr : self.of[i].data();
    return out;
  }
};

template <class Real>
class Layer {
 public:
  Layer(const Choice<Real>& s, Index inputs, Choices& choose) {
    for (int d = 0; d < s.D; ++d) {
      const Weights<Real> weights(s, inputs, choose);
      if (d == 0) zeros = std::make_unique<Weights<Real>>(weights);
      CellWeights<Real> all = {};
      all.kind = s.kind;
      all.input_size = inputs;
      all.hidden_size = s.H;
      all.output_size = s.P;
      all.weights = Weights<Real>::template pointers<const Real*>(weights);
      if (s.general) all.options = &s.options;
      cells_[d] = std::make_unique<Cell<Real>>(all, true);
      cells[d] = cells_[d].get();
    }
  }
  const Cell<Real>* cells[2] = {};
  std::unique_ptr<Weights<Real>> zeros;  // of the sizes that gradients have

 private:
  std::unique_ptr<Cell<Real>> cells_[2];
};

// What one pass over a layer reads and writes, and what came out.
template <class Real>
class Pass {
 public:
  Pass(const Choice<Real>& s, Choices& choose)
      : s_(s), x_(choose, s.T, s.B, s.I), y_(choose, s.T, s.B, s.width()) {
    x_.fill(choose.values<Real>(s.T * s.B * s.I, 2));
    for (Index i = 0; i < s.T * s.B; ++i) tokens_.push_back(choose(0, s.I - 1));
    for (Index b = 0; b < s.B; ++b) lengths_.push_back(choose(0, s.T));
    h0_ = choose.values<Real>(s.B * s.width(), 1);
    c0_ = choose.values<Real>(has_cell_state(s.kind) ? s.D * s.B * s.H : 0, 1);
    attention_ = choose.values<Real>(s.attention ? s.T * s.B : 0, 1);
    mask_ = choose.values<Real>(s.mask ? s.B * s.width() : 0, 1);
    keep_ = choose.values<Real>(s.keep_rows ? s.T * s.B * s.D * s.H : 0, 1);
    in.steps = s.T;
    in.batch = s.B;
    if (s.tokens)
      in.tokens = {tokens_.data(), s.B, 1};
    else
      in.x = x_.read();
    if (s.ragged) in.lengths = lengths_.data();
    if (choose.flag()) in.h0 = h0_.data(), in.c0 = c0_.empty() ? nullptr : c0_.data();
    if (s.attention) in.options.attention = {attention_.data(), s.B, 1};
    if (s.mask) in.options.recurrent_mask = mask_.data();
    const Index units = s.D * s.H;
    if (s.keep_rows) in.options.keep_h = {keep_.data(), s.B * units, units};
    if (s.keep_rows && has_cell_state(s.kind)) in.options.keep_c = in.options.keep_h;
    h_n = Values<Real>(h0_.size());
    c_n = Values<Real>(c0_.size());
  }

  // Everything that comes out of forward and backward, in one row.
  Values<Real> train(const Layer<Real>& layer, Index checkpoint_every, Choices choose) {
    Workspace workspace;
    Values<Real> cache(
        static_cast<std::size_t>(cache_values(*layer.cells[0], s_.D, in, checkpoint_every)));
    const LayerOutput<Real> out = {y_.view(), h_n.data(), c_n.data(), cache.data(),
                                   checkpoint_every};
    // An empty cache has no address, and null means inference.
    Real nothing;
    LayerOutput<Real> to = out;
    if (cache.empty()) to.cache = &nothing;
    must(layer_forward(layer.cells, s_.D, in, to, workspace, {}));
    workspace.reset(0);
    Values<Real> all = y_.contiguous();
    must(y_.gaps_intact());
    append(all, h_n);
    append(all, c_n);

    Strided<Real> d_y(choose, s_.T, s_.B, s_.width()), d_x(choose, s_.T, s_.B, s_.I);
    d_y.fill(choose.values<Real>(s_.T * s_.B * s_.width(), 1));
    const Values<Real> d_h_n = choose.values<Real>(static_cast<Index>(h_n.size()), 1);
    const Values<Real> d_c_n = choose.values<Real>(static_cast<Index>(c_n.size()), 1);
    Values<Real> d_h0(h_n.size()), d_c0(c_n.size()), d_attention(attention_.size());
    std::vector<Weights<Real>> d_weights(static_cast<std::size_t>(s_.D), *layer.zeros);
    LayerGradients<Real> g = {};
    if (choose.flag()) g.d_y = d_y.read();
    if (choose.flag()) g.d_h_n = d_h_n.data();
    if (choose.flag() && !d_c_n.empty()) g.d_c_n = d_c_n.data();
    if (!s_.tokens && choose.flag()) g.d_x = d_x.view();
    g.d_h0 = d_h0.data();
    g.d_c0 = d_c0.data();
    if (s_.attention) g.d_attention = {d_attention.data(), s_.B, 1};
    for (int d = 0; d < s_.D; ++d)
      g.cells[d] = Weights<Real>::template pointers<Real*>(d_weights[static_cast<std::size_t>(d)]);
    must(layer_backward(layer.cells, s_.D, in, to, g, workspace, {}));
    must(d_x.gaps_intact());
    if (g.d_x.data) append(all, d_x.contiguous());
    append(all, d_h0);
    append(all, d_c0);
    append(all, d_attention);
    for (const Weights<Real>& d : d_weights)
      for (const Values<Real>& one : d.of) append(all, one);
    return all;
  }

  // The same through a stack of `layers`, all but the first of which take what the one before gives.
  Values<Real> infer(const std::vector<Layer<Real>>& layers, bool as_stack) {
    const int count = static_cast<int>(layers.size());
    const std::size_t h = h_n.size(), c = c_n.size();
    Values<Real> h_n(h * layers.size()), c_n(c * layers.size());
    Workspace workspace;
    LayerInput<Real> in = this->in;
    in.h0 = in.c0 = nullptr;
    in.options = {};
    if (as_stack) {
      std::vector<const Cell<Real>*> cells;
      for (const Layer<Real>& layer : layers)
        cells.insert(cells.end(), layer.cells, layer.cells + s_.D);
      must(stack_forward<Real>({cells.data(), count, s_.D}, in,
                               {y_.view(), h_n.data(), c_n.data(), nullptr, 0}, workspace, {}));
    }
    Values<Real> between[2];
    for (int i = 0; i < count && !as_stack; ++i) {
      Values<Real>& buffer = between[i % 2];
      buffer.assign(static_cast<std::size_t>(s_.T * s_.B * s_.width()), Real(7));
      Sequence<Real> y = {buffer.data(), s_.B * s_.width(), s_.width()};
      if (i == count - 1) y = y_.view();
      const std::size_t n = static_cast<std::size_t>(i);
      must(layer_forward<Real>(layers[n].cells, s_.D, in,
                               {y, h_n.data() + n * h, c_n.data() + n * c, nullptr, 0}, workspace,
                               {}));
      in.x = {y.data, y.step, y.row};
      in.tokens = {};
    }
    must(y_.gaps_intact());
    Values<Real> all = y_.contiguous();
    append(all, h_n);
    append(all, c_n);
    return all;
  }

 private:
  static void append(Values<Real>& all, const Values<Real>& more) {
    all.insert(all.end(), more.begin(), more.end());
  }

  const Choice<Real>& s_;
  Strided<Real> x_, y_;
  std::vector<Index> tokens_, lengths_;
  Values<Real> h0_, c0_, attention_, mask_, keep_, h_n, c_n;
  LayerInput<Real> in = {};
};

template <class Real>
void run(Choices choose) {
  const Choice<Real> s(choose);
  const bool stack = choose.flag();
  std::vector<Layer<Real>> layers;
  layers.emplace_back(s, s.I, choose);
  Pass<Real> pass(s, choose);
  if (!stack) {
    const Values<Real> all = pass.train(layers[0], 0, choose);
    if (s.checkpoint_every > 0) must(same(all, pass.train(layers[0], s.checkpoint_every, choose)));
    return;
  }
  for (Index more = choose(1, 2); more > 0; --more) layers.emplace_back(s, s.width(), choose);
  must(same(pass.infer(layers, true), pass.infer(layers, false)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choose(data, size);
  if (choose.flag())
    run<double>(choose);
  else
    run<float>(choose);
  return 0;
}
