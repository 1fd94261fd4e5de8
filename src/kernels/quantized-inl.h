// Products with small weights, for the contract in quantized.h; tiles as in gemm-inl.h.
//
// Few rows are bound by the bytes of the weights: half and a quarter of float's. Many rows are bound by
// the multipliers: bf16 is widened in registers, by one operation for a vector, and then costs what
// float does; int8 gets two multiply-adds of AVX2 where float has four, with VNNI and the dot product
// of ARM one.
#pragma once

#include "kernels/gemm-inl.h"
#include "kernels/quantized.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// A word is two or four steps of k.
constexpr int unrolled_words = (unrolled_steps + 1) / 2;
#ifdef __clang__
#define FASTRNN_UNROLL_WORDS _Pragma("clang loop unroll_count(unrolled_words)")
#else
#define FASTRNN_UNROLL_WORDS _Pragma("GCC unroll unrolled_words")
#endif

// Where a tile of rows x columns begins and ends.
template <int Rows, int Columns, int Width>
struct TilePlace {
  using V = Vec<float>;
  static constexpr int lanes = V::lanes;
  const float* start;
  float* c[Rows];
  Index c_stride, left;

  inline __attribute__((always_inline)) TilePlace(const SmallProduct& p, Index panel, Index row)
      : start(p.start ? p.start + panel * Width * lanes : nullptr),
        c_stride(p.c_stride),
        left(p.columns - panel * Width * lanes) {
    unroll<Rows>([&](auto r) { c[r] = p.c[row + r] + p.c_offset + panel * p.c_stride; });
  }
  inline __attribute__((always_inline)) float* at(int r, int j) const {
    return c[r] + (j / Width) * c_stride + j % Width * lanes;
  }
  inline __attribute__((always_inline)) V begin(int r, int j) const {
    if (start) return load(start + j * lanes);
    return load_some(at(r, j), left - j * lanes);
  }
  inline __attribute__((always_inline)) void end(int r, int j, V value) const {
    store_some(at(r, j), value, left - j * lanes);
  }
};

// The words of column vector j at w, in panels of Width vectors.
template <int Width>
inline __attribute__((always_inline)) Words words_at(const std::uint32_t* w, int j,
                                                     Index panel_size) {
  return load_words(w + (j / Width) * panel_size + j % Width * Vec<float>::lanes);
}

template <int Width>
inline __attribute__((always_inline)) void prefetch_words(const std::uint32_t* w) {
  constexpr int ahead = 2048 / sizeof(*w), line = 64 / sizeof(*w);
  for (int i = 0; i < Width * Vec<float>::lanes; i += line) __builtin_prefetch(w + ahead + i, 0, 2);
}

// acc += a[.][k] * the lower or upper half of the words at w.
template <int Width, bool upper, int Rows, int Columns>
inline __attribute__((always_inline)) void bf16_step(Vec<float> (&acc)[Rows][Columns],
                                                     const float* const (&a)[Rows], Index k,
                                                     const std::uint32_t* w, Index panel_size) {
  using V = Vec<float>;
  const auto weights = [=](int j) {
    const Words words = words_at<Width>(w, j, panel_size);
    return upper ? high_half(words) : low_half(words);
  };
  if constexpr (Rows <= Columns) {
    V x[Rows];
    unroll<Rows>([&](auto r) { x[r] = set1(a[r][k]); });
    unroll<Columns>([&](auto j) {
      const V b = weights(j);
      unroll<Rows>([&](auto r) { acc[r][j] = fma(x[r], b, acc[r][j]); });
    });
  } else {
    V b[Columns];
    unroll<Columns>([&](auto j) { b[j] = weights(j); });
    unroll<Rows>([&](auto r) {
      const V x = set1(a[r][k]);
      unroll<Columns>([&](auto j) { acc[r][j] = fma(x, b[j], acc[r][j]); });
    });
  }
}

struct Bf16 {
  template <int Rows, int Columns>
  static constexpr bool fits = bf16_tile_fits(Rows, Columns);

