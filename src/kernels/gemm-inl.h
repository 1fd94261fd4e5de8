// Matrix products with the canonical order of kernels.h.
//
// The tile: Rows x Columns accumulators stay in registers over k; per k it loads Columns vectors of
// packed weights once, broadcasts Rows values and does their product.
// AVX2: 6 x 2, 4 x 3 (12 of 16 registers); AVX-512 and NEON: 12 x 2, 8 x 3 (24 of 32).
// Limit: the two FMA units, as loads are at most 2/3 of the FMAs. With few rows the limit is the
// bandwidth of the level that holds the weights; several panels then run together so that there
// are enough independent accumulators to hide the latency of an FMA (4 cycles x 2 units).
#pragma once

#include <cstring>
#include <utility>

#include "kernels/kernels.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// Calls f(0), ..., f(N - 1), each with a constant of its own type: an array indexed by these alone
// stays in registers. (A loop is unrolled too late for that: GCC then keeps accumulators on the stack
// around the loop over k, which cost a tile 200 cycles.)
template <class F, int... I>
inline __attribute__((always_inline)) void unroll(F f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N, class F>
inline __attribute__((always_inline)) void unroll(F f) {
  unroll(f, std::make_integer_sequence<int, N>());
}

// The first `count` lanes of a vector in memory: all, some or none.
template <class Real>
inline Vec<Real> load_some(const Real* p, Index count) {
  return count >= Vec<Real>::lanes ? load(p) : count > 0 ? load(p, count) : set1(Real(0));
}
template <class Real>
inline void store_some(Real* p, Vec<Real> a, Index count) {
  if (count >= Vec<Real>::lanes)
    store(p, a);
  else if (count > 0)
    store(p, a, count);
}

// The weights of a later k: processors prefetch a stream by themselves, but start anew at each page.
template <class Real, int Width>
inline __attribute__((always_inline)) void prefetch_weights(const Real* w) {
  constexpr int ahead = 2048 / sizeof(Real), line = 64 / sizeof(Real);
  for (int i = 0; i < Width * Vec<Real>::lanes; i += line) __builtin_prefetch(w + ahead + i, 0, 2);
}

// Several steps of k in a row: a processor whose core serves two threads at once has half the slots for
// the counting and branching between the products. (By the compiler: where the steps are written out,
// GCC loads each weight once for every row.)
#ifdef __clang__
#define FASTRNN_UNROLL_STEPS _Pragma("clang loop unroll_count(unrolled_steps)")
#else
#define FASTRNN_UNROLL_STEPS _Pragma("GCC unroll unrolled_steps")
#endif

// acc[r][j] += a[r][k] * w[k][j] for k in [0, depth). The shorter side of the tile waits in
// registers, the longer passes through one.
template <class Real, int Rows, int Columns, int Width>
inline __attribute__((always_inline)) void accumulate(Vec<Real> (&acc)[Rows][Columns],
                                                      const Real* const (&a)[Rows], const Real* w,
                                                      Index panel_size, Index depth) {
  using V = Vec<Real>;
  FASTRNN_UNROLL_STEPS
  for (Index k = 0; k < depth; ++k, w += Width * V::lanes) {
    const auto weights = [=](int j) {
      return load(w + (j / Width) * panel_size + (j % Width) * V::lanes);
    };
    if constexpr (Rows <= Columns) {
      V x[Rows];
      unroll<Rows>([&](auto r) { x[r] = set1(a[r][k]); });
      unroll<Columns>([&](auto j) {
        const V b = weights(j);
        unroll<Rows>([&](auto r) { acc[r][j] = fma(x[r], b, acc[r][j]); });
      });
    } else {
      prefetch_weights<Real, Width>(w);
      V b[Columns];
      unroll<Columns>([&](auto j) { b[j] = weights(j); });
      unroll<Rows>([&](auto r) {
        const V x = set1(a[r][k]);
        unroll<Columns>([&](auto j) { acc[r][j] = fma(x, b[j], acc[r][j]); });
      });
    }
  }
}

// The tile of panels [panel, panel + Columns / Width) and rows from `row` on.
template <class Real, int Rows, int Columns, int Width>
inline void tile(const Product<Real>& p, Index panel, Index row, Index k_begin, Index k_end) {
  using V = Vec<Real>;
  constexpr int lanes = V::lanes;
  const Index panel_values = Width * lanes, panel_size = p.depth * panel_values;
  const Index first = panel * panel_values;
  const Index c_first = p.c_offset + panel * p.c_stride, c_stride = p.c_stride;
  const Index k_offset = p.a_offset + k_begin;
  const Real* const w = p.weights + panel * panel_size;
  const Real* a[Rows];
  Real* c[Rows];
  unroll<Rows>([&](auto r) {
    a[r] = p.a[row + r] + k_offset;
    c[r] = p.c[row + r] + c_first;
  });
  const auto place = [&](int r, int j) {
    return c[r] + (j / Width) * c_stride + j % Width * lanes;
  };

  V acc[Rows][Columns];
  if (k_begin == 0 && p.start != nullptr) {
    unroll<Columns>([&](auto j) {
      const V start = load(p.start + first + j * lanes);
      unroll<Rows>([&](auto r) { acc[r][j] = start; });
    });
  } else {
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { acc[r][j] = load(place(r, j)); }); });
  }
  accumulate<Real, Rows, Columns, Width>(acc, a, w + k_begin * panel_values, panel_size,
                                         k_end - k_begin);
  unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { store(place(r, j), acc[r][j]); }); });
}

