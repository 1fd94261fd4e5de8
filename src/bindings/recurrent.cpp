// Recurrent layers in training: packed cells, the forward pass, and the tape that takes gradients
// back. Each call makes its Python objects first, then lets go of the interpreter lock while the core
// works.
#include "bindings/recurrent.h"

#include "bindings/module.h"
#include "dispatch_small.h"
#include "sequence/quantize.h"

namespace fastrnn::bindings {
namespace {

template <class Name, std::size_t count>
Name named(const char* const (&names)[count], const std::string& name, const char* what) {
  for (std::size_t i = 0; i < count; ++i)
    if (name == names[i]) return static_cast<Name>(i);
  throw py::value_error(std::string(what) + ": unknown '" + name + "'");
}
// In the order of the enumerations in types.h.
constexpr const char* kind_names[] = {"rnn_tanh",         "rnn_relu", "lstm",   "gru",
                                      "gru_reset_before", "rnn",      "indrnn", "lstm_coupled"};
constexpr const char* function_names[] = {
    "sigmoid",     "tanh",         "relu", "affine",   "leaky_relu", "thresholded_relu",
    "scaled_tanh", "hard_sigmoid", "elu",  "softsign", "softplus",   "prelu"};
constexpr const char* weight_names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh",
                                        "weight_hr", "peephole",  "slope",   "gain_ih",
                                        "gain_hh",   "gain_c",    "bias_c"};

// The shape that a weight of this cell has.
Shape weight_shape(Weight weight, CellKind kind, Index I, Index H, Index P) {
  const Index rows = gate_count(kind) * H;
  switch (weight) {
    case Weight::weight_ih: return {rows, I};
    case Weight::weight_hh: return kind == CellKind::indrnn ? Shape{H} : Shape{rows, P};
    case Weight::weight_hr: return {P, H};
    case Weight::peephole: return {kind == CellKind::lstm_coupled ? 2 * H : 3 * H};
    case Weight::slope:
    case Weight::gain_c:
    case Weight::bias_c: return {H};
    default: return {rows};
  }
}

template <class Real>
Activation<Real> activation_of(const py::handle& object) {
  const auto [name, alpha, beta] = py::cast<std::tuple<std::string, double, double>>(object);
  return {named<Function>(function_names, name, "activation"), static_cast<Real>(alpha),
          static_cast<Real>(beta)};
}

// (f, g, h, clip, cell_clip, keep_h, keep_c, epsilon); see CellOptions.
template <class Real>
CellOptions<Real> options_of(const py::tuple& values) {
  if (values.size() != 8) throw py::value_error("options: expected eight values");
  CellOptions<Real> options = {};
  options.f = activation_of<Real>(values[0]);
  options.g = activation_of<Real>(values[1]);
  options.h = activation_of<Real>(values[2]);
  options.clip = static_cast<Real>(py::cast<double>(values[3]));
  options.cell_clip = static_cast<Real>(py::cast<double>(values[4]));
  options.keep_h = static_cast<Real>(py::cast<double>(values[5]));
  options.keep_c = static_cast<Real>(py::cast<double>(values[6]));
  options.norm.epsilon = static_cast<Real>(py::cast<double>(values[7]));
  options.zoneout = options.keep_h != 0 || options.keep_c != 0;
  return options;
}

constexpr const char* precision_names[] = {"float32", "bf16", "bf16_dot", "int8"};

// A matrix of small precision: uint16 for bf16; (int8, scales) for int8.
SmallMatrix small_matrix(Precision precision, const py::object& object, const Shape& shape,
                         const char* name) {
  if (precision != Precision::int8)
    return {input<std::uint16_t>(py::cast<py::array>(object), shape, name), nullptr};
  const auto pair = py::cast<py::tuple>(object);
  if (pair.size() != 2) throw py::value_error(std::string(name) + ": expected (int8, scales)");
  return {input<std::int8_t>(py::cast<py::array>(pair[0]), shape, name),
          input<float>(py::cast<py::array>(pair[1]), {shape[0]},
                       (std::string(name) + "_scale").c_str())};
}

py::array matrix_of(const py::handle& object) {  // of a matrix as it may come: its array
  if (py::isinstance<py::tuple>(object)) return py::cast<py::array>(py::cast<py::tuple>(object)[0]);
  return py::cast<py::array>(object);
}

template <class Real>
std::shared_ptr<Cell<Real>> make_cell(const std::string& kind_name, const py::tuple& weights,
                                      const py::object& options, bool training,
                                      Precision precision) {
  const CellKind kind = named<CellKind>(kind_names, kind_name, "kind");
  if (weights.size() != weight_count) throw py::value_error("weights: expected one for each name");
  const py::array weight_ih = matrix_of(weights[0]);
  check_shape(weight_ih, {any, any}, "weight_ih");
  const Index rows = weight_ih.shape(0), I = weight_ih.shape(1), H = rows / gate_count(kind);
  if (I < 1 || H < 1 || rows % gate_count(kind) != 0)
    throw py::value_error("weight_ih: expected gates * hidden_size rows and some columns");
  CellWeights<Real> w = {};
  w.kind = kind;
  w.input_size = I;
  w.hidden_size = w.output_size = H;
  w.precision = precision;
  const py::handle weight_hr = weights[static_cast<int>(Weight::weight_hr)];
  if (!weight_hr.is_none()) {
    const py::array array = matrix_of(weight_hr);
    check_shape(array, {any, any}, "weight_hr");
    w.output_size = array.shape(0);
  }
  const auto small = [&](Weight weight) -> SmallMatrix* {
    if (weight == Weight::weight_ih) return &w.small_ih;
    if (weight == Weight::weight_hr) return &w.small_hr;
    return weight == Weight::weight_hh && kind != CellKind::indrnn ? &w.small_hh : nullptr;
  };
  for (int i = 0; i < weight_count; ++i) {
    const auto weight = static_cast<Weight>(i);
    const auto object = py::reinterpret_borrow<py::object>(weights[i]);
    const Shape shape = weight_shape(weight, kind, I, H, w.output_size);
    SmallMatrix* const to = precision == Precision::float32 ? nullptr : small(weight);
    const bool given = to && !object.is_none() &&
                       (py::isinstance<py::tuple>(object) || !is_float32(matrix_of(object)));
    if (given)
      *to = small_matrix(precision, object, shape, weight_names[i]);
    else
      w.weights.at[i] = optional_input<Real>(object, shape, weight_names[i]);
  }
  const bool fast = kernels<Real>().cells[static_cast<int>(kind)].forward;
  if (options.is_none() && !fast) throw py::value_error("options: expected for " + kind_name);
  const bool gains = w.weights[Weight::gain_ih], cell_gain = w.weights[Weight::gain_c];
  if (gains != (w.weights[Weight::gain_hh] != nullptr) ||
      cell_gain != (gains && has_cell_state(kind)) || (gains && options.is_none()))
    throw py::value_error("gain_ih: expected all gains, with options, or none");
  if (!w.weights[Weight::weight_hh] && !w.small_hh.values)
    throw py::value_error("weight_hh: expected an array");
  CellOptions<Real> own = {};
  if (!options.is_none()) {
    own = options_of<Real>(py::cast<py::tuple>(options));
    w.options = &own;
  }
  py::gil_scoped_release unlocked;
  return std::make_shared<Cell<Real>>(w, training);
}

// -> (int8 array, a scale for each row); see sequence/quantize.h.
py::tuple quantize_int8(const py::array& array) {
  const float* from = input<float>(array, {any, any}, "array");
  py::array_t<std::int8_t> q = empty<std::int8_t>({array.shape(0), array.shape(1)});
  py::array_t<float> scales = empty<float>({array.shape(0)});
  quantize_rows_int8(from, array.shape(0), array.shape(1), q.mutable_data(), scales.mutable_data());
  return py::make_tuple(q, scales);
}

// bf16 as the upper halves of floats: uint16, in the same shape.
py::array bf16_of(const py::array& array) {
  const Shape shape(array.shape(), array.shape() + array.ndim());
  const float* from = input<float>(array, shape, "array");
  py::array_t<std::uint16_t> out = empty<std::uint16_t>(shape);
  to_bf16(from, array.size(), out.mutable_data());
  return out;
}

// A (T, B, width) array with any strides, its last axis contiguous.
template <class Item>
Sequence<Item> sequence_view(Item* data, const py::array& a) {
  const Index size = sizeof(Item);
  return {data, a.strides(0) / size, a.strides(1) / size};
}
template <class Item>
Sequence<const Item> sequence_input(const py::array& a, const Shape& shape, const char* name) {
  check_dtype<Item>(a, name);
  check_shape(a, shape, name);
  bool whole = a.ndim() < 3 || a.shape(2) <= 1 || a.size() == 0 || a.strides(2) == a.itemsize();
  for (int axis = 0; axis < 2; ++axis) whole = whole && a.strides(axis) % a.itemsize() == 0;
  if (!whole) throw py::value_error(std::string(name) + ": expected a contiguous last axis");
  return sequence_view(static_cast<const Item*>(a.data()), a);
}

// An empty (T, B, width) array, laid out (B, T, width) in memory where `batch_first`.
template <class Real>
py::array_t<Real> empty_sequence(Index T, Index B, Index width, bool batch_first) {
  const Index size = sizeof(Real);
  const Shape shape = {T, B, width};
  if (!batch_first) return py::array_t<Real>(shape);
  return py::array_t<Real>(shape, Shape{width * size, T * width * size, size});
}

void check_tokens(const Sequence<const Index>& tokens, Index T, Index B, Index classes) {
  for (Index t = 0; t < T && B > 0; ++t)
    for (Index b = 0; b < B; ++b) {
      const Index token = *tokens.at(t, b);
      if (token < 0 || token >= classes)
        throw py::value_error("x: expected token ids from 0 to " + std::to_string(classes - 1) +
                              ", got " + std::to_string(token) + " at step " + std::to_string(t) +
                              ", row " + std::to_string(b));
    }
}

// What a pass takes from Python, and the objects that own the memory behind it.
template <class Real>
struct Bound {
  Cells<Real> cells;
  const Cell<Real>* pointers[2];
  LayerInput<Real> in;
  py::object x, h0, c0, lengths;
  bool batch_first;
  py::object attention, recurrent_mask, keep_h, keep_c;

