#include "model/sequences.h"

#include <algorithm>

#include "sequence/layer.h"

namespace fastrnn {
namespace {

using Kind = NetworkLayer::Kind;

// What one layer gives the next: values (batch, steps, width), or tokens (batch, steps) before the
// first one that takes them.
struct LayerRows {
  const float* x;
  const Index* tokens;
  Index width;
};

class SequenceRun {
 public:
  SequenceRun(const Network& network, const Sequences& s)
      : network_(network), s_(s), tokens_(s.tokens ? s.batch * s.steps : 0) {
    for (Index b = 0; b < s.batch; ++b)
      for (Index t = 0; t < length(b); ++t) {
        real_.push_back(b * s.steps + t);
        if (s.tokens) tokens_[real_.back()] = s.tokens[real_.back()];
      }
  }

  void run() {
    LayerRows rows = {s_.x, s_.tokens ? tokens_.data() : nullptr, network_.input_size()};
    Buffer<float> before;  // what `rows` refers to, but for the first
    for (const NetworkLayer& layer : network_.layers()) {
      if (layer.kind == Kind::reverse && rows.tokens) {
        reverse_tokens();
        continue;
      }
      Buffer<float> out(checked_product(checked_product(s_.batch, s_.steps), layer.out));
      forward(layer, rows, out.data());
      before = std::move(out);
      rows = {before.data(), nullptr, layer.out};
    }
    for (Index b = 0; b < s_.batch; ++b) {
      const Index all = s_.steps * rows.width, real = length(b) * rows.width;
      std::copy_n(rows.x + b * all, real, s_.y + b * all);
      std::fill(s_.y + b * all + real, s_.y + (b + 1) * all, 0.0f);
    }
  }

 private:
  Index length(Index b) const { return s_.lengths ? s_.lengths[b] : s_.steps; }

  void forward(const NetworkLayer& layer, const LayerRows& rows, float* out) {
    if (layer.kind == Kind::recurrent) return recurrent(layer, rows, out);
    if (layer.kind == Kind::reverse) return reverse(rows, out);
    std::vector<const float*> x(real_.size());
    std::vector<float*> y(real_.size());
    std::vector<Index> tokens(rows.tokens ? real_.size() : 0);
    for (std::size_t i = 0; i < real_.size(); ++i) {
      if (rows.tokens)
        tokens[i] = rows.tokens[real_[i]];
      else
        x[i] = rows.x + real_[i] * rows.width;
      y[i] = out + real_[i] * layer.out;
    }
    forward_rows(layer, static_cast<Index>(real_.size()), x.data(),
                 rows.tokens ? tokens.data() : nullptr, y.data());
  }

  void recurrent(const NetworkLayer& layer, const LayerRows& rows, float* out) {
    const Cell<float>& cell = *layer.cells[0];
    const int directions = static_cast<int>(layer.cells.size());
    const Index P = cell.output_size, H = has_cell_state(cell.kind) ? cell.hidden_size : 0;
    const float *h0 = layer.weight.data(), *c0 = h0 + directions * P;
    std::vector<float> h = repeated(h0, directions, P), c = repeated(c0, directions, H);
    const Cell<float>* cells[2] = {layer.cells[0].get(), layer.cells[directions - 1].get()};
    LayerInput<float> in = {};
    in.steps = s_.steps;
    in.batch = s_.batch;
    in.x = {rows.tokens ? nullptr : rows.x, rows.width, s_.steps * rows.width};
    in.tokens = {rows.tokens, 1, s_.steps};
    in.lengths = s_.lengths;
    in.h0 = h.data();
    in.c0 = H ? c.data() : nullptr;
    const bool merges = directions == 2 && layer.merge_mode != MergeMode::concat;
    const Index width = directions * P;
    Buffer<float> both(merges ? checked_product(s_.batch * s_.steps, width) : 0);
    float* y = merges ? both.data() : out;
    Workspace workspace;
    layer_forward(cells, directions, in,
                  {{y, width, s_.steps * width}, h.data(), c.data(), nullptr, 0}, workspace,
                  Interrupt{});
    for (std::size_t i = 0; merges && i < real_.size(); ++i)
      merge(layer.merge_mode, P, y + real_[i] * width, out + real_[i] * P);
  }

  static void merge(MergeMode mode, Index n, const float* both, float* y) {
    for (Index j = 0; j < n; ++j) {
      const float a = both[j], b = both[n + j];
      y[j] = mode == MergeMode::mul ? a * b : mode == MergeMode::sum ? a + b : (a + b) * 0.5f;
    }
  }

  // (directions, n) to (directions, batch, n).
  std::vector<float> repeated(const float* state, int directions, Index n) const {
    std::vector<float> out;
    for (int d = 0; d < directions; ++d)
      for (Index b = 0; b < s_.batch; ++b)
        out.insert(out.end(), state + d * n, state + (d + 1) * n);
    return out;
  }

  void reverse(const LayerRows& rows, float* out) const {
    for (Index b = 0; b < s_.batch; ++b)
      for (Index t = 0; t < length(b); ++t)
        std::copy_n(rows.x + (b * s_.steps + length(b) - 1 - t) * rows.width, rows.width,
                    out + (b * s_.steps + t) * rows.width);
  }
  void reverse_tokens() {
    for (Index b = 0; b < s_.batch; ++b)
      std::reverse(tokens_.begin() + b * s_.steps, tokens_.begin() + b * s_.steps + length(b));
  }

  const Network& network_;
  const Sequences& s_;
  std::vector<Index> real_;  // b * steps + t of all steps before the end of their row
  std::vector<Index> tokens_;
};

}  // namespace

void run_sequences(const Network& network, const Sequences& sequences) {
  SequenceRun(network, sequences).run();
}

}  // namespace fastrnn