// `count` tiles of that height, one below the other.
template <class Real, int Rows, int Columns, int Width>
void tiles(const Product<Real>& p, Index panel, Index row, Index count, Index k_begin,
           Index k_end) {
  for (; count > 0; --count, row += Rows)
    tile<Real, Rows, Columns, Width>(p, panel, row, k_begin, k_end);
}

template <class Real>
using Tile = void (*)(const Product<Real>&, Index panel, Index row, Index count, Index k_begin,
                      Index k_end);

// The same where columns of the tile do not exist: each works on a copy, as a tile of its own for
// such an end would be as much code again.
template <class Real>
__attribute__((noinline)) void partial_tiles(Tile<Real> tile, int height, Index tile_columns,
                                             const Product<Real>& p, Index panel, Index row,
                                             Index count, Index k_begin, Index k_end) {
  constexpr Index lanes = Vec<Real>::lanes, panel_values = plain_width * lanes;
  const Index first = panel * panel_values, left = p.columns - first;
  const Index columns = left < tile_columns ? left : tile_columns;
  alignas(64) Real copy[accumulators * lanes] = {};
  Real* rows[accumulators];
  for (int r = 0; r < height; ++r) rows[r] = copy + r * tile_columns;
  const auto each_vector = [&](auto body) {
    for (int r = 0; r < height; ++r) {
      Real* const c = p.c[row + r] + p.c_offset + panel * p.c_stride;
      for (Index at = 0; at < columns; at += lanes)
        body(c + at / panel_values * p.c_stride + at % panel_values, rows[r] + at, columns - at);
    }
  };
  Product<Real> part = p;
  part.c = rows;
  part.c_offset = -first;
  part.c_stride = panel_values;
  for (; count > 0; --count, row += height) {
    part.a = p.a + row;
    if (k_begin > 0 || p.start == nullptr)
      each_vector([](const Real* c, Real* own, Index n) { store(own, load_some(c, n)); });
    tile(part, panel, 0, 1, k_begin, k_end);
    each_vector([](Real* c, const Real* own, Index n) { store_some(c, load(own), n); });
  }
}

// The tile of that many rows and vectors, or null where its accumulators do not fit.
template <class Real, int Rows, int Columns, int Width>
constexpr Tile<Real> tile_or_null() {
  if constexpr (Rows * Columns <= accumulators)
    return tiles<Real, Rows, Columns, Width>;
  else
    return nullptr;
}

