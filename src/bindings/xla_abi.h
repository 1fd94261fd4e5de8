// The part of XLA's stable C interface for custom calls that the handlers in xla.cpp need, declared
// here so that building fastrnn needs no jaxlib. Facts of the layout from xla/ffi/api/c_api.h of
// jaxlib 0.10.2 (https://github.com/openxla/xla, API version 0.3), which says what may change: fields
// are added at the end, and each struct says its size; tests/interop/test_jax_abi.py compares the two.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn::xla {

constexpr int api_major = 0, api_minor = 3;

// Bytes of a struct up to and with its last field that is used.
#define FASTRNN_XLA_SIZE(type, last) (offsetof(type, last) + sizeof(type::last))

enum : std::int32_t { extension_metadata = 1 };
enum : std::int32_t { stage_execute = 3 };
enum : std::int32_t { argument_buffer = 1, result_buffer = 1, attribute_scalar = 3 };
enum : std::int32_t { type_s32 = 4, type_s64 = 5, type_f32 = 11, type_f64 = 12 };
enum : std::int32_t {
  invalid_argument = 3,
  resource_exhausted = 8,
  unimplemented = 12,
  internal = 13
};

struct Error;  // XLA's own
struct Context;
struct Internal;

struct Extension {
  std::size_t struct_size;
  std::int32_t type;
  Extension* next;
};

struct Version {
  std::size_t struct_size;
  Extension* extensions;
  int major, minor;
};

struct ErrorArguments {
  std::size_t struct_size;
  Extension* extensions;
  const char* message;  // copied
  std::int32_t code;
};

struct Api {
  std::size_t struct_size;
  Extension* extensions;
  Version version;
  const Internal* internal;
  Error* (*create_error)(ErrorArguments*);  // more functions follow
};

struct Buffer {
  std::size_t struct_size;
  Extension* extensions;
  std::int32_t type;
  void* data;
  std::int64_t rank;
  std::int64_t* dims;
};

struct Scalar {
  std::int32_t type;
  void* value;
};

struct Bytes {
  const char* data;
  std::size_t size;
};

// Arguments or results.
struct Operands {
  std::size_t struct_size;
  Extension* extensions;
  std::int64_t size;
  std::int32_t* types;
  void** items;
};

struct Attributes {
  std::size_t struct_size;
  Extension* extensions;
  std::int64_t size;
  std::int32_t* types;
  Bytes** names;
  void** items;
};

struct CallFrame {
  std::size_t struct_size;
  Extension* extensions;
  const Api* api;
  Context* context;
  std::int32_t stage;
  Operands arguments, results;
  Attributes attributes;  // more fields may follow
};

struct Metadata {
  std::size_t struct_size;
  Version version;       // of the interface that the handler was written for
  std::uint32_t traits;  // more fields may follow
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

}  // namespace fastrnn::xla
