#include "sequence/cell.h"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>

#include "parallel.h"

namespace fastrnn {

// Gates (indices in PyTorch's order) of all groups of units side by side, in `panels` panels for each
// group; of a group `vectors` follow each other in a gate.
struct PanelLayout {
  Index hidden, groups;
  int vectors, lanes;
  std::initializer_list<int> gates;
  int panels = 1;

  Index units() const { return vectors * lanes; }
  Index width() const { return static_cast<Index>(gates.size()) * units() / panels; }
  Index columns() const { return groups * panels * width(); }
};

namespace {

// One column vector of the panels [group][k][width][lane]: out[k * stride + lane] =
// weight[row_begin + unit][k] for the units of a group, zero past the hidden size.
template <class Item>
void pack_gate(const Item* weight, Index depth, Index row_begin, Index units, int lanes,
               Index stride, Item* out) {
  for (int lane = 0; lane < lanes; ++lane) {
    if (lane < units) {
      const Item* row = weight + (row_begin + lane) * depth;
      for (Index k = 0; k < depth; ++k) out[k * stride + lane] = row[k];
    } else {
      for (Index k = 0; k < depth; ++k) out[k * stride + lane] = Item(0);
    }
  }
}

template <class Item>
void pack_gates(const Item* weight, Index depth, const PanelLayout& layout, Item* packed) {
  const Index width = layout.width(), lanes = layout.lanes;
  const Index threads = std::min<Index>(usable_threads(), layout.columns() * depth / 32768);
  parallel_ranges(layout.groups, static_cast<int>(threads), [&](Index begin, Index end) {
    for (Index group = begin; group < end; ++group) {
      Index column = group * layout.panels * width;
      for (int gate : layout.gates)
        for (int v = 0; v < layout.vectors; ++v, column += lanes) {
          const Index unit = group * layout.units() + v * lanes;
          pack_gate(weight, depth, gate * layout.hidden + unit, layout.hidden - unit, layout.lanes,
                    width, packed + column / width * width * depth + column % width);
        }
    }
  });
}
template <class Item>
Buffer<Item> packed_gates(const Item* weight, Index depth, const PanelLayout& layout) {
  Buffer<Item> packed(checked_product(layout.columns(), depth));
  pack_gates(weight, depth, layout, packed.data());
  return packed;
}

template <class Real>
Precision checked_precision(const CellWeights<Real>& w, bool training) {
  if (w.precision == Precision::float32) return w.precision;
  if (sizeof(Real) != sizeof(float))
    throw std::invalid_argument("precision: expected float32 for a cell in float64");
  if (training)
    throw std::invalid_argument("precision: expected float32 for training, got one for inference");
  return w.precision;
}

std::initializer_list<int> input_gates(CellKind kind) {
  static const std::initializer_list<int> lstm = {0, 1, 2, 3}, coupled = {0, 1, 2}, gru = {2, 0, 1},
                                          rnn = {0};
  if (kind == CellKind::lstm) return lstm;
  if (kind == CellKind::lstm_coupled) return coupled;
  return is_gru(kind) ? gru : rnn;
}

// Blocks of H: see d_z_values in cell.h.
int gradient_blocks(CellKind kind, bool general) {
  switch (kind) {
    case CellKind::lstm: return general ? 7 : 4;
    case CellKind::lstm_coupled: return 5;
    case CellKind::gru:
    case CellKind::gru_reset_before: return general ? 5 : 4;
    case CellKind::indrnn: return 3;
    default: return general ? 2 : 1;
  }
}

constexpr Index norm_scales = 5;  // see CellNorm

template <class Real>
Index norm_cached(const CellWeights<Real>& w) {
  if (!w.weights[Weight::gain_ih]) return 0;
  const Index blocks = 2 * gate_count(w.kind) + (has_cell_state(w.kind) ? 1 : 0);
  return blocks * w.hidden_size + norm_scales;
}

}  // namespace

int cached_blocks(CellKind kind, bool general) {
  switch (kind) {
    case CellKind::lstm: return 5;
    case CellKind::gru:
    case CellKind::lstm_coupled: return 4;
    case CellKind::gru_reset_before: return 3;
    default: return general ? 1 : 0;
  }
}

GateBlocks input_blocks(CellKind kind) {
  if (is_gru(kind)) return {{{0, 2, 1}, {1, 0, 2}}, 2};
  return {{{0, 0, gate_count(kind)}, {0, 0, 0}}, 1};
}

GateBlocks recurrent_blocks(CellKind kind) {
  if (kind == CellKind::gru) return {{{1, 0, 3}, {0, 0, 0}}, 1};
  if (kind == CellKind::gru_reset_before) return {{{1, 0, 2}, {0, 2, 1}}, 2};
  return input_blocks(kind);
}

template <class Real>
GateBlocks vector_blocks(const Cell<Real>& cell, Weight vector) {
  const CellKind kind = cell.kind;
  const bool coupled = kind == CellKind::lstm_coupled, independent = kind == CellKind::indrnn;
  const int gates = gate_count(kind), gains = static_cast<int>(cell.d_gain_at / cell.hidden_size);
  switch (vector) {
    case Weight::bias_ih: return input_blocks(kind);
    case Weight::bias_hh: return recurrent_blocks(kind);
    case Weight::weight_hh: return {{{1, 0, 1}, {0, 0, 0}}, independent ? 1 : 0};
    case Weight::peephole: return {{{gates, 0, coupled ? 2 : 3}, {0, 0, 0}}, 1};
    case Weight::slope: return {{{independent ? 2 : 1, 0, 1}, {0, 0, 0}}, 1};
    case Weight::gain_ih: return {{{gains, 0, gates}, {0, 0, 0}}, 1};
    case Weight::gain_hh: return {{{gains + gates, 0, gates}, {0, 0, 0}}, 1};
    case Weight::bias_c: return {{{gains + 2 * gates, 0, 1}, {0, 0, 0}}, 1};
    case Weight::gain_c: return {{{gains + 2 * gates + 1, 0, 1}, {0, 0, 0}}, 1};
    default: return {};
  }
}

Index plain_panels(Index columns, int lanes) {
  return (columns + plain_width * lanes - 1) / (plain_width * lanes);
}

template <class Real>
void pack_plain(const Real* weight, Index columns, Index first_row, Index rows, Index depth_offset,
                Index depth, int lanes, Real* out) {
  const Index width = plain_width * lanes;
  for (Index panel = 0; panel < plain_panels(columns, lanes); ++panel) {
    const Index valid = std::min(width, columns - panel * width);
    for (Index row = 0; row < rows; ++row) {
      Real* to = out + (panel * depth + depth_offset + row) * width;
      const Real* from = weight + (first_row + row) * columns + panel * width;
      std::copy(from, from + valid, to);
      std::fill(to + valid, to + width, Real(0));
    }
  }
}

template <class Real>
void pack_transposed(const Real* weight, Index rows, Index columns, int lanes, Real* out) {
  pack_gates(weight, columns, {rows, plain_panels(rows, lanes), plain_width, lanes, {0}}, out);
}

template <class Real>
Cell<Real>::Cell(const CellWeights<Real>& w, bool training_)
    : kind(w.kind),
      input_size(w.input_size),
      hidden_size(w.hidden_size),
      output_size(w.output_size),
      projects(w.weights[Weight::weight_hr] != nullptr || w.small_hr.values != nullptr),
      groups((w.hidden_size + group_units(w.kind, fastrnn::kernels<Real>().lanes) - 1) /
             group_units(w.kind, fastrnn::kernels<Real>().lanes)),
      z_values(groups * group_values(w.kind, fastrnn::kernels<Real>().lanes) +
               static_cast<Index>(64 / sizeof(Real))),
      training(training_),
      general(w.options != nullptr),
      precision(checked_precision(w, training_)),
      kernels(fastrnn::kernels<Real>()),
      steps((general ? kernels.general : kernels.cells)[static_cast<int>(w.kind)]),
      cached(cached_blocks(w.kind, general) * w.hidden_size + norm_cached(w) +
             (projects ? w.hidden_size : 0)),
      units_at(projects ? cached - w.hidden_size : 0),
      c_at(gate_count(w.kind) * w.hidden_size),
      normalizes(w.weights[Weight::gain_ih] != nullptr),
      d_gain_at((gradient_blocks(w.kind, general) + 2 * gate_count(w.kind)) * w.hidden_size),
      input_d_at(normalizes ? gradient_blocks(w.kind, general) * w.hidden_size : 0),
      state_d_at(normalizes ? input_d_at + gate_count(w.kind) * w.hidden_size
                            : recurrent_blocks(w.kind).block[0].d_z * w.hidden_size),
      d_z_values((gradient_blocks(w.kind, general) +
                  (normalizes ? 4 * gate_count(w.kind) + 2 * has_cell_state(w.kind) : 0)) *
                     w.hidden_size +
                 (projects ? w.hidden_size + w.output_size : 0)),
      d_units_at(projects ? d_z_values - w.output_size - w.hidden_size : 0),
      d_output_at(projects ? d_z_values - w.output_size : 0),
      options_(w.options ? *w.options : CellOptions<Real>()) {
  keep_vectors(w);
  pack_forward(w);
  if (training) pack_backward(w);
}

template <class Real>
void Cell<Real>::keep_vectors(const CellWeights<Real>& w) {
  const Index H = hidden_size, peepholes = kind == CellKind::lstm_coupled ? 2 * H : 3 * H;
  const Index G = gate_count(kind) * H;
  // IndRNN may have a slope beside its recurrent vector.
  vectors_ = Buffer<Real>(general ? peepholes + 2 * H + (normalizes ? 4 * G + 2 * H : 0) : 0);
  Real* to = vectors_.data();
  const auto keep = [&](Weight weight, Index count) -> const Real* {
    const Real* from = w.weights[weight];
    if (!from) return nullptr;
    std::copy_n(from, count, to);
    to += count;
    return to - count;
  };
  options_.peephole = keep(Weight::peephole, peepholes);
  options_.slope = keep(Weight::slope, H);
  if (kind == CellKind::indrnn) options_.recurrent = keep(Weight::weight_hh, H);
  if (!normalizes) return;
  CellNorm<Real>& norm = options_.norm;
  norm.gain_ih = keep(Weight::gain_ih, G);
  norm.gain_hh = keep(Weight::gain_hh, G);
  norm.bias_ih = keep(Weight::bias_ih, G);
  norm.bias_hh = keep(Weight::bias_hh, G);
  norm.gain_c = keep(Weight::gain_c, H);
  norm.bias_c = keep(Weight::bias_c, H);
  norm.values_at = cached_blocks(kind, true) * H;
  norm.scales_at = norm.values_at + norm_cached(w) - norm_scales;
}

template <class Real>
Panels<Real> Cell<Real>::pack_matrix(const CellWeights<Real>& w, Weight weight, Index rows,
                                     Index depth, const PanelLayout& layout) {
  Panels<Real> out;
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (precision != Precision::float32) {
      const SmallMatrix small = weight == Weight::weight_ih   ? w.small_ih
                                : weight == Weight::weight_hh ? w.small_hh
                                                              : w.small_hr;
      const WordRows words = word_rows(precision, w.weights[weight], small, rows, depth);
      out.words = packed_gates(words.values.data(), words.words, layout);
      if (precision != Precision::int8) return out;
      out.scales = packed_gates(words.scales.data(), 1, layout);
      out.sums = packed_gates(words.sums.data(), 1, layout);
      return out;
    }
  }
  out.values = packed_gates(w.weights[weight], depth, layout);
  return out;
}

