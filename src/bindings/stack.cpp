#include "bindings/stack.h"

#include "bindings/module.h"

namespace fastrnn::bindings {
namespace {

template <class Real>
void register_type(py::module_& m, const char* name) {
  py::class_<PyStack<Real>, std::shared_ptr<PyStack<Real>>>(m, name)
      .def(py::init<const py::list&>(), py::arg("layers"))
      .def("call", &PyStack<Real>::call, py::arg("x"), py::arg("state"), py::arg("lengths"),
           py::arg("batch_first"), py::arg("attention") = py::none())
      .def("call_at", &PyStack<Real>::call_at, py::arg("x"), py::arg("steps"), py::arg("batch"),
           py::arg("step"), py::arg("row"), py::arg("h0"), py::arg("c0"), py::arg("batch_first"))
      .def("step_at", &PyStack<Real>::step_at, py::arg("x"), py::arg("batch"), py::arg("row"),
           py::arg("h0"), py::arg("c0"), py::arg("unbatched"))
      .def("step", &PyStack<Real>::step, py::arg("x_t"), py::arg("state"));
}

}  // namespace

void register_stack(py::module_& m) {
  register_type<float>(m, "StackFloat32");
  register_type<double>(m, "StackFloat64");
}

}  // namespace fastrnn::bindings
