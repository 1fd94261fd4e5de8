// The C API: checks of arguments, statuses and messages around loader, Network and Runner. See
// fastrnn.h, the contract. Nothing is thrown past this file.
#include "fastrnn/fastrnn.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include "dispatch.h"
#include "model/failure.h"
#include "model/loader.h"
#include "model/runner.h"
#include "model/safetensors.h"
#include "parallel.h"

using fastrnn::Failure;
using fastrnn::Index;
using fastrnn::Network;
using fastrnn::Runner;

struct fr_model {
  fastrnn::LoadedModel loaded;
  mutable std::atomic<long> owners{1};  // the caller, and each stream
  const Network& network() const { return loaded.network; }
};

struct fr_stream {
  fr_stream(const fr_model* m, Index block_steps) : model(m), runner(m->network(), block_steps) {}
  const fr_model* const model;
  Runner runner;
  bool counted = false;  // while fr_streams_step looks for streams that come twice
};

namespace {

// --- errors ---------------------------------------------------------------------------------------

thread_local char last_error[1024] = "";

// Allocates nothing.
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
fr_status fail(fr_status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

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

fr_status null_argument(const char* name) {
  return fail(FR_INVALID_ARGUMENT, "%s: expected a pointer, got null", name);
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

constexpr std::size_t max_struct_size = 4096;  // far more than any version will have

// All fields end at a multiple of this: the bytes of a struct that holds whole fields.
std::size_t whole_fields(std::size_t size, std::size_t most) {
  return std::min(size, most) / sizeof(std::size_t) * sizeof(std::size_t);
}

// Copies options of any version over `options`, which has the defaults: fields that the caller's
// version lacks keep them; of fields that this version lacks only zeros, their defaults, are taken.
template <class Options>
fr_status copy_options(const Options* given, Options* options) {
  const std::size_t size = given->struct_size;
  if (size < sizeof(std::size_t) || size > max_struct_size)
    return fail(FR_INVALID_ARGUMENT, "options: expected struct_size %zu, got %zu", sizeof(Options),
                size);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Options); i < size; ++i)
    if (bytes[i] != 0)
      return fail(FR_UNSUPPORTED, "options: this library, of version %s, lacks one that is set",
                  FASTRNN_VERSION);
  std::memcpy(options, given, whole_fields(size, sizeof(Options)));
  return FR_OK;
}

// --- models ---------------------------------------------------------------------------------------

void release(const fr_model* model) {
  if (model && model->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete model;
}

fr_status load(const char* what, const fastrnn::FileBytes& file, const fr_model_options* given,
               fr_model** model) {
  fr_model_options options = {sizeof options, FR_PRECISION_AS_STORED};
  if (given)
    if (const fr_status status = copy_options(given, &options)) return status;
  const int precision = number_of(options.precision);
  if (precision < FR_PRECISION_AS_STORED || precision > FR_PRECISION_INT8)
    return fail(FR_INVALID_ARGUMENT, "precision: expected 0 to %d, got %d", FR_PRECISION_INT8,
                precision);
  if (!fr_isa()) return FR_INVALID_ARGUMENT;
  fastrnn::set_max_threads(1);  // each call runs on its own thread, whatever the environment says
  return guarded(what, [&] {
    auto loaded = std::make_unique<fr_model>();
    fastrnn::load_model(file.bytes(), options.precision, loaded->loaded);
    *model = loaded.release();
    return FR_OK;
  });
}

// What a call runs on: floats or tokens, the other null.
struct Input {
  const float* x;
  const std::int32_t* tokens;
};

// Whether a model takes such input, and `count` rows of it are where they should be.
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
                       std::size_t first = 0) {
  for (std::size_t i = 0; i < count; ++i)
    if (tokens[i] < 0 || tokens[i] >= network.input_size())
      return fail(FR_INVALID_ARGUMENT, "tokens: expected 0 to %td, got %ld at %zu",
                  network.input_size() - 1, static_cast<long>(tokens[i]), first + i);
  return FR_OK;
}

// Rows that can be addressed, as floats in and out.
bool addressable(const Network& network, std::size_t rows) {
  const auto widest =
      static_cast<std::size_t>(std::max<Index>({network.input_size(), network.output_size(), 1}));
  return rows <= PTRDIFF_MAX / sizeof(float) / widest;
}

bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto p = reinterpret_cast<std::uintptr_t>(a), q = reinterpret_cast<std::uintptr_t>(b);
  return p < q + b_bytes && q < p + a_bytes;
}

