// Whether memory that belongs to another library, which may write to it unseen, has changed.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "bindings/arrays.h"

namespace fastrnn::bindings {

// Sums over the words of the memory, interleaved so that the compiler can make vectors of them: each is
// turned, multiplied by 31 = 32 - 1 and takes the next word. Any change of one word changes a sum; that
// they are turned keeps the top bits, where the signs of numbers are, from cancelling.
class Digest {
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
  bool operator==(const Digest& other) const {
    return std::memcmp(sums_, other.sums_, sizeof(sums_)) == 0;
  }

 private:
  static constexpr int lanes = 64;
  void add(const Word (&block)[lanes]) {
    for (int i = 0; i < lanes; ++i) {
      const Word turned = sums_[i] << 7 | sums_[i] >> 25;
      sums_[i] = (turned << 5) - turned + block[i];
    }
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

  Digest read(bool whole) const {
    constexpr std::size_t sampled_blocks = 8, small = 4096;
    Digest sums;
    for (const Array& array : arrays_) {
      if (whole || array.bytes <= small)
        sums.add(array.data, array.bytes);
      else
        sums.sample(array.data, array.bytes, sampled_blocks);
    }
    return sums;
  }

  std::vector<Array> arrays_;
  Digest sample_, whole_;
};

}  // namespace fastrnn::bindings
