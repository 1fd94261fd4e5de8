// Pools in the C API: checks of arguments and statuses around StreamPool, as c_api.cpp has them around
// Runner. Nothing is thrown past this file.
#include <algorithm>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "c_api.h"
#include "model/state_bytes.h"
#include "model/stream_pool.h"

using namespace fastrnn::c_api;
using fastrnn::Buffer;
using fastrnn::Index;
using fastrnn::PoolOptions;
using fastrnn::PoolRequest;
using fastrnn::PoolStats;
using fastrnn::StreamPool;

struct fr_pool {
  fr_pool(const fr_model* m, const PoolOptions& options) : model(m), pool(m->network(), options) {}
  Index state_size() const { return model->network().state_size(); }
  std::size_t state_bytes() const { return fastrnn::state_bytes(state_size()); }
  Buffer<float> new_state() const {
    return Buffer<float>(static_cast<std::size_t>(std::max<Index>(state_size(), 1)));
  }
  // Throws Failure.
  Buffer<float> read_state(const void* from, std::size_t size) const {
    Buffer<float> state = new_state();
    fastrnn::read_state({static_cast<const char*>(from), size}, state_size(),
                        model->loaded.fingerprint, state.data());
    return state;
  }

  const fr_model* const model;
  StreamPool pool;
};

namespace {

// --- options --------------------------------------------------------------------------------------

fr_status check_count(const char* name, std::size_t got, std::size_t most) {
  if (got <= most) return FR_OK;
  return fail(FR_INVALID_ARGUMENT, "%s: expected at most %zu, got %zu", name, most, got);
}

fr_status check_seconds(const char* name, double got) {
  if (got >= 0) return FR_OK;
  return fail(FR_INVALID_ARGUMENT, "%s: expected seconds, 0 or more, got %g", name, got);
}

fr_status pool_options(const fr_pool_options& given, PoolOptions* options) {
  constexpr std::size_t rows = fastrnn::Stepper::max_rows;
  if (const fr_status s = check_count("capacity", given.capacity, std::size_t{1} << 24)) return s;
  if (const fr_status s = check_count("threads", given.threads, 1024)) return s;
  if (const fr_status s = check_count("max_batch", given.max_batch, rows)) return s;
  if (const fr_status s = check_count("max_pending", given.max_pending, PTRDIFF_MAX)) return s;
  if (const fr_status s = check_seconds("max_delay", given.max_delay)) return s;
  if (const fr_status s = check_seconds("idle_timeout", given.idle_timeout)) return s;
  const auto set = [](std::size_t from, Index* to) {
    if (from > 0) *to = static_cast<Index>(from);
  };
  set(given.capacity, &options->capacity);
  set(given.max_batch, &options->max_batch);
  set(given.max_pending, &options->max_pending);
  options->max_delay = StreamPool::nanoseconds(given.max_delay);
  options->idle_timeout = StreamPool::nanoseconds(given.idle_timeout);
  const auto processors = std::max(1u, std::thread::hardware_concurrency());
  options->threads = static_cast<int>(given.threads > 0 ? given.threads : processors);
  return FR_OK;
}

// --- requests -------------------------------------------------------------------------------------

// A request of the pool and what the caller is told of it; deletes itself when that has happened.
struct OwnRequest : PoolRequest {
  explicit OwnRequest(const fr_pool& pool, const fr_pool_request& given)
      : owner(pool), told(given.done), context(given.context), state_bytes(given.state_out) {
    x = given.x;
    tokens = given.tokens;
    steps = static_cast<Index>(given.steps);
    y = given.y;
    reset = given.reset != 0;
    done = finish;
    if (given.state) before = pool.read_state(given.state, given.state_size);
    if (given.state_out) after = pool.new_state();
    state_in = before.data();
    state_out = after.data();
  }

  static void finish(PoolRequest* request, bool cancelled) {
    const std::unique_ptr<OwnRequest> own(static_cast<OwnRequest*>(request));
    const fr_pool& pool = own->owner;
    if (own->state_bytes && !cancelled)
      fastrnn::write_state(own->after.data(), pool.state_size(), pool.model->loaded.fingerprint,
                           static_cast<unsigned char*>(own->state_bytes));
    if (own->told) own->told(own->context, cancelled ? FR_CANCELLED : FR_OK);
  }

