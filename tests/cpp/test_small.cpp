// Products with bf16 and int8 weights against plain loops, bit for bit, for all kernels of this machine;
// and cells that use them. `test_small ISA` tests the kernels of that instruction set; without arguments
// the program runs itself once for each that this machine has.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.h"
#include "dispatch_small.h"
#include "parallel.h"
#include "sequence/quantize.h"
#include "sequence/stack.h"

using namespace fastrnn;

namespace {

int failures = 0;

void fail(const std::string& what) {
  if (++failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

using Floats = std::vector<float>;

// All NaNs are the same one.
bool same(const float* a, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    if (std::memcmp(a + i, b + i, sizeof(float)) != 0 && (a[i] == a[i] || b[i] == b[i]))
      return false;
  return true;
}
bool same(const Floats& a, const Floats& b) {
  return a.size() == b.size() && same(a.data(), b.data(), a.size());
}

class Random {
 public:
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 40);
  }
  float value() { return static_cast<float>(static_cast<double>(next()) * 0x1p-23 - 1); }
  Floats values(Index n, float scale = 1) {
    Floats out(n);
    for (float& x : out) x = scale * value();
    return out;
  }

 private:
  std::uint64_t state_ = 1;
};

constexpr float infinite = std::numeric_limits<float>::infinity();

float from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t(half) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
Floats rounded(const Floats& values) {
  std::vector<std::uint16_t> halves(values.size());
  to_bf16(values.data(), static_cast<Index>(values.size()), halves.data());
  Floats out;
  for (std::uint16_t half : halves) out.push_back(from_bf16(half));
  return out;
}

// --- kernels --------------------------------------------------------------------------------------

// A product of any table, its columns in panels as the kernels have them. Weights are (columns, depth).
struct Problem {
  Index rows, depth, columns;
  int width, lanes;
  Precision precision;
  Floats a, weights, c, start;  // c as it was before

  Index panel_values() const { return width * lanes; }
  Index panels() const { return (columns + panel_values() - 1) / panel_values(); }
  Index c_row() const { return panels() * panel_values() + 3; }
};

Problem make_problem(Index rows, Index depth, Index columns, int width, int lanes,
                     Precision precision, Random& random) {
  Problem p = {rows, depth, columns, width, lanes, precision, {}, {}, {}, {}};
  p.a = random.values(rows * depth, 3);
  p.weights = random.values(columns * depth);
  p.c = random.values(rows * p.c_row());
  p.start = random.values(p.panels() * p.panel_values());
  return p;
}

// Rows of particular values.
void spoil(Problem& p) {
  for (Index row = 0; row < p.rows; ++row) {
    float* a = p.a.data() + row * p.depth;
    switch (row % 8) {
      case 1: std::fill_n(a, p.depth, row % 16 == 1 ? 0.0f : -0.0f); break;
      case 2: a[p.depth / 2] = infinite; break;
      case 3: a[p.depth - 1] = -infinite; break;
      case 4: a[0] = infinite - infinite; break;
      case 5: std::fill_n(a, p.depth, 1e-38f); break;
      case 6: a[0] = 3e38f; break;
      case 7: std::fill_n(a, p.depth, row % 16 == 7 ? 127.0f : -127.0f); break;
      default: break;
    }
  }
  for (Index j = 0; j < p.columns; j += 3)  // the largest sums, of one sign
    for (Index k = 0; k < p.depth; ++k) p.weights[j * p.depth + k] = j % 2 ? 1.0f : -1.0f;
}

// In the order of the panels: column j stands at word lane j of its panel.
struct Packed {
  std::vector<std::uint32_t> words;
  Floats scales;
  std::vector<std::int32_t> sums;
};
Packed pack(const Problem& p) {
  const Index width = p.panel_values();
  const WordRows rows = word_rows(p.precision, p.weights.data(), {}, p.columns, p.depth);
  Packed out;
  out.words.assign(p.panels() * width * rows.words, 0);
  out.scales.assign(p.panels() * width, 0);
  out.sums.assign(p.panels() * width, 0);
  for (Index j = 0; j < p.columns; ++j) {
    for (Index i = 0; i < rows.words; ++i)
      out.words[(j / width * rows.words + i) * width + j % width] =
          rows.values.data()[j * rows.words + i];
    if (p.precision != Precision::int8) continue;
    out.scales[j] = rows.scales.data()[j];
    out.sums[j] = rows.sums.data()[j];
  }
  return out;
}

float plain_bf16(const Problem& p, const Floats& weights, Index row, Index j, float z) {
  for (Index k = 0; k < p.depth; ++k)
    z = std::fma(p.a[row * p.depth + k], weights[j * p.depth + k], z);
  return z;
}

// The formulas of kernels/quantized.h.
struct Quantized {
  std::vector<std::int32_t> q;
  float scale;
};
Quantized quantized_activations(const float* a, Index n) {
  float most = 0;
  bool finite = true;
  for (Index k = 0; k < n; ++k) {
    finite = finite && std::isfinite(a[k]);
    most = std::max(most, std::fabs(a[k]));
  }
  Quantized out = {std::vector<std::int32_t>(n), 0};
  const float factor = 127.0f / most;
  if (!finite) out.scale = infinite - infinite;
  if (!finite || !std::isfinite(factor)) return out;
  out.scale = most / 127.0f;
  for (Index k = 0; k < n; ++k) out.q[k] = static_cast<std::int32_t>(std::nearbyint(a[k] * factor));
  return out;
}
Quantized quantized_weights(const float* w, Index n) {
  float most = 0;
  for (Index k = 0; k < n; ++k) most = std::max(most, std::fabs(w[k]));
  Quantized out = {std::vector<std::int32_t>(n), most / 127.0f};
  for (Index k = 0; k < n && out.scale > 0; ++k)
    out.q[k] = static_cast<std::int32_t>(std::nearbyint(w[k] / out.scale));
  return out;
}
float plain_int8(const Quantized& a, const Quantized& w, float z) {
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < a.q.size(); ++k) sum += a.q[k] * w.q[k];
  return std::fma(static_cast<float>(sum), a.scale * w.scale, z);
}

