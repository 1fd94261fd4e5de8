// Optimiser steps (formulas as PyTorch states them), softmax cross-entropy, and the non-linearities
// over arrays. Limit: memory bandwidth for the steps, one exponential per value for the rest.
#pragma once

#include <cmath>

#include "kernels/kernels.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// Calls body(at, count) for each vector of n elements: at is the first index, count <= lanes.
template <class Real, class Body>
inline void for_each_chunk(Index n, Body body) {
  constexpr int lanes = Vec<Real>::lanes;
  Index at = 0;
  for (; at + lanes <= n; at += lanes) body(at, Index(lanes));
  if (at < n) body(at, n - at);
}
template <class Real>
inline Vec<Real> get(const Real* p, Index count) {
  return count == Vec<Real>::lanes ? load(p) : load(p, count);
}
template <class Real>
inline void put(Real* p, Vec<Real> a, Index count) {
  if (count == Vec<Real>::lanes)
    store(p, a);
  else
    store(p, a, count);
}

// Sutskever et al. 2013, in PyTorch's form: b = momentum b + (1 - dampening) g, p -= lr b, and with
// Nesterov p -= lr (g + momentum b).
template <class Real>
void sgd(const SgdStep<Real>& s) {
  for_each_chunk<Real>(s.n, [&](Index at, Index count) {
    const Vec<Real> param = get(s.param + at, count);
    Vec<Real> grad = fma(set1(s.weight_decay), param, get(s.grad + at, count));
    if (s.momentum_buffer) {
      Vec<Real> buffer = grad;
      if (!s.first)
        buffer = fma(set1(s.momentum), get(s.momentum_buffer + at, count), set1(s.fresh) * grad);
      put(s.momentum_buffer + at, buffer, count);
      grad = s.nesterov ? fma(set1(s.momentum), buffer, grad) : buffer;
    }
    put(s.param + at, fma(set1(-s.lr), grad, param), count);
  });
}

// Tieleman & Hinton 2012; centred: Graves 2013, eq. 38-45.
template <class Real>
void rmsprop(const RmspropStep<Real>& s) {
  const Vec<Real> alpha = set1(s.alpha), rest = set1(s.rest), zero = set1(Real(0));
  for_each_chunk<Real>(s.n, [&](Index at, Index count) {
    const Vec<Real> param = get(s.param + at, count);
    const Vec<Real> grad = fma(set1(s.weight_decay), param, get(s.grad + at, count));
    const Vec<Real> square = fma(rest * grad, grad, alpha * get(s.square_avg + at, count));
    put(s.square_avg + at, square, count);
    Vec<Real> variance = square;
    if (s.grad_avg) {
      const Vec<Real> old = get(s.grad_avg + at, count);
      const Vec<Real> mean = fma(rest, grad - old, old);
      put(s.grad_avg + at, mean, count);
      variance = fma(zero - mean, mean, square);
    }
    Vec<Real> step = grad / (sqrt(variance) + set1(s.eps));
    if (s.momentum_buffer) {
      step = fma(set1(s.momentum), get(s.momentum_buffer + at, count), step);
      put(s.momentum_buffer + at, step, count);
    }
    put(s.param + at, fma(set1(-s.lr), step, param), count);
  });
}

// Kingma & Ba 2015, algorithm 1; `decay` = 1 - lr * weight_decay for the decoupled form (Loshchilov &
// Hutter 2019, algorithm 2) and 1 otherwise; `root_correction` = sqrt(1 - beta2^step).
template <class Real>
void adam(const AdamStep<Real>& s) {
  const Vec<Real> rest1 = set1(s.rest1), rest2 = set1(s.rest2);
  for_each_chunk<Real>(s.n, [&](Index at, Index count) {
    const Vec<Real> param = get(s.param + at, count) * set1(s.decay);
    const Vec<Real> grad = fma(set1(s.weight_decay), param, get(s.grad + at, count));
    const Vec<Real> old = get(s.exp_avg + at, count);
    const Vec<Real> mean = fma(rest1, grad - old, old);
    const Vec<Real> square = fma(rest2 * grad, grad, set1(s.beta2) * get(s.exp_avg_sq + at, count));
    put(s.exp_avg + at, mean, count);
    put(s.exp_avg_sq + at, square, count);
    const Vec<Real> root = sqrt(square) / set1(s.root_correction) + set1(s.eps);
    put(s.param + at, fma(set1(-s.step_size), mean / root, param), count);
  });
}

template <class Real>
double cross_entropy(const CrossEntropyRow<Real>& s) {
  Real highest = s.logits[0];
  for (Index i = 1; i < s.classes; ++i) highest = s.logits[i] > highest ? s.logits[i] : highest;
  const Vec<Real> shift = set1(highest);
  // Summed in one scalar, in order: a sum over lanes would depend on their number.
  double sum = 0;
  for_each_chunk<Real>(s.classes, [&](Index at, Index count) {
    Real e[Vec<Real>::lanes];
    const Vec<Real> value = exp_nonpositive(get(s.logits + at, count) - shift);
    store(e, value);
    for (Index i = 0; i < count; ++i) sum += e[i];
    if (s.d_logits) put(s.d_logits + at, value, count);
  });
  if (s.d_logits) {
    const Vec<Real> scale = set1(static_cast<Real>(s.weight / sum));
    for_each_chunk<Real>(s.classes, [&](Index at, Index count) {
      put(s.d_logits + at, get(s.d_logits + at, count) * scale, count);
    });
    s.d_logits[s.target] -= s.weight;
  }
  return std::log(sum) + (static_cast<double>(highest) - s.logits[s.target]);
}

template <class Real, Vec<Real> Function(Vec<Real>)>
void over_array(const Real* x, Real* y, Index n) {
  for_each_chunk<Real>(
      n, [&](Index at, Index count) { put(y + at, Function(get(x + at, count)), count); });
}
template <class Real>
Vec<Real> tanh_value(Vec<Real> x) {
  return value(tanh(x));
}
template <class Real>
Vec<Real> sigmoid_value(Vec<Real> x) {
  return value(sigmoid(x));
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
