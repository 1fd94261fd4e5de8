// Handlers that XLA calls from compiled programs: one recurrent layer forward and backward. They hold
// no interpreter lock and know nothing of Python, which only gets their addresses. They run on XLA's
// threads, several at once where a program has several layers that do not wait for each other.
//
// Operands, in this order: x, h0, c0, lengths, and for each direction w_ih, w_hh, b_ih, b_hh, w_hr. One
// that is not there is a buffer of the shape (0,). Attributes: kind, its place in CellKind, and
// batch_first.
#include "bindings/xla_abi.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "sequence/layer.h"

namespace fastrnn::bindings {
namespace {

// What ends a call: a message for XLA with its code.
struct Failure : std::runtime_error {
  Failure(std::int32_t code_, const std::string& message)
      : std::runtime_error("fastrnn: " + message), code(code_) {}
  const std::int32_t code;
};

[[noreturn]] void refuse(const std::string& message) {
  throw Failure(xla::invalid_argument, message);
}

void check_struct(std::size_t size, std::size_t needed, const char* name) {
  if (size < needed)
    throw Failure(xla::unimplemented, std::string(name) + ": unknown version of XLA's interface");
}

template <class Item>
constexpr std::int32_t type_of() {
  constexpr bool wide = sizeof(Item) == 8;
  if (std::is_floating_point_v<Item>) return wide ? xla::type_f64 : xla::type_f32;
  return wide ? xla::type_s64 : xla::type_s32;
}

Shape shape_of(const xla::Buffer& buffer) { return Shape(buffer.dims, buffer.dims + buffer.rank); }
bool is_absent(const xla::Buffer& buffer) { return buffer.rank == 1 && buffer.dims[0] == 0; }

// The data of a buffer with this type and shape.
template <class Item>
Item* data_of(const xla::Buffer& buffer, const Shape& shape, const char* name) {
  if (buffer.type != type_of<Item>())
    refuse(std::string(name) + ": unexpected type " + std::to_string(buffer.type));
  if (shape_of(buffer) != shape)
    refuse(std::string(name) + ": expected the shape " + text(shape) + ", got " +
           text(shape_of(buffer)));
  return static_cast<Item*>(buffer.data);
}
// The same, or null where it is absent.
template <class Item>
Item* optional_data(const xla::Buffer& buffer, const Shape& shape, const char* name) {
  return is_absent(buffer) ? nullptr : data_of<Item>(buffer, shape, name);
}

const xla::Buffer& buffer_of(const xla::Operands& operands, Index i, std::int32_t kind) {
  if (i >= operands.size || operands.types[i] != kind) refuse("expected more buffers");
  const auto& buffer = *static_cast<const xla::Buffer*>(operands.items[i]);
  check_struct(buffer.struct_size, FASTRNN_XLA_SIZE(xla::Buffer, dims), "buffer");
  return buffer;
}

std::int64_t attribute(const xla::Attributes& attributes, const std::string& name) {
  for (std::int64_t i = 0; i < attributes.size; ++i) {
    const xla::Bytes& found = *attributes.names[i];
    if (name.compare(0, std::string::npos, found.data, found.size) != 0) continue;
    const auto& scalar = *static_cast<const xla::Scalar*>(attributes.items[i]);
    if (attributes.types[i] == xla::attribute_scalar && scalar.type == xla::type_s64)
      return *static_cast<const std::int64_t*>(scalar.value);
  }
  refuse(name + ": expected an integer attribute");
}

// The operands of one call.
class Call {
 public:
  explicit Call(const xla::CallFrame& frame) : frame_(frame) {
    check_struct(frame.arguments.struct_size, FASTRNN_XLA_SIZE(xla::Operands, items), "arguments");
    check_struct(frame.results.struct_size, FASTRNN_XLA_SIZE(xla::Operands, items), "results");
    check_struct(frame.attributes.struct_size, FASTRNN_XLA_SIZE(xla::Attributes, items),
                 "attributes");
    if (frame.stage != xla::stage_execute)
      throw Failure(xla::unimplemented, "expected to be called to execute");
    const std::int64_t kind_number = attribute(frame.attributes, "kind");
    if (kind_number < 0 || kind_number > static_cast<int>(CellKind::gru_reset_before))
      refuse("kind: expected one of five, got " + std::to_string(kind_number));
    kind = static_cast<CellKind>(kind_number);
    batch_first = attribute(frame.attributes, "batch_first") != 0;
  }
  const xla::Buffer& argument(Index i) const {
    return buffer_of(frame_.arguments, i, xla::argument_buffer);
  }
  const xla::Buffer& result(Index i) const {
    return buffer_of(frame_.results, i, xla::result_buffer);
  }
  Index arguments() const { return frame_.arguments.size; }
  Index results() const { return frame_.results.size; }