// What the product must leave in c.
Floats expected(const Problem& p, bool with_start) {
  Floats c = p.c;
  const Floats weights = rounded(p.weights);
  std::vector<Quantized> columns;
  for (Index j = 0; j < p.columns; ++j)
    columns.push_back(quantized_weights(p.weights.data() + j * p.depth, p.depth));
  for (Index row = 0; row < p.rows; ++row) {
    const Quantized a = quantized_activations(p.a.data() + row * p.depth, p.depth);
    for (Index j = 0; j < p.columns; ++j) {
      float& z = c[row * p.c_row() + j];
      const float before = with_start ? p.start[j] : z;
      z = p.precision == Precision::int8 ? plain_int8(a, columns[j], before)
                                         : plain_bf16(p, weights, row, j, before);
    }
  }
  return c;
}

Floats computed(const SmallKernels& table, const Problem& p, bool with_start, bool last_first) {
  const SmallFormat& format = table[p.precision];
  const Packed packed = pack(p);
  Floats c = p.c;
  std::vector<const float*> a;
  std::vector<float*> c_rows;
  for (Index row = 0; row < p.rows; ++row) {
    a.push_back(p.a.data() + row * p.depth);
    c_rows.push_back(c.data() + row * p.c_row());
  }
  constexpr Index offset = 64;
  const Index row_bytes = offset + (format.row_bytes ? format.row_bytes(p.depth) : 0);
  std::vector<unsigned char> scratch(p.rows * row_bytes, 0xaa);
  std::vector<unsigned char*> prepared;
  for (Index row = 0; row < p.rows; ++row) prepared.push_back(scratch.data() + row * row_bytes);
  if (format.prepare) format.prepare(p.rows, p.depth, a.data(), prepared.data(), offset);
  const SmallRows rows = {a.data(), prepared.data(), offset};
  format.product[p.width]({p.rows, p.depth, 0, p.panels(), p.columns, rows, packed.words.data(),
                           packed.scales.data(), packed.sums.data(),
                           with_start ? p.start.data() : nullptr, c_rows.data(), 0,
                           p.panel_values(), last_first});
  return c;
}

void test_product(const SmallKernels& table, Index rows, Index depth, Index columns, int width,
                  Random& random) {
  for (const Precision precision : {Precision::bf16, Precision::int8}) {
    Problem p = make_problem(rows, depth, columns, width, table.lanes, precision, random);
    if (rows % 3 == 0) spoil(p);
    const bool with_start = rows % 2 == 0;
    if (!same(computed(table, p, with_start, depth % 2 == 0), expected(p, with_start)))
      fail(std::string(table.name) + (precision == Precision::int8 ? " int8" : " bf16") + " rows " +
           std::to_string(rows) + " depth " + std::to_string(depth) + " columns " +
           std::to_string(columns) + " width " + std::to_string(width));
  }
}