// The tiles of one panel width: of 4, 2 or 1 panels.
template <class Real, int Width>
struct Tiles {
  // A single column's product is rare: it has as many rows as four panels can have.
  static constexpr int max_rows = Width == 1 ? accumulators / 4 : accumulators / Width;
  static constexpr int sizes = 3;
  static constexpr int panels[sizes] = {4, 2, 1};
  Tile<Real> at[sizes][max_rows];  // the widest first; 1 .. max_rows rows

  template <int... R>
  static constexpr Tiles make(std::integer_sequence<int, R...>) {
    return {{{tile_or_null<Real, R + 1, panels[0] * Width, Width>()...},
             {tile_or_null<Real, R + 1, panels[1] * Width, Width>()...},
             {tile_or_null<Real, R + 1, panels[2] * Width, Width>()...}}};
  }
  // The widest that fits that many rows and panels.
  int size_for(Index rows, Index panels_left) const {
    int size = 0;
    while (!at[size][rows - 1] || panels[size] > panels_left) ++size;
    return size;
  }
};

template <class Real, int Width>
void product(const Product<Real>& p) {
  using T = Tiles<Real, Width>;
  static constexpr T table = T::make(std::make_integer_sequence<int, T::max_rows>());
  constexpr Index panel_values = Width * Vec<Real>::lanes;
  if (p.rows <= 0) return;
  // Rows in tiles of nearly equal height: 25 = 5 x 5, not 4 x 6 + 1.
  const Index count = (p.rows + T::max_rows - 1) / T::max_rows;
  const Index height = p.rows / count, taller = p.rows % count;
  const bool last_first = p.last_first && count == 1;
  for (Index left = p.panel_end - p.panel_begin; left > 0;) {
    const int size = table.size_for(height + (taller > 0), left);
    const Index panel = last_first ? p.panel_begin + left - T::panels[size] : p.panel_end - left;
    // With many tiles a block of weights stays in the nearest cache while all rows pass over it.
    constexpr Index block_bytes = 16384;
    const Index k_bytes = T::panels[size] * panel_values * Index(sizeof(Real));
    const Index step = count > 1 ? block_bytes / k_bytes : p.depth;
    for (Index k = 0; k < p.depth; k += step) {
      const Index k_end = k + step < p.depth ? k + step : p.depth;
      const auto* tile = table.at[size];
      const auto run = [&](Index rows, Index row, Index tiles) {
        if (Width == plain_width && (panel + T::panels[size]) * panel_values > p.columns)
          partial_tiles(tile[rows - 1], static_cast<int>(rows), T::panels[size] * panel_values, p,
                        panel, row, tiles, k, k_end);
        else
          tile[rows - 1](p, panel, row, tiles, k, k_end);
      };
      if (taller > 0) run(height + 1, 0, taller);
      run(height, taller * (height + 1), count - taller);
    }
    left -= T::panels[size];
  }
}

template <class Real, int Width>
void gather(const Gather<Real>& p) {
  using V = Vec<Real>;
  constexpr Index panel_values = Width * V::lanes;
  for (Index row = 0; row < p.rows; ++row)
    for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
      const Real* w = p.weights + (panel * p.depth + p.tokens[row]) * panel_values;
      for (int v = 0; v < Width; ++v)
        store(p.c[row] + panel * p.c_stride + v * V::lanes,
              load(p.start + panel * panel_values + v * V::lanes) + load(w + v * V::lanes));
    }
}

template <class Real>
void pack_rows(const PackRows<Real>& p) {
  using V = Vec<Real>;
  constexpr Index panel_values = plain_width * V::lanes;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Real* out = p.packed + panel * p.depth * panel_values;
    for (Index k = 0; k < p.depth; ++k)
      for (int v = 0; v < plain_width; ++v, out += V::lanes) {
        const Index column = panel * panel_values + v * V::lanes, left = p.columns - column;
        const Real* from = p.rows[k] + column;
        store(out, left >= V::lanes ? load(from) : left > 0 ? load(from, left) : set1(Real(0)));
      }
  }
}

// Below that many rows a thread would wait for its loads more than it multiplies.
constexpr int row_tile = accumulators / 4;

