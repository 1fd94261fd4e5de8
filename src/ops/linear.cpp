#include "ops/linear.h"

#include <algorithm>

#include "dispatch.h"
#include "parallel.h"
#include "sequence/cell.h"

namespace fastrnn {
namespace {

// Threads that pay for waking them: at least 100,000 multiply-adds each.
template <class Real>
int useful_threads(Index rows, Index in_features, Index out_features) {
  const double work = static_cast<double>(rows) * in_features * out_features;
  return static_cast<int>(std::max(1.0, std::min<double>(usable_threads(), work / 100e3)));
}

template <class Pointer, class Real>
Pointer* row_pointers(Real* data, Index rows, Index stride, Workspace& workspace) {
  Pointer* out = workspace.take<Pointer>(rows);
  for (Index i = 0; i < rows; ++i) out[i] = data + i * stride;
  return out;
}

// out (rows, columns) = start + a (rows, depth) * packed, rows shared out among threads.
template <class Real>
void plain_product(Index rows, Index depth, Index columns, const Real* a, const Real* packed,
                   const Real* start, Real* out, Workspace& workspace) {
  const Kernels<Real>& k = kernels<Real>();
  const Real** a_rows = row_pointers<const Real*>(a, rows, depth, workspace);
  Real** out_rows = row_pointers<Real*>(out, rows, columns, workspace);
  parallel_ranges(rows, useful_threads<Real>(rows, depth, columns), [&](Index begin, Index end) {
    k.product[plain_width]({end - begin, depth, 0, plain_panels(columns, k.lanes), columns,
                            a_rows + begin, 0, packed, start, out_rows + begin, 0,
                            plain_width * k.lanes});
  });
}

}  // namespace

template <class Real>
void linear_forward(const LinearForward<Real>& p, Workspace& workspace) {
  const Index lanes = kernels<Real>().lanes;
  const Index columns = plain_panels(p.out_features, lanes) * plain_width * lanes;
  Real* start = workspace.take_zeroed<Real>(columns);
  if (p.bias) std::copy_n(p.bias, p.out_features, start);
  Real* packed = workspace.take<Real>(columns * p.in_features);
  pack_transposed(p.weight, p.out_features, p.in_features, lanes, packed);
  plain_product(p.rows, p.in_features, p.out_features, p.x, packed, start, p.y, workspace);
}

template <class Real>
void linear_backward(const LinearBackward<Real>& p, Workspace& workspace) {
  const TrainingKernels<Real>& k = training_kernels<Real>();
  const int lanes = kernels<Real>().lanes;
  const Index I = p.in_features, O = p.out_features, panels = plain_panels(I, lanes);
  const Index width = plain_width * lanes;
  if (p.d_x) {
    Real* packed = workspace.take<Real>(panels * width * O);
    pack_plain(p.weight, I, 0, O, 0, O, lanes, packed);
    const Real* start = workspace.take_zeroed<Real>(panels * width);
    plain_product(p.rows, O, I, p.d_y, packed, start, p.d_x, workspace);
  }
  const int threads = useful_threads<Real>(p.rows, I, O);
  if (p.d_weight) {
    const Real** rows = row_pointers<const Real*>(p.x, p.rows, I, workspace);
    Real* packed = workspace.take<Real>(panels * width * block_rows);
    parallel_ranges(panels, threads, [&](Index begin, Index end) {
      for (Index block = 0; block < p.rows; block += block_rows) {
        const Index depth = std::min(block_rows, p.rows - block);
        Real* own = packed + begin * width * block_rows - begin * width * depth;
        k.pack_rows({depth, I, begin, end, rows + block, own});
        k.outer_product(
            {depth, 0, O, p.d_y + block * O, O, 1, {{I, begin, end, own, p.d_weight, I}}});
      }
    });
  }
  if (p.d_bias)
    for (Index block = 0; block < p.rows; block += block_rows)
      k.column_sum(std::min(block_rows, p.rows - block), p.d_y + block * O, O, 0, O, p.d_bias);
}

template void linear_forward(const LinearForward<float>&, Workspace&);
template void linear_forward(const LinearForward<double>&, Workspace&);
template void linear_backward(const LinearBackward<float>&, Workspace&);
template void linear_backward(const LinearBackward<double>&, Workspace&);

}  // namespace fastrnn
