// What is used of DLPack's C interface, version 1.3 (dlpack.h, the DLPackExchangeAPI of arrays' types):
// an array's memory, looked at in place.
#pragma once

#include <cstdint>

namespace fastrnn::dlpack {

struct Device {
  std::int32_t type, id;
};
constexpr std::int32_t cpu = 1;

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
constexpr std::uint8_t floating = 2;

struct Tensor {
  void* data;
  Device device;
  std::int32_t axes;
  DataType dtype;
  std::int64_t *shape, *strides;  // strides in items; null: contiguous
  std::uint64_t byte_offset;
};

struct Exchange {
  struct {
    std::uint32_t major, minor;
  } version;
  Exchange* older;
  void* allocate;
  void* own;
  void* give;
  int (*look)(void* object, Tensor* out);  // null: not offered. Else 0, or an exception is set
  void* stream;
};
constexpr std::uint32_t major = 1;
constexpr const char* capsule_name = "dlpack_exchange_api";

}  // namespace fastrnn::dlpack
