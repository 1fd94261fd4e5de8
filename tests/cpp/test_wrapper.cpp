// fastrnn.hpp: the bits of the C API beneath it, its owners, and what it throws.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <span>
#endif

#include "fastrnn/fastrnn.hpp"
#include "small_model.h"

namespace {

using fastrnn::Error;
using fastrnn::Model;
using fastrnn::Stream;

static_assert(std::is_nothrow_move_constructible<Model>::value, "");
static_assert(std::is_nothrow_move_assignable<Stream>::value, "");
static_assert(!std::is_copy_constructible<Stream>::value, "");
static_assert(!std::is_copy_constructible<Model>::value, "");

int failures = 0;

void check(bool ok, const char* what, int line) {
  if (ok) return;
  ++failures;
  std::printf("line %d: %s\n", line, what);
}
#define CHECK(condition) check((condition), #condition, __LINE__)

template <class Body>
void check_throws(fr_status status, const std::string& part, int line, Body body) {
  try {
    body();
    check(false, "expected an Error", line);
  } catch (const Error& error) {
    const bool found = std::string(error.what()).find(part) != std::string::npos;
    check(error.status() == status && found, error.what(), line);
  }
}

constexpr std::size_t steps = 20;

std::vector<float> make_input(std::size_t count) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i * 7919 % 201) / 50 - 2;
  return x;
}

void test_streams(const Model& model) {
  const std::vector<float> x = make_input(steps * model.input_size());
  std::vector<float> y(steps * model.output_size());
  Stream stream(model);
  for (std::size_t t = 0; t < steps; ++t)
    stream.step({x.data() + t * model.input_size(), model.input_size()},
                {y.data() + t * model.output_size(), model.output_size()});
  CHECK(model.run(x, 1, steps) == y);

  std::vector<float> block(y.size());
  const std::vector<float> state = stream.state();
  stream.reset();
  CHECK(stream.state() != state);
  stream.process(x, steps, block);
  CHECK(block == y && stream.state() == state);

  Stream moved(std::move(stream));
  CHECK(!stream.get() && moved.state() == state);
  stream = Stream(model, 3);
  stream.set_state(state);
  CHECK(stream.state() == state);

  std::array<fr_stream*, 2> both = {stream.get(), moved.get()};
  std::array<float, 4> x2 = {1, 2, 1, 2}, y2 = {}, y3 = {};
  fastrnn::step_streams(model, both, x2, y2);
  CHECK(y2[0] == y2[2] && y2[1] == y2[3]);
  const std::array<std::int32_t, 2> tokens = {1, 1};
  fastrnn::step_streams_tokens(model, both, tokens, y3);
  CHECK(y3[0] == y3[2] && y3 != y2);
}

void test_tokens(const Model& model) {
  const std::vector<std::int32_t> tokens = {0, 1, 1, 0};
  const std::vector<std::size_t> lengths = {2, 1};
  Stream stream(model);
  std::vector<float> y(8), y_t(2);
  stream.process_tokens(tokens, y);
  CHECK(model.run_tokens(tokens, 1, 4) == y);
  const std::vector<float> rows = model.run_tokens(tokens, 2, 2, lengths);
  CHECK(rows[0] == y[0] && rows[3] == y[3] && rows[6] == 0 && rows[7] == 0);
  stream.reset();
  stream.step_token(0, y_t);
  CHECK(y_t[0] == y[0] && y_t[1] == y[1]);
}

void test_pools(const Model& model) {
  const std::vector<float> x = make_input(steps * model.input_size());
  const std::vector<float> expected = model.run(x, 1, steps);
  fr_pool_options options = {};
  options.capacity = 2;
  options.max_pending = 1;
  fastrnn::Pool pool(model, options);
  std::vector<float> y(expected.size()), again(y.size()), two(2);
  const fr_session a = pool.open();
  pool.step(a, x, steps, y);
  CHECK(y == expected);
  const std::vector<unsigned char> state = pool.export_state(a);
  const fr_session b = pool.open(state);
  CHECK(pool.export_state(b) == state && pool.stats().sessions == 2);
  check_throws(FR_FULL, "all sessions are open", __LINE__, [&] { pool.open(); });
  pool.close(a);
  check_throws(FR_UNKNOWN_SESSION, "session: ", __LINE__, [&] { pool.close(a); });

  const fr_session c = pool.open();
  fr_status told = FR_CANCELLED;
  auto owned = std::make_unique<fr_status*>(&told);  // what can only be moved, too
  CHECK(pool.submit(c, x, steps, again,
                    [to = std::move(owned)](fr_status status) { **to = status; }));
  while (!pool.submit(c, {x.data(), 2}, 1, two, [](fr_status) {}, 0.01)) continue;
  pool.shut_down(true);
  CHECK(told == FR_OK && again == expected);
  check_throws(FR_SHUT_DOWN, "pool: ", __LINE__, [&] { pool.step_tokens(c, {}, {}); });
  check_throws(FR_INVALID_ARGUMENT, "x: expected 2 values, got 3", __LINE__,
               [&] { pool.step(c, std::vector<float>(3), 1, two); });

  fastrnn::Pool other(model);
  const fr_session d = other.open();
  other.import_state(d, state);
  CHECK(other.export_state(d) == state);
  const std::vector<std::int32_t> tokens = {0, 1, 1};
  std::vector<float> of_tokens(6);
  const fr_session e = other.open();
  other.step_tokens(e, tokens, of_tokens);
  CHECK(of_tokens == model.run_tokens(tokens, 1, 3));
}

void test_errors(const Model& model, const small_model& file) {
  Stream stream(model);
  std::vector<float> two(2), three(3);
  check_throws(FR_INVALID_ARGUMENT, "x: expected 2 values, got 3", __LINE__,
               [&] { stream.step(three, two); });
  check_throws(FR_INVALID_ARGUMENT, "y: expected 2 values, got 3", __LINE__,
               [&] { stream.step(two, three); });
  check_throws(FR_INVALID_ARGUMENT, "x: expected 4 values, got 3", __LINE__,
               [&] { stream.process(three, 2, two); });
  check_throws(FR_INVALID_ARGUMENT, "count: expected", __LINE__, [&] { stream.set_state(two); });
  check_throws(FR_INVALID_ARGUMENT, "tokens: expected 0 to 1, got 2", __LINE__,
               [&] { stream.step_token(2, two); });
  check_throws(FR_INVALID_ARGUMENT, "lengths: expected 1 values, got 3", __LINE__, [&] {
    const std::array<std::size_t, 3> lengths = {1, 1, 1};
    model.run(two, 1, 1, lengths);
  });
  check_throws(FR_IO_ERROR, "no/such/file", __LINE__, [] { Model("no/such/file"); });
  check_throws(FR_INVALID_MODEL, "data: ", __LINE__, [&] { Model::from_memory(file.bytes, 99); });
}

}  // namespace

int main() {
  static small_model file;
  small_model_make(&file);
  Model model = Model::from_memory(file.bytes, sizeof file.bytes);
  CHECK(model.info().streams == 1 && model.state_size() == 3);
  CHECK(model.metadata() == "{\"rate\":8000}");
  test_streams(model);
  test_tokens(model);
  test_pools(model);
  test_errors(model, file);
#if __cplusplus >= 202002L
  const std::vector<float> x = make_input(2);
  std::vector<float> y(2), again(2);
  Stream(model).step(std::span<const float>(x), std::span<float>(y));
  Stream(model).step(x, again);
  CHECK(y == again);
#endif
  const Model other = std::move(model);
  CHECK(!model.get() && other.get());
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