// All about the arguments of a block of steps, of one stream or of many.
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

fr_status run(const fr_model* model, const Input& in, bool of_tokens, std::size_t batch,
              std::size_t steps, const std::size_t* lengths, float* y) {
  if (!model) return null_argument("model");
  const Network& network = model->network();
  const bool countable = batch == 0 || steps <= SIZE_MAX / batch;
  const std::size_t rows = countable ? batch * steps : 0;
  if (!countable || !addressable(network, rows))
    return fail(FR_INVALID_ARGUMENT, "batch, steps: expected sizes of an array, got %zu and %zu",
                batch, steps);
  if (const fr_status status = check_input(network, in, of_tokens, rows, y)) return status;
  if (rows == 0 && !lengths) return FR_OK;
  for (std::size_t b = 0; b < batch; ++b) {
    if (lengths && lengths[b] > steps)
      return fail(FR_INVALID_ARGUMENT, "lengths: expected 0 to %zu, got %zu at %zu", steps,
                  lengths[b], b);
    if (!of_tokens) continue;
    const std::size_t length = lengths ? lengths[b] : steps, first = b * steps;
    if (const fr_status status = check_tokens(network, in.tokens + first, length, first))
      return status;
  }
  if (rows == 0) return FR_OK;
  return guarded("model", [&] {
    std::vector<Index> own_lengths;
    if (lengths) own_lengths.assign(lengths, lengths + batch);
    network.run(in.x, in.tokens, static_cast<Index>(batch), static_cast<Index>(steps),
                lengths ? own_lengths.data() : nullptr, y);
    return FR_OK;
  });
}

// --- streams --------------------------------------------------------------------------------------

fr_status create(const fr_model* model, const fr_stream_options* given, fr_stream** stream) {
  fr_stream_options options = {sizeof options, 0};
  if (given)
    if (const fr_status status = copy_options(given, &options)) return status;
  if (!model->network().streams())
    return fail(FR_UNSUPPORTED, "model: expected one that can be streamed, but %s",
                model->loaded.not_streamed.c_str());
  return guarded("stream", [&] {
    constexpr auto most = static_cast<std::size_t>(Runner::max_block);
    *stream = new fr_stream(model, static_cast<Index>(std::min(options.block_steps, most)));
    model->owners.fetch_add(1, std::memory_order_relaxed);
    return FR_OK;
  });
}

// One row in, one row out: x and y may be the same.
fr_status step(fr_stream* stream, const Input& in, bool of_tokens, float* y) {
  if (!stream) return null_argument("stream");
  if (const fr_status status = check_input(stream->model->network(), in, of_tokens, 1, y))
    return status;
  if (of_tokens) {
    if (const fr_status status = check_tokens(stream->model->network(), in.tokens, 1))
      return status;
    stream->runner.step_token(*in.tokens, y);
  } else {
    stream->runner.step(in.x, y);
  }
  return FR_OK;
}

fr_status process(fr_stream* stream, const Input& in, bool of_tokens, std::size_t steps, float* y) {
  if (!stream) return null_argument("stream");
  if (const fr_status status = check_block(stream->model->network(), in, of_tokens, steps, y))
    return status;
  if (of_tokens)
    stream->runner.process_tokens(in.tokens, static_cast<Index>(steps), y);
  else
    stream->runner.process(in.x, static_cast<Index>(steps), y);
  return FR_OK;
}