  template <int Rows, int Columns, int Width>
  static inline void tile(const SmallProduct& p, Index panel, Index row) {
    constexpr Index step = Width * Vec<float>::lanes;
    const Index words = (p.depth + 1) / 2, pairs = p.depth / 2, panel_size = words * step;
    const std::uint32_t* w = p.weights + panel * panel_size;
    const float* a[Rows];
    unroll<Rows>([&](auto r) { a[r] = p.a.a[row + r]; });
    const TilePlace<Rows, Columns, Width> place(p, panel, row);
    Vec<float> acc[Rows][Columns];
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { acc[r][j] = place.begin(r, j); }); });
    FASTRNN_UNROLL_WORDS
    for (Index i = 0; i < pairs; ++i, w += step) {
      if (Rows > Columns) prefetch_words<Width>(w);
      bf16_step<Width, false>(acc, a, 2 * i, w, panel_size);
      // Words that waited for their second half would take the registers of accumulators.
      asm("" : "+r"(w));
      bf16_step<Width, true>(acc, a, 2 * i + 1, w, panel_size);
    }
    if (pairs < words) bf16_step<Width, false>(acc, a, 2 * pairs, w, panel_size);
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { place.end(r, j, acc[r][j]); }); });
  }

  template <int Width>
  static void gather(const SmallGather& p) {
    constexpr int lanes = Vec<float>::lanes;
    const Index words = (p.depth + 1) / 2;
    for (Index row = 0; row < p.rows; ++row)
      for (Index panel = p.panel_begin; panel < p.panel_end; ++panel)
        for (int v = 0; v < Width; ++v) {
          const Index token = p.tokens[row], at = panel * Width + v;
          const Words w = load_words(p.weights + ((panel * words + token / 2) * Width + v) * lanes);
          store(p.c[row] + panel * p.c_stride + v * lanes,
                load(p.start + at * lanes) + (token % 2 ? high_half(w) : low_half(w)));
        }
  }
};

// What a prepared row of int8 begins with.
struct RowStart {
  float scale;
  std::int32_t negatives;  // sum of those less than 0
};
constexpr Index row_header = 64;

// The scale of a row, given the bits of its largest magnitude.
struct Scale {
  float value, factor;
  bool usable;
};
inline Scale scale_of(std::int32_t bits) {
  float most;
  std::memcpy(&most, &bits, sizeof most);
  const bool finite = most - most == 0;
  const float factor = 127.0f / most;
  const bool usable = finite && factor - factor == 0;
  return {usable ? most / 127.0f : finite ? 0.0f : most - most, factor, usable};
}

struct Int8 {
  template <int Rows, int Columns>
  static constexpr bool fits = dot_tile_fits(Rows, Columns);

  static Index row_bytes(Index depth) {
    constexpr Index step = Vec<float>::lanes;
    const Index bytes = (depth + step - 1) / step * (step / 4) * quad_bytes;
    return row_header + (bytes + 63) / 64 * 64;
  }

  static void prepare_row(Index depth, const float* a, unsigned char* row) {
    using V = Vec<float>;
    Ints most = ints(0);
    for (Index k = 0; k < depth; k += V::lanes)
      most = max(most, magnitude(load_some(a + k, depth - k)));
    const Scale scale = scale_of(largest(most));
    const V factor = set1(scale.factor);
    Ints negatives = ints(0);
    for (Index k = 0; k < depth; k += V::lanes) {
      Ints q = ints(0);
      if (scale.usable) q = round_to_int(load_some(a + k, depth - k) * factor);
      negatives = add(negatives, min(q, ints(0)));
      store_quads(row + row_header, k, q);
    }
    const RowStart start = {scale.value, total(negatives)};
    std::memcpy(row, &start, sizeof start);
  }
  static void prepare(Index rows, Index depth, const float* const* a,
                      unsigned char* const* prepared, Index offset) {
    for (Index row = 0; row < rows; ++row) prepare_row(depth, a[row], prepared[row] + offset);
  }

  template <int Rows, int Columns, int Width>
  static inline __attribute__((always_inline)) void accumulate(
      Ints (&acc)[Rows][Columns], const unsigned char* const (&a)[Rows], const std::uint32_t* w,
      Index panel_size, Index words) {
    FASTRNN_UNROLL_WORDS
    for (Index i = 0; i < words; ++i, w += Width * Vec<float>::lanes) {
      if constexpr (Rows < Columns) {
        Quad x[Rows];
        unroll<Rows>([&](auto r) { x[r] = load_quad(a[r], i); });
        unroll<Columns>([&](auto j) {
          const Words b = words_at<Width>(w, j, panel_size);
          unroll<Rows>([&](auto r) { acc[r][j] = dot(acc[r][j], b, x[r]); });
        });
      } else {
        prefetch_words<Width>(w);
        Words b[Columns];
        unroll<Columns>([&](auto j) { b[j] = words_at<Width>(w, j, panel_size); });
        unroll<Rows>([&](auto r) {
          const Quad x = load_quad(a[r], i);
          unroll<Columns>([&](auto j) { acc[r][j] = dot(acc[r][j], b[j], x); });
        });
      }
    }
  }

