// Recurrent layers in training: packed cells, the forward pass, and the tape that takes gradients
// back. Each call makes its Python objects first, then lets go of the interpreter lock while the core
// works.
#include "bindings/recurrent.h"

#include "bindings/module.h"

namespace fastrnn::bindings {
namespace {

CellKind kind_of(const std::string& name) {
  if (name == "rnn_tanh") return CellKind::rnn_tanh;
  if (name == "rnn_relu") return CellKind::rnn_relu;
  if (name == "lstm") return CellKind::lstm;
  if (name == "gru") return CellKind::gru;
  if (name == "gru_reset_before") return CellKind::gru_reset_before;
  throw py::value_error("kind: unknown cell '" + name + "'");
}

template <class Real>
std::shared_ptr<Cell<Real>> make_cell(const std::string& kind_name, const py::array& weight_ih,
                                      const py::array& weight_hh, const py::object& bias_ih,
                                      const py::object& bias_hh, bool training) {
  const CellKind kind = kind_of(kind_name);
  check_shape(weight_ih, {any, any}, "weight_ih");
  const Index rows = weight_ih.shape(0), I = weight_ih.shape(1), H = rows / gate_count(kind);
  if (I < 1 || H < 1 || rows % gate_count(kind) != 0)
    throw py::value_error("weight_ih: expected gates * hidden_size rows and some columns");
  const CellWeights<Real> weights = {kind,
                                     I,
                                     H,
                                     input<Real>(weight_ih, {rows, I}, "weight_ih"),
                                     input<Real>(weight_hh, {rows, H}, "weight_hh"),
                                     optional_input<Real>(bias_ih, {rows}, "bias_ih"),
                                     optional_input<Real>(bias_hh, {rows}, "bias_hh")};
  py::gil_scoped_release unlocked;
  return std::make_shared<Cell<Real>>(weights, training);
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

  Bound(const py::tuple& cells_, const py::array& x_, const py::object& h0_, const py::object& c0_,
        const py::object& lengths_, bool batch_first_)
      : cells(cells_of<Real>(cells_)),
        x(x_),
        h0(h0_),
        c0(c0_),
        lengths(lengths_),
        batch_first(batch_first_) {
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
    const Shape state = {directions(), in.batch, cells[0]->hidden_size};
    in.h0 = optional_input<Real>(h0, state, "h0");
    in.c0 = optional_input<Real>(c0, state, "c0");
    in.lengths = optional_input<Index>(lengths, {in.batch}, "lengths");
    for (Index b = 0; in.lengths && b < in.batch; ++b)
      if (in.lengths[b] < 0 || in.lengths[b] > in.steps)
        throw py::value_error("lengths: expected numbers from 0 to " + std::to_string(in.steps) +
                              ", got " + std::to_string(in.lengths[b]) + " for row " +
                              std::to_string(b));
  }
  int directions() const { return static_cast<int>(cells.size()); }
};

// The forward pass of training: keeps what backward needs. May be taken back any number of times.
template <class Real>
class Tape {
 public:
  Tape(Bound<Real>&& bound, Index checkpoint_every) : bound_(std::move(bound)) {
    if (!bound_.cells[0]->training) throw py::value_error("cells: expected packed for training");
    cache_ = Buffer<Real>::from_spares(static_cast<std::size_t>(
        cache_values(*bound_.cells[0], bound_.directions(), bound_.in, checkpoint_every)));
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
    const Index H = cell.hidden_size, D = bound_.directions(), rows = gate_count(cell.kind) * H;
    const Shape state = {D, B, H};
    const bool lstm = has_cell_state(cell.kind);
    LayerGradients<Real> g = {};
    if (!d_y.is_none()) g.d_y = sequence_input<Real>(py::cast<py::array>(d_y), {T, B, D * H}, "dy");
    g.d_h_n = optional_input<Real>(d_h_n, state, "dh_n");
    g.d_c_n = optional_input<Real>(d_c_n, state, "dc_n");
    if (static_cast<Index>(py::len(weight_gradients)) != D)
      throw py::value_error("weight_gradients: expected a tuple of four for each direction");
    for (Index d = 0; d < D; ++d) {
      const py::tuple four = py::cast<py::tuple>(weight_gradients[d]);
      if (four.size() != 4) throw py::value_error("weight_gradients: expected four arrays or None");
      g.cells[d] = {optional_output<Real>(four[0], {rows, I}, "weight_ih.grad"),
                    optional_output<Real>(four[1], {rows, H}, "weight_hh.grad"),
                    optional_output<Real>(four[2], {rows}, "bias_ih.grad"),
                    optional_output<Real>(four[3], {rows}, "bias_hh.grad")};
    }
    py::object d_x = py::none(), d_c0 = py::none();
    if (need_d_x && bound_.in.x.data) {
      py::array_t<Real> array = empty_sequence<Real>(T, B, I, bound_.batch_first);
      g.d_x = sequence_view(array.mutable_data(), array);
      d_x = array;
    }
    py::array_t<Real> d_h0 = empty<Real>(state);
    g.d_h0 = d_h0.mutable_data();
    if (lstm) {
      py::array_t<Real> array = empty<Real>(state);
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
    return py::make_tuple(d_x, d_h0, d_c0);
  }

  LayerOutput<Real> out = {};
  py::object y;
  Real* cache() { return cache_.data(); }
  std::size_t cache_bytes() const { return cache_.size() * sizeof(Real); }
  Bound<Real>& bound() { return bound_; }

 private:
  Bound<Real> bound_;
  Buffer<Real> cache_;
};

// -> (y, tape); h_n and c_n are written.
template <class Real>
py::object forward(const py::tuple& cells, const py::array& x, const py::object& h0,
                   const py::object& c0, const py::object& lengths, py::array h_n, py::object c_n,
                   bool batch_first, Index checkpoint_every) {
  if (checkpoint_every < 0) throw py::value_error("checkpoint_every: expected at least 0");
  auto tape = std::make_shared<Tape<Real>>(Bound<Real>(cells, x, h0, c0, lengths, batch_first),
                                           checkpoint_every);
  const Bound<Real>& bound = tape->bound();
  const Cell<Real>& cell = *bound.cells[0];
  const Index D = bound.directions(), H = cell.hidden_size;
  const Shape state = {D, bound.in.batch, H};
  py::array_t<Real> y = empty_sequence<Real>(bound.in.steps, bound.in.batch, D * H, batch_first);
  LayerOutput<Real>& out = tape->out;
  out.y = sequence_view(y.mutable_data(), y);
  out.h_n = output<Real>(h_n, state, "h_n");
  if (has_cell_state(cell.kind)) {
    py::array array = py::cast<py::array>(c_n);
    out.c_n = output<Real>(array, state, "c_n");
  }
  out.cache = tape->cache();
  out.checkpoint_every = checkpoint_every;
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

template <class Real>
void register_types(py::module_& m, const char* cell_name, const char* tape_name) {
  py::class_<Cell<Real>, std::shared_ptr<Cell<Real>>>(m, cell_name)
      .def_readonly("input_size", &Cell<Real>::input_size)
      .def_readonly("hidden_size", &Cell<Real>::hidden_size)
      .def_readonly("training", &Cell<Real>::training);
  py::class_<Tape<Real>, std::shared_ptr<Tape<Real>>>(m, tape_name)
      .def("backward", &Tape<Real>::backward, py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"),
           py::arg("weight_gradients"), py::arg("need_dx"))
      .def_property_readonly("cache_bytes", &Tape<Real>::cache_bytes);
}

}  // namespace

void register_recurrent(py::module_& m) {
  m.def("scratch_bytes", &ScratchLease::kept);
  register_types<float>(m, "CellFloat32", "TapeFloat32");
  register_types<double>(m, "CellFloat64", "TapeFloat64");
  m.def(
      "pack_cell",
      [](const std::string& kind, const py::array& weight_ih, const py::array& weight_hh,
         const py::object& bias_ih, const py::object& bias_hh, bool training) {
        return by_dtype(weight_ih, "weight_ih", [&](auto real) -> py::object {
          using Real = decltype(real);
          return py::cast(make_cell<Real>(kind, weight_ih, weight_hh, bias_ih, bias_hh, training));
        });
      },
      py::arg("kind"), py::arg("weight_ih"), py::arg("weight_hh"), py::arg("bias_ih"),
      py::arg("bias_hh"), py::arg("training"));
  m.def(
      "layer_forward",
      [](const py::tuple& cells, const py::array& x, const py::object& h0, const py::object& c0,
         const py::object& lengths, py::array h_n, py::object c_n, bool batch_first,
         Index checkpoint_every) {
        return by_dtype(h_n, "h_n", [&](auto real) {
          return forward<decltype(real)>(cells, x, h0, c0, lengths, h_n, c_n, batch_first,
                                         checkpoint_every);
        });
      },
      py::arg("cells"), py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("lengths"),
      py::arg("h_n"), py::arg("c_n"), py::arg("batch_first"), py::arg("checkpoint_every") = 0);
}

}  // namespace fastrnn::bindings
