// Layer normalisation over rows, and its gradients.
#pragma once

#include "kernels/kernels.h"

namespace fastrnn {

template <class Real>
void layer_norm_forward(const LayerNormForward<Real>& p);

// As the kernels, and d_weight and d_bias, which are added to. Each of the three may be null.
template <class Real>
void layer_norm_backward(const LayerNormBackward<Real>& p, Real* d_weight, Real* d_bias);

}  // namespace fastrnn