  CellKind kind;
  bool batch_first;

 private:
  const xla::CallFrame& frame_;
};

constexpr Index direction_weights = 5;  // in the order of the first of Weight
constexpr const char* weight_names[] = {"w_ih", "w_hh", "b_ih", "b_hh", "w_hr"};
constexpr Index first_weight = 4;

// A layer and its input. `others`: arguments that follow the operands.
template <class Real>
struct Layer {
  Layer(const Call& call_, Index others, bool training, Workspace& workspace) : call(call_) {
    const Index weights = call.arguments() - first_weight - others;
    D = weights / direction_weights;
    if (weights % direction_weights != 0 || D < 1 || D > 2)
      refuse("expected one or two directions");
    take_sizes();
    in.x = sequence<const Real>(call.argument(0), I, "x");
    in.h0 = optional_data<const Real>(call.argument(1), {D, B, P}, "h0");
    in.c0 = optional_data<const Real>(call.argument(2), {D, B, H}, "c0");
    if (in.c0 && !has_cell_state(call.kind)) refuse("c0: expected none");
    in.lengths = take_lengths(call.argument(3), workspace);
    for (Index d = 0; d < D; ++d) make_cell(d, training);
  }

  Index weight_at(Index d, Index i) const { return first_weight + d * direction_weights + i; }

  Shape weight_shape(Index i) const {
    const Index rows = gate_count(call.kind) * H;
    const Shape shapes[] = {{rows, I}, {rows, P}, {rows}, {rows}, {P, H}};
    return shapes[i];
  }

  // A (T, B, width) buffer, or (B, T, width).
  template <class Item>
  Sequence<Item> sequence(const xla::Buffer& buffer, Index width, const char* name) const {
    if (call.batch_first) return {data_of<Item>(buffer, {B, T, width}, name), width, T * width};
    return {data_of<Item>(buffer, {T, B, width}, name), B * width, width};
  }

  // Forward's results: y, h_n, c_n.
  LayerOutput<Real> outputs() const {
    LayerOutput<Real> out = {};
    out.y = sequence<Real>(call.result(0), D * P, "y");
    out.h_n = data_of<Real>(call.result(1), {D, B, P}, "h_n");
    if (has_cell_state(call.kind)) out.c_n = data_of<Real>(call.result(2), {D, B, H}, "c_n");
    return out;
  }

  Index cache_size() const { return D * T * B * cells[0]->cached; }  // without lengths: the most

  const Call& call;
  Index T = 0, B = 0, I = 0, H = 0, P = 0, D = 0;
  LayerInput<Real> in = {};
  std::optional<Cell<Real>> cells[2];
  const Cell<Real>* pointers[2] = {nullptr, nullptr};

 private:
  void take_sizes() {
    const Shape x = shape_of(call.argument(0)), w_ih = shape_of(call.argument(weight_at(0, 0))),
                w_hh = shape_of(call.argument(weight_at(0, 1)));
    if (x.size() != 3 || w_ih.size() != 2 || w_hh.size() != 2)
      refuse("expected x of three axes and matrices");
    T = x[call.batch_first];
    B = x[!call.batch_first];
    I = w_ih[1];
    H = w_ih[0] / gate_count(call.kind);
    P = w_hh[1];
    if (I < 1 || H < 1 || P < 1) refuse("w_ih: expected rows and columns");
    in.steps = T;
    in.batch = B;
  }