  template <int Rows, int Columns, int Width>
  static inline void tile(const SmallProduct& p, Index panel, Index row) {
    constexpr int lanes = Vec<float>::lanes;
    const Index words = (p.depth + 3) / 4, panel_size = words * Width * lanes;
    const Index first = panel * Width * lanes;
    const unsigned char* a[Rows];
    unroll<Rows>([&](auto r) { a[r] = p.a.prepared[row + r] + p.a.offset + row_header; });
    Ints acc[Rows][Columns];
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { acc[r][j] = ints(0); }); });
    accumulate<Rows, Columns, Width>(acc, a, p.weights + panel * panel_size, panel_size, words);
    const TilePlace<Rows, Columns, Width> place(p, panel, row);
    unroll<Rows>([&](auto r) {
      RowStart from;
      std::memcpy(&from, a[r] - row_header, sizeof from);
      unroll<Columns>([&](auto j) {
        const Index at = first + j * lanes;
        const Vec<float> scale = set1(from.scale) * load(p.scales + at);
        const Vec<float> sum = to_float(finish(acc[r][j], p.sums + at, from.negatives));
        place.end(r, j, fma(sum, scale, place.begin(r, j)));
      });
    });
  }

  template <int Width>
  static void gather(const SmallGather& p) {
    constexpr int lanes = Vec<float>::lanes;
    const Index words = (p.depth + 3) / 4;
    const Vec<float> scale = set1(1.0f / 127.0f), q = set1(127.0f);
    for (Index row = 0; row < p.rows; ++row)
      for (Index panel = p.panel_begin; panel < p.panel_end; ++panel)
        for (int v = 0; v < Width; ++v) {
          const Index token = p.tokens[row], at = (panel * Width + v) * lanes;
          const Words w = load_words(p.weights + ((panel * words + token / 4) * Width + v) * lanes);
          const Vec<float> sum = q * to_float(byte_of(w, static_cast<int>(token % 4)));
          store(p.c[row] + panel * p.c_stride + v * lanes,
                fma(sum, scale * load(p.scales + at), load(p.start + at)));
        }
  }
};

#ifdef __AVX512BF16__
// Two products of bf16 at once, activations rounded as well.
struct Bf16Dot {
  template <int Rows, int Columns>
  static constexpr bool fits = bf16_tile_fits(Rows, Columns);

  static Index row_bytes(Index depth) { return (2 * depth + 127) / 64 * 64; }

  static void prepare(Index rows, Index depth, const float* const* a,
                      unsigned char* const* prepared, Index offset) {
    constexpr Index lanes = Vec<float>::lanes;
    for (Index row = 0; row < rows; ++row)
      for (Index k = 0; k < depth; k += lanes)
        store_bf16(prepared[row] + offset + 2 * k, load_some(a[row] + k, depth - k));
  }

  template <int Rows, int Columns, int Width>
  static inline void tile(const SmallProduct& p, Index panel, Index row) {
    constexpr Index step = Width * Vec<float>::lanes;
    const Index words = (p.depth + 1) / 2, panel_size = words * step;
    const std::uint32_t* w = p.weights + panel * panel_size;
    const unsigned char* a[Rows];
    unroll<Rows>([&](auto r) { a[r] = p.a.prepared[row + r] + p.a.offset; });
    const TilePlace<Rows, Columns, Width> place(p, panel, row);
    Vec<float> acc[Rows][Columns];
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { acc[r][j] = place.begin(r, j); }); });
    FASTRNN_UNROLL_WORDS
    for (Index i = 0; i < words; ++i, w += step) {
      if (Rows > Columns) prefetch_words<Width>(w);
      Words b[Columns];
      unroll<Columns>([&](auto j) { b[j] = words_at<Width>(w, j, panel_size); });
      unroll<Rows>([&](auto r) {
        const Words x = {broadcast_word(a[r] + 4 * i)};
        unroll<Columns>([&](auto j) { acc[r][j] = dot_bf16(acc[r][j], b[j], x); });
      });
    }
    unroll<Rows>([&](auto r) { unroll<Columns>([&](auto j) { place.end(r, j, acc[r][j]); }); });
  }
};
#endif

