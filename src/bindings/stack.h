// Inference of recurrent layers: one call from Python to the result, made for the plain case, in which
// every argument is an array just as the core takes it. For any other it returns None, and the Python
// layer makes it plain, or says what is wrong with it.
#pragma once

#include "sequence/stack.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/recurrent.h"

namespace fastrnn::bindings {

inline bool is_aligned(const py::array& a) {
  return (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

template <class Item>
bool is_array_of(const py::handle& object) {
  return py::isinstance<py::array_t<Item>>(object) &&
         is_aligned(py::reinterpret_borrow<py::array>(object));
}

// Whether it is a contiguous array of this type and shape; its data.
template <class Item>
bool take(const py::handle& object, const Shape& shape, const Item*& data) {
  if (!is_array_of<Item>(object)) return false;
  const auto a = py::reinterpret_borrow<py::array>(object);
  data = static_cast<const Item*>(a.data());
  return a.ndim() == static_cast<Index>(shape.size()) && (a.flags() & py::array::c_style) &&
         std::equal(shape.begin(), shape.end(), a.shape());
}

// As py::array_t<Real>(shape), but NumPy finds the strides itself, which is faster.
template <class Real>
py::array_t<Real> new_array(const Shape& shape) {
  const auto& numpy = py::detail::npy_api::get();
  PyObject* array = numpy.PyArray_NewFromDescr_(
      numpy.PyArray_Type_, py::dtype::of<Real>().release().ptr(), static_cast<int>(shape.size()),
      shape.data(), nullptr, nullptr, 0, nullptr);
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<py::array_t<Real>>(array);
}

// The core takes any strides of time and batch, in whole items.
inline bool has_plain_strides(const py::array& a, bool last_is_contiguous) {
  if (a.flags() & py::array::c_style) return true;
  for (Index axis = 0; axis < a.ndim(); ++axis)
    if (a.strides(axis) % a.itemsize() != 0) return false;
  return !last_is_contiguous || a.strides(a.ndim() - 1) == a.itemsize();
}

template <class Real>
class PyStack {
 public:
  explicit PyStack(const py::list& layers) : layers_(static_cast<int>(layers.size())) {
    for (const py::handle& layer : layers) {
      const Cells<Real> cells = cells_of<Real>(py::cast<py::tuple>(layer));
      const Cell<Real>& cell = *cells[0];
      const Cell<Real>& first = owners_.empty() ? cell : *owners_[0];
      if (owners_.empty()) directions_ = static_cast<int>(cells.size());
      const Index width = directions_ * first.output_size;
      if (static_cast<int>(cells.size()) != directions_ || cell.kind != first.kind ||
          cell.hidden_size != first.hidden_size || cell.output_size != first.output_size ||
          (!owners_.empty() && cell.input_size != width))
        throw py::value_error("layers: expected each to take what the one before gives");
      row_work_ += least_row_work + static_cast<double>(width) * gate_count(cell.kind) *
                                        (cell.input_size + cell.output_size);
      owners_.insert(owners_.end(), cells.begin(), cells.end());
    }
    if (owners_.empty()) throw py::value_error("layers: expected at least one");
    for (const auto& owner : owners_) cells_.push_back(owner.get());
  }

  // -> (y, h), or (y, (h, c)) with a cell state; None where an argument is not plain.
  // attention (T, B), plain: of an AUGRU.
  py::object call(const py::handle& x, const py::handle& state, const py::handle& lengths,
                  bool batch_first, const py::handle& attention) const {
    Call call = {};
    call.attention = attention;
    call.whole = true;
    call.batch_first = batch_first;
    return run(call, x, state, lengths);
  }

  py::object step(const py::handle& x, const py::handle& state) const {
    return directions_ == 2 ? py::none() : run(Call(), x, state, py::none());
  }

  Index input_size() const { return cells_[0]->input_size; }
  Index hidden_size() const { return cells_[0]->hidden_size; }

  // As call, of memory that belongs to another library's arrays: x (T, B, I) by its address, sizes and
  // strides in values, the contiguous states by theirs, 0 where there are none. The caller answers for
  // them: nothing is checked.
  py::object call_at(std::uintptr_t x, Index steps, Index batch, Index step, Index row,
                     std::uintptr_t h0, std::uintptr_t c0, bool batch_first) const {
    Call call = call_of(x, batch, row, h0, c0);
    call.whole = true;
    call.batch_first = batch_first;
    call.in.steps = steps;
    call.in.x.step = step;
    return finish(call);
  }

  // As step, of memory as for call_at, of one plain layer: h (B, H), or (h, c); (H,) if unbatched.
  py::object step_at(std::uintptr_t x, Index batch, Index row, std::uintptr_t h0, std::uintptr_t c0,
                     bool unbatched) const {
    const Index H = cells_[0]->hidden_size;
    if (cells_.size() != 1 || cells_[0]->projects)
      throw py::value_error("step_at: expected one layer without projection");
    const Call call = call_of(x, batch, row, h0, c0);
    const Shape shape = unbatched ? Shape{H} : Shape{batch, H};
    LayerOutput<Real> out = {};
    py::array_t<Real> h = new_array<Real>(shape);
    out.h_n = h.mutable_data();
    py::array_t<Real> y = new_array<Real>(shape);
    out.y = {y.mutable_data(), batch * H, H};
    if (!has_cell_state(cells_[0]->kind)) {
      forward(call.in, out);
      return std::move(h);
    }
    py::array_t<Real> c = new_array<Real>(shape);
    out.c_n = c.mutable_data();
    forward(call.in, out);
    return py::make_tuple(std::move(h), std::move(c));
  }

 private:
  // Shorter calls keep the interpreter lock: 50,000 multiply-adds, a few microseconds, cost less than
  // another thread's turn. A row's step counts as at least 1000.
  static constexpr double short_call = 50e3, least_row_work = 1e3;

  struct Call {
    LayerInput<Real> in;
    bool whole, batch_first;  // whole: not a step, x has an axis of time
    bool unbatched;
    py::handle attention = py::none();
  };

  static Call call_of(std::uintptr_t x, Index batch, Index row, std::uintptr_t h0,
                      std::uintptr_t c0) {
    Call call = {};
    call.in.steps = 1;
    call.in.batch = batch;
    call.in.x = {reinterpret_cast<const Real*>(x), 0, row};
    call.in.h0 = reinterpret_cast<const Real*>(h0);
    call.in.c0 = reinterpret_cast<const Real*>(c0);
    return call;
  }

  py::object run(Call call, const py::handle& x, const py::handle& state,
                 const py::handle& lengths) const {
    if (!take_x(call, x) || !take_state(call, state) || !take_lengths(call, lengths) ||
        !take_attention(call))
      return py::none();
    return finish(call);
  }

  py::object finish(const Call& call) const {
    const LayerInput<Real>& in = call.in;
    const bool swapped = call.batch_first && !call.unbatched;
    const Index width = directions_ * cells_[0]->output_size;
    py::array_t<Real> y = new_array<Real>(output_shape(call, swapped, width));
    LayerOutput<Real> out = {};
    out.y = swapped ? Sequence<Real>{y.mutable_data(), width, in.steps * width}
                    : Sequence<Real>{y.mutable_data(), in.batch * width, width};
    py::array_t<Real> h_n = new_array<Real>(state_shape(call, cells_[0]->output_size));
    out.h_n = h_n.mutable_data();
    if (!has_cell_state(cells_[0]->kind)) {
      forward(in, out);
      return py::make_tuple(std::move(y), std::move(h_n));
    }
    py::array_t<Real> c_n = new_array<Real>(state_shape(call, cells_[0]->hidden_size));
    out.c_n = c_n.mutable_data();
    forward(in, out);
    return py::make_tuple(std::move(y), py::make_tuple(std::move(h_n), std::move(c_n)));
  }

  void forward(const LayerInput<Real>& in, const LayerOutput<Real>& out) const {
    const Stack<Real> stack = {cells_.data(), layers_, directions_};
    ScratchLease scratch;
    if (row_work_ * static_cast<double>(in.steps) * static_cast<double>(in.batch) < short_call) {
      stack_forward(stack, in, out, *scratch, Interrupt{});
      return;
    }
    SignalCheck signals;
    bool done;
    {
      py::gil_scoped_release unlocked;
      done = stack_forward(stack, in, out, *scratch, signals.interrupt());
    }
    if (!done) throw py::error_already_set();
  }

  bool take_x(Call& call, const py::handle& object) const {
    const bool tokens = is_array_of<Index>(object);
    if (!tokens && !is_array_of<Real>(object)) return false;
    const auto x = py::reinterpret_borrow<py::array>(object);
    const Index axes = x.ndim() - (tokens ? 0 : 1), batched_axes = call.whole ? 2 : 1;
    if (axes != batched_axes && axes != batched_axes - 1) return false;
    if (!has_plain_strides(x, !tokens)) return false;
    const Index I = cells_[0]->input_size;
    if (!tokens && x.shape(axes) != I) return false;
    call.unbatched = axes < batched_axes;
    call.in.steps = call.in.batch = 1;
    Index step = 0, row = 0;
    const Index size = x.itemsize(), batch_axis = call.whole && !call.batch_first;
    if (!call.unbatched) {
      call.in.batch = x.shape(batch_axis);
      row = x.strides(batch_axis) / size;
    }
    if (call.whole) {
      const Index time_axis = call.unbatched ? 0 : 1 - batch_axis;
      call.in.steps = x.shape(time_axis);
      step = x.strides(time_axis) / size;
    }
    if (!tokens) {
      call.in.x = {static_cast<const Real*>(x.data()), step, row};
      return true;
    }
    call.in.tokens = {static_cast<const Index*>(x.data()), step, row};
    return are_tokens(call.in, I);
  }

  static bool are_tokens(const LayerInput<Real>& in, Index classes) {
    for (Index t = 0; t < in.steps && in.batch > 0; ++t)
      for (Index b = 0; b < in.batch; ++b)
        if (*in.tokens.at(t, b) < 0 || *in.tokens.at(t, b) >= classes) return false;
    return true;
  }

  bool take_state(Call& call, const py::handle& state) const {
    if (state.is_none()) return true;
    const Shape shape = state_shape(call, cells_[0]->output_size);
    if (!has_cell_state(cells_[0]->kind)) return take(state, shape, call.in.h0);
    return PyTuple_CheckExact(state.ptr()) && PyTuple_GET_SIZE(state.ptr()) == 2 &&
           take(PyTuple_GET_ITEM(state.ptr(), 0), shape, call.in.h0) &&
           take(PyTuple_GET_ITEM(state.ptr(), 1), state_shape(call, cells_[0]->hidden_size),
                call.in.c0);
  }

  bool take_attention(Call& call) const {
    if (call.attention.is_none()) return true;
    const Index B = call.in.batch;
    const Real* data = nullptr;
    if (layers_ > 1 || directions_ == 2 || !cells_[0]->general ||
        !take(call.attention, {call.in.steps, B}, data))
      return false;
    call.in.options.attention = {data, B, 1};
    return true;
  }

  static bool take_lengths(Call& call, const py::handle& lengths) {
    if (lengths.is_none()) return true;
    if (call.unbatched || !take(lengths, {call.in.batch}, call.in.lengths)) return false;
    for (Index b = 0; b < call.in.batch; ++b)
      if (call.in.lengths[b] < 0 || call.in.lengths[b] > call.in.steps) return false;
    return true;
  }

  static Shape output_shape(const Call& call, bool swapped, Index width) {
    const Index T = call.in.steps, B = call.in.batch;
    if (!call.whole) return call.unbatched ? Shape{width} : Shape{B, width};
    if (call.unbatched) return {T, width};
    return swapped ? Shape{B, T, width} : Shape{T, B, width};
  }
  Shape state_shape(const Call& call, Index width) const {
    return call.unbatched ? Shape{layers_ * directions_, width}
                          : Shape{layers_ * directions_, call.in.batch, width};
  }

  const int layers_;
  int directions_ = 1;
  double row_work_ = 0;  // multiply-adds of one row's step
  Cells<Real> owners_;
  std::vector<const Cell<Real>*> cells_;
};

}  // namespace fastrnn::bindings
