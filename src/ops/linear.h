// y = x W^T + b and its gradients, through the same product kernels as the recurrent layers: one
// accumulator per output from the bias on, fma over the inputs in order.
#pragma once

#include "memory.h"
#include "types.h"

namespace fastrnn {

// x (N, I), weight (O, I), bias (O) or null, y (N, O), all contiguous.
template <class Real>
struct LinearForward {
  Index rows, in_features, out_features;
  const Real *x, *weight, *bias;
  Real* y;
};
template <class Real>
void linear_forward(const LinearForward<Real>& p, Workspace& workspace);

// d_weight and d_bias are added to, d_x is written; each null where not wanted.
template <class Real>
struct LinearBackward {
  Index rows, in_features, out_features;
  const Real *x, *weight, *d_y;
  Real *d_weight, *d_bias, *d_x;
};
template <class Real>
void linear_backward(const LinearBackward<Real>& p, Workspace& workspace);

}  // namespace fastrnn