// `count` tiles of that height, one below the other.
template <class Format, int Rows, int Columns, int Width>
void small_tiles(const SmallProduct& p, Index panel, Index row, Index count) {
  for (; count > 0; --count, row += Rows)
    Format::template tile<Rows, Columns, Width>(p, panel, row);
}

using SmallTile = void (*)(const SmallProduct&, Index panel, Index row, Index count);

template <class Format, int Rows, int Columns, int Width>
constexpr SmallTile small_tile_or_null() {
  if constexpr (Format::template fits<Rows, Columns>)
    return small_tiles<Format, Rows, Columns, Width>;
  else
    return nullptr;
}

// The tiles of one panel width, by 4, 2 or 1 panels and by rows.
template <class Format, int Width>
struct SmallTiles {
  static constexpr int most_rows() {
    int rows = 1;
    rows_that_fit(rows, std::make_integer_sequence<int, 12>());
    return rows;
  }
  template <int... R>
  static constexpr void rows_that_fit(int& rows, std::integer_sequence<int, R...>) {
    ((rows = Format::template fits<R + 1, Width> ? R + 1 : rows), ...);
  }
  static constexpr int max_rows = most_rows(), sizes = 3;
  static constexpr int panels[sizes] = {4, 2, 1};
  SmallTile at[sizes][max_rows];

  template <int... R>
  static constexpr SmallTiles make(std::integer_sequence<int, R...>) {
    return {{{small_tile_or_null<Format, R + 1, panels[0] * Width, Width>()...},
             {small_tile_or_null<Format, R + 1, panels[1] * Width, Width>()...},
             {small_tile_or_null<Format, R + 1, panels[2] * Width, Width>()...}}};
  }
  // The widest that fits that many rows and panels.
  int size_for(Index rows, Index panels_left) const {
    int size = 0;
    while (!at[size][rows - 1] || panels[size] > panels_left) ++size;
    return size;
  }
};

// As product() of gemm-inl.h, but for blocks of k: a panel is small enough to stay in the nearest cache
// while all rows pass over it, or nearly so, and int8 must not stop within a sum.
template <class Format, int Width>
void small_product(const SmallProduct& p) {
  using T = SmallTiles<Format, Width>;
  static constexpr T table = T::make(std::make_integer_sequence<int, T::max_rows>());
  if (p.rows <= 0) return;
  const Index count = (p.rows + T::max_rows - 1) / T::max_rows;
  const Index height = p.rows / count, taller = p.rows % count;
  const bool last_first = p.last_first && count == 1;
  for (Index left = p.panel_end - p.panel_begin; left > 0;) {
    const int size = table.size_for(height + (taller > 0), left);
    const Index panel = last_first ? p.panel_begin + left - T::panels[size] : p.panel_end - left;
    if (taller > 0) table.at[size][height](p, panel, 0, taller);
    table.at[size][height - 1](p, panel, taller * (height + 1), count - taller);
    left -= T::panels[size];
  }
}

template <class Format>
constexpr SmallFormat small_format() {
  SmallFormat format = {
      nullptr,
      nullptr,
      {nullptr, small_product<Format, 1>, small_product<Format, 2>, small_product<Format, 3>},
      {}};
  return format;
}
constexpr SmallKernels make_small_kernels(const char* name) {
  SmallKernels k = {name, Vec<float>::lanes, small_format<Bf16>(), {}, small_format<Int8>()};
  k.bf16.gather[1] = Bf16::gather<1>;
  k.bf16.gather[2] = Bf16::gather<2>;
  k.bf16.gather[3] = Bf16::gather<3>;
  k.int8.row_bytes = Int8::row_bytes;
  k.int8.prepare = Int8::prepare;
  k.int8.gather[1] = Int8::gather<1>;
  k.int8.gather[2] = Int8::gather<2>;
  k.int8.gather[3] = Int8::gather<3>;
#ifdef __AVX512BF16__
  k.bf16_dot = small_format<Bf16Dot>();
  k.bf16_dot.row_bytes = Bf16Dot::row_bytes;
  k.bf16_dot.prepare = Bf16Dot::prepare;
  for (int i = 0; i < 4; ++i) k.bf16_dot.gather[i] = k.bf16.gather[i];
#else
  k.bf16_dot = k.bf16;
#endif
  return k;
}

}  // namespace

#define FASTRNN_NAME_2(target) #target
#define FASTRNN_NAME(target) FASTRNN_NAME_2(target)
const SmallKernels kernels_small = make_small_kernels(FASTRNN_NAME(FASTRNN_TARGET));
#undef FASTRNN_NAME
#undef FASTRNN_NAME_2

}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
