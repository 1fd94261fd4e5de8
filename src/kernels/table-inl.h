// Fills the tables of one instruction set: included once by each kernels_<isa>.cpp.
#pragma once

#include "simd/math-inl.h"
//
#include "kernels/activations-inl.h"
#include "kernels/norm-inl.h"
//
#include "kernels/cells-general-inl.h"
#include "kernels/cells-inl.h"
#include "kernels/gemm-inl.h"
#include "kernels/limits-inl.h"
#include "kernels/norm-inl.h"
#include "kernels/optim-inl.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

template <class Real>
constexpr Kernels<Real> make_kernels() {
  return {
      Vec<Real>::lanes,
      row_tile,
      {nullptr, product<Real, 1>, product<Real, 2>, product<Real, 3>},
      {nullptr, gather<Real, 1>, gather<Real, 2>, gather<Real, 3>},
      {{rnn_forward<Real, Tanh>, nullptr},
       {rnn_forward<Real, Relu>, nullptr},
       {lstm_forward<Real>, nullptr},
       {gru_forward<Real>, nullptr},
       {gru_before_forward<Real>, gru_before_forward_reset<Real>},
       {},
       {},
       {}},
      {{},
       {},
       {general_lstm_forward<Real, CellKind::lstm>, nullptr},
       {general_gru_forward<Real>, nullptr},
       {general_gru_before_forward<Real>, general_gru_before_forward_reset<Real>},
       {general_rnn_forward<Real, CellKind::rnn>, nullptr},
       {general_rnn_forward<Real, CellKind::indrnn>, nullptr},
       {general_lstm_forward<Real, CellKind::lstm_coupled>, nullptr}},
      normalize<Real>,
      layer_norm<Real>,
      over_array<Real, exp<Real>>,
      over_array<Real, tanh_value<Real>>,
      over_array<Real, sigmoid_value<Real>>,
  };
}

template <class Real>
constexpr TrainingKernels<Real> make_training() {
  return {
      pack_rows<Real>,
      outer_product<Real>,
      column_sum<Real>,
      {{rnn_backward<Real, Tanh>, nullptr},
       {rnn_backward<Real, Relu>, nullptr},
       {lstm_backward<Real>, nullptr},
       {gru_backward<Real>, nullptr},
       {gru_before_backward<Real>, gru_before_backward_reset<Real>},
       {},
       {},
       {}},
      {{},
       {},
       {general_lstm_backward<Real, CellKind::lstm>, nullptr},
       {general_gru_backward<Real>, nullptr},
       {general_gru_before_backward<Real>, general_gru_before_backward_reset<Real>},
       {general_rnn_backward<Real, CellKind::rnn>, nullptr},
       {general_rnn_backward<Real, CellKind::indrnn>, nullptr},
       {general_lstm_backward<Real, CellKind::lstm_coupled>, nullptr}},
      sgd<Real>,
      rmsprop<Real>,
      adam<Real>,
      cross_entropy<Real>,
      normalize_back<Real>,
      layer_norm_backward<Real>,
      layer_norm_columns<Real>,
  };
}

}  // namespace

const Kernels<float> kernels_float = make_kernels<float>();
const Kernels<double> kernels_double = make_kernels<double>();
const TrainingKernels<float> training_float = make_training<float>();
const TrainingKernels<double> training_double = make_training<double>();
const LimitKernels limits = {multiply_adds<float>, read<float>};

}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
