// Whether memory that belongs to another library, which may write to it unseen, has changed.
#include <cstdint>
#include <cstring>

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace fastrnn::bindings {
namespace {

using Word = std::uint32_t;

// Polynomials in 31 over the words of the memory, modulo 2^32, interleaved so that the compiler can
// make vectors of them. Any change of one word changes one of them; 31 = 32 - 1 spares the product.
class Polynomials {
 public:
  void add(const unsigned char* data, std::size_t bytes) {
    Word block[lanes];
    for (; bytes >= sizeof(block); data += sizeof(block), bytes -= sizeof(block)) {
      std::memcpy(block, data, sizeof(block));
      add(block);
    }
    std::memset(block, 0, sizeof(block));
    std::memcpy(block, data, bytes);
    add(block);
  }
  // As many blocks as `count`, evenly spread.
  void sample(const unsigned char* data, std::size_t bytes, std::size_t count) {
    Word block[lanes];
    const std::size_t blocks = bytes / sizeof(block);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(block, data + blocks * i / count * sizeof(block), sizeof(block));
      add(block);
    }
  }
  py::bytes value() const { return {reinterpret_cast<const char*>(sums_), sizeof(sums_)}; }

 private:
  static constexpr int lanes = 64;
  void add(const Word (&block)[lanes]) {
    for (int i = 0; i < lanes; ++i) sums_[i] = (sums_[i] << 5) - sums_[i] + block[i];
  }
  Word sums_[lanes] = {};
};

// Of the arrays given as (address, bytes). Not `whole`: of large ones only a sample, for calls that
// take less time than reading them all.
py::bytes fingerprint(const py::tuple& arrays, bool whole) {
  constexpr std::size_t sampled_blocks = 8, small = 4096;
  Polynomials sums;
  for (const py::handle& array : arrays) {
    const auto pair = py::reinterpret_borrow<py::tuple>(array);
    const auto* data = reinterpret_cast<const unsigned char*>(py::cast<std::uintptr_t>(pair[0]));
    const auto bytes = py::cast<std::size_t>(pair[1]);
    if (whole || bytes <= small)
      sums.add(data, bytes);
    else
      sums.sample(data, bytes, sampled_blocks);
  }
  return sums.value();
}

}  // namespace

void register_fingerprint(py::module_& m) {
  m.def("fingerprint", &fingerprint, py::arg("arrays"), py::arg("whole"));
}

}  // namespace fastrnn::bindings
