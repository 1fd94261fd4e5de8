// Whether memory that belongs to another library, which may write to it unseen, has changed.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "bindings/arrays.h"

namespace fastrnn::bindings {

// Polynomials in 31 over the words of the memory, modulo 2^32, interleaved so that the compiler can
// make vectors of them. Any change of one word changes one of them; 31 = 32 - 1 spares the product.
class Polynomials {
  using Word = std::uint32_t;

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
  bool operator==(const Polynomials& other) const {
    return std::memcmp(sums_, other.sums_, sizeof(sums_)) == 0;
  }

 private:
  static constexpr int lanes = 64;
  void add(const Word (&block)[lanes]) {
    for (int i = 0; i < lanes; ++i) sums_[i] = (sums_[i] << 5) - sums_[i] + block[i];
  }
  Word sums_[lanes] = {};
};

// Arrays given as (address, bytes), which must outlive it, and what they held when it was made.
class Watch {
 public:
  explicit Watch(const py::tuple& arrays) {
    for (const py::handle& array : arrays) {
      const auto pair = py::cast<std::pair<std::uintptr_t, std::size_t>>(array);
      arrays_.push_back({reinterpret_cast<const unsigned char*>(pair.first), pair.second});
    }
    sample_ = read(false);
    whole_ = read(true);
  }

  // whole: all of the memory is looked at; else, of large arrays, a sample, for calls that take less
  // time than reading it all.
  bool unchanged(bool whole) const { return read(whole) == (whole ? whole_ : sample_); }

 private:
  struct Array {
    const unsigned char* data;
    std::size_t bytes;
  };

  Polynomials read(bool whole) const {
    constexpr std::size_t sampled_blocks = 8, small = 4096;
    Polynomials sums;
    for (const Array& array : arrays_) {
      if (whole || array.bytes <= small)
        sums.add(array.data, array.bytes);
      else
        sums.sample(array.data, array.bytes, sampled_blocks);
    }
    return sums;
  }

  std::vector<Array> arrays_;
  Polynomials sample_, whole_;
};

}  // namespace fastrnn::bindings