template <class Real>
void Cell<Real>::pack_forward(const CellWeights<Real>& w) {
  const Index H = hidden_size, P = output_size, rows = gate_count(kind) * H;
  // Where z is normalised, the biases come after that.
  const Real* bias_ih = normalizes ? nullptr : w.weights[Weight::bias_ih];
  const Real* bias_hh = normalizes ? nullptr : w.weights[Weight::bias_hh];
  const int lanes = kernels.lanes, vectors = gate_count(kind) == 1 ? 2 : 1;
  PanelLayout layout = {H, groups, vectors, lanes, input_gates(kind), group_panels(kind)};
  const Index units = layout.units(), width = layout.columns() / groups;
  input = pack_matrix(w, Weight::weight_ih, rows, input_size, layout);

  const auto pack_state = [&](std::initializer_list<int> gates) {
    layout.gates = gates;
    return pack_matrix(w, Weight::weight_hh, rows, P, layout);
  };
  if (kind == CellKind::gru) {
    recurrent = pack_state({0, 1, 2});
  } else if (kind == CellKind::gru_reset_before) {
    recurrent = pack_state({0, 1});
    candidate = pack_state({2});
  } else if (kind != CellKind::indrnn) {
    recurrent = pack_state(input_gates(kind));
  }
  if (projects)
    projection = pack_matrix(w, Weight::weight_hr, P, H,
                             {P, plain_panels(P, lanes), plain_width, lanes, {0}});

  // Both biases are summed once; only n_h of a GRU keeps its own.
  start = Buffer<Real>(groups * width);
  candidate_start = Buffer<Real>(kind == CellKind::gru ? groups * lanes : 0);
  for (Index group = 0; group < groups; ++group) {
    Real* to = start.data() + group * width;
    for (int gate : input_gates(kind))
      for (Index lane = 0; lane < units; ++lane, ++to) {
        const Index unit = group * units + lane, at = gate * H + unit;
        const bool own = kind == CellKind::gru && gate == 2;
        const Real ih = unit < H && bias_ih ? bias_ih[at] : Real(0);
        const Real hh = unit < H && bias_hh ? bias_hh[at] : Real(0);
        *to = own ? ih : ih + hh;
        if (own) candidate_start.data()[unit] = hh;
      }
  }
}

