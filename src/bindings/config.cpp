// Version, threads and the instruction set.
#include <pybind11/stl.h>

#include "bindings/module.h"
#include "dispatch.h"
#include "dispatch_small.h"
#include "parallel.h"

namespace fastrnn::bindings {
namespace {

namespace py = pybind11;

#if defined(__clang__)
constexpr const char* compiler = "clang " __clang_version__;
#else
constexpr const char* compiler = "gcc " __VERSION__;
#endif

py::dict config() {
  py::dict out;
  out["version"] = FASTRNN_VERSION;
  out["isa"] = active_isa();
  out["isas_supported"] = supported_isas();
  out["isas_built"] = built_isas();
  out["small_kernels"] = small_kernels().name;
  out["threads"] = max_threads();
  out["openmp"] = has_openmp();
  out["compiler"] = compiler;
  return out;
}

}  // namespace

void register_config(py::module_& m) {
  active_isa();  // a wrong FASTRNN_ISA or FASTRNN_NUM_THREADS stops the import, not a later call
  max_threads();
  m.attr("__version__") = FASTRNN_VERSION;
  m.def("config", &config);
  m.def("get_num_threads", &max_threads);
  m.def("set_num_threads", &set_max_threads, py::arg("n"));
}

}  // namespace fastrnn::bindings
