// What the module is made of: one register_* per subject.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrnn::bindings {

void register_config(pybind11::module_& m);
void register_limits(pybind11::module_& m);
void register_recurrent(pybind11::module_& m);
void register_stack(pybind11::module_& m);
void register_ops(pybind11::module_& m);
void register_norm(pybind11::module_& m);
void register_tensor_step(pybind11::module_& m);
void register_stream_pool(pybind11::module_& m);
void register_watch(pybind11::module_& m);
void register_xla(pybind11::module_& m);

}  // namespace fastrnn::bindings
