// The weights of a model file: found by name and checked first, read later.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace fastrnn {

using Shape = std::vector<std::uint64_t>;

class Weights {
 public:
  explicit Weights(const Safetensors& file) : file_(file), taken_(file.tensors().size()) {}
  // Throws Failure where there is none of that name, or it has another shape or dtype.
  const Tensor& take(const std::string& name, const Shape& shape, const char* dtype = "F32");
  // Where there are some that nobody took: Failure.
  void finish() const;

 private:
  const Safetensors& file_;
  std::vector<bool> taken_;
};

// Tensors as arrays: in the file's bytes where they are aligned, else copied for as long as this lives.
// Null of null.
class Arrays {
 public:
  const float* floats(const Tensor* tensor) {
    return static_cast<const float*>(aligned(tensor, alignof(float)));
  }
  const std::uint16_t* bf16(const Tensor* tensor) {
    return static_cast<const std::uint16_t*>(aligned(tensor, alignof(std::uint16_t)));
  }
  const std::int8_t* int8(const Tensor* tensor) {
    return static_cast<const std::int8_t*>(aligned(tensor, 1));
  }
  const float* widened(const Tensor* tensor);  // of bf16

 private:
  const void* aligned(const Tensor* tensor, std::size_t alignment);
  std::deque<std::vector<float>> copies_;
};

}  // namespace fastrnn
