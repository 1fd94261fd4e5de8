// fastrnn for C++17 and later: fastrnn.h with owners, sizes that are checked, and exceptions. Header-only.
//
//   fastrnn::Model model("model.safetensors");
//   fastrnn::Stream stream(model);
//   std::vector<float> y(model.output_size());
//   for (;;) stream.step(x, y);  // x: a vector, an array, a std::span or {pointer, size}
//
// What fastrnn.h says holds here: a Model and a Pool may be used by many threads at once, a Stream by one,
// and the functions of Stream that write to memory of the caller are fit for real time.
#ifndef FASTRNN_FASTRNN_HPP
#define FASTRNN_FASTRNN_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fastrnn/fastrnn.h"

namespace fastrnn {
// Apart from the namespace fastrnn of the library itself, should it be linked statically.
inline namespace cpp_v1 {

class Error : public std::runtime_error {
 public:
  Error(fr_status status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  fr_status status() const noexcept { return status_; }

 private:
  fr_status status_;
};

// A pointer and a size, of anything that has both.
template <class Item>
class Span {
 public:
  Span() noexcept = default;
  Span(Item* data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <class Container, class = std::enable_if_t<std::is_convertible<
                                 decltype(std::declval<Container&>().data()), Item*>::value>>
  Span(Container&& container) noexcept : data_(container.data()), size_(container.size()) {}

  Item* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  Item* data_ = nullptr;
  std::size_t size_ = 0;
};

namespace detail {

inline void check(fr_status status) {
  if (status != FR_OK) throw Error(status, fr_last_error());
}

inline void check_size(const char* name, std::size_t got, std::size_t expected) {
  if (got != expected)
    throw Error(FR_INVALID_ARGUMENT, std::string(name) + ": expected " + std::to_string(expected) +
                                         " values, got " + std::to_string(got));
}

}  // namespace detail

// Throws Error, as all functions here.
class Model {
 public:
  explicit Model(const std::string& path, fr_precision precision = FR_PRECISION_AS_STORED) {
    const fr_model_options options = {sizeof options, precision};
    fr_model* model = nullptr;
    detail::check(fr_model_load(path.c_str(), &options, &model));
    own(model);
  }
  static Model from_memory(const void* data, std::size_t size,
                           fr_precision precision = FR_PRECISION_AS_STORED) {
    const fr_model_options options = {sizeof options, precision};
    fr_model* model = nullptr;
    detail::check(fr_model_load_memory(data, size, &options, &model));
    Model out;
    out.own(model);
    return out;
  }

  const fr_model_info& info() const noexcept { return info_; }
  std::size_t input_size() const noexcept { return info_.input_size; }
  std::size_t output_size() const noexcept { return info_.output_size; }
  std::size_t state_size() const noexcept { return info_.state_size; }
  std::string metadata() const { return fr_model_metadata(get()); }  // JSON
  const fr_model* get() const noexcept { return model_.get(); }

  // Whole sequences; lengths empty: all have `steps`.
  void run(Span<const float> x, std::size_t batch, std::size_t steps,
           Span<const std::size_t> lengths, Span<float> y) const {
    check_run(batch * steps, info_.input_size, x.size(), "x", batch, lengths, y.size());
    detail::check(fr_model_run(get(), x.data(), batch, steps, given(lengths), y.data()));
  }
  std::vector<float> run(Span<const float> x, std::size_t batch, std::size_t steps,
                         Span<const std::size_t> lengths = {}) const {
    std::vector<float> y(batch * steps * info_.output_size);
    run(x, batch, steps, lengths, y);
    return y;
  }
  void run_tokens(Span<const std::int32_t> tokens, std::size_t batch, std::size_t steps,
                  Span<const std::size_t> lengths, Span<float> y) const {
    check_run(batch * steps, 1, tokens.size(), "tokens", batch, lengths, y.size());
    detail::check(
        fr_model_run_tokens(get(), tokens.data(), batch, steps, given(lengths), y.data()));
  }
  std::vector<float> run_tokens(Span<const std::int32_t> tokens, std::size_t batch,
                                std::size_t steps, Span<const std::size_t> lengths = {}) const {
    std::vector<float> y(batch * steps * info_.output_size);
    run_tokens(tokens, batch, steps, lengths, y);
    return y;
  }

 private:
  struct Free {
    void operator()(fr_model* model) const noexcept { fr_model_free(model); }
  };

  Model() = default;
  void own(fr_model* model) {
    model_.reset(model);
    info_.struct_size = sizeof info_;
    detail::check(fr_model_get_info(model, &info_));
  }
  static const std::size_t* given(Span<const std::size_t> lengths) noexcept {
    return lengths.size() ? lengths.data() : nullptr;
  }
  void check_run(std::size_t rows, std::size_t width, std::size_t got, const char* name,
                 std::size_t batch, Span<const std::size_t> lengths, std::size_t y_size) const {
    detail::check_size(name, got, rows * width);
    detail::check_size("y", y_size, rows * info_.output_size);
    if (lengths.size()) detail::check_size("lengths", lengths.size(), batch);
  }

  std::unique_ptr<fr_model, Free> model_;
  fr_model_info info_ = {};
};

// The state of one sequence. The model may end before its streams.
class Stream {
 public:
  explicit Stream(const Model& model, std::size_t block_steps = 0) : info_(model.info()) {
    const fr_stream_options options = {sizeof options, block_steps};
    fr_stream* stream = nullptr;
    detail::check(fr_stream_create(model.get(), &options, &stream));
    stream_.reset(stream);
  }

  // One step; x and y may be the same memory.
  void step(Span<const float> x, Span<float> y) {
    detail::check_size("x", x.size(), info_.input_size);
    detail::check_size("y", y.size(), info_.output_size);
    detail::check(fr_stream_step(get(), x.data(), y.data()));
  }
  void step_token(std::int32_t token, Span<float> y) {
    detail::check_size("y", y.size(), info_.output_size);
    detail::check(fr_stream_step_token(get(), token, y.data()));
  }

  // A block of steps, apart from each other in memory.
  void process(Span<const float> x, std::size_t steps, Span<float> y) {
    detail::check_size("x", x.size(), steps * info_.input_size);
    detail::check_size("y", y.size(), steps * info_.output_size);
    detail::check(fr_stream_process(get(), x.data(), steps, y.data()));
  }
  void process_tokens(Span<const std::int32_t> tokens, Span<float> y) {
    detail::check_size("y", y.size(), tokens.size() * info_.output_size);
    detail::check(fr_stream_process_tokens(get(), tokens.data(), tokens.size(), y.data()));
  }

  void reset() { detail::check(fr_stream_reset(get())); }
  void get_state(Span<float> state) const {
    detail::check(fr_stream_get_state(get(), state.data(), state.size()));
  }
  std::vector<float> state() const {
    std::vector<float> state(info_.state_size);
    get_state(state);
    return state;
  }
  void set_state(Span<const float> state) {
    detail::check(fr_stream_set_state(get(), state.data(), state.size()));
  }

  const fr_model_info& info() const noexcept { return info_; }  // of its model
  fr_stream* get() const noexcept { return stream_.get(); }

 private:
  struct Free {
    void operator()(fr_stream* stream) const noexcept { fr_stream_free(stream); }
  };
  std::unique_ptr<fr_stream, Free> stream_;
  fr_model_info info_;
};

// One step of each of the streams (Stream::get) of one model, none twice.
inline void step_streams(const Model& model, Span<fr_stream* const> streams, Span<const float> x,
                         Span<float> y) {
  detail::check_size("x", x.size(), streams.size() * model.input_size());
  detail::check_size("y", y.size(), streams.size() * model.output_size());
  detail::check(fr_streams_step(streams.data(), streams.size(), x.data(), y.data()));
}
inline void step_streams_tokens(const Model& model, Span<fr_stream* const> streams,
                                Span<const std::int32_t> tokens, Span<float> y) {
  detail::check_size("tokens", tokens.size(), streams.size());
  detail::check_size("y", y.size(), streams.size() * model.output_size());
  detail::check(fr_streams_step_tokens(streams.data(), streams.size(), tokens.data(), y.data()));
}

// Many sessions of one model, stepped together by threads of its own; may be used by any threads at once.
// The model may end before the pool.
class Pool {
 public:
  explicit Pool(const Model& model, fr_pool_options options = {}) : info_(model.info()) {
    options.struct_size = sizeof options;
    fr_pool* pool = nullptr;
    detail::check(fr_pool_create(model.get(), &options, &pool));
    pool_.reset(pool);
  }

  // state: of export_state; empty: the model's initial one.
  fr_session open(Span<const unsigned char> state = {}) {
    fr_session session = 0;
    detail::check(
        fr_pool_open(get(), state.size() ? state.data() : nullptr, state.size(), &session));
    return session;
  }
  void close(fr_session session) { detail::check(fr_pool_close(get(), session)); }

  // Waits until the steps are done.
  void step(fr_session session, Span<const float> x, std::size_t steps, Span<float> y) {
    detail::check_size("x", x.size(), steps * info_.input_size);
    detail::check_size("y", y.size(), steps * info_.output_size);
    detail::check(fr_pool_step(get(), session, x.data(), steps, y.data()));
  }
  void step_tokens(fr_session session, Span<const std::int32_t> tokens, Span<float> y) {
    detail::check_size("y", y.size(), tokens.size() * info_.output_size);
    detail::check(fr_pool_step_tokens(get(), session, tokens.data(), tokens.size(), y.data()));
  }

  // Goes on without waiting for the steps. False: a queue was full, for `timeout` seconds.
  bool submit(Span<const fr_pool_request> requests, double timeout = 0) {
    const fr_status status = fr_pool_submit(get(), requests.data(), requests.size(), timeout);
    if (status != FR_FULL) detail::check(status);
    return status == FR_OK;
  }
  // done(fr_status): as fastrnn.h has it; must not throw. x and y must last until then.
  template <class Done>
  bool submit(fr_session session, Span<const float> x, std::size_t steps, Span<float> y, Done done,
              double timeout = 0) {
    detail::check_size("x", x.size(), steps * info_.input_size);
    detail::check_size("y", y.size(), steps * info_.output_size);
    auto own = std::make_unique<Done>(std::move(done));
    fr_pool_request request = {};
    request.struct_size = sizeof request;
    request.session = session;
    request.x = x.data();
    request.steps = steps;
    request.y = y.data();
    request.done = [](void* context, fr_status status) {
      (*std::unique_ptr<Done>(static_cast<Done*>(context)))(status);
    };
    request.context = own.get();
    const bool accepted = submit({&request, 1}, timeout);
    if (accepted) (void)own.release();  // may be gone already
    return accepted;
  }

  std::vector<unsigned char> export_state(fr_session session) {
    std::vector<unsigned char> state(fr_pool_state_bytes(get()));
    detail::check(fr_pool_export(get(), session, state.data(), state.size()));
    return state;
  }
  void import_state(fr_session session, Span<const unsigned char> state) {
    detail::check(fr_pool_import(get(), session, state.data(), state.size()));
  }

  fr_pool_stats stats() {
    fr_pool_stats stats;
    stats.struct_size = sizeof stats;
    detail::check(fr_pool_get_stats(get(), &stats));
    return stats;
  }
  void shut_down(bool drain) { detail::check(fr_pool_shut_down(get(), drain)); }

  const fr_model_info& info() const noexcept { return info_; }  // of its model
  fr_pool* get() const noexcept { return pool_.get(); }

 private:
  struct Free {
    void operator()(fr_pool* pool) const noexcept { fr_pool_free(pool); }
  };
  std::unique_ptr<fr_pool, Free> pool_;
  fr_model_info info_;
};

}  // namespace cpp_v1
}  // namespace fastrnn

#endif
