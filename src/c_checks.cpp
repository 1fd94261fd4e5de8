#include "c_checks.h"

#include <cstdarg>

namespace fastrnn::c_api {
namespace {

thread_local char message[1024] = "";

constexpr std::size_t max_struct_size = 4096;  // far more than any version will have

bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto p = reinterpret_cast<std::uintptr_t>(a), q = reinterpret_cast<std::uintptr_t>(b);
  return p < q + b_bytes && q < p + a_bytes;
}

}  // namespace

const char* last_error() { return message; }

fr_status fail(fr_status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return status;
}

fr_status null_argument(const char* name) {
  return fail(FR_INVALID_ARGUMENT, "%s: expected a pointer, got null", name);
}

fr_status check_struct_size(const char* name, std::size_t got, std::size_t expected) {
  if (got >= sizeof(std::size_t) && got <= max_struct_size) return FR_OK;
  return fail(FR_INVALID_ARGUMENT, "%s: expected struct_size %zu, got %zu", name, expected, got);
}

fr_status newer_field(const char* name) {
  return fail(FR_UNSUPPORTED, "%s: this library, of version %s, lacks one that is set", name,
              FASTRNN_VERSION);
}

fr_status check_input(const Network& network, const Input& in, bool of_tokens, std::size_t count,
                      const float* y) {
  if (!of_tokens && network.takes_tokens())
    return fail(FR_INVALID_ARGUMENT, "x: expected tokens, which the model's first layer looks up");
  if (of_tokens && !network.accepts_tokens())
    return fail(FR_INVALID_ARGUMENT,
                "tokens: expected x, as the model's first layer takes no tokens");
  if (count == 0) return FR_OK;
  if (of_tokens ? !in.tokens : !in.x) return null_argument(of_tokens ? "tokens" : "x");
  return y ? FR_OK : null_argument("y");
}

fr_status check_tokens(const Network& network, const std::int32_t* tokens, std::size_t count,
                       std::size_t first) {
  for (std::size_t i = 0; i < count; ++i)
    if (tokens[i] < 0 || tokens[i] >= network.input_size())
      return fail(FR_INVALID_ARGUMENT, "tokens: expected 0 to %td, got %ld at %zu",
                  network.input_size() - 1, static_cast<long>(tokens[i]), first + i);
  return FR_OK;
}

bool addressable(const Network& network, std::size_t rows) {
  const auto widest =
      static_cast<std::size_t>(std::max<Index>({network.input_size(), network.output_size(), 1}));
  return rows <= PTRDIFF_MAX / sizeof(float) / widest;
}

fr_status check_block(const Network& network, const Input& in, bool of_tokens, std::size_t rows,
                      const float* y) {
  if (const fr_status status = check_input(network, in, of_tokens, rows, y)) return status;
  if (!addressable(network, rows))
    return fail(FR_INVALID_ARGUMENT, "steps: expected the size of an array, got %zu", rows);
  const auto floats = [](Index size) { return static_cast<std::size_t>(size) * sizeof(float); };
  const std::size_t in_row = of_tokens ? sizeof(std::int32_t) : floats(network.input_size());
  const void* data = of_tokens ? static_cast<const void*>(in.tokens) : in.x;
  if (rows > 0 && overlap(data, rows * in_row, y, rows * floats(network.output_size())))
    return fail(FR_INVALID_ARGUMENT, "y: expected memory apart from the input's");
  return of_tokens ? check_tokens(network, in.tokens, rows) : FR_OK;
}

}  // namespace fastrnn::c_api