// Of one model, and none twice.
fr_status check_streams(fr_stream* const* streams, std::size_t count) {
  fr_status status = FR_OK;
  std::size_t counted = 0;
  for (; counted < count && status == FR_OK; ++counted) {
    fr_stream* stream = streams[counted];
    if (!stream)
      status = fail(FR_INVALID_ARGUMENT, "streams: expected pointers, got null at %zu", counted);
    else if (stream->model != streams[0]->model)
      status = fail(FR_INVALID_ARGUMENT,
                    "streams: expected those of one model, got another's at %zu", counted);
    else if (stream->counted)
      status =
          fail(FR_INVALID_ARGUMENT, "streams: expected each once, got one again at %zu", counted);
    else
      stream->counted = true;
  }
  for (std::size_t i = 0; i < counted; ++i)
    if (streams[i]) streams[i]->counted = false;
  return status;
}

// Streams as the runners that step_many takes, a part of them at a time: their array has no end.
fr_status step_streams(fr_stream* const* streams, std::size_t count, const Input& in,
                       bool of_tokens, float* y) {
  if (count == 0) return FR_OK;
  if (!streams) return null_argument("streams");
  if (const fr_status status = check_streams(streams, count)) return status;
  const Network& network = streams[0]->model->network();
  if (const fr_status status = check_block(network, in, of_tokens, count, y)) return status;
  constexpr std::size_t part = 256;
  Runner* runners[part];
  for (std::size_t first = 0; first < count; first += part) {
    const std::size_t rows = std::min(part, count - first);
    for (std::size_t i = 0; i < rows; ++i) runners[i] = &streams[first + i]->runner;
    const auto offset = static_cast<Index>(first);
    Runner::step_many(runners, static_cast<Index>(rows),
                      of_tokens ? nullptr : in.x + offset * network.input_size(),
                      of_tokens ? in.tokens + offset : nullptr, y + offset * network.output_size());
  }
  return FR_OK;
}

fr_status check_state(const fr_stream* stream, const float* state, std::size_t count) {
  if (!stream) return null_argument("stream");
  const auto size = static_cast<std::size_t>(stream->model->network().state_size());
  if (count != size)
    return fail(FR_INVALID_ARGUMENT, "count: expected the model's state_size %zu, got %zu", size,
                count);
  return state || count == 0 ? FR_OK : null_argument("state");
}

}  // namespace

// --- the functions of fastrnn.h -------------------------------------------------------------------

