#include "bindings/watch.h"

#include "bindings/module.h"

namespace fastrnn::bindings {

void register_watch(py::module_& m) {
  py::class_<Watch, std::shared_ptr<Watch>>(m, "Watch")
      .def(py::init<const py::tuple&>(), py::arg("arrays"))
      .def("unchanged", &Watch::unchanged, py::arg("whole"));
}

}  // namespace fastrnn::bindings
