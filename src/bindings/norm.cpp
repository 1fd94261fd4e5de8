// Layer normalisation.
#include "ops/norm.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace fastrnn::bindings {
namespace {

// y, and for training the mean and 1 / standard deviation of each row (else two empty arrays).
py::tuple layer_norm_forward_(const py::array& x, const py::array& weight, const py::object& bias,
                              double eps, bool training) {
  return by_dtype(weight, "weight", [&](auto real) -> py::tuple {
    using Real = decltype(real);
    check_shape(weight, {any}, "weight");
    const Index F = weight.shape(0);
    check_shape(x, {any, F}, "x");
    const Index N = x.shape(0);
    py::array_t<Real> y = empty<Real>({N, F}), mean = empty<Real>({training ? N : 0});
    py::array_t<Real> rstd = empty<Real>({training ? N : 0});
    const LayerNormForward<Real> p = {N,
                                      F,
                                      input<Real>(x, {N, F}, "x"),
                                      input<Real>(weight, {F}, "weight"),
                                      optional_input<Real>(bias, {F}, "bias"),
                                      Real(eps),
                                      y.mutable_data(),
                                      training ? mean.mutable_data() : nullptr,
                                      training ? rstd.mutable_data() : nullptr};
    {
      py::gil_scoped_release unlocked;
      layer_norm_forward(p);
    }
    return py::make_tuple(y, mean, rstd);
  });
}

py::array layer_norm_backward_(const py::array& x, const py::array& weight, const py::array& mean,
                               const py::array& rstd, const py::array& d_y,
                               const py::object& d_weight, const py::object& d_bias) {
  return by_dtype(weight, "weight", [&](auto real) -> py::array {
    using Real = decltype(real);
    check_shape(weight, {any}, "weight");
    const Index F = weight.shape(0);
    check_shape(x, {any, F}, "x");
    const Index N = x.shape(0);
    py::array_t<Real> d_x = empty<Real>({N, F});
    const LayerNormBackward<Real> p = {N,
                                       F,
                                       input<Real>(x, {N, F}, "x"),
                                       input<Real>(weight, {F}, "weight"),
                                       input<Real>(mean, {N}, "mean"),
                                       input<Real>(rstd, {N}, "rstd"),
                                       input<Real>(d_y, {N, F}, "dy"),
                                       d_x.mutable_data()};
    Real* to_weight = optional_output<Real>(d_weight, {F}, "grad_weight");
    Real* to_bias = optional_output<Real>(d_bias, {F}, "grad_bias");
    py::gil_scoped_release unlocked;
    layer_norm_backward(p, to_weight, to_bias);
    return std::move(d_x);
  });
}

}  // namespace

void register_norm(py::module_& m) {
  m.def("layer_norm_forward", &layer_norm_forward_, py::arg("x"), py::arg("weight"),
        py::arg("bias"), py::arg("eps"), py::arg("training"));
  m.def("layer_norm_backward", &layer_norm_backward_, py::arg("x"), py::arg("weight"),
        py::arg("mean"), py::arg("rstd"), py::arg("dy"), py::arg("grad_weight"),
        py::arg("grad_bias"));
}

}  // namespace fastrnn::bindings
