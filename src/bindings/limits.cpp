// The machine's limits, for the benchmarks.
#include "ops/limits.h"

#include "bindings/module.h"
#include "parallel.h"

namespace fastrnn::bindings {
namespace {

namespace py = pybind11;

int checked_threads(int threads) {
  if (threads < 1 || threads > thread_limit)
    throw py::value_error("threads: expected a number from 1 to " + std::to_string(thread_limit) +
                          ", got " + std::to_string(threads));
  return threads;
}

}  // namespace

void register_limits(py::module_& m) {
  const auto free = py::call_guard<py::gil_scoped_release>();
  m.def(
      "peak_flops",
      [](const std::string& isa, int threads) { return peak_flops(isa, checked_threads(threads)); },
      py::arg("isa"), py::arg("threads"), free);
  m.def(
      "read_bandwidth",
      [](Index thread_bytes, int threads) {
        return read_bandwidth(thread_bytes, checked_threads(threads));
      },
      py::arg("thread_bytes"), py::arg("threads"), free);
  m.def(
      "barrier_seconds", [](int threads) { return barrier_seconds(checked_threads(threads)); },
      py::arg("threads"), free);
  m.def(
      "team_seconds", [](int threads) { return team_seconds(checked_threads(threads)); },
      py::arg("threads"), free);
}

}  // namespace fastrnn::bindings