void test_gather(const SmallKernels& table, Index depth, int width, Random& random) {
  for (const Precision precision : {Precision::bf16, Precision::int8}) {
    const Index columns = 3 * width * table.lanes;
    Problem p = make_problem(depth, depth, columns, width, table.lanes, precision, random);
    std::fill(p.a.begin(), p.a.end(), 0.0f);
    std::vector<Index> tokens;
    for (Index row = 0; row < p.rows; ++row) {
      tokens.push_back(depth - 1 - row);
      p.a[row * depth + tokens[row]] = 1;
    }
    const Floats dense = computed(table, p, true, false);
    const Packed packed = pack(p);
    Floats c = p.c;
    std::vector<float*> c_rows;
    for (Index row = 0; row < p.rows; ++row) c_rows.push_back(c.data() + row * p.c_row());
    table[precision].gather[width]({p.rows, p.depth, 0, p.panels(), tokens.data(),
                                    packed.words.data(), packed.scales.data(), p.start.data(),
                                    c_rows.data(), p.panel_values()});
    if (!same(c, dense))
      fail(std::string(table.name) + " gather, depth " + std::to_string(depth) + " width " +
           std::to_string(width));
  }
}

void test_table(const SmallKernels& table) {
  Random random;
  for (int width = 1; width <= 3; ++width) {
    const Index whole = width * table.lanes;
    for (Index rows = 1; rows <= 70; ++rows)  // panels and depths as they come
      test_product(table, rows, 1 + rows * 5 % 37, 1 + rows * 7 % (5 * whole), width, random);
    for (const Index panels : {1, 2, 3, 4, 5, 7})
      for (const Index rows : {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 25})
        test_product(table, rows, 64 + rows % 4, panels * whole, width, random);
    for (Index depth = 1; depth <= 40; ++depth) {
      test_product(table, 1, depth, 2 * whole - 1, width, random);
      test_product(table, 6, depth, whole + 1, width, random);
    }
    test_product(table, 3, 5003, whole, width, random);
    for (const Index depth : {1, 2, 3, 4, 5, 18, 23}) test_gather(table, depth, width, random);
  }
  std::printf("%s: %d lanes\n", table.name, table.lanes);
}

// --- conversions ----------------------------------------------------------------------------------

void test_conversions() {
  const std::
      pair<float, std::uint16_t>
          cases[] = {{0.0f, 0x0000},        {-0.0f, 0x8000},    {1.0f, 0x3f80},
                     {-2.5f, 0xc020},       {infinite, 0x7f80}, {-infinite, 0xff80},
                     {1.00390625f, 0x3f80},  // half a step above 1: to even
                     {1.01171875f, 0x3f82},  // half a step below 0x3f82: to even
                     {1.00390637f, 0x3f81},  // a little more than half
                     {3.4e38f, 0x7f80},      // past the largest bf16
                     {1e-45f, 0x0000}};
  for (const auto& [value, half] : cases) {
    std::uint16_t got;
    to_bf16(&value, 1, &got);
    if (got != half) fail("to_bf16 of " + std::to_string(value));
  }
  std::uint32_t bits = 0x7f800001;  // a NaN that truncation would make infinite
  float nan;
  std::memcpy(&nan, &bits, sizeof nan);
  std::uint16_t half;
  to_bf16(&nan, 1, &half);
  if (!std::isnan(from_bf16(half))) fail("to_bf16 of NaN");

  const float w[] = {-1, 0.5f, 0.25f, 0, 0, 0, infinite, 1, 2, 1e-45f, -1e-45f, 0};
  std::int8_t q[12];
  float scales[4];
  quantize_rows_int8(w, 4, 3, q, scales);
  const std::int8_t want[9] = {-127, 64, 32, 0, 0, 0, 0, 0, 0};  // 63.5 and 31.75
  if (std::memcmp(q, want, 9) != 0 || scales[0] != 1.0f / 127.0f || scales[1] != 0 ||
      !std::isnan(scales[2]))
    fail("quantize_rows_int8");
}

// --- cells ----------------------------------------------------------------------------------------

struct Shape {
  CellKind kind;
  Index T, B, I, H, P;
  bool general, normalizes;
};

