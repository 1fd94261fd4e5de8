// Matrix products with the canonical order of kernels.h.
//
// The tile: Rows x (Panels * Width) accumulators stay in registers over k; per k it loads
// Panels * Width vectors of packed weights once, broadcasts Rows values and does their product.
// AVX2: 3 x 4, 4 x 3, 6 x 2 (12 of 16 registers); AVX-512 and NEON: 6 x 4, 8 x 3, 12 x 2 (24 of 32).
// Limit: the two FMA units, as loads are at most 2/3 of the FMAs. With few rows the limit is the
// bandwidth of the level that holds the weights; several panels then run together so that there
// are enough independent accumulators to hide the latency of an FMA (4 cycles x 2 units).
#pragma once

#include <utility>

#include "kernels/kernels.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// The accumulators of a tile to or from c: whole vectors, or only `valid` columns of the panels.
template <class Real, int Rows, int Panels, int Width, class Move>
inline void for_tile(const Product<Real>& p, Index row, Index panel, Move move) {
  constexpr int lanes = Vec<Real>::lanes;
  const Index valid = p.columns - panel * Width * lanes, at = p.c_offset + panel * p.c_stride;
  const auto each = [&](auto count) {
    for (int r = 0; r < Rows; ++r)
      for (int j = 0; j < Panels * Width; ++j) {
        Real* c = p.c[row + r] + at + (j / Width) * p.c_stride + (j % Width) * lanes;
        move(c, r, j, count(j));
      }
  };
  if (valid >= Panels * Width * lanes)
    each([](int) { return Index(lanes); });
  else
    each([valid](int j) { return valid - j * lanes; });
}

template <class Real, int Rows, int Panels, int Width>
void tile(const Product<Real>& p, Index row, Index panel, Index k_begin, Index k_end) {
  using V = Vec<Real>;
  constexpr Index panel_values = Width * V::lanes;
  const Index panel_size = p.depth * panel_values;
  const Real* w = p.weights + panel * panel_size + k_begin * panel_values;
  const Real* a[Rows];
  for (int r = 0; r < Rows; ++r) a[r] = p.a[row + r] + p.a_offset;

  V acc[Rows][Panels * Width];
  if (k_begin == 0 && p.start != nullptr) {
    for (int j = 0; j < Panels * Width; ++j) {
      const V start = load(p.start + panel * panel_values + j * V::lanes);
      for (int r = 0; r < Rows; ++r) acc[r][j] = start;
    }
  } else {
    for_tile<Real, Rows, Panels, Width>(p, row, panel, [&](Real* c, int r, int j, Index count) {
      acc[r][j] = count >= V::lanes ? load(c) : count > 0 ? load(c, count) : set1(Real(0));
    });
  }
  // The shorter side of the tile waits in registers, the longer passes through one.
  constexpr int columns = Panels * Width;
  for (Index k = k_begin; k < k_end; ++k, w += panel_values) {
    const auto weights = [&](int j) {
      return load(w + (j / Width) * panel_size + (j % Width) * V::lanes);
    };
    if constexpr (Rows <= columns) {
      V x[Rows];
      for (int r = 0; r < Rows; ++r) x[r] = set1(a[r][k]);
      for (int j = 0; j < columns; ++j) {
        const V b = weights(j);
        for (int r = 0; r < Rows; ++r) acc[r][j] = fma(x[r], b, acc[r][j]);
      }
    } else {
      V b[columns];
      for (int j = 0; j < columns; ++j) b[j] = weights(j);
      for (int r = 0; r < Rows; ++r) {
        const V x = set1(a[r][k]);
        for (int j = 0; j < columns; ++j) acc[r][j] = fma(x, b[j], acc[r][j]);
      }
    }
  }
  for_tile<Real, Rows, Panels, Width>(p, row, panel, [&](Real* c, int r, int j, Index count) {
    if (count >= V::lanes)
      store(c, acc[r][j]);
    else if (count > 0)
      store(c, acc[r][j], count);
  });
}

template <class Real>
using Tile = void (*)(const Product<Real>&, Index row, Index panel, Index k_begin, Index k_end);

// The tile of that many rows and panels, or null where its accumulators do not fit.
template <class Real, int Rows, int Panels, int Width>
constexpr Tile<Real> tile_or_null() {
  if constexpr (Rows * Panels * Width <= accumulators)
    return tile<Real, Rows, Panels, Width>;
  else
    return nullptr;
}