  Bound(const py::tuple& cells_, const py::array& x_, const py::object& h0_, const py::object& c0_,
        const py::object& lengths_, bool batch_first_, const py::tuple& options)
      : cells(cells_of<Real>(cells_)),
        x(x_),
        h0(h0_),
        c0(c0_),
        lengths(lengths_),
        batch_first(batch_first_),
        attention(options[0]),
        recurrent_mask(options[1]),
        keep_h(options[2]),
        keep_c(options[3]) {
    for (std::size_t d = 0; d < cells.size(); ++d) pointers[d] = cells[d].get();
    const Index I = cells[0]->input_size;
    in = {};
    if (py::isinstance<py::array_t<Index>>(x_)) {
      in.tokens = sequence_input<Index>(x_, {any, any}, "x");
      check_tokens(in.tokens, x_.shape(0), x_.shape(1), I);
    } else {
      in.x = sequence_input<Real>(x_, {any, any, I}, "x");
    }
    in.steps = x_.shape(0);
    in.batch = x_.shape(1);
    const Index T = in.steps, B = in.batch, D = directions();
    const Shape h_shape = {D, B, cells[0]->output_size};
    in.h0 = optional_input<Real>(h0, h_shape, "h0");
    in.c0 = optional_input<Real>(c0, {D, B, cells[0]->hidden_size}, "c0");
    const Shape units = {T, B, D * cells[0]->hidden_size};
    in.options.recurrent_mask = optional_input<Real>(recurrent_mask, h_shape, "recurrent_mask");
    in.options.keep_h = optional_sequence(keep_h, units, "keep_h");
    in.options.keep_c = optional_sequence(keep_c, units, "keep_c");
    in.options.attention = optional_sequence(attention, {T, B}, "attention");
    if (!cells[0]->general && (in.options.keep_h.data || in.options.attention.data))
      throw py::value_error("cells: expected packed with options");
    if (D == 2 && in.options.attention.data)
      throw py::value_error("attention: expected one direction");
    in.lengths = optional_input<Index>(lengths, {in.batch}, "lengths");
    for (Index b = 0; in.lengths && b < in.batch; ++b)
      if (in.lengths[b] < 0 || in.lengths[b] > in.steps)
        throw py::value_error("lengths: expected numbers from 0 to " + std::to_string(in.steps) +
                              ", got " + std::to_string(in.lengths[b]) + " for row " +
                              std::to_string(b));
  }
  int directions() const { return static_cast<int>(cells.size()); }

