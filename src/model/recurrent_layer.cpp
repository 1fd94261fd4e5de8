#include "model/recurrent_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "dispatch_small.h"
#include "model/failure.h"

namespace fastrnn {
namespace {

constexpr std::uint64_t max_layers = 10000;  // as in Python
constexpr Activation<float> sigmoid = {Function::sigmoid, 0, 0}, tanh_ = {Function::tanh, 0, 0};

bool is(const Activation<float>& activation, Function function) {
  return activation.function == function;
}

// How few bits; the two of bf16 differ in the arithmetic alone.
int smallness(fr_precision precision) {
  return precision == FR_PRECISION_INT8 ? 2 : precision == FR_PRECISION_FLOAT32 ? 0 : 1;
}

Precision core_precision(fr_precision precision) {
  return static_cast<Precision>(precision - FR_PRECISION_FLOAT32);  // the same order
}
static_assert(static_cast<int>(Precision::int8) == FR_PRECISION_INT8 - FR_PRECISION_FLOAT32, "");

SmallMatrix* small_matrix(CellWeights<float>& cell, Weight weight) {
  if (weight == Weight::weight_ih) return &cell.small_ih;
  return weight == Weight::weight_hh ? &cell.small_hh : &cell.small_hr;
}

// What quantising gives: no -128, and scales that are finite and not negative.
void check_integers(const std::string& name, const Tensor& integers, const Tensor& scales) {
  for (const char value : integers.bytes)
    if (value == '\x80') fail_model(name + ": expected integers from -127 to 127, got -128");
  for (std::size_t at = 0; at < scales.bytes.size(); at += sizeof(float)) {
    float scale;
    std::memcpy(&scale, scales.bytes.data() + at, sizeof scale);
    if (!(scale >= 0 && std::isfinite(scale)))
      fail_model(name + "_scale: expected finite scales from 0 on");
  }
}

// Floats or bf16 that are to become integers.
void check_finite(const std::string& name, const Tensor& tensor) {
  const std::size_t size = tensor.dtype == "BF16" ? sizeof(std::uint16_t) : sizeof(float);
  for (std::size_t at = size - 2; at < tensor.bytes.size(); at += size) {
    std::uint16_t upper;  // half, with the exponent
    std::memcpy(&upper, tensor.bytes.data() + at, sizeof upper);
    if ((upper & 0x7f80) == 0x7f80)
      fail(FR_UNSUPPORTED, name + ": expected finite weights for int8, got NaN or infinite ones");
  }
}

const char* const merge_modes[] = {"concat", "sum", "mean", "mul", nullptr};
const char* const precisions[] = {"float32", "bf16", "bf16_dot", "int8",
                                  nullptr};  // fr_precision - 1

const char* const weight_names[weight_count] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh",
                                                "weight_hr", "peephole",  "slope",   "gain_ih",
                                                "gain_hh",   "gain_c",    "bias_c"};

}  // namespace

RecurrentLayer::RecurrentLayer(const std::string& layer_class, Config& config, Weights& weights,
                               const std::string& prefix, fr_precision asked) {
  config.dtype();
  input = config.size("input_size");
  hidden = output = config.size("hidden_size");
  layers = config.size("num_layers", 1);
  if (layers > max_layers)
    fail_model(config.where() + ": num_layers: expected at most " + std::to_string(max_layers) +
               ", got " + std::to_string(layers));
  config.flag("batch_first", false);
  config.number("dropout", 0, 0, 1);
  config.number("weight_dropout", 0, 0, 1);
  bidirectional = config.flag("bidirectional", false);
  merge_mode = static_cast<MergeMode>(config.choice("merge_mode", 0, merge_modes));
  go_backwards = config.flag("go_backwards", false);
  if (go_backwards && bidirectional)
    fail_model(config.where() + ": go_backwards: expected false for a bidirectional layer");
  const bool learned_state = config.flag("learned_state", false);
  choose_precision(config, asked);
  const Parts parts = read_cell(layer_class, config);
  config.finish();
  take_weights(parts, learned_state, weights, prefix);
}