  const fr_pool& owner;
  void (*const told)(void*, fr_status);
  void* const context;
  void* const state_bytes;
  Buffer<float> before, after;
};

fr_status check_request(const fr_pool& pool, const fr_pool_request& r) {
  if (r.reset > 1) return fail(FR_INVALID_ARGUMENT, "reset: expected 0 or 1, got %zu", r.reset);
  if (r.x && r.tokens)
    return fail(FR_INVALID_ARGUMENT, "x, tokens: expected one of them, got both");
  if (r.state_out && r.state_out_size != pool.state_bytes())
    return fail(FR_INVALID_ARGUMENT, "state_out_size: expected %zu, got %zu", pool.state_bytes(),
                r.state_out_size);
  if (r.steps == 0) return FR_OK;
  const bool of_tokens = r.tokens || (!r.x && pool.model->network().takes_tokens());
  return check_block(pool.model->network(), {r.x, r.tokens}, of_tokens, r.steps, r.y);
}

fr_status status_of(StreamPool::Status status) {
  switch (status) {
    case StreamPool::Status::ok: return FR_OK;
    case StreamPool::Status::unknown_session:
      return fail(FR_UNKNOWN_SESSION,
                  "session: expected an open one, got one that is not, or expired");
    case StreamPool::Status::pool_full: return fail(FR_FULL, "pool: all sessions are open");
    case StreamPool::Status::queue_full:
      return fail(FR_FULL, "session: its queue is full (max_pending)");
    case StreamPool::Status::shut_down: break;
  }
  return fail(FR_SHUT_DOWN, "pool: it was shut down");
}

// Makes the pool's requests of the caller's, which lie one after the other in the size that they say.
fr_status make_requests(const fr_pool& pool, const fr_pool_request* given, std::size_t count,
                        std::vector<std::unique_ptr<OwnRequest>>* requests,
                        std::vector<StreamPool::Submission>* submissions) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (count > 1 && given->struct_size % alignof(fr_pool_request) != 0)
    return check_struct_size("requests", 0, sizeof *given);
  for (std::size_t i = 0; i < count; ++i, bytes += given->struct_size) {
    const auto* at = reinterpret_cast<const fr_pool_request*>(bytes);
    if (at->struct_size != given->struct_size)
      return fail(FR_INVALID_ARGUMENT, "requests: expected struct_size %zu, got %zu at %zu",
                  given->struct_size, at->struct_size, i);
    fr_pool_request own = {};
    if (const fr_status status = copy_struct("requests", at, &own)) return status;
    if (const fr_status status = check_request(pool, own)) return status;
    const fr_status status = guarded(own.state ? "state" : "requests", [&] {
      requests->push_back(std::make_unique<OwnRequest>(pool, own));
      submissions->push_back({own.session, requests->back().get()});
      return FR_OK;
    });
    if (status) return status;
  }
  return FR_OK;
}

fr_status submit(fr_pool* pool, const fr_pool_request* given, std::size_t count, double timeout) {
  std::vector<std::unique_ptr<OwnRequest>> requests;
  std::vector<StreamPool::Submission> submissions;
  if (const fr_status status = make_requests(*pool, given, count, &requests, &submissions))
    return status;
  const auto until =
      timeout > 0 ? StreamPool::after(timeout) : StreamPool::Clock::time_point::min();
  const auto status =
      pool->pool.submit(submissions.data(), static_cast<Index>(submissions.size()), until);
  if (status == StreamPool::Status::ok)
    for (auto& request : requests) (void)request.release();  // some may be deleted already
  return status_of(status);
}

// --- calls that wait ------------------------------------------------------------------------------

class Wait {
 public:
  static void tell(void* context, fr_status status) {
    Wait& wait = *static_cast<Wait*>(context);
    const std::lock_guard<std::mutex> lock(wait.mutex_);
    wait.over_ = true;
    wait.status_ = status;
    wait.changed_.notify_all();  // with the lock: as soon as it is given back this may end
  }
  fr_status status() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return over_; });
    return status_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  fr_status status_ = FR_OK;
};