struct Weights {
  Floats at[weight_count];
  explicit Weights(const Shape& s, Random& random) {
    const Index rows = gate_count(s.kind) * s.H;
    const auto set = [&](Weight weight, Index n) {
      at[static_cast<int>(weight)] = random.values(n, 0.7f);
    };
    set(Weight::weight_ih, rows * s.I);
    set(Weight::weight_hh, s.kind == CellKind::indrnn ? s.H : rows * s.P);
    set(Weight::bias_ih, rows);
    set(Weight::bias_hh, rows);
    if (s.P != s.H) set(Weight::weight_hr, s.P * s.H);
    if (!s.normalizes) return;
    set(Weight::gain_ih, rows);
    set(Weight::gain_hh, rows);
    if (has_cell_state(s.kind)) set(Weight::gain_c, s.H);
  }
  Floats& operator[](Weight weight) { return at[static_cast<int>(weight)]; }
  // Matrices rounded to bf16: what a bf16 cell should amount to.
  Weights with_rounded_matrices(CellKind kind) const {
    Weights out = *this;
    for (const Weight weight : {Weight::weight_ih, Weight::weight_hh, Weight::weight_hr})
      if (weight != Weight::weight_hh || kind != CellKind::indrnn)
        out[weight] = rounded(out[weight]);
    return out;
  }
};

CellWeights<float> cell_weights(const Shape& s, const Weights& weights, Precision precision,
                                const CellOptions<float>* options) {
  CellWeights<float> w = {s.kind, s.I, s.H, s.P, {}, s.general ? options : nullptr};
  for (int i = 0; i < weight_count; ++i)
    w.weights.at[i] = weights.at[i].empty() ? nullptr : weights.at[i].data();
  w.precision = precision;
  return w;
}

CellOptions<float> tanh_options() {
  CellOptions<float> o = {};
  o.f = {Function::sigmoid, 0, 0};
  o.g = o.h = {Function::tanh, 0, 0};
  o.clip = o.cell_clip = infinite;
  o.norm.epsilon = 1e-5f;
  return o;
}

// y of a layer: of batch rows [first, first + count), in pieces of `piece` steps.
Floats run(const Cell<float>& cell, const Shape& s, const float* x, const Index* tokens,
           Index first, Index count, Index piece) {
  Floats y(s.T * count * s.P), h(count * s.P, 0.25f), c(count * s.H, -0.5f);
  const Cell<float>* cells[] = {&cell};
  for (Index t = 0; t < s.T; t += piece) {
    LayerInput<float> in = {};
    in.steps = std::min(piece, s.T - t);
    in.batch = count;
    if (tokens)
      in.tokens = {tokens + t * s.B + first, s.B, 1};
    else
      in.x = {x + (t * s.B + first) * s.I, s.B * s.I, s.I};
    in.h0 = h.data();
    in.c0 = c.data();
    LayerOutput<float> out = {};
    out.y = {y.data() + t * count * s.P, count * s.P, s.P};
    out.h_n = h.data();
    out.c_n = c.data();
    Workspace workspace;
    layer_forward(cells, 1, in, out, workspace, {});
  }
  return y;
}

void test_cell(const Shape& s) {
  Random random;
  const Weights weights(s, random);
  const Floats x = random.values(s.T * s.B * s.I, 2);
  const CellOptions<float> options = tanh_options();
  const auto name = [&](const char* what) {
    return std::string(what) + ": kind " + std::to_string(static_cast<int>(s.kind)) + " I " +
           std::to_string(s.I) + " H " + std::to_string(s.H) + " P " + std::to_string(s.P) +
           (s.normalizes ? " normalised" : "");
  };
  const Cell<float> bf16(cell_weights(s, weights, Precision::bf16, &options), false);
  const Weights as_floats = weights.with_rounded_matrices(s.kind);
  const Cell<float> float32(cell_weights(s, as_floats, Precision::float32, &options), false);
  if (!same(run(bf16, s, x.data(), nullptr, 0, s.B, s.T),
            run(float32, s, x.data(), nullptr, 0, s.B, s.T)))
    fail(name("bf16 differs from rounded weights"));

  std::vector<Index> tokens(s.T * s.B);
  Floats one_hot(s.T * s.B * s.I);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = random.next() % s.I;
    one_hot[i * s.I + tokens[i]] = 1;
  }
  for (const Precision precision : {Precision::bf16, Precision::int8}) {
    const Cell<float> cell(cell_weights(s, weights, precision, &options), false);
    set_max_threads(1);
    const Floats whole = run(cell, s, x.data(), nullptr, 0, s.B, s.T);
    if (!same(run(cell, s, x.data(), nullptr, 0, s.B, 1), whole)) fail(name("steps differ"));
    if (!same(run(cell, s, nullptr, tokens.data(), 0, s.B, s.T),
              run(cell, s, one_hot.data(), nullptr, 0, s.B, s.T)))
      fail(name("tokens differ from one-hot rows"));
    const Floats alone = run(cell, s, x.data(), nullptr, s.B - 1, 1, s.T);
    for (Index t = 0; t < s.T; ++t)
      if (!same(alone.data() + t * s.P, whole.data() + (t * s.B + s.B - 1) * s.P, s.P)) {
        fail(name("a row alone differs"));
        break;
      }
    for (int threads = 2; threads <= 3; ++threads) {
      set_max_threads(threads);
      if (!same(run(cell, s, x.data(), nullptr, 0, s.B, s.T), whole)) fail(name("threads differ"));
    }
    set_max_threads(1);
  }
}

