// Compiled once per backend: -DPEER=eigen_peer -DRTNEURAL_NAMESPACE=... -DRTNEURAL_USE_EIGEN=1, and
// the same with xsimd.
#include "rtneural_peer.h"

#include <RTNeural/RTNeural.h>

namespace {

// RTNeural has no fast functions of its own but takes a user's: this is the rational approximation of
// tanh (an error of 2 %, as plugins use it) and the logistic function by it.
struct FastMaths {
  template <class T>
  static auto clamp(const T& x) {
#if RTNEURAL_USE_EIGEN
    return x.array().min(3.0f).max(-3.0f).eval();
#else
    return xsimd::min(xsimd::max(x, T(-3.0f)), T(3.0f));
#endif
  }
  template <class T>
  static auto tanh(const T& in) {
    const auto x = clamp(in);
    const auto square = (x * x);
#if RTNEURAL_USE_EIGEN
    return (x * (27.0f + square) / (27.0f + 9.0f * square)).eval();
#else
    return x * (T(27.0f) + square) / (T(27.0f) + T(9.0f) * square);
#endif
  }
  template <class T>
  static auto sigmoid(const T& x) {
#if RTNEURAL_USE_EIGEN
    return (0.5f + 0.5f * tanh((x.array() * 0.5f).eval())).eval();
#else
    return T(0.5f) + T(0.5f) * tanh(x * T(0.5f));
#endif
  }
};

using Rows = std::vector<std::vector<float>>;

// (rows, columns) as RTNeural's transposed.
Rows transposed(const std::vector<float>& w, int rows, int columns) {
  Rows out(columns, std::vector<float>(rows));
  for (int i = 0; i < rows; ++i)
    for (int k = 0; k < columns; ++k) out[k][i] = w[i * columns + k];
  return out;
}
void swap_rz(Rows& rows, int H) {
  for (auto& row : rows) std::swap_ranges(row.begin(), row.begin() + H, row.begin() + H);
}

template <int H, class Maths>
using Lstm =
    RTNEURAL_NAMESPACE::LSTMLayerT<float, 1, H, RTNEURAL_NAMESPACE::SampleRateCorrectionMode::None,
                                   Maths>;
template <int H, class Maths>
using Gru =
    RTNEURAL_NAMESPACE::GRULayerT<float, 1, H, RTNEURAL_NAMESPACE::SampleRateCorrectionMode::None,
                                  Maths>;

template <int H, class Layer>
class Model : public Peer {
 public:
  explicit Model(const Weights& w) {
    auto& layer = model_.template get<0>();
    const int gates = w.lstm ? 4 : 3;
    Rows ih = transposed(w.weight_ih, gates * H, 1), hh = transposed(w.weight_hh, gates * H, H);
    if (!w.lstm) swap_rz(ih, H), swap_rz(hh, H);
    layer.setWVals(ih);
    layer.setUVals(hh);
    set_biases(layer, w);
    auto& dense = model_.template get<1>();
    dense.setWeights(Rows{w.linear});
    dense.setBias(w.linear_bias.data());
    model_.reset();
  }
  void run(const float* x, int steps, float* y) override {
    for (int t = 0; t < steps; ++t) {
      alignas(32) float in[8] = {x[t]};
      y[t] = model_.forward(in);
    }
  }
  static void* operator new(std::size_t size) { return ::operator new(size, std::align_val_t(64)); }
  static void operator delete(void* p) { ::operator delete(p, std::align_val_t(64)); }

 private:
  template <class L>
  void set_biases(L& layer, const Weights& w) {
    if constexpr (std::is_same_v<L, Lstm<H, RTNEURAL_NAMESPACE::DefaultMathsProvider>> ||
                  std::is_same_v<L, Lstm<H, FastMaths>>) {
      std::vector<float> sum = w.bias_ih;
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += w.bias_hh[i];
      layer.setBVals(sum);
    } else {
      Rows both = {w.bias_ih, w.bias_hh};
      swap_rz(both, H);
      layer.setBVals(both);
    }
  }

  alignas(64) RTNEURAL_NAMESPACE::ModelT<float, 1, 1, Layer,
                                         RTNEURAL_NAMESPACE::DenseT<float, H, 1>> model_;
};

template <int H, class Maths>
std::unique_ptr<Peer> make(const Weights& w) {
  if (w.lstm) return std::make_unique<Model<H, Lstm<H, Maths>>>(w);
  return std::make_unique<Model<H, Gru<H, Maths>>>(w);
}
template <class Maths>
std::unique_ptr<Peer> make_any(const Weights& w) {
  switch (w.hidden) {
    case 8: return make<8, Maths>(w);
    case 16: return make<16, Maths>(w);
    case 24: return make<24, Maths>(w);
    case 32: return make<32, Maths>(w);
    case 40: return make<40, Maths>(w);
    case 64: return make<64, Maths>(w);
    default: return nullptr;
  }
}

}  // namespace

std::unique_ptr<Peer> PEER(const Weights& w, bool fast) {
  return fast ? make_any<FastMaths>(w) : make_any<RTNEURAL_NAMESPACE::DefaultMathsProvider>(w);
}