 private:
  static Sequence<const Real> optional_sequence(const py::object& object, const Shape& shape,
                                                const char* name) {
    if (object.is_none()) return {};
    return sequence_input<Real>(py::cast<py::array>(object), shape, name);
  }
};

// The forward pass of training: keeps what backward needs. May be taken back any number of times.
// cache: None, or the array that holds what is kept, so that it may outlive the tape.
template <class Real>
class Tape {
 public:
  Tape(Bound<Real>&& bound, Index checkpoint_every, const py::object& cache)
      : bound_(std::move(bound)), given_cache_(cache) {
    if (!bound_.cells[0]->training) throw py::value_error("cells: expected packed for training");
    const Index values =
        cache_values(*bound_.cells[0], bound_.directions(), bound_.in, checkpoint_every);
    if (given_cache_.is_none()) {
      cache_ = Buffer<Real>::from_spares(static_cast<std::size_t>(values));
      out.cache = cache_.data();
    } else {
      auto array = py::cast<py::array>(given_cache_);
      out.cache = output<Real>(array, {any}, "cache");
      if (array.size() < values)
        throw py::value_error("cache: expected " + std::to_string(values) + " values, got " +
                              std::to_string(array.size()));
    }
    out.checkpoint_every = checkpoint_every;
  }
  ~Tape() { cache_.to_spares(); }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  // cells_ of Bound points into itself: bind again after the move.
  const Cell<Real>* const* cells() {
    for (std::size_t d = 0; d < bound_.cells.size(); ++d)
      bound_.pointers[d] = bound_.cells[d].get();
    return bound_.pointers;
  }