template <class Real>
std::size_t Cell<Real>::bytes() const {
  std::size_t values = 0, words = 0;
  for (const Buffer<Real>* buffer :
       {&start, &candidate_start, &input_transposed, &recurrent_transposed, &candidate_transposed,
        &projection_transposed, &vectors_})
    values += buffer->size();
  for (const Panels<Real>* matrix : {&input, &recurrent, &candidate, &projection}) {
    values += matrix->values.size();
    words += matrix->words.size() + matrix->scales.size() + matrix->sums.size();
  }
  return sizeof(*this) + values * sizeof(Real) + words * sizeof(std::uint32_t);
}

template <class Real>
void Cell<Real>::pack_backward(const CellWeights<Real>& w) {
  const Index I = input_size, H = hidden_size, P = output_size;
  const Real *weight_hh = w.weights[Weight::weight_hh], *weight_hr = w.weights[Weight::weight_hr];
  const int lanes = kernels.lanes;
  const Index width = plain_width * lanes;
  const auto pack = [&](const Real* weight, Index columns, const GateBlock* blocks, int count) {
    Index depth = 0, offset = 0;
    for (int i = 0; i < count; ++i) depth += blocks[i].count * H;
    Buffer<Real> out(checked_product(plain_panels(columns, lanes) * width, depth));
    for (int i = 0; i < count; ++i) {
      const GateBlock& b = blocks[i];
      pack_plain(weight, columns, b.weight * H, b.count * H, offset, depth, lanes, out.data());
      offset += b.count * H;
    }
    return out;
  };
  const GateBlocks in = input_blocks(kind), re = recurrent_blocks(kind);
  input_transposed = pack(w.weights[Weight::weight_ih], I, in.block, in.size);
  if (kind != CellKind::indrnn) recurrent_transposed = pack(weight_hh, P, re.block, 1);
  if (kind == CellKind::gru_reset_before)
    candidate_transposed = pack(weight_hh, P, re.block + 1, 1);
  if (projects) {
    projection_transposed = Buffer<Real>(checked_product(plain_panels(H, lanes) * width, P));
    pack_plain(weight_hr, H, 0, P, 0, P, lanes, projection_transposed.data());
  }
}

template GateBlocks vector_blocks(const Cell<float>&, Weight);
template GateBlocks vector_blocks(const Cell<double>&, Weight);
template class Cell<float>;
template class Cell<double>;
template void pack_plain(const float*, Index, Index, Index, Index, Index, int, float*);
template void pack_plain(const double*, Index, Index, Index, Index, Index, int, double*);
template void pack_transposed(const float*, Index, Index, int, float*);
template void pack_transposed(const double*, Index, Index, int, double*);

}  // namespace fastrnn
