// Plain data shared by every layer of the core. Dimensions are named as everywhere in the project:
// T steps, B batch rows, I input size, H hidden size, G gates, D directions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn {

using Index = std::ptrdiff_t;

enum class CellKind { rnn_tanh, rnn_relu, lstm, gru, gru_reset_before };
constexpr int cell_kinds = 5;

// Gates as PyTorch stacks them in weight_ih: LSTM i, f, g, o; GRU r, z, n; RNN one.
constexpr int gate_count(CellKind kind) {
  return kind == CellKind::lstm                                        ? 4
         : kind == CellKind::gru || kind == CellKind::gru_reset_before ? 3
                                                                       : 1;
}

// Values of width H that training keeps per row and step: LSTM i, f, g, o, c; GRU r, z, n and, with
// the reset after the product, that product; RNN none (the output is enough).
constexpr int cached_values(CellKind kind) {
  switch (kind) {
    case CellKind::lstm: return 5;
    case CellKind::gru: return 4;
    case CellKind::gru_reset_before: return 3;
    default: return 0;
  }
}

// Width, in units of H, of a row of gate gradients: see d_z in kernels/kernels.h.
constexpr int gradient_values(CellKind kind) {
  return kind == CellKind::rnn_tanh || kind == CellKind::rnn_relu ? 1 : 4;
}

constexpr bool has_cell_state(CellKind kind) { return kind == CellKind::lstm; }

}  // namespace fastrnn
