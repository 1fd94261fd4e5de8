// What goes wrong between a file and a Network: one exception, turned into a status in c_api.cpp.
#pragma once

#include <string>
#include <string_view>

#include "fastrnn/fastrnn.h"

namespace fastrnn {

struct Failure {
  fr_status status;
  std::string message;  // what it is about, what was expected and what came
};

[[noreturn]] inline void fail(fr_status status, std::string message) {
  throw Failure{status, std::move(message)};
}
[[noreturn]] inline void fail_model(std::string message) {
  fail(FR_INVALID_MODEL, std::move(message));
}

// Text of a file for a message: shortened, in quotes, bytes that are not printable ASCII as \xNN.
std::string quoted(std::string_view text);

}  // namespace fastrnn