void RecurrentLayer::choose_precision(Config& config, fr_precision asked) {
  stored = static_cast<fr_precision>(config.choice("precision", 0, precisions) + 1);
  precision = asked == FR_PRECISION_AS_STORED ? stored : asked;
  if (smallness(precision) < smallness(stored))
    fail(FR_UNSUPPORTED, config.where() + ": precision: expected " + precisions[stored - 1] +
                             ", as the file has it, or smaller, got " + precisions[precision - 1]);
  if (precision != FR_PRECISION_FLOAT32 && supported_small_kernels().empty())
    fail(FR_UNSUPPORTED, config.where() + ": precision: this library was built for float32 alone");
}

RecurrentLayer::Parts RecurrentLayer::read_cell(const std::string& layer_class, Config& config) {
  Parts parts;
  const bool lstm = layer_class == "LSTM", gru = layer_class == "GRU",
             independent = layer_class == "IndRNN";
  parts.bias = config.flag("bias", true);
  if (!independent) {
    config.number("recurrent_dropout", 0, 0, 1);
    parts.layer_norm = config.flag("layer_norm", false);
  }
  options_.f = options_.g = options_.h = tanh_;
  bool plain = !parts.layer_norm;
  if (lstm) {
    const std::uint64_t projection = config.size("proj_size", 0, 0);
    if (projection >= hidden)
      fail_model(config.where() + ": proj_size: expected less than hidden_size " +
                 std::to_string(hidden) + ", got " + std::to_string(projection));
    parts.projects = projection > 0;
    if (parts.projects) output = projection;
    parts.peephole = config.flag("peephole", false);
    const bool coupled = config.flag("coupled", false);
    kind = coupled ? CellKind::lstm_coupled : CellKind::lstm;
    const auto functions = config.activations("activations", {sigmoid, tanh_, tanh_});
    options_.f = functions[0];
    options_.g = functions[1];
    options_.h = functions[2];
    plain = plain && !parts.peephole && !coupled && is(options_.f, Function::sigmoid) &&
            is(options_.g, Function::tanh) && is(options_.h, Function::tanh);
  } else if (gru) {
    kind = config.flag("reset_after", true) ? CellKind::gru : CellKind::gru_reset_before;
    const auto functions = config.activations("activations", {sigmoid, tanh_});
    options_.f = functions[0];
    options_.g = functions[1];
    plain = plain && is(options_.f, Function::sigmoid) && is(options_.g, Function::tanh);
  } else {
    const Function usual = independent ? Function::relu : Function::tanh;
    options_.f = config.activation("nonlinearity", {usual, 0, 0});
    parts.slope = is(options_.f, Function::prelu);
    const bool relu = is(options_.f, Function::relu);
    plain = plain && !independent && (relu || is(options_.f, Function::tanh));
    kind = relu ? CellKind::rnn_relu : CellKind::rnn_tanh;
  }
  read_options(config, !plain);
  if (!lstm && !gru && has_options_) kind = independent ? CellKind::indrnn : CellKind::rnn;
  if (parts.projects && options_.keep_h != 0)
    fail_model(config.where() + ": zoneout: expected 0 for h with proj_size");
  return parts;
}

void RecurrentLayer::read_options(Config& config, bool needed) {
  const bool lstm = has_cell_state(kind);
  const double clip = config.limit("clip"), cell_clip = lstm ? config.limit("cell_clip") : infinity;
  const std::vector<double> zoneout = config.zoneout(lstm);
  options_.clip = static_cast<float>(clip);
  options_.cell_clip = static_cast<float>(cell_clip);
  options_.keep_h = static_cast<float>(zoneout[0]);
  options_.keep_c = lstm ? static_cast<float>(zoneout[1]) : 0;
  options_.zoneout = options_.keep_h != 0 || options_.keep_c != 0;
  options_.norm.epsilon = static_cast<float>(1e-5);
  has_options_ =
      needed || clip < infinity || cell_clip < infinity || zoneout[0] != 0 || zoneout[1] != 0;
}

// Asks for one after the other: a hostile file may name any number of layers, but must have the weights.
void RecurrentLayer::take_weights(const Parts& parts, bool learned_state, Weights& weights,
                                  const std::string& prefix) {
  std::uint64_t inputs = input;
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    for (std::uint64_t d = 0; d < directions(); ++d) {
      const std::string suffix = "_l" + std::to_string(layer) + (d ? "_reverse" : "");
      cells_.push_back(take_cell(parts, weights, prefix, suffix, inputs));
    }
    inputs = width();
  }
  if (!learned_state) return;
  h0_ = &weights.take(prefix + "h_0", {layers * directions(), output});
  if (has_cell_state(kind)) c0_ = &weights.take(prefix + "c_0", {layers * directions(), hidden});
}

