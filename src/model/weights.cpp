#include "model/weights.h"

#include <cstring>

#include "model/failure.h"

namespace fastrnn {
namespace {

std::string shown(const Shape& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

const Tensor& Weights::take(const std::string& name, const Shape& shape, const char* dtype) {
  const Tensor* tensor = file_.find(name);
  if (!tensor) fail_model("the weights " + name + " are missing");
  if (tensor->dims != shape)
    fail_model(name + ": expected the shape " + shown(shape) + ", got " + shown(tensor->dims));
  if (tensor->dtype != dtype) fail_model(name + ": expected " + dtype + ", got " + tensor->dtype);
  taken_[static_cast<std::size_t>(tensor - file_.tensors().data())] = true;
  return *tensor;
}

void Weights::finish() const {
  for (std::size_t i = 0; i < taken_.size(); ++i)
    if (!taken_[i]) fail_model("unexpected weights " + quoted(file_.tensors()[i].name));
}

const void* Arrays::aligned(const Tensor* tensor, std::size_t alignment) {
  if (!tensor) return nullptr;
  const std::string_view bytes = tensor->bytes;
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0) return bytes.data();
  std::vector<float>& copy =
      copies_.emplace_back((bytes.size() + sizeof(float) - 1) / sizeof(float));
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy.data();
}

const float* Arrays::widened(const Tensor* tensor) {
  if (!tensor) return nullptr;
  const std::uint16_t* halves = bf16(tensor);
  std::vector<float>& copy = copies_.emplace_back(tensor->bytes.size() / sizeof(std::uint16_t));
  for (std::size_t i = 0; i < copy.size(); ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(halves[i]) << 16;
    std::memcpy(&copy[i], &bits, sizeof bits);
  }
  return copy.data();
}

}  // namespace fastrnn
