// The C API: checks of arguments, statuses and messages around loader, Network and Runner. See
// fastrnn.h, the contract. Nothing is thrown past this file.
#include "c_api.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "dispatch.h"
#include "model/runner.h"
#include "model/safetensors.h"
#include "parallel.h"

using namespace fastrnn::c_api;
using fastrnn::Index;
using fastrnn::Network;
using fastrnn::Runner;

struct fr_stream {
  fr_stream(const fr_model* m, Index block_steps) : model(m), runner(m->network(), block_steps) {}
  const fr_model* const model;
  Runner runner;
  bool counted = false;  // while fr_streams_step looks for streams that come twice
};

namespace {

// --- models ---------------------------------------------------------------------------------------

fr_status load(const char* what, const fastrnn::FileBytes& file, const fr_model_options* given,
               fr_model** model) {
  fr_model_options options = {sizeof options, FR_PRECISION_AS_STORED};
  if (given)
    if (const fr_status status = copy_struct("options", given, &options)) return status;
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
    if (const fr_status status = copy_struct("options", given, &options)) return status;
  if (const fr_status status = model->check_streams()) return status;
  return guarded("stream", [&] {
    constexpr auto most = static_cast<std::size_t>(Runner::max_block);
    *stream = new fr_stream(model, static_cast<Index>(std::min(options.block_steps, most)));
    model->keep();
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

const char* fr_last_error(void) { return last_error(); }

const char* fr_status_name(fr_status status) {
  switch (number_of(status)) {
    case FR_OK: return "FR_OK";
    case FR_INVALID_ARGUMENT: return "FR_INVALID_ARGUMENT";
    case FR_OUT_OF_MEMORY: return "FR_OUT_OF_MEMORY";
    case FR_IO_ERROR: return "FR_IO_ERROR";
    case FR_INVALID_MODEL: return "FR_INVALID_MODEL";
    case FR_UNSUPPORTED: return "FR_UNSUPPORTED";
    case FR_INTERNAL_ERROR: return "FR_INTERNAL_ERROR";
    case FR_FULL: return "FR_FULL";
    case FR_UNKNOWN_SESSION: return "FR_UNKNOWN_SESSION";
    case FR_CANCELLED: return "FR_CANCELLED";
    case FR_SHUT_DOWN: return "FR_SHUT_DOWN";
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

void fr_model_free(fr_model* model) { fr_model::release(model); }

fr_status fr_model_get_info(const fr_model* model, fr_model_info* info) {
  if (!model) return null_argument("model");
  if (!info) return null_argument("info");
  const Network& network = model->network();
  fr_model_info own = {};
  own.input_size = static_cast<size_t>(network.input_size());
  own.output_size = static_cast<size_t>(network.output_size());
  own.state_size = static_cast<size_t>(network.state_size());
  own.memory = sizeof *model + network.memory() + model->loaded.metadata.capacity();
  own.takes_tokens = network.takes_tokens();
  own.streams = network.streams();
  own.precision = model->loaded.precision;
  return give_struct("info", own, info);
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
  fr_model::release(model);
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
