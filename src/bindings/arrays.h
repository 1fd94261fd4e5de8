// NumPy arrays in and out: what the core takes, checked. The Python layer has already said what is
// wrong with a caller's arguments in the caller's terms; these checks keep memory safe whatever comes.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "memory.h"
#include "types.h"

namespace fastrnn::bindings {

namespace py = pybind11;

using Shape = std::vector<Index>;
constexpr Index any = -1;

inline std::string text(const Shape& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + (shape[i] == any ? std::string("*") : std::to_string(shape[i]));
  return out + (shape.size() == 1 ? ",)" : ")");
}

inline void check_shape(const py::array& a, const Shape& shape, const char* name) {
  bool same = a.ndim() == static_cast<Index>(shape.size());
  for (std::size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == any || a.shape(i) == shape[i];
  if (same) return;
  const Shape got(a.shape(), a.shape() + a.ndim());
  throw py::value_error(std::string(name) + ": expected the shape " + text(shape) + ", got " +
                        text(got));
}

template <class Item>
void check_dtype(const py::array& a, const char* name) {
  if (!py::isinstance<py::array_t<Item>>(a))
    throw py::type_error(std::string(name) + ": expected an array of " +
                         py::str(py::dtype::of<Item>()).cast<std::string>() + ", got " +
                         py::str(a.dtype()).cast<std::string>());
}

inline void check_contiguous(const py::array& a, const char* name) {
  if (!(a.flags() & py::array::c_style))
    throw py::value_error(std::string(name) + ": expected a C-contiguous array");
}

template <class Item>
const Item* input(const py::array& a, const Shape& shape, const char* name) {
  check_dtype<Item>(a, name);
  check_shape(a, shape, name);
  check_contiguous(a, name);
  return static_cast<const Item*>(a.data());
}
template <class Item>
Item* output(py::array& a, const Shape& shape, const char* name) {
  input<Item>(a, shape, name);
  if (!a.writeable()) throw py::value_error(std::string(name) + ": expected a writable array");
  return static_cast<Item*>(a.mutable_data());
}

// None gives null.
template <class Item>
const Item* optional_input(const py::object& a, const Shape& shape, const char* name) {
  return a.is_none() ? nullptr : input<Item>(py::cast<py::array>(a), shape, name);
}
template <class Item>
Item* optional_output(const py::object& a, const Shape& shape, const char* name) {
  if (a.is_none()) return nullptr;
  py::array array = py::cast<py::array>(a);
  return output<Item>(array, shape, name);
}

template <class Item>
py::array_t<Item> empty(const Shape& shape) {
  return py::array_t<Item>(shape);
}

inline bool is_float32(const py::array& a) { return py::isinstance<py::array_t<float>>(a); }

// Calls function(Real()) with the Real of the array's dtype.
template <class Function>
auto by_dtype(const py::array& a, const char* name, Function function) {
  if (is_float32(a)) return function(float());
  check_dtype<double>(a, name);
  return function(double());
}

}  // namespace fastrnn::bindings