  py::object backward(const py::object& d_y, const py::object& d_h_n, const py::object& d_c_n,
                      const py::list& weight_gradients, bool need_d_x) {
    const Cell<Real>& cell = *bound_.cells[0];
    const Index T = bound_.in.steps, B = bound_.in.batch, I = cell.input_size;
    const Index H = cell.hidden_size, P = cell.output_size, D = bound_.directions();
    const Shape h_shape = {D, B, P}, c_shape = {D, B, H};
    const bool lstm = has_cell_state(cell.kind);
    LayerGradients<Real> g = {};
    if (!d_y.is_none()) g.d_y = sequence_input<Real>(py::cast<py::array>(d_y), {T, B, D * P}, "dy");
    g.d_h_n = optional_input<Real>(d_h_n, h_shape, "dh_n");
    g.d_c_n = optional_input<Real>(d_c_n, c_shape, "dc_n");
    if (static_cast<Index>(py::len(weight_gradients)) != D)
      throw py::value_error("weight_gradients: expected a tuple for each direction");
    for (Index d = 0; d < D; ++d) {
      const py::tuple arrays = py::cast<py::tuple>(weight_gradients[d]);
      if (arrays.size() != weight_count)
        throw py::value_error("weight_gradients: expected an array or None for each weight");
      for (int i = 0; i < weight_count; ++i)
        g.cells[d].at[i] = optional_output<Real>(
            arrays[i], weight_shape(static_cast<Weight>(i), cell.kind, I, H, P), weight_names[i]);
    }
    py::object d_x = py::none(), d_c0 = py::none(), d_attention = py::none();
    if (bound_.in.options.attention.data) {
      py::array_t<Real> array = empty<Real>({T, B});
      std::fill_n(array.mutable_data(), array.size(), Real(0));
      g.d_attention = sequence_view(array.mutable_data(), array);
      d_attention = array;
    }
    if (need_d_x && bound_.in.x.data) {
      py::array_t<Real> array = empty_sequence<Real>(T, B, I, bound_.batch_first);
      g.d_x = sequence_view(array.mutable_data(), array);
      d_x = array;
    }
    py::array_t<Real> d_h0 = empty<Real>(h_shape);
    g.d_h0 = d_h0.mutable_data();
    if (lstm) {
      py::array_t<Real> array = empty<Real>(c_shape);
      g.d_c0 = array.mutable_data();
      d_c0 = array;
    }
    ScratchLease scratch;
    SignalCheck signals;
    const Cell<Real>* const* packed = cells();
    bool done;
    {
      py::gil_scoped_release unlocked;
      done = layer_backward(packed, static_cast<int>(D), bound_.in, out, g, *scratch,
                            signals.interrupt());
    }
    if (!done) throw py::error_already_set();
    return py::make_tuple(d_x, d_h0, d_c0, d_attention);
  }

