// Linear layers, losses, optimiser steps and the non-linearities.
#include <cmath>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace fastrnn::bindings {
namespace {

py::array linear_forward_(const py::array& x, const py::array& weight, const py::object& bias) {
  return by_dtype(weight, "weight", [&](auto real) -> py::array {
    using Real = decltype(real);
    check_shape(weight, {any, any}, "weight");
    const Index O = weight.shape(0), I = weight.shape(1);
    check_shape(x, {any, I}, "x");
    const Index N = x.shape(0);
    py::array_t<Real> y = empty<Real>({N, O});
    const LinearForward<Real> p = {N,
                                   I,
                                   O,
                                   input<Real>(x, {N, I}, "x"),
                                   input<Real>(weight, {O, I}, "weight"),
                                   optional_input<Real>(bias, {O}, "bias"),
                                   y.mutable_data()};
    ScratchLease scratch;
    py::gil_scoped_release unlocked;
    linear_forward(p, *scratch);
    return std::move(y);
  });
}

py::object linear_backward_(const py::array& x, const py::array& weight, const py::array& d_y,
                            const py::object& d_weight, const py::object& d_bias, bool need_d_x) {
  return by_dtype(weight, "weight", [&](auto real) -> py::object {
    using Real = decltype(real);
    check_shape(weight, {any, any}, "weight");
    const Index O = weight.shape(0), I = weight.shape(1);
    check_shape(x, {any, I}, "x");
    const Index N = x.shape(0);
    py::object d_x = py::none();
    Real* d_x_data = nullptr;
    if (need_d_x) {
      py::array_t<Real> array = empty<Real>({N, I});
      d_x_data = array.mutable_data();
      d_x = array;
    }
    const LinearBackward<Real> p = {N,
                                    I,
                                    O,
                                    input<Real>(x, {N, I}, "x"),
                                    input<Real>(weight, {O, I}, "weight"),
                                    input<Real>(d_y, {N, O}, "dy"),
                                    optional_output<Real>(d_weight, {O, I}, "grad_weight"),
                                    optional_output<Real>(d_bias, {O}, "grad_bias"),
                                    d_x_data};
    ScratchLease scratch;
    {
      py::gil_scoped_release unlocked;
      linear_backward(p, *scratch);
    }
    return d_x;
  });
}

void embedding_backward_(const py::array& ids, const py::array& d_y, py::array d_weight) {
  by_dtype(d_weight, "grad_weight", [&](auto real) {
    using Real = decltype(real);
    check_shape(ids, {any}, "ids");
    check_shape(d_weight, {any, any}, "grad_weight");
    const Index N = ids.shape(0), V = d_weight.shape(0), E = d_weight.shape(1);
    const Index* id = input<Index>(ids, {N}, "ids");
    for (Index i = 0; i < N; ++i)
      if (id[i] < 0 || id[i] >= V)
        throw py::value_error("ids: expected numbers from 0 to " + std::to_string(V - 1) +
                              ", got " + std::to_string(id[i]));
    const Real* from = input<Real>(d_y, {N, E}, "dy");
    Real* to = output<Real>(d_weight, {V, E}, "grad_weight");
    py::gil_scoped_release unlocked;
    embedding_backward(id, N, E, from, to);
  });
}

py::tuple cross_entropy_(const py::array& logits, const py::array& targets,
                         const py::object& row_weights, Index ignore_index, bool need_grad) {
  return by_dtype(logits, "logits", [&](auto real) -> py::tuple {
    using Real = decltype(real);
    check_shape(logits, {any, any}, "logits");
    const Index N = logits.shape(0), C = logits.shape(1);
    const Index* target = input<Index>(targets, {N}, "targets");
    for (Index i = 0; i < N; ++i)
      if ((target[i] < 0 || target[i] >= C) && target[i] != ignore_index)
        throw py::value_error("targets: expected class numbers from 0 to " + std::to_string(C - 1) +
                              ", got " + std::to_string(target[i]));
    py::array_t<Real> losses = empty<Real>({N});
    py::object d_logits = py::none();
    CrossEntropy<Real> p = {N,
                            C,
                            ignore_index,
                            input<Real>(logits, {N, C}, "logits"),
                            target,
                            optional_input<Real>(row_weights, {N}, "row_weights"),
                            losses.mutable_data(),
                            nullptr};
    if (need_grad) {
      py::array_t<Real> array = empty<Real>({N, C});
      p.d_logits = array.mutable_data();
      d_logits = array;
    }
    {
      py::gil_scoped_release unlocked;
      cross_entropy(p);
    }
    return py::make_tuple(losses, d_logits);
  });
}

// An array of any shape, as a run of values; the others of a step must have as many.
template <class Real>
Real* values(const py::object& object, Index n, const char* name) {
  if (object.is_none()) return nullptr;
  py::array a = py::cast<py::array>(object);
  check_dtype<Real>(a, name);
  check_contiguous(a, name);
  if (!a.writeable()) throw py::value_error(std::string(name) + ": expected a writable array");
  if (a.size() != n)
    throw py::value_error(std::string(name) + ": expected " + std::to_string(n) + " values, got " +
                          std::to_string(a.size()));
  return static_cast<Real*>(a.mutable_data());
}
template <class Real>
const Real* const_values(const py::array& a, Index n, const char* name) {
  check_dtype<Real>(a, name);
  check_contiguous(a, name);
  if (a.size() != n)
    throw py::value_error(std::string(name) + ": expected " + std::to_string(n) + " values, got " +
                          std::to_string(a.size()));
  return static_cast<const Real*>(a.data());
}

void sgd_step_(const py::array& param, const py::array& grad, const py::object& buffer, double lr,
               double momentum, double dampening, double weight_decay, bool nesterov, bool first) {
  by_dtype(param, "param", [&](auto real) {
    using Real = decltype(real);
    const Index n = param.size();
    const SgdStep<Real> step = {n,
                                values<Real>(param, n, "param"),
                                values<Real>(buffer, n, "momentum_buffer"),
                                const_values<Real>(grad, n, "grad"),
                                Real(lr),
                                Real(momentum),
                                Real(1 - dampening),
                                Real(weight_decay),
                                nesterov,
                                first};
    py::gil_scoped_release unlocked;
    sgd_step(step);
  });
}

void rmsprop_step_(const py::array& param, const py::array& grad, const py::object& square_avg,
                   const py::object& buffer, const py::object& grad_avg, double lr, double alpha,
                   double eps, double weight_decay, double momentum) {
  by_dtype(param, "param", [&](auto real) {
    using Real = decltype(real);
    const Index n = param.size();
    if (square_avg.is_none()) throw py::type_error("square_avg: expected an array, got None");
    const RmspropStep<Real> step = {n,
                                    values<Real>(param, n, "param"),
                                    values<Real>(square_avg, n, "square_avg"),
                                    values<Real>(buffer, n, "momentum_buffer"),
                                    values<Real>(grad_avg, n, "grad_avg"),
                                    const_values<Real>(grad, n, "grad"),
                                    Real(lr),
                                    Real(alpha),
                                    Real(1 - alpha),
                                    Real(eps),
                                    Real(weight_decay),
                                    Real(momentum)};
    py::gil_scoped_release unlocked;
    rmsprop_step(step);
  });
}

void adam_step_(const py::array& param, const py::array& grad, const py::array& exp_avg,
                const py::array& exp_avg_sq, double lr, double beta1, double beta2, double eps,
                double weight_decay, bool decoupled, long step_number) {
  by_dtype(param, "param", [&](auto real) {
    using Real = decltype(real);
    const Index n = param.size();
    const double bias1 = 1 - std::pow(beta1, step_number), bias2 = 1 - std::pow(beta2, step_number);
    const AdamStep<Real> step = {n,
                                 values<Real>(param, n, "param"),
                                 values<Real>(exp_avg, n, "exp_avg"),
                                 values<Real>(exp_avg_sq, n, "exp_avg_sq"),
                                 const_values<Real>(grad, n, "grad"),
                                 Real(1 - beta1),
                                 Real(beta2),
                                 Real(1 - beta2),
                                 Real(eps),
                                 Real(decoupled ? 0 : weight_decay),
                                 Real(lr / bias1),
                                 Real(std::sqrt(bias2)),
                                 Real(decoupled ? 1 - lr * weight_decay : 1)};
    py::gil_scoped_release unlocked;
    adam_step(step);
  });
}

py::array apply_(Nonlinearity function, const py::array& x) {
  return by_dtype(x, "x", [&](auto real) -> py::array {
    using Real = decltype(real);
    check_shape(x, {any}, "x");
    const Index n = x.shape(0);
    const Real* from = input<Real>(x, {n}, "x");
    py::array_t<Real> y = empty<Real>({n});
    Real* to = y.mutable_data();
    py::gil_scoped_release unlocked;
    apply(function, from, to, n);
    return std::move(y);
  });
}

py::array softmax_(const py::array& x) {
  return by_dtype(x, "x", [&](auto real) -> py::array {
    using Real = decltype(real);
    check_shape(x, {any, any}, "x");
    const Index rows = x.shape(0), n = x.shape(1);
    const Real* from = input<Real>(x, {rows, n}, "x");
    py::array_t<Real> y = empty<Real>({rows, n});
    Real* to = y.mutable_data();
    py::gil_scoped_release unlocked;
    softmax(from, rows, n, to);
    return std::move(y);
  });
}

void register_steps(py::module_& m) {
  m.def("sgd_step", &sgd_step_, py::arg("param"), py::arg("grad"), py::arg("momentum_buffer"),
        py::arg("lr"), py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"),
        py::arg("nesterov"), py::arg("first"));
  m.def("rmsprop_step", &rmsprop_step_, py::arg("param"), py::arg("grad"), py::arg("square_avg"),
        py::arg("momentum_buffer"), py::arg("grad_avg"), py::arg("lr"), py::arg("alpha"),
        py::arg("eps"), py::arg("weight_decay"), py::arg("momentum"));
  m.def("adam_step", &adam_step_, py::arg("param"), py::arg("grad"), py::arg("exp_avg"),
        py::arg("exp_avg_sq"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
        py::arg("weight_decay"), py::arg("decoupled"), py::arg("step"));
  m.def(
      "clip_value",
      [](const py::array& grad, double limit) {
        by_dtype(grad, "grad", [&](auto real) {
          using Real = decltype(real);
          clip_value(values<Real>(grad, grad.size(), "grad"), grad.size(), Real(limit));
        });
      },
      py::arg("grad"), py::arg("limit"));
  m.def(
      "scale",
      [](const py::array& array, double factor) {
        by_dtype(array, "array", [&](auto real) {
          using Real = decltype(real);
          scale(values<Real>(array, array.size(), "array"), array.size(), Real(factor));
        });
      },
      py::arg("array"), py::arg("factor"));
  m.def(
      "sum_of_squares",
      [](const py::array& array) {
        return by_dtype(array, "array", [&](auto real) {
          using Real = decltype(real);
          return sum_of_squares(const_values<Real>(array, array.size(), "array"), array.size());
        });
      },
      py::arg("array"));
}

}  // namespace

void register_ops(py::module_& m) {
  m.def("linear_forward", &linear_forward_, py::arg("x"), py::arg("weight"), py::arg("bias"));
  m.def("linear_backward", &linear_backward_, py::arg("x"), py::arg("weight"), py::arg("dy"),
        py::arg("grad_weight"), py::arg("grad_bias"), py::arg("need_dx"));
  m.def("embedding_backward", &embedding_backward_, py::arg("ids"), py::arg("dy"),
        py::arg("grad_weight"));
  m.def("cross_entropy", &cross_entropy_, py::arg("logits"), py::arg("targets"),
        py::arg("row_weights"), py::arg("ignore_index"), py::arg("need_grad"));
  register_steps(m);
  m.def("exp", [](const py::array& x) { return apply_(Nonlinearity::exp, x); }, py::arg("x"));
  m.def("tanh", [](const py::array& x) { return apply_(Nonlinearity::tanh, x); }, py::arg("x"));
  m.def(
      "sigmoid", [](const py::array& x) { return apply_(Nonlinearity::sigmoid, x); }, py::arg("x"));
  m.def("softmax", &softmax_, py::arg("x"));
}

}  // namespace fastrnn::bindings
