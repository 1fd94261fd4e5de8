#include "ops/norm.h"

#include <algorithm>

#include "dispatch.h"
#include "parallel.h"

namespace fastrnn {
namespace {

// At least 32,768 values each: a row is read three times, so half as many as where it is read once.
int useful_threads(Index rows, Index features) {
  return static_cast<int>(
      std::max<Index>(1, std::min<Index>(usable_threads(), rows * features / 32768)));
}

// In blocks of block_rows rows, as every weight gradient; columns are shared out among threads.
template <class Real>
void weight_gradients(const LayerNormBackward<Real>& p, int threads, Real* d_weight, Real* d_bias) {
  const TrainingKernels<Real>& k = training_kernels<Real>();
  parallel_ranges(p.features, threads, [&](Index begin, Index end) {
    for (Index row = 0; row < p.rows; row += block_rows) {
      const Index depth = std::min(block_rows, p.rows - row), from = row * p.features;
      k.layer_norm_columns({depth, p.features, begin, end, p.x + from, p.d_y + from, p.mean + row,
                            p.rstd + row, d_weight, d_bias});
    }
  });
}

}  // namespace

template <class Real>
void layer_norm_forward(const LayerNormForward<Real>& p) {
  parallel_ranges(p.rows, useful_threads(p.rows, p.features), [&](Index begin, Index end) {
    LayerNormForward<Real> part = p;
    part.rows = end - begin;
    part.x += begin * p.features;
    part.y += begin * p.features;
    if (part.mean) part.mean += begin;
    if (part.rstd) part.rstd += begin;
    kernels<Real>().layer_norm(part);
  });
}

template <class Real>
void layer_norm_backward(const LayerNormBackward<Real>& p, Real* d_weight, Real* d_bias) {
  const int threads = useful_threads(p.rows, p.features);
  if (p.d_x)
    parallel_ranges(p.rows, threads, [&](Index begin, Index end) {
      LayerNormBackward<Real> part = p;
      part.rows = end - begin;
      part.x += begin * p.features;
      part.d_y += begin * p.features;
      part.d_x += begin * p.features;
      part.mean += begin;
      part.rstd += begin;
      training_kernels<Real>().layer_norm_backward(part);
    });
  if (d_weight || d_bias) weight_gradients(p, threads, d_weight, d_bias);
}

template void layer_norm_forward(const LayerNormForward<float>&);
template void layer_norm_forward(const LayerNormForward<double>&);
template void layer_norm_backward(const LayerNormBackward<float>&, float*, float*);
template void layer_norm_backward(const LayerNormBackward<double>&, double*, double*);

}  // namespace fastrnn
