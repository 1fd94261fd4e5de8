#include "ops/elementwise.h"

#include <algorithm>

#include "dispatch.h"
#include "parallel.h"

namespace fastrnn {
namespace {

// Threads for n values of an operation that streams memory: at least 65,536 values each, about ten
// times what waking a team costs.
int streaming_threads(Index n) {
  return static_cast<int>(std::max<Index>(1, std::min<Index>(usable_threads(), n / 65536)));
}

template <class Value>
Value* offset(Value* p, Index by) {
  return p ? p + by : nullptr;
}

}  // namespace

template <class Real>
void sgd_step(const SgdStep<Real>& step) {
  parallel_ranges(step.n, streaming_threads(step.n), [&](Index begin, Index end) {
    SgdStep<Real> part = step;
    part.n = end - begin;
    part.param += begin;
    part.grad += begin;
    part.momentum_buffer = offset(part.momentum_buffer, begin);
    training_kernels<Real>().sgd(part);
  });
}

template <class Real>
void rmsprop_step(const RmspropStep<Real>& step) {
  parallel_ranges(step.n, streaming_threads(step.n), [&](Index begin, Index end) {
    RmspropStep<Real> part = step;
    part.n = end - begin;
    part.param += begin;
    part.grad += begin;
    part.square_avg += begin;
    part.momentum_buffer = offset(part.momentum_buffer, begin);
    part.grad_avg = offset(part.grad_avg, begin);
    training_kernels<Real>().rmsprop(part);
  });
}

template <class Real>
void adam_step(const AdamStep<Real>& step) {
  parallel_ranges(step.n, streaming_threads(step.n), [&](Index begin, Index end) {
    AdamStep<Real> part = step;
    part.n = end - begin;
    part.param += begin;
    part.grad += begin;
    part.exp_avg += begin;
    part.exp_avg_sq += begin;
    training_kernels<Real>().adam(part);
  });
}

template <class Real>
void scale(Real* values, Index n, Real factor) {
  for (Index i = 0; i < n; ++i) values[i] *= factor;
}

template <class Real>
void clip_value(Real* values, Index n, Real limit) {
  for (Index i = 0; i < n; ++i) {
    const Real x = values[i], low = x < -limit ? -limit : x;
    values[i] = low > limit ? limit : low;
  }
}

template <class Real>
double sum_of_squares(const Real* values, Index n) {
  constexpr int parts = 16;  // independent sums, for speed
  double sums[parts] = {};
  Index i = 0;
  for (; i + parts <= n; i += parts)
    for (int j = 0; j < parts; ++j) {
      const double x = values[i + j];
      sums[j] += x * x;
    }
  for (; i < n; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

template <class Real>
void cross_entropy(const CrossEntropy<Real>& p) {
  const int threads = streaming_threads(p.rows * p.classes * 4);
  parallel_ranges(p.rows, threads, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const Real weight = p.row_weights ? p.row_weights[row] : Real(1);
      Real* d_logits = offset(p.d_logits, row * p.classes);
      if (p.targets[row] == p.ignore_index || weight == 0) {
        p.losses[row] = 0;
        if (d_logits) std::fill_n(d_logits, p.classes, Real(0));
        continue;
      }
      p.losses[row] = static_cast<Real>(training_kernels<Real>().cross_entropy(
          {p.classes, p.targets[row], p.logits + row * p.classes, weight, d_logits}));
    }
  });
}

template <class Real>
void embedding_backward(const Index* ids, Index rows, Index width, const Real* d_y,
                        Real* d_weight) {
  for (Index row = 0; row < rows; ++row) {
    Real* to = d_weight + ids[row] * width;
    for (Index i = 0; i < width; ++i) to[i] += d_y[row * width + i];
  }
}

template <class Real>
void apply(Nonlinearity function, const Real* x, Real* y, Index n) {
  const Kernels<Real>& k = kernels<Real>();
  const auto f = function == Nonlinearity::exp    ? k.exp
                 : function == Nonlinearity::tanh ? k.tanh
                                                  : k.sigmoid;
  parallel_ranges(n, streaming_threads(n),
                  [&](Index begin, Index end) { f(x + begin, y + begin, end - begin); });
}

template <class Real>
void softmax_row(const Real* x, Index n, Real* y) {
  constexpr int parts = 16;
  Real largest = x[0], sums[parts] = {}, sum = 0;
  for (Index i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (Index i = 0; i < n; ++i) y[i] = x[i] - largest;
  kernels<Real>().exp(y, y, n);
  Index i = 0;
  for (; i + parts <= n; i += parts)
    for (int j = 0; j < parts; ++j) sums[j] += y[i + j];
  for (int j = 0; i + j < n; ++j) sums[j] += y[i + j];
  for (Real part : sums) sum += part;
  for (Index k = 0; k < n; ++k) y[k] /= sum;
}

template <class Real>
void softmax(const Real* x, Index rows, Index n, Real* y) {
  if (n == 0) return;
  parallel_ranges(rows, streaming_threads(rows * n * 4), [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) softmax_row(x + row * n, n, y + row * n);
  });
}

#define FASTRNN_INSTANTIATE(Real)                                                   \
  template void sgd_step(const SgdStep<Real>&);                                     \
  template void rmsprop_step(const RmspropStep<Real>&);                             \
  template void adam_step(const AdamStep<Real>&);                                   \
  template void scale(Real*, Index, Real);                                          \
  template void clip_value(Real*, Index, Real);                                     \
  template double sum_of_squares(const Real*, Index);                               \
  template void cross_entropy(const CrossEntropy<Real>&);                           \
  template void embedding_backward(const Index*, Index, Index, const Real*, Real*); \
  template void apply(Nonlinearity, const Real*, Real*, Index);                     \
  template void softmax_row(const Real*, Index, Real*);                             \
  template void softmax(const Real*, Index, Index, Real*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)
#undef FASTRNN_INSTANTIATE

}  // namespace fastrnn