void test_cells() {
  for (int k = 0; k < cell_kinds; ++k) {
    const auto kind = static_cast<CellKind>(k);
    const bool plain = kernels<float>().cells[k].forward != nullptr;
    if (plain) {
      test_cell({kind, 7, 3, 5, 7, 7, false, false});
      test_cell({kind, 9, 40, 33, 50, 50, false, false});
      test_cell({kind, 3, 1, 1, 1, 1, false, false});
      test_cell({kind, 5, 1, 70, 150, 150, false, false});
    }
    if (!kernels<float>().general[k].forward) continue;
    test_cell({kind, 5, 4, 6, 19, 19, true, false});
    if (kind == CellKind::lstm) test_cell({kind, 6, 5, 9, 21, 11, true, false});
    if (kind != CellKind::rnn && kind != CellKind::indrnn)
      test_cell({kind, 4, 3, 9, 18, 18, true, true});
  }
}

// --- refusals -------------------------------------------------------------------------------------

void expect_refusal(const char* what, const std::function<void()>& action) {
  try {
    action();
  } catch (const std::invalid_argument&) {
    return;
  }
  fail(std::string("not refused: ") + what);
}

void test_refusals() {
  Random random;
  const Shape s = {CellKind::lstm, 1, 1, 3, 4, 4, false, false};
  const Weights weights(s, random);
  expect_refusal("training",
                 [&] { Cell<float>(cell_weights(s, weights, Precision::int8, nullptr), true); });
  expect_refusal("float64", [&] {
    const std::vector<double> w(16 * 4, 0.5);
    CellWeights<double> d = {CellKind::lstm, 3, 4, 4, {}, nullptr};
    for (int i = 0; i < 4; ++i) d.weights.at[i] = w.data();
    d.precision = Precision::bf16;
    Cell<double>(d, false);
  });
  CellWeights<float> w = cell_weights(s, weights, Precision::int8, nullptr);
  std::vector<std::int8_t> q(16 * 3, 5);
  Floats scales(16, 0.5f);
  w.small_ih = {q.data(), nullptr};
  expect_refusal("int8 without scales", [&] { Cell<float>(w, false); });
  w.small_ih = {q.data(), scales.data()};
  Cell<float>(w, false);
  q[7] = -128;
  expect_refusal("-128", [&] { Cell<float>(w, false); });
  w.small_ih = {};
  w.weights[Weight::weight_ih] = nullptr;
  expect_refusal("no matrix", [&] { Cell<float>(w, false); });
  expect_refusal("sums past 32 bits", [&] {
    const Floats wide(4 * (max_int8_depth + 1), 1.0f);
    CellWeights<float> big = {CellKind::lstm, max_int8_depth + 1, 1, 1, {}, nullptr};
    for (int i = 0; i < 2; ++i) big.weights.at[i] = wide.data();
    big.precision = Precision::int8;
    Cell<float>(big, false);
  });
}

int test_all(const std::string& isa) {
  if (active_isa() != isa) {
    std::printf("FAILED: expected %s to run, got %s\n", isa.c_str(), active_isa().c_str());
    return 1;
  }
  for (const SmallKernels& table : supported_small_kernels()) test_table(table);
  test_conversions();
  test_cells();
  test_refusals();
  return failures ? 1 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count > 1) return test_all(arguments[1]);
    bool good = true;
    for (const std::string& isa : supported_isas()) {
      const std::string command = "FASTRNN_ISA=" + isa + " '" + arguments[0] + "' " + isa;
      good = std::system(command.c_str()) == 0 && good;
    }
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 1;
  }
}
