#include "bindings/module.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of fastrnn. Private: use the classes of the fastrnn package.";
  fastrnn::bindings::register_config(m);
  fastrnn::bindings::register_limits(m);
  fastrnn::bindings::register_recurrent(m);
  fastrnn::bindings::register_stack(m);
  fastrnn::bindings::register_ops(m);
  fastrnn::bindings::register_norm(m);
  fastrnn::bindings::register_watch(m);
  fastrnn::bindings::register_stream_pool(m);
  fastrnn::bindings::register_tensor_step(m);
  fastrnn::bindings::register_xla(m);
}