constexpr int outer_rows = accumulators / plain_width;  // of a tile
constexpr Index outer_span = 48;                        // rows of c that share a packed piece of a
static_assert(outer_span % outer_rows == 0, "whole tiles");

// Columns [m, m_end) of a as tiles [tile][k][outer_rows]: read where it lies, each of a tile's steps
// would touch a cache line of its own, for every panel again.
template <class Real>
inline void pack_columns(const OuterProduct<Real>& p, Index m, Index m_end, Real* packed) {
  for (; m < m_end; m += outer_rows) {
    const Real* from = p.a + m;
    if (m + outer_rows <= m_end) {
      for (Index k = 0; k < p.depth; ++k, from += p.a_stride, packed += outer_rows)
        std::memcpy(packed, from, sizeof(Real) * outer_rows);
    } else {
      for (Index k = 0; k < p.depth; ++k, from += p.a_stride)
        for (Index r = 0; r < outer_rows; ++r) *packed++ = m + r < m_end ? from[r] : Real(0);
    }
  }
}

// One tile of c, the first `rows` of its rows.
template <class Real>
inline void outer_tile(const OuterSide<Real>& side, Index depth, const Real* a, Index panel,
                       Index m, Index rows) {
  using V = Vec<Real>;
  constexpr Index panel_values = plain_width * V::lanes;
  Real* const c = side.c + m * side.c_stride + panel * panel_values;
  const Index c_stride = side.c_stride, left = side.columns - panel * panel_values;
  // c may be far away: the sums take long enough to bring it.
  for (Index r = 0; r < rows; ++r) __builtin_prefetch(c + r * c_stride, 1);

  const Real* b = side.b + panel * depth * panel_values;
  V acc[outer_rows][plain_width];
  unroll<outer_rows>(
      [&](auto r) { unroll<plain_width>([&](auto v) { acc[r][v] = set1(Real(0)); }); });
  FASTRNN_UNROLL_STEPS
  for (Index k = 0; k < depth; ++k, a += outer_rows, b += panel_values) {
    V y[plain_width];
    unroll<plain_width>([&](auto v) { y[v] = load(b + v * V::lanes); });
    unroll<outer_rows>([&](auto r) {
      const V x = set1(a[r]);
      unroll<plain_width>([&](auto v) { acc[r][v] = fma(x, y[v], acc[r][v]); });
    });
  }
  const auto add = [=](Real* to, V sum, Index count) {
    store_some(to, load_some(to, count) + sum, count);
  };
  unroll<outer_rows>([&](auto r) {
    if (r >= rows) return;
    unroll<plain_width>(
        [&](auto v) { add(c + r * c_stride + v * V::lanes, acc[r][v], left - v * V::lanes); });
  });
}

template <class Real>
void outer_product(const OuterProduct<Real>& p) {
  alignas(64) Real packed[outer_span * block_rows];
  for (Index begin = p.m_begin; begin < p.m_end; begin += outer_span) {
    const Index end = begin + outer_span < p.m_end ? begin + outer_span : p.m_end;
    pack_columns(p, begin, end, packed);
    for (int i = 0; i < p.side_count; ++i)
      for (Index panel = p.sides[i].panel_begin; panel < p.sides[i].panel_end; ++panel)
        for (Index m = begin; m < end; m += outer_rows)
          outer_tile(p.sides[i], p.depth, packed + (m - begin) * p.depth, panel, m,
                     end - m < outer_rows ? end - m : outer_rows);
  }
}

template <class Real>
void column_sum(Index depth, const Real* a, Index stride, Index begin, Index end, Real* out) {
  using V = Vec<Real>;
  for (Index m = begin; m < end; m += V::lanes) {
    const Index left = end - m;
    V sum = set1(Real(0));
    if (left >= V::lanes) {
      for (Index k = 0; k < depth; ++k) sum = sum + load(a + k * stride + m);
      store(out + m, load(out + m) + sum);
    } else {
      for (Index k = 0; k < depth; ++k) sum = sum + load(a + k * stride + m, left);
      store(out + m, load(out + m, left) + sum, left);
    }
  }
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