template <class Real, int Width>
struct Tiles {
  // Taller tiles would spend the general registers on row pointers.
  static constexpr int max_rows = accumulators / Width < 12 ? accumulators / Width : 12;
  Tile<Real> at[3][max_rows];  // 1, 2, 4 panels; 1 .. max_rows rows

  template <int... R>
  static constexpr Tiles make(std::integer_sequence<int, R...>) {
    return {{{tile_or_null<Real, R + 1, 1, Width>()...},
             {tile_or_null<Real, R + 1, 2, Width>()...},
             {tile_or_null<Real, R + 1, 4, Width>()...}}};
  }
};

template <class Real, int Width>
void product(const Product<Real>& p) {
  using T = Tiles<Real, Width>;
  static constexpr T tiles = T::make(std::make_integer_sequence<int, T::max_rows>());
  if (p.rows <= 0) return;
  // Rows in tiles of nearly equal height: 25 = 7 x 3 + 2 x 2, not 8 x 3 + 1.
  const Index count = (p.rows + T::max_rows - 1) / T::max_rows;
  const Index height = p.rows / count, taller = p.rows % count;
  const Index tallest = height + (taller > 0);
  // With many tiles a block of one panel's weights stays in L2 while all rows pass over it. Smaller
  // blocks that stay in L1 (8, 16, 32 KiB) lost 3 to 15 %: each block reloads all accumulators.
  constexpr Index block = 65536 / (Width * Vec<Real>::lanes * static_cast<Index>(sizeof(Real)));
  const Index step = count > 1 ? block : p.depth;
  for (Index panel = p.panel_begin; panel < p.panel_end;) {
    int power = 2;  // as many panels together as there are and as fit
    while (power > 0 && ((1 << power) > p.panel_end - panel || !tiles.at[power][tallest - 1]))
      --power;
    for (Index k = 0; k < p.depth; k += step) {
      const Index k_end = k + step < p.depth ? k + step : p.depth;
      for (Index i = 0, row = 0; i < count; ++i) {
        const Index rows = height + (i < taller);
        tiles.at[power][rows - 1](p, row, panel, k, k_end);
        row += rows;
      }
    }
    panel += 1 << power;
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

template <class Real, int Rows>
void outer_tile(const OuterProduct<Real>& p, Index panel, Index m) {
  using V = Vec<Real>;
  constexpr Index panel_values = plain_width * V::lanes;
  V acc[Rows][plain_width];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < plain_width; ++v) acc[r][v] = set1(Real(0));
  const Real* b = p.packed + panel * p.depth * panel_values;
  const Real* a = p.a + m;
  for (Index k = 0; k < p.depth; ++k, a += p.a_stride, b += panel_values) {
    V y[plain_width];
    for (int v = 0; v < plain_width; ++v) y[v] = load(b + v * V::lanes);
    for (int r = 0; r < Rows; ++r) {
      const V x = set1(a[r]);
      for (int v = 0; v < plain_width; ++v) acc[r][v] = fma(x, y[v], acc[r][v]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < plain_width; ++v) {
      const Index column = panel * panel_values + v * V::lanes, left = p.columns - column;
      Real* c = p.c + (m + r) * p.c_stride + column;
      if (left >= V::lanes)
        store(c, load(c) + acc[r][v]);
      else if (left > 0)
        store(c, load(c, left) + acc[r][v], left);
    }
}

template <class Real>
using OuterTile = void (*)(const OuterProduct<Real>&, Index panel, Index m);

template <class Real, int... R>
constexpr OuterTile<Real> outer_tile_of(int rows, std::integer_sequence<int, R...>) {
  constexpr OuterTile<Real> tiles[] = {outer_tile<Real, R + 1>...};
  return tiles[rows - 1];
}

template <class Real>
void outer_product(const OuterProduct<Real>& p) {
  constexpr int max_rows = accumulators / plain_width;
  const Index m_count = p.m_end - p.m_begin;
  if (m_count <= 0) return;
  const Index count = (m_count + max_rows - 1) / max_rows;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel)
    for (Index i = 0, m = p.m_begin; i < count; ++i) {
      const int rows = static_cast<int>(m_count / count + (i < m_count % count));
      outer_tile_of<Real>(rows, std::make_integer_sequence<int, max_rows>())(p, panel, m);
      m += rows;
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
