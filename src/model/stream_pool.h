// Many streams of one network, stepped together by threads of its own: what is pending at any moment is
// gathered, a step of each session a row of one pass. Sessions' states lie in one array and go on in
// place; inputs are read, and outputs written, where the caller has them. As rows do not see one another,
// what a session gets has the bits of that session run alone.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "model/stepper.h"

namespace fastrnn {

// Steps of a session, or none. The caller's memory, which must last until done() is called, once and
// from any thread; it must not throw, and may submit again.
struct PoolRequest {
  const float* x = nullptr;              // (steps, input_size), or
  const std::int32_t* tokens = nullptr;  // (steps)
  Index steps = 0;
  float* y = nullptr;               // (steps, output_size)
  bool reset = false;               // before the steps the state is the initial one, or
  const float* state_in = nullptr;  // this one
  float* state_out = nullptr;       // where to write the state after the steps
  void (*done)(PoolRequest* request, bool cancelled) = nullptr;

 private:
  friend class StreamPool;
  PoolRequest* next_ = nullptr;
  Index at_ = 0;  // steps done
};

struct PoolOptions {
  Index capacity = 1024;                  // sessions
  Index max_batch = Stepper::max_rows;    // of a pass, at most Stepper::max_rows
  std::chrono::nanoseconds max_delay{0};  // how long a pass may wait for more sessions
  Index max_pending = 1024;  // steps that wait for a session; a request alone may have more
  std::chrono::nanoseconds idle_timeout{0};  // sessions unused for so long are closed; 0: never
  int threads = 1;
};

struct PoolStats {
  Index sessions = 0, pending_steps = 0;
  std::uint64_t steps = 0, batches = 0, expired = 0;
  static constexpr int sizes = 7;  // of batches: 1, 2, 3-4, 5-8, ..., 33-64
  std::uint64_t batch_sizes[sizes] = {};
};

class StreamPool {
 public:
  using Session = std::uint64_t;  // never given twice
  using Clock = std::chrono::steady_clock;
  enum class Status { ok, unknown_session, pool_full, queue_full, shut_down };
  struct Submission {
    Session session;
    PoolRequest* request;
  };

  // Of what is more than anyone waits (30 years), that.
  static std::chrono::nanoseconds nanoseconds(double seconds) {
    const double most = 1e9;
    return std::chrono::nanoseconds(
        static_cast<std::int64_t>((seconds < most ? seconds : most) * 1e9));
  }
  static Clock::time_point after(double seconds) { return Clock::now() + nanoseconds(seconds); }

  // network: one that streams; must outlive this. Throws std::bad_alloc, std::system_error.
  StreamPool(const Network& network, const PoolOptions& options);
  StreamPool(const StreamPool&) = delete;
  StreamPool& operator=(const StreamPool&) = delete;
  ~StreamPool();

  // state: null for the initial one.
  Status open(const float* state, Session* session);
  // What is pending is cancelled; a step that is on its way still ends, and the session's place is free
  // when it has.
  Status close(Session session);
  // All of them, or none. Requests of a session are done in the order in which they were submitted.
  // Where queues are full, waits for room until `until`. Not to be called from done() with a time to
  // wait: room comes when done() has returned.
  // tell false: threads that sleep are told only by tell(), once for what several calls brought.
  Status submit(const Submission* submissions, Index count, Clock::time_point until,
                bool tell = true);
  void tell();
  // Nothing is accepted from now on; what was, is done first (drain) or cancelled. Ends the threads;
  // of several calls at once each returns when all that has happened. Not to be called from done().
  void shut_down(bool drain);
  PoolStats stats();

  const Network& network() const { return network_; }
  const PoolOptions& options() const { return options_; }

 private:
  static constexpr Index none = -1;
  struct Slot {
    std::uint64_t uses = 0;  // of this slot by sessions: odd while one is open
    bool running = false, closing = false;
    PoolRequest *first = nullptr, *last = nullptr;
    Index pending = 0;                 // steps of its requests
    Clock::time_point since;           // ready, or idle
    Index newer = none, older = none;  // in the list of idle sessions
  };
  // A session in a pass.
  struct Row {
    Index slot;
    PoolRequest* request;
    Index steps;  // to do now
  };
  class Worker;
  using Lock = std::unique_lock<std::mutex>;

  static void cancel(PoolRequest* request);
  Slot* find(Session session);
  float* state(Index slot) const { return states_.data() + slot * state_stride_; }
  void make_ready(Index slot, Clock::time_point now);
  Index next_ready();
  void make_idle(Index slot, Clock::time_point now);
  void leave_idle(Index slot);
  void leave_ready(Index slot);
  void free_slot(Index slot);
  PoolRequest* take_requests(Slot& slot);
  void expire(Clock::time_point now);
  // Whether a pass cannot become larger: no more can come than sessions are open.
  bool is_full() const { return ready_count_ >= std::min(options_.max_batch, stats_.sessions); }
  Status reserve(const Submission* submissions, Index count);
  void tell_if_empty();
  bool wait_for_rows(Lock& lock);
  void sleep(Lock& lock, Clock::time_point until);
  Index take_rows(Row* rows);
  Index take_finished(const Row* rows, Index count, PoolRequest** finished);
  PoolRequest* give_back(const Row* rows, Index count);
  void work(Worker& worker);

  const Network& network_;
  const PoolOptions options_;
  const Index state_stride_;
  Buffer<float> states_;

  std::mutex mutex_;  // of all that follows
  std::condition_variable work_, room_, empty_;
  std::vector<Slot> slots_;
  std::vector<Index> free_;   // slots
  std::vector<Index> ready_;  // a ring of slots whose sessions wait for their steps
  Index ready_first_ = 0, ready_count_ = 0;
  Index oldest_idle_ = none, newest_idle_ = none;
  Index idle_workers_ = 0, waiting_for_room_ = 0, running_ = 0;
  bool accepting_ = true, stopping_ = false;
  PoolStats stats_;

  std::mutex ending_;  // of the threads
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace fastrnn