  void make_cell(Index d, bool training) {
    CellWeights<Real> w = {};
    w.kind = call.kind;
    w.input_size = I;
    w.hidden_size = H;
    w.output_size = P;
    for (Index i = 0; i < direction_weights; ++i)
      w.weights.at[i] = optional_data<const Real>(call.argument(weight_at(d, i)), weight_shape(i),
                                                  weight_names[i]);
    const bool projects = w.weights[Weight::weight_hr] != nullptr;
    if (!w.weights[Weight::weight_ih] || !w.weights[Weight::weight_hh] || (!projects && P != H) ||
        (projects && call.kind != CellKind::lstm) || (d == 1 && projects != cells[0]->projects))
      refuse("weights: expected those of one layer");
    pointers[d] = &cells[d].emplace(w, training);
  }

  const Index* take_lengths(const xla::Buffer& buffer, Workspace& workspace) const {
    if (is_absent(buffer)) return nullptr;
    const bool wide = buffer.type == xla::type_s64;
    const void* given = wide ? static_cast<void*>(data_of<std::int64_t>(buffer, {B}, "lengths"))
                             : data_of<std::int32_t>(buffer, {B}, "lengths");
    Index* lengths = workspace.take<Index>(B);
    for (Index b = 0; b < B; ++b) {
      lengths[b] = wide ? static_cast<Index>(static_cast<const std::int64_t*>(given)[b])
                        : static_cast<const std::int32_t*>(given)[b];
      if (lengths[b] < 0 || lengths[b] > T)
        refuse("lengths: expected from 0 to " + std::to_string(T) + ", got " +
               std::to_string(lengths[b]) + " for row " + std::to_string(b));
    }
    return lengths;
  }
};

// Results y, h_n, c_n; in training then what backward needs.
template <class Real>
void forward(const Call& call) {
  ScratchLease scratch;
  const Layer<Real> layer(call, 0, false, *scratch);
  LayerOutput<Real> out = layer.outputs();
  if (call.results() > 3) {
    const Index size = layer.cache_size();
    out.cache = data_of<Real>(call.result(3), {size}, "cache");
    const Index used = cache_values(*layer.cells[0], static_cast<int>(layer.D), layer.in, 0);
    std::fill_n(out.cache + used, size - used, Real(0));  // where XLA looks for NaN
    if (size == 0) out.cache = nullptr;
  }
  layer_forward(layer.pointers, static_cast<int>(layer.D), layer.in, out, *scratch, Interrupt{});
}

// After the operands: y, the cache, and the gradients of y, h_n and c_n. Results: the gradients of the
// operands but lengths, absent where they are not wanted.
template <class Real>
void backward(const Call& call) {
  constexpr Index others = 5;
  ScratchLease scratch;
  const Layer<Real> layer(call, others, true, *scratch);
  const Index B = layer.B, D = layer.D, first = call.arguments() - others;
  const Shape h_shape = {D, B, layer.P}, c_shape = {D, B, layer.H};
  LayerOutput<Real> out = {};
  out.y = layer.template sequence<Real>(call.argument(first), D * layer.P, "y");
  const Index size = layer.cache_size();
  out.cache = data_of<Real>(call.argument(first + 1), {size}, "cache");
  if (size == 0) out.cache = nullptr;

  LayerGradients<Real> g = {};
  const xla::Buffer& d_y = call.argument(first + 2);
  if (!is_absent(d_y)) g.d_y = layer.template sequence<const Real>(d_y, D * layer.P, "d_y");
  g.d_h_n = optional_data<const Real>(call.argument(first + 3), h_shape, "d_h_n");
  g.d_c_n = optional_data<const Real>(call.argument(first + 4), c_shape, "d_c_n");
  const bool lstm = has_cell_state(call.kind);
  if (g.d_c_n && !lstm) refuse("d_c_n: expected none");

  if (!is_absent(call.result(0)))
    g.d_x = layer.template sequence<Real>(call.result(0), layer.I, "d_x");
  g.d_h0 = optional_data<Real>(call.result(1), h_shape, "d_h0");
  if (!g.d_h0) g.d_h0 = (*scratch).template take<Real>(D * B * layer.P);
  g.d_c0 = optional_data<Real>(call.result(2), c_shape, "d_c0");
  if (!g.d_c0 && lstm) g.d_c0 = (*scratch).template take<Real>(D * B * layer.H);
  for (Index d = 0; d < D; ++d)
    for (Index i = 0; i < direction_weights; ++i) {
      const xla::Buffer& result = call.result(layer.weight_at(d, i) - 1);
      const Shape shape = layer.weight_shape(i);
      Real* gradient = optional_data<Real>(result, shape, weight_names[i]);
      if (!gradient) continue;
      Index count = 1;
      for (const Index axis : shape) count *= axis;
      std::fill_n(gradient, count, Real(0));
      g.cells[d].at[i] = gradient;
    }
  layer_backward(layer.pointers, static_cast<int>(D), layer.in, out, g, *scratch, Interrupt{});
}

// --- at XLA's border --------------------------------------------------------------------------------

xla::Error* error(const xla::Api* api, std::int32_t code, const char* message) {
  xla::ErrorArguments arguments = {FASTRNN_XLA_SIZE(xla::ErrorArguments, code), nullptr, message,
                                   code};
  return api->create_error(&arguments);
}

// XLA asks a handler when it is registered which version of the interface it was written for. A newer
// minor version of XLA's than ours only has more; of an older one nothing is used that it lacks.
void tell_version(const xla::CallFrame& frame, const xla::Extension* found) {
  const auto& extension = *reinterpret_cast<const xla::MetadataExtension*>(found);
  check_struct(extension.base.struct_size, FASTRNN_XLA_SIZE(xla::MetadataExtension, metadata),
               "metadata");
  xla::Metadata& metadata = *extension.metadata;
  check_struct(metadata.struct_size, FASTRNN_XLA_SIZE(xla::Metadata, traits), "metadata");
  const int minor = std::min(xla::api_minor, frame.api->version.minor);
  metadata.version = {FASTRNN_XLA_SIZE(xla::Version, minor), nullptr, xla::api_major, minor};
  metadata.traits = 0;
}

// A handler calls function(Real(), call) and returns what XLA takes for an error, or null.
template <class Function>
xla::Error* handle(xla::CallFrame* frame, Function function) {
  const xla::Api* api = frame->api;
  try {
    if (frame->struct_size < FASTRNN_XLA_SIZE(xla::CallFrame, attributes) ||
        api->struct_size < FASTRNN_XLA_SIZE(xla::Api, create_error) ||
        api->version.major != xla::api_major)
      throw Failure(xla::unimplemented, "unknown version of XLA's interface");
    for (const xla::Extension* e = frame->extensions; e; e = e->next)
      if (e->type == xla::extension_metadata) return tell_version(*frame, e), nullptr;
    const Call call(*frame);
    if (call.argument(0).type == xla::type_f32)
      function(float(), call);
    else
      function(double(), call);
    return nullptr;
  } catch (const Failure& failure) {
    return error(api, failure.code, failure.what());
  } catch (const std::bad_alloc&) {
    return error(api, xla::resource_exhausted, "fastrnn: not enough memory");
  } catch (const std::exception& failure) {
    return error(api, xla::internal, failure.what());
  }
}

xla::Error* layer_forward_handler(xla::CallFrame* frame) {
  return handle(frame, [](auto real, const Call& call) { forward<decltype(real)>(call); });
}
xla::Error* layer_backward_handler(xla::CallFrame* frame) {
  return handle(frame, [](auto real, const Call& call) { backward<decltype(real)>(call); });
}

}  // namespace

void register_xla(py::module_& m) {
  m.def("xla_handlers", [] {
    py::dict handlers;
    handlers["fastrnn_layer_forward"] =
        py::capsule(reinterpret_cast<void*>(&layer_forward_handler));
    handlers["fastrnn_layer_backward"] =
        py::capsule(reinterpret_cast<void*>(&layer_backward_handler));
    return handlers;
  });
  m.def(
      "layer_cache_blocks",
      [](int kind, bool projects) {
        return cached_blocks(static_cast<CellKind>(kind), false) + projects;
      },
      py::arg("kind"), py::arg("projects"));
}

}  // namespace fastrnn::bindings
