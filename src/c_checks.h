// What the functions of fastrnn.h share: the thread's last error, checks of arguments, versioned structs.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "fastrnn/fastrnn.h"
#include "model/failure.h"
#include "model/network.h"

namespace fastrnn::c_api {

// --- errors ---------------------------------------------------------------------------------------

const char* last_error();

// Allocates nothing.
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
fr_status fail(fr_status status, const char* format, ...);

fr_status null_argument(const char* name);

// Runs what may throw; messages begin with `what`, of a long path its end.
template <class Body>
fr_status guarded(const char* what, Body body) noexcept {
  constexpr std::size_t most = 300;
  const std::size_t length = std::strlen(what);
  if (length > most) what += length - most;
  try {
    return body();
  } catch (const Failure& failure) {
    return fail(failure.status, "%s: %s", what, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return fail(FR_OUT_OF_MEMORY, "%s: out of memory", what);
  } catch (const std::exception& error) {
    return fail(FR_INTERNAL_ERROR, "%s: %s", what, error.what());
  } catch (...) {
    return fail(FR_INTERNAL_ERROR, "%s: an unknown exception", what);
  }
}

// C may give any number where it says an enum; as one of C++ that would be undefined.
template <class Enum>
int number_of(const Enum& given) {
  int number;
  static_assert(sizeof number == sizeof given, "enums of C are ints");
  std::memcpy(&number, &given, sizeof number);
  return number;
}

// --- versioned structs ----------------------------------------------------------------------------

// Whether a struct says a size that one of any version can have.
fr_status check_struct_size(const char* name, std::size_t got, std::size_t expected);
fr_status newer_field(const char* name);

// All fields end at a multiple of this: the bytes of a struct that holds whole fields.
inline std::size_t whole_fields(std::size_t size, std::size_t most) {
  return std::min(size, most) / sizeof(std::size_t) * sizeof(std::size_t);
}

// Copies a struct of any version over `own`, which has the defaults: fields that the caller's version
// lacks keep them; of fields that this version lacks only zeros, their defaults, are taken.
template <class Struct>
fr_status copy_struct(const char* name, const Struct* given, Struct* own) {
  const std::size_t size = given->struct_size;
  if (const fr_status status = check_struct_size(name, size, sizeof(Struct))) return status;
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i)
    if (bytes[i] != 0) return newer_field(name);
  std::memcpy(own, given, whole_fields(size, sizeof(Struct)));
  return FR_OK;
}

// Fills as many fields of the caller's struct as it has.
template <class Struct>
fr_status give_struct(const char* name, Struct& own, Struct* to) {
  const std::size_t size = to->struct_size;
  if (const fr_status status = check_struct_size(name, size, sizeof(Struct))) return status;
  own.struct_size = size;
  std::memcpy(to, &own, whole_fields(size, sizeof(Struct)));
  return FR_OK;
}

// --- steps ----------------------------------------------------------------------------------------

// What a call runs on: floats or tokens, the other null.
struct Input {
  const float* x;
  const std::int32_t* tokens;
};

// Whether a model takes such input, and `count` rows of it are where they should be.
fr_status check_input(const Network& network, const Input& in, bool of_tokens, std::size_t count,
                      const float* y);
fr_status check_tokens(const Network& network, const std::int32_t* tokens, std::size_t count,
                       std::size_t first = 0);
// Rows that can be addressed, as floats in and out.
bool addressable(const Network& network, std::size_t rows);
// All about the arguments of a block of steps, of one stream or of many.
fr_status check_block(const Network& network, const Input& in, bool of_tokens, std::size_t rows,
                      const float* y);

}  // namespace fastrnn::c_api