extern "C" {

const char* fr_last_error(void) { return last_error; }

const char* fr_status_name(fr_status status) {
  switch (number_of(status)) {
    case FR_OK: return "FR_OK";
    case FR_INVALID_ARGUMENT: return "FR_INVALID_ARGUMENT";
    case FR_OUT_OF_MEMORY: return "FR_OUT_OF_MEMORY";
    case FR_IO_ERROR: return "FR_IO_ERROR";
    case FR_INVALID_MODEL: return "FR_INVALID_MODEL";
    case FR_UNSUPPORTED: return "FR_UNSUPPORTED";
    case FR_INTERNAL_ERROR: return "FR_INTERNAL_ERROR";
  }
  return "unknown";
}

const char* fr_version(void) { return FASTRNN_VERSION; }
int fr_abi_version(void) { return FR_ABI_VERSION; }

const char* fr_isa(void) {
  try {
    return fastrnn::active_isa().c_str();
  } catch (const std::exception& error) {
    fail(FR_INVALID_ARGUMENT, "%s", error.what());
    return nullptr;
  }
}

fr_status fr_model_load(const char* path, const fr_model_options* options, fr_model** model) {
  if (!model) return null_argument("model");
  *model = nullptr;
  if (!path) return null_argument("path");
  return guarded(path, [&] { return load(path, fastrnn::FileBytes(path), options, model); });
}

fr_status fr_model_load_memory(const void* data, size_t size, const fr_model_options* options,
                               fr_model** model) {
  if (!model) return null_argument("model");
  *model = nullptr;
  if (!data) return null_argument("data");
  return load("data", fastrnn::FileBytes(data, size), options, model);
}

void fr_model_free(fr_model* model) { release(model); }

fr_status fr_model_get_info(const fr_model* model, fr_model_info* info) {
  if (!model) return null_argument("model");
  if (!info) return null_argument("info");
  const size_t size = info->struct_size;
  if (size < sizeof(size_t) || size > max_struct_size)
    return fail(FR_INVALID_ARGUMENT, "info: expected struct_size %zu, got %zu", sizeof *info, size);
  const Network& network = model->network();
  fr_model_info own = {};
  own.struct_size = size;
  own.input_size = static_cast<size_t>(network.input_size());
  own.output_size = static_cast<size_t>(network.output_size());
  own.state_size = static_cast<size_t>(network.state_size());
  own.memory = sizeof *model + network.memory() + model->loaded.metadata.capacity();
  own.takes_tokens = network.takes_tokens();
  own.streams = network.streams();
  own.precision = model->loaded.precision;
  std::memcpy(info, &own, whole_fields(size, sizeof own));
  return FR_OK;
}

const char* fr_model_metadata(const fr_model* model) {
  return model ? model->loaded.metadata.c_str() : nullptr;
}

fr_status fr_model_run(const fr_model* model, const float* x, size_t batch, size_t steps,
                       const size_t* lengths, float* y) {
  return run(model, {x, nullptr}, false, batch, steps, lengths, y);
}

fr_status fr_model_run_tokens(const fr_model* model, const int32_t* tokens, size_t batch,
                              size_t steps, const size_t* lengths, float* y) {
  return run(model, {nullptr, tokens}, true, batch, steps, lengths, y);
}

fr_status fr_stream_create(const fr_model* model, const fr_stream_options* options,
                           fr_stream** stream) {
  if (!stream) return null_argument("stream");
  *stream = nullptr;
  return model ? create(model, options, stream) : null_argument("model");
}

void fr_stream_free(fr_stream* stream) {
  if (!stream) return;
  const fr_model* model = stream->model;
  delete stream;
  release(model);
}

fr_status fr_stream_step(fr_stream* stream, const float* x, float* y) {
  return step(stream, {x, nullptr}, false, y);
}

fr_status fr_stream_step_token(fr_stream* stream, int32_t token, float* y) {
  return step(stream, {nullptr, &token}, true, y);
}

fr_status fr_stream_process(fr_stream* stream, const float* x, size_t steps, float* y) {
  return process(stream, {x, nullptr}, false, steps, y);
}

fr_status fr_stream_process_tokens(fr_stream* stream, const int32_t* tokens, size_t steps,
                                   float* y) {
  return process(stream, {nullptr, tokens}, true, steps, y);
}

fr_status fr_streams_step(fr_stream* const* streams, size_t count, const float* x, float* y) {
  return step_streams(streams, count, {x, nullptr}, false, y);
}

fr_status fr_streams_step_tokens(fr_stream* const* streams, size_t count, const int32_t* tokens,
                                 float* y) {
  return step_streams(streams, count, {nullptr, tokens}, true, y);
}

fr_status fr_stream_reset(fr_stream* stream) {
  if (!stream) return null_argument("stream");
  stream->runner.reset();
  return FR_OK;
}

fr_status fr_stream_get_state(const fr_stream* stream, float* state, size_t count) {
  if (const fr_status status = check_state(stream, state, count)) return status;
  stream->runner.get_state(state);
  return FR_OK;
}

fr_status fr_stream_set_state(fr_stream* stream, const float* state, size_t count) {
  if (const fr_status status = check_state(stream, state, count)) return status;
  stream->runner.set_state(state);
  return FR_OK;
}

}  // extern "C"
