// A step of one cell whose arguments are another library's tensors, looked at through DLPack: for cells
// so small that to ask in Python what the tensors are takes longer than the step.
#include "bindings/dlpack.h"
#include "bindings/module.h"
#include "bindings/stack.h"
#include "bindings/watch.h"

namespace fastrnn::bindings {
namespace {

template <class Real>
class TensorStep {
 public:
  // counted: whether the weights have versions, as those made in inference mode have not.
  // api: the capsule of the tensors' type. types: those whose memory is what DLPack says. weights: of
  // the stack, which holds them packed; watch: their memory.
  TensorStep(const py::capsule& api, py::tuple types, std::shared_ptr<PyStack<Real>> stack,
             py::tuple weights, std::shared_ptr<Watch> watch, bool counted)
      : api_(api.get_pointer<dlpack::Exchange>()),
        types_(std::move(types)),
        stack_(std::move(stack)),
        weights_(std::move(weights)),
        watch_(std::move(watch)),
        counted_(counted) {
    if (api_->version.major != dlpack::major || !api_->look)
      throw py::value_error("api: expected version 1 of DLPack's exchange");
    for (const py::handle& weight : weights_) seen_.push_back(seen(weight));
  }

  // h (B, H), or (h, c), as arrays; None where an argument is not plain, or the weights have changed.
  py::object call(const py::tuple& weights, const py::handle& x, const py::handle& h,
                  const py::handle& c) const {
    const Index H = stack_->hidden_size(), I = stack_->input_size();
    dlpack::Tensor in;
    if (!unchanged(weights) || !look(x, in) || in.axes < 1 || in.axes > 2) return py::none();
    const bool unbatched = in.axes == 1;
    const Index B = unbatched ? 1 : in.shape[0];
    if (B < 1 || in.shape[in.axes - 1] != I || (I > 1 && stride(in, in.axes - 1) != 1))
      return py::none();
    std::uintptr_t h0 = 0, c0 = 0;
    if (!take_state(h, unbatched, B, H, h0) || !take_state(c, unbatched, B, H, c0))
      return py::none();
    return stack_->step_at(address(in), B, unbatched ? I : stride(in, 0), h0, c0, unbatched);
  }

 private:
  struct Seen {
    std::uintptr_t address;
    long version;
    Index row;  // its stride: another one where a parameter is its own memory transposed
  };

  bool look(const py::handle& object, dlpack::Tensor& out) const {
    bool known = false;
    for (const py::handle& type : types_)
      known = known || reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) == type.ptr();
    if (!known) return false;
    if (api_->look(object.ptr(), &out) != 0) throw py::error_already_set();
    const auto is_negated = py::reinterpret_steal<py::object>(
        PyObject_CallMethodObjArgs(object.ptr(), is_neg_.ptr(), nullptr));
    if (!is_negated) throw py::error_already_set();
    return is_negated.ptr() == Py_False && out.device.type == dlpack::cpu &&
           out.dtype.code == dlpack::floating && out.dtype.bits == 8 * sizeof(Real) &&
           out.dtype.lanes == 1;
  }

  // None gives zero.
  bool take_state(const py::handle& object, bool unbatched, Index B, Index H,
                  std::uintptr_t& out) const {
    if (object.is_none()) return true;
    dlpack::Tensor state;
    if (!look(object, state) || state.axes != (unbatched ? 1 : 2)) return false;
    if (state.shape[state.axes - 1] != H || (!unbatched && state.shape[0] != B)) return false;
    if ((H > 1 && stride(state, state.axes - 1) != 1) || (B > 1 && stride(state, 0) != H))
      return false;
    out = address(state);
    return true;
  }

  bool unchanged(const py::tuple& weights) const {
    if (weights.size() != seen_.size()) return false;
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      const PyObject* weight = PyTuple_GET_ITEM(weights.ptr(), static_cast<Index>(i));
      if (weight != PyTuple_GET_ITEM(weights_.ptr(), static_cast<Index>(i))) return false;
      if (weight == Py_None) continue;
      const Seen now = seen(weights[i]);
      if (now.address != seen_[i].address || now.version != seen_[i].version ||
          now.row != seen_[i].row)
        return false;
    }
    return watch_->unchanged(false);
  }

  Seen seen(const py::handle& weight) const {
    if (weight.is_none()) return {0, 0, 0};
    dlpack::Tensor tensor;
    if (api_->look(weight.ptr(), &tensor) != 0) throw py::error_already_set();
    const Index row = tensor.axes > 0 ? stride(tensor, 0) : 0;
    if (!counted_) return {address(tensor), 0, row};
    const auto version =
        py::reinterpret_steal<py::object>(PyObject_GetAttr(weight.ptr(), version_.ptr()));
    if (!version) throw py::error_already_set();
    return {address(tensor), PyLong_AsLong(version.ptr()), row};
  }

  static std::uintptr_t address(const dlpack::Tensor& tensor) {
    return reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset;
  }
  static Index stride(const dlpack::Tensor& tensor, int axis) {
    if (tensor.strides) return static_cast<Index>(tensor.strides[axis]);
    return axis == tensor.axes - 1 ? 1 : static_cast<Index>(tensor.shape[tensor.axes - 1]);
  }
  static py::object interned(const char* name) {
    return py::reinterpret_steal<py::object>(PyUnicode_InternFromString(name));
  }

  const dlpack::Exchange* api_;
  py::tuple types_;
  std::shared_ptr<PyStack<Real>> stack_;
  py::tuple weights_;
  std::shared_ptr<Watch> watch_;
  bool counted_;
  py::object version_ = interned("_version"), is_neg_ = interned("is_neg");
  std::vector<Seen> seen_;
};

template <class Real>
void register_type(py::module_& m, const char* name) {
  py::class_<TensorStep<Real>>(m, name)
      .def(py::init<const py::capsule&, py::tuple, std::shared_ptr<PyStack<Real>>, py::tuple,
                    std::shared_ptr<Watch>, bool>(),
           py::arg("api"), py::arg("types"), py::arg("stack"), py::arg("weights"), py::arg("watch"),
           py::arg("counted"))
      .def("__call__", &TensorStep<Real>::call, py::arg("weights"), py::arg("x"), py::arg("h"),
           py::arg("c"));
}

}  // namespace

void register_tensor_step(py::module_& m) {
  register_type<float>(m, "TensorStepFloat32");
  register_type<double>(m, "TensorStepFloat64");
}

}  // namespace fastrnn::bindings
