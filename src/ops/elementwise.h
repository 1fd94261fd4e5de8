// The rest of a training step: optimiser steps, clipping, cross-entropy, embedding gradients, and the
// non-linearities over arrays. Elementwise over threads, so their number does not change the bits.
#pragma once

#include "kernels/kernels.h"

namespace fastrnn {

template <class Real>
void sgd_step(const SgdStep<Real>& step);
template <class Real>
void rmsprop_step(const RmspropStep<Real>& step);
template <class Real>
void adam_step(const AdamStep<Real>& step);

template <class Real>
void scale(Real* values, Index n, Real factor);
// To [-limit, limit]; NaN stays.
template <class Real>
void clip_value(Real* values, Index n, Real limit);
// In float64, in a fixed order.
template <class Real>
double sum_of_squares(const Real* values, Index n);

// Per row of logits (N, C): the negative log-likelihood of targets[row] (0 where it is ignore_index
// or the row's weight is 0) and, where d_logits is not null, (softmax - onehot) * weight.
// row_weights null: 1.
template <class Real>
struct CrossEntropy {
  Index rows, classes, ignore_index;
  const Real* logits;
  const Index* targets;
  const Real* row_weights;
  Real *losses, *d_logits;
};
template <class Real>
void cross_entropy(const CrossEntropy<Real>& p);

// d_weight[ids[row]] += d_y[row], rows in order. ids in [0, V).
template <class Real>
void embedding_backward(const Index* ids, Index rows, Index width, const Real* d_y, Real* d_weight);

enum class Nonlinearity { exp, tanh, sigmoid };
template <class Real>
void apply(Nonlinearity function, const Real* x, Real* y, Index n);

// y[row] = exp(x[row] - m) / sum(exp(x[row] - m)), m the row's largest value; x and y (rows, n) may be
// the same. The sum is of 16 partial ones, by column, added up in their order.
template <class Real>
void softmax(const Real* x, Index rows, Index n, Real* y);
// One row, n > 0, on the calling thread: no clock or other threads are asked.
template <class Real>
void softmax_row(const Real* x, Index n, Real* y);

}  // namespace fastrnn
