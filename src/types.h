// Plain data shared by every layer of the core. Dimensions are named as everywhere in the project:
// T steps, B batch rows, I input size, H hidden size, G gates, D directions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn {

using Index = std::ptrdiff_t;

// rnn, indrnn and lstm_coupled have options only (CellOptions); the others a fast path without them, too.
enum class CellKind { rnn_tanh, rnn_relu, lstm, gru, gru_reset_before, rnn, indrnn, lstm_coupled };
constexpr int cell_kinds = 8;

constexpr bool has_cell_state(CellKind kind) {
  return kind == CellKind::lstm || kind == CellKind::lstm_coupled;
}
constexpr bool is_gru(CellKind kind) {
  return kind == CellKind::gru || kind == CellKind::gru_reset_before;
}

// Gates as PyTorch stacks them in weight_ih: LSTM i, f, g, o; LSTM with its input and forget gates
// coupled i, g, o; GRU r, z, n; RNN one.
constexpr int gate_count(CellKind kind) {
  if (kind == CellKind::lstm) return 4;
  return kind == CellKind::lstm_coupled || is_gru(kind) ? 3 : 1;
}

// The weights of a cell. The first two are matrices (IndRNN: weight_hh is a vector), and so is
// weight_hr, the projection; the others are vectors. gain_*, bias_c: of layer normalisation.
enum class Weight {
  weight_ih,
  weight_hh,
  bias_ih,
  bias_hh,
  weight_hr,
  peephole,
  slope,
  gain_ih,
  gain_hh,
  gain_c,
  bias_c
};
constexpr int weight_count = 11;
template <class Pointer>
struct WeightPointers {  // null: absent
  Pointer at[weight_count] = {};
  Pointer operator[](Weight weight) const { return at[static_cast<int>(weight)]; }
  Pointer& operator[](Weight weight) { return at[static_cast<int>(weight)]; }
};

// Functions of one value as ONNX defines them (operator RNN, attribute activations), with its alpha
// and beta; prelu has a learned slope per unit.
enum class Function {
  sigmoid,
  tanh,
  relu,
  affine,
  leaky_relu,
  thresholded_relu,
  scaled_tanh,
  hard_sigmoid,
  elu,
  softsign,
  softplus,
  prelu
};
template <class Real>
struct Activation {
  Function function;
  Real alpha, beta;
};

}  // namespace fastrnn