  // What the forward pass kept: a block of each step, (T, B, D * H), zeros in padding.
  py::array_t<Real> cached(Index block) {
    const Cell<Real>& cell = *bound_.cells[0];
    const Index T = bound_.in.steps, B = bound_.in.batch,
                width = bound_.directions() * cell.hidden_size;
    if (out.checkpoint_every > 0 || block < 0 || (block + 1) * cell.hidden_size > cell.cached)
      throw py::value_error("block: expected one of the cache, kept without checkpoints");
    py::array_t<Real> array = empty<Real>({T, B, width});
    std::fill_n(array.mutable_data(), array.size(), Real(0));
    ScratchLease scratch;
    read_cache(cells(), bound_.directions(), bound_.in, out, block,
               sequence_view(array.mutable_data(), array), *scratch);
    return array;
  }

  LayerOutput<Real> out = {};
  py::object y;
  std::size_t cache_bytes() const { return cache_.size() * sizeof(Real); }
  Bound<Real>& bound() { return bound_; }

 private:
  Bound<Real> bound_;
  py::object given_cache_;
  Buffer<Real> cache_;
};

// -> (y, tape); h_n and c_n are written.
template <class Real>
py::object forward(const py::tuple& cells, const py::array& x, const py::object& h0,
                   const py::object& c0, const py::object& lengths, py::array h_n, py::object c_n,
                   bool batch_first, Index checkpoint_every, const py::tuple& options,
                   const py::object& cache) {
  if (options.size() != 4) throw py::value_error("options: expected four arrays or None");
  if (checkpoint_every < 0) throw py::value_error("checkpoint_every: expected at least 0");
  auto tape = std::make_shared<Tape<Real>>(
      Bound<Real>(cells, x, h0, c0, lengths, batch_first, options), checkpoint_every, cache);
  const Bound<Real>& bound = tape->bound();
  const Cell<Real>& cell = *bound.cells[0];
  const Index D = bound.directions(), B = bound.in.batch, P = cell.output_size;
  py::array_t<Real> y = empty_sequence<Real>(bound.in.steps, B, D * P, batch_first);
  LayerOutput<Real>& out = tape->out;
  out.y = sequence_view(y.mutable_data(), y);
  out.h_n = output<Real>(h_n, {D, B, P}, "h_n");
  if (has_cell_state(cell.kind)) {
    py::array array = py::cast<py::array>(c_n);
    out.c_n = output<Real>(array, {D, B, cell.hidden_size}, "c_n");
  }
  tape->y = y;
  const Cell<Real>* const* packed = tape->cells();
  ScratchLease scratch;
  SignalCheck signals;
  bool done;
  {
    py::gil_scoped_release unlocked;
    done = layer_forward(packed, bound.directions(), bound.in, out, *scratch, signals.interrupt());
  }
  if (!done) throw py::error_already_set();
  return py::make_tuple(y, tape);
}

// The tape of a forward pass that was given this cache, once more: arguments as they were then.
template <class Real>
py::object tape_of(const py::tuple& cells, const py::array& x, const py::object& h0,
                   const py::object& c0, const py::object& lengths, const py::array& y,
                   const py::object& cache) {
  const py::object none = py::none();
  auto tape = std::make_shared<Tape<Real>>(
      Bound<Real>(cells, x, h0, c0, lengths, false, py::make_tuple(none, none, none, none)), 0,
      cache);
  const Bound<Real>& bound = tape->bound();
  const Index width = bound.directions() * bound.cells[0]->output_size;
  const auto read = sequence_input<Real>(y, {bound.in.steps, bound.in.batch, width}, "y");
  tape->out.y = {const_cast<Real*>(read.data), read.step, read.row};  // backward only reads it
  tape->y = y;
  return py::cast(tape);
}

template <class Real>
void register_types(py::module_& m, const char* cell_name, const char* tape_name) {
  py::class_<Cell<Real>, std::shared_ptr<Cell<Real>>>(m, cell_name)
      .def_readonly("input_size", &Cell<Real>::input_size)
      .def_readonly("hidden_size", &Cell<Real>::hidden_size)
      .def_readonly("training", &Cell<Real>::training)
      .def_property_readonly("precision", [](const Cell<Real>& cell) {
        return precision_names[static_cast<int>(cell.precision)];
      });
  py::class_<Tape<Real>, std::shared_ptr<Tape<Real>>>(m, tape_name)
      .def("backward", &Tape<Real>::backward, py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"),
           py::arg("weight_gradients"), py::arg("need_dx"))
      .def("cached", &Tape<Real>::cached, py::arg("block"))
      .def_property_readonly("cache_bytes", &Tape<Real>::cache_bytes);
}

}  // namespace