// set(request) says what the request is to do.
template <class Set>
fr_status submit_and_wait(fr_pool* pool, fr_session session, Set set) {
  if (!pool) return null_argument("pool");
  Wait wait;
  fr_pool_request request = {};
  request.struct_size = sizeof request;
  request.session = session;
  set(request);
  request.done = Wait::tell;
  request.context = &wait;
  if (const fr_status status = submit(pool, &request, 1, HUGE_VAL)) return status;
  if (const fr_status status = wait.status())
    return fail(status, "session: it, or the pool, was closed before all steps were done");
  return FR_OK;
}

}  // namespace

// --- the functions of fastrnn.h -------------------------------------------------------------------

extern "C" {

fr_status fr_pool_create(const fr_model* model, const fr_pool_options* options, fr_pool** pool) {
  if (!pool) return null_argument("pool");
  *pool = nullptr;
  if (!model) return null_argument("model");
  fr_pool_options given = {};
  if (options)
    if (const fr_status status = copy_struct("options", options, &given)) return status;
  PoolOptions own;
  if (const fr_status status = pool_options(given, &own)) return status;
  if (const fr_status status = model->check_streams()) return status;
  return guarded("pool", [&] {
    *pool = new fr_pool(model, own);
    model->keep();
    return FR_OK;
  });
}

void fr_pool_free(fr_pool* pool) {
  if (!pool) return;
  const fr_model* model = pool->model;
  delete pool;
  fr_model::release(model);
}

fr_status fr_pool_open(fr_pool* pool, const void* state, size_t state_size, fr_session* session) {
  if (!session) return null_argument("session");
  *session = 0;
  if (!pool) return null_argument("pool");
  return guarded("state", [&] {
    Buffer<float> values;
    if (state) values = pool->read_state(state, state_size);
    return status_of(pool->pool.open(values.data(), session));
  });
}

fr_status fr_pool_close(fr_pool* pool, fr_session session) {
  return pool ? status_of(pool->pool.close(session)) : null_argument("pool");
}

fr_status fr_pool_submit(fr_pool* pool, const fr_pool_request* requests, size_t count,
                         double timeout) {
  if (!pool) return null_argument("pool");
  if (!requests && count > 0) return null_argument("requests");
  if (const fr_status status = check_seconds("timeout", timeout)) return status;
  return submit(pool, requests, count, timeout);
}

fr_status fr_pool_step(fr_pool* pool, fr_session session, const float* x, size_t steps, float* y) {
  return submit_and_wait(pool, session, [&](fr_pool_request& request) {
    request.x = x;
    request.steps = steps;
    request.y = y;
  });
}

fr_status fr_pool_step_tokens(fr_pool* pool, fr_session session, const int32_t* tokens,
                              size_t steps, float* y) {
  return submit_and_wait(pool, session, [&](fr_pool_request& request) {
    request.tokens = tokens;
    request.steps = steps;
    request.y = y;
  });
}

fr_status fr_pool_export(fr_pool* pool, fr_session session, void* state, size_t size) {
  if (!state) return null_argument("state");
  return submit_and_wait(pool, session, [&](fr_pool_request& request) {
    request.state_out = state;
    request.state_out_size = size;
  });
}

fr_status fr_pool_import(fr_pool* pool, fr_session session, const void* state, size_t size) {
  if (!state) return null_argument("state");
  return submit_and_wait(pool, session, [&](fr_pool_request& request) {
    request.state = state;
    request.state_size = size;
  });
}

size_t fr_pool_state_bytes(const fr_pool* pool) { return pool ? pool->state_bytes() : 0; }

fr_status fr_pool_get_stats(fr_pool* pool, fr_pool_stats* stats) {
  if (!pool) return null_argument("pool");
  if (!stats) return null_argument("stats");
  const PoolStats from = pool->pool.stats();
  fr_pool_stats own = {};
  own.sessions = static_cast<size_t>(from.sessions);
  own.pending_steps = static_cast<size_t>(from.pending_steps);
  own.steps = from.steps;
  own.batches = from.batches;
  own.expired = from.expired;
  static_assert(sizeof own.batch_sizes == sizeof from.batch_sizes, "one for each power of two");
  std::memcpy(own.batch_sizes, from.batch_sizes, sizeof own.batch_sizes);
  return give_struct("stats", own, stats);
}

fr_status fr_pool_shut_down(fr_pool* pool, int drain) {
  if (!pool) return null_argument("pool");
  return guarded("pool", [&] {
    pool->pool.shut_down(drain != 0);
    return FR_OK;
  });
}

}  // extern "C"