RecurrentLayer::CellTensors RecurrentLayer::take_cell(const Parts& parts, Weights& weights,
                                                      const std::string& prefix,
                                                      const std::string& suffix,
                                                      std::uint64_t inputs) const {
  CellTensors tensors;
  const std::uint64_t gates = static_cast<std::uint64_t>(gate_count(kind)), rows = gates * hidden;
  const auto take = [&](Weight weight, const Shape& shape) {
    const std::string name = prefix + weight_names[static_cast<int>(weight)] + suffix;
    const bool matrix = shape.size() == 2, small = stored != FR_PRECISION_FLOAT32 && matrix;
    const bool integers = small && stored == FR_PRECISION_INT8;
    tensors.at[weight] = &weights.take(name, shape, integers ? "I8" : small ? "BF16" : "F32");
    if (integers) {
      tensors.scales[weight] = &weights.take(name + "_scale", {shape[0]});
      check_integers(name, *tensors.at[weight], *tensors.scales[weight]);
    } else if (precision == FR_PRECISION_INT8 && matrix) {
      check_finite(name, *tensors.at[weight]);
    }
    if (precision == FR_PRECISION_INT8 && matrix && shape[1] > max_int8_depth)
      fail(FR_UNSUPPORTED, name + ": expected at most " + std::to_string(max_int8_depth) +
                               " columns for int8, got " + std::to_string(shape[1]));
  };
  take(Weight::weight_ih, {rows, inputs});
  take(Weight::weight_hh, kind == CellKind::indrnn ? Shape{hidden} : Shape{rows, output});
  if (parts.bias) take(Weight::bias_ih, {rows});
  if (parts.bias) take(Weight::bias_hh, {rows});
  if (parts.projects) take(Weight::weight_hr, {output, hidden});
  if (parts.peephole) take(Weight::peephole, {(gates - 1) * hidden});
  if (parts.slope) take(Weight::slope, {hidden});
  if (!parts.layer_norm) return tensors;
  take(Weight::gain_ih, {rows});
  take(Weight::gain_hh, {rows});
  if (!has_cell_state(kind)) return tensors;
  take(Weight::gain_c, {hidden});
  take(Weight::bias_c, {hidden});
  return tensors;
}

CellWeights<float> RecurrentLayer::cell_weights(const CellTensors& tensors, std::uint64_t inputs,
                                                Arrays& arrays) const {
  CellWeights<float> cell = {};
  cell.kind = kind;
  cell.input_size = static_cast<Index>(inputs);
  cell.hidden_size = static_cast<Index>(hidden);
  cell.output_size = static_cast<Index>(output);
  cell.options = has_options_ ? &options_ : nullptr;
  cell.precision = core_precision(precision);
  for (int i = 0; i < weight_count; ++i) {
    const Tensor* tensor = tensors.at.at[i];
    if (!tensor || tensor->dtype == "F32") {
      cell.weights.at[i] = arrays.floats(tensor);
    } else if (smallness(stored) < smallness(precision)) {
      cell.weights.at[i] = arrays.widened(tensor);
    } else {
      const void* values = tensor->dtype == "I8" ? static_cast<const void*>(arrays.int8(tensor))
                                                 : arrays.bf16(tensor);
      *small_matrix(cell, static_cast<Weight>(i)) = {values, arrays.floats(tensors.scales.at[i])};
    }
  }
  return cell;
}

void RecurrentLayer::add_to(Network& network) const {
  Arrays arrays;
  std::vector<CellWeights<float>> cells;
  for (std::size_t i = 0; i < cells_.size(); ++i)
    cells.push_back(cell_weights(cells_[i], i < directions() ? input : width(), arrays));
  network.add_recurrent({static_cast<int>(layers), static_cast<int>(directions()), cells.data(),
                         merge_mode, go_backwards, arrays.floats(h0_), arrays.floats(c0_)});
}

}  // namespace fastrnn