void register_recurrent(py::module_& m) {
  m.def("scratch_bytes", &ScratchLease::kept);
  register_types<float>(m, "CellFloat32", "TapeFloat32");
  register_types<double>(m, "CellFloat64", "TapeFloat64");
  m.def(
      "pack_cell",
      [](const std::string& kind, const py::tuple& weights, const py::object& options,
         bool training, const std::string& precision_name) -> py::object {
        const auto precision = named<Precision>(precision_names, precision_name, "precision");
        if (precision != Precision::float32 && supported_small_kernels().empty())
          throw py::value_error("precision: this build has no kernels for " + precision_name);
        if (precision != Precision::float32)
          return py::cast(make_cell<float>(kind, weights, options, training, precision));
        const py::array first = py::cast<py::array>(weights[0]);
        return by_dtype(first, "weight_ih", [&](auto real) -> py::object {
          return py::cast(make_cell<decltype(real)>(kind, weights, options, training, precision));
        });
      },
      py::arg("kind"), py::arg("weights"), py::arg("options"), py::arg("training"),
      py::arg("precision") = "float32");
  m.def("quantize_int8", &quantize_int8, py::arg("array"));
  m.def("to_bf16", &bf16_of, py::arg("array"));
  m.def(
      "layer_forward",
      [](const py::tuple& cells, const py::array& x, const py::object& h0, const py::object& c0,
         const py::object& lengths, py::array h_n, py::object c_n, bool batch_first,
         Index checkpoint_every, const py::tuple& options, const py::object& cache) {
        return by_dtype(h_n, "h_n", [&](auto real) {
          return forward<decltype(real)>(cells, x, h0, c0, lengths, h_n, c_n, batch_first,
                                         checkpoint_every, options, cache);
        });
      },
      py::arg("cells"), py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("lengths"),
      py::arg("h_n"), py::arg("c_n"), py::arg("batch_first"), py::arg("checkpoint_every"),
      py::arg("options"), py::arg("cache") = py::none());
  m.def(
      "layer_tape",
      [](const py::tuple& cells, const py::array& x, const py::object& h0, const py::object& c0,
         const py::object& lengths, const py::array& y, const py::object& cache) {
        return by_dtype(y, "y", [&](auto real) {
          return tape_of<decltype(real)>(cells, x, h0, c0, lengths, y, cache);
        });
      },
      py::arg("cells"), py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("lengths"),
      py::arg("y"), py::arg("cache"));
}

}  // namespace fastrnn::bindings
