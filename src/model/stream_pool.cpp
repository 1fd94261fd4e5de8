#include "model/stream_pool.h"

#include <algorithm>
#include <utility>

namespace fastrnn {
namespace {

constexpr Index least_share = 8;  // rows, below which a second thread is not worth waking

// What a request takes of its session's queue; those without steps too.
Index places(const PoolRequest& request) { return std::max<Index>(request.steps, 1); }

}  // namespace

// What a thread needs to step rows, and how it does that. Takes no lock.
class StreamPool::Worker {
 public:
  explicit Worker(const StreamPool& pool)
      : pool_(pool), stepper_(pool.network_, 0, pool.options_.max_batch) {}

  void run(const Row* rows, Index count) {
    for (Index i = 0; i < count; ++i) begin(rows[i]);
    if (count == 1)
      process(rows[0]);
    else
      for (Index step = 0; step_all(rows, count, step); ++step) continue;
    for (Index i = 0; i < count; ++i) end(rows[i]);
  }

 private:
  void begin(const Row& row) {
    const PoolRequest& request = *row.request;
    if (request.at_ > 0) return;
    float* const state = pool_.state(row.slot);
    if (request.reset) pool_.network_.initial_state(state);
    if (request.state_in) std::copy_n(request.state_in, pool_.network_.state_size(), state);
  }

  void process(const Row& row) {
    const PoolRequest& r = *row.request;
    const Network& n = pool_.network_;
    if (row.steps > 0)
      stepper_.process(pool_.state(row.slot), r.x ? r.x + r.at_ * n.input_size() : nullptr,
                       r.tokens ? r.tokens + r.at_ : nullptr, row.steps,
                       r.y + r.at_ * n.output_size());
  }

  // Step number `step` of this pass, of the rows that have so many.
  bool step_all(const Row* rows, Index count, Index step) {
    StepOfStream of_x[Stepper::max_rows], of_tokens[Stepper::max_rows];
    Index with_x = 0, with_tokens = 0;
    const Network& n = pool_.network_;
    for (Index i = 0; i < count; ++i) {
      if (rows[i].steps <= step) continue;
      const PoolRequest& r = *rows[i].request;
      const Index at = r.at_ + step;
      float *const state = pool_.state(rows[i].slot), *const y = r.y + at * n.output_size();
      if (r.tokens)
        of_tokens[with_tokens++] = {state, nullptr, r.tokens[at], y};
      else
        of_x[with_x++] = {state, r.x + at * n.input_size(), 0, y};
    }
    if (with_x > 0) stepper_.step_each(of_x, with_x);
    if (with_tokens > 0) stepper_.step_each(of_tokens, with_tokens);
    return with_x + with_tokens > 0;
  }

  void end(const Row& row) {
    PoolRequest& request = *row.request;
    request.at_ += row.steps;
    if (request.at_ == request.steps && request.state_out)
      std::copy_n(pool_.state(row.slot), pool_.network_.state_size(), request.state_out);
  }

  const StreamPool& pool_;
  Stepper stepper_;
};

StreamPool::StreamPool(const Network& network, const PoolOptions& options)
    : network_(network),
      options_(options),
      state_stride_(padded(network.state_size())),
      states_(checked_product(static_cast<std::size_t>(options.capacity),
                              static_cast<std::size_t>(std::max<Index>(state_stride_, 1)))) {
  slots_.resize(static_cast<std::size_t>(options.capacity));
  ready_.resize(slots_.size());
  for (Index slot = options.capacity; slot > 0; --slot) free_.push_back(slot - 1);
  for (int i = 0; i < options.threads; ++i) workers_.push_back(std::make_unique<Worker>(*this));
  try {
    for (const auto& worker : workers_)
      threads_.emplace_back([this, own = worker.get()] { work(*own); });
  } catch (...) {
    shut_down(false);
    throw;
  }
}

StreamPool::~StreamPool() { shut_down(false); }

// --- sessions: the lock is held -------------------------------------------------------------------

StreamPool::Slot* StreamPool::find(Session session) {
  Slot& found = slots_[session % slots_.size()];
  const bool open = found.uses == session / slots_.size() && found.uses % 2 == 1 && !found.closing;
  return open ? &found : nullptr;
}

void StreamPool::make_ready(Index slot, Clock::time_point now) {
  slots_[slot].since = now;
  ready_[(ready_first_ + ready_count_++) % options_.capacity] = slot;
}

Index StreamPool::next_ready() {
  const Index slot = ready_[ready_first_];
  ready_first_ = (ready_first_ + 1) % options_.capacity;
  --ready_count_;
  return slot;
}

void StreamPool::make_idle(Index slot, Clock::time_point now) {
  slots_[slot].since = now;
  slots_[slot].older = newest_idle_;
  slots_[slot].newer = none;
  (newest_idle_ == none ? oldest_idle_ : slots_[newest_idle_].newer) = slot;
  newest_idle_ = slot;
}

void StreamPool::leave_idle(Index slot) {
  const Slot& s = slots_[slot];
  (s.older == none ? oldest_idle_ : slots_[s.older].newer) = s.newer;
  (s.newer == none ? newest_idle_ : slots_[s.newer].older) = s.older;
}

// Of a session that is neither idle nor ready nor running. Its number never comes again.
void StreamPool::free_slot(Index slot) {
  ++slots_[slot].uses;
  slots_[slot].closing = false;
  free_.push_back(slot);
  --stats_.sessions;
}

// Who shuts down may wait for that.
void StreamPool::tell_if_empty() {
  if (!accepting_ && ready_count_ + running_ == 0) empty_.notify_all();
}

PoolRequest* StreamPool::take_requests(Slot& slot) {
  stats_.pending_steps -= slot.pending;
  slot.pending = 0;
  slot.last = nullptr;
  return std::exchange(slot.first, nullptr);
}

void StreamPool::expire(Clock::time_point now) {
  if (options_.idle_timeout.count() == 0) return;
  while (oldest_idle_ != none && slots_[oldest_idle_].since + options_.idle_timeout <= now) {
    const Index slot = oldest_idle_;
    leave_idle(slot);
    free_slot(slot);
    ++stats_.expired;
  }
}

// --- callers --------------------------------------------------------------------------------------

StreamPool::Status StreamPool::open(const float* state_in, Session* session) {
  const Lock lock(mutex_);
  if (!accepting_) return Status::shut_down;
  const auto now = Clock::now();
  expire(now);
  if (free_.empty()) return Status::pool_full;
  const Index slot = free_.back();
  free_.pop_back();
  *session = ++slots_[slot].uses * slots_.size() + static_cast<Session>(slot);
  if (state_in)
    std::copy_n(state_in, network_.state_size(), state(slot));
  else
    network_.initial_state(state(slot));
  ++stats_.sessions;
  make_idle(slot, now);
  return Status::ok;
}

// The lock is not held.
void StreamPool::cancel(PoolRequest* request) {
  while (request) {
    PoolRequest* const next = request->next_;
    request->done(request, true);
    request = next;
  }
}

StreamPool::Status StreamPool::close(Session session) {
  PoolRequest* cancelled;
  {
    const Lock lock(mutex_);
    expire(Clock::now());
    Slot* const slot = find(session);
    if (!slot) return Status::unknown_session;
    const Index at = slot - slots_.data();
    room_.notify_all();   // who waits for room in this session waits in vain
    if (slot->running) {  // whose thread does the rest
      slot->closing = true;
      return Status::ok;
    }
    if (slot->first)
      leave_ready(at);
    else
      leave_idle(at);
    cancelled = take_requests(*slot);
    free_slot(at);
    tell_if_empty();
  }
  cancel(cancelled);
  return Status::ok;
}

void StreamPool::leave_ready(Index slot) {
  Index kept = 0;
  for (Index i = 0; i < ready_count_; ++i) {
    const Index other = ready_[(ready_first_ + i) % options_.capacity];
    if (other != slot) ready_[(ready_first_ + kept++) % options_.capacity] = other;
  }
  ready_count_ = kept;
}

// Counts the steps of `count` submissions as pending, or of none.
StreamPool::Status StreamPool::reserve(const Submission* submissions, Index count) {
  for (Index i = 0; i < count; ++i) {
    Slot* const slot = find(submissions[i].session);
    const Index more = places(*submissions[i].request);
    const bool room = slot && (!slot->first || more <= options_.max_pending - slot->pending);
    if (room) {
      slot->pending += more;
      stats_.pending_steps += more;
      continue;
    }
    while (i-- > 0) {
      const Index less = places(*submissions[i].request);
      find(submissions[i].session)->pending -= less;
      stats_.pending_steps -= less;
    }
    return slot ? Status::queue_full : Status::unknown_session;
  }
  return Status::ok;
}

StreamPool::Status StreamPool::submit(const Submission* submissions, Index count,
                                      Clock::time_point until, bool tell) {
  Lock lock(mutex_);
  auto now = Clock::now();
  expire(now);
  for (;; now = Clock::now()) {
    if (!accepting_) return Status::shut_down;
    const Status status = reserve(submissions, count);
    if (status == Status::ok) break;
    if (status != Status::queue_full || now >= until) return status;
    ++waiting_for_room_;
    room_.wait_until(lock, until);
    --waiting_for_room_;
  }
  const Index ready_before = ready_count_;
  for (Index i = 0; i < count; ++i) {
    Slot& slot = *find(submissions[i].session);
    PoolRequest* const request = submissions[i].request;
    request->next_ = nullptr;
    request->at_ = 0;
    const bool first = !slot.first;
    (first ? slot.first : slot.last->next_) = request;
    slot.last = request;
    if (!first || slot.running) continue;
    leave_idle(&slot - slots_.data());
    make_ready(&slot - slots_.data(), now);
  }
  // A worker that waits for more sessions need not be told of each: waking it up costs more than the
  // rest of a submission. It was told of the first, and is told when the pass is full.
  const bool wanted = options_.max_delay.count() == 0 || ready_before == 0 || is_full();
  if (tell && idle_workers_ > 0 && ready_count_ > ready_before && wanted) work_.notify_one();
  return Status::ok;
}

void StreamPool::tell() {
  const Lock lock(mutex_);
  if (idle_workers_ > 0 && ready_count_ > 0) work_.notify_one();
}

void StreamPool::shut_down(bool drain) {
  {
    Lock lock(mutex_);
    accepting_ = false;
    room_.notify_all();
    work_.notify_all();  // there is nothing to wait for any more
    if (drain) empty_.wait(lock, [this] { return stopping_ || ready_count_ + running_ == 0; });
    stopping_ = true;
    work_.notify_all();
    empty_.notify_all();
  }
  const std::lock_guard<std::mutex> one_at_a_time(ending_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (;;) {
    PoolRequest* cancelled;
    {
      const Lock lock(mutex_);
      if (ready_count_ == 0) return;
      const Index slot = next_ready();
      cancelled = take_requests(slots_[slot]);
      make_idle(slot, Clock::now());
    }
    cancel(cancelled);
  }
}

PoolStats StreamPool::stats() {
  const Lock lock(mutex_);
  expire(Clock::now());
  return stats_;
}

// --- threads --------------------------------------------------------------------------------------

// False: the pool ends.
bool StreamPool::wait_for_rows(Lock& lock) {
  while (!stopping_) {
    if (ready_count_ == 0) {
      sleep(lock, Clock::time_point::max());
      continue;
    }
    if (is_full() || options_.max_delay.count() == 0 || !accepting_) return true;
    const auto until = slots_[ready_[ready_first_]].since + options_.max_delay;
    if (Clock::now() >= until) return true;
    sleep(lock, until);
  }
  return false;
}

void StreamPool::sleep(Lock& lock, Clock::time_point until) {
  ++idle_workers_;
  if (until == Clock::time_point::max())
    work_.wait(lock);
  else
    work_.wait_until(lock, until);
  --idle_workers_;
}

// Sessions that have waited longest, shared with threads that have nothing to do. Few sessions do more
// steps at once, as many as a full pass would have rows.
Index StreamPool::take_rows(Row* rows) {
  const Index share = (ready_count_ + idle_workers_) / (idle_workers_ + 1);
  const Index count = std::min({std::max(share, least_share), ready_count_, options_.max_batch});
  const Index most =
      count == 1 ? Stepper::max_rows : std::max<Index>(options_.max_batch / count, 1);
  for (Index i = 0; i < count; ++i) {
    const Index at = next_ready();
    Slot& slot = slots_[at];
    slot.running = true;
    rows[i] = {at, slot.first, std::min(most, slot.first->steps - slot.first->at_)};
    stats_.steps += static_cast<std::uint64_t>(rows[i].steps);
  }
  running_ += count;
  ++stats_.batches;
  int size = 0;
  while ((Index{1} << size) < count) ++size;
  ++stats_.batch_sizes[size];
  if (ready_count_ > 0 && idle_workers_ > 0) work_.notify_one();
  return count;
}

// Requests that are done leave their queues; returns how many, the rows of them.
Index StreamPool::take_finished(const Row* rows, Index count, PoolRequest** finished) {
  Index n = 0;
  for (Index i = 0; i < count; ++i) {
    PoolRequest* const request = rows[i].request;
    if (request->at_ < request->steps) continue;
    Slot& slot = slots_[rows[i].slot];
    slot.first = request->next_;
    if (!slot.first) slot.last = nullptr;
    slot.pending -= places(*request);
    stats_.pending_steps -= places(*request);
    finished[n++] = request;
  }
  if (n > 0 && waiting_for_room_ > 0) room_.notify_all();
  return n;
}

// Sessions of a pass go on: to their next steps, to rest, or to their end. Returns what that cancels.
PoolRequest* StreamPool::give_back(const Row* rows, Index count) {
  PoolRequest* cancelled = nullptr;
  const auto now = Clock::now();
  for (Index i = 0; i < count; ++i) {
    Slot& slot = slots_[rows[i].slot];
    slot.running = false;
    if (slot.closing) {
      PoolRequest* const last = slot.last;
      if (PoolRequest* const requests = take_requests(slot)) {
        last->next_ = cancelled;
        cancelled = requests;
      }
      free_slot(rows[i].slot);
    } else if (slot.first) {
      make_ready(rows[i].slot, now);
    } else {
      make_idle(rows[i].slot, now);
    }
  }
  running_ -= count;
  tell_if_empty();
  return cancelled;
}

void StreamPool::work(Worker& worker) {
  Row rows[Stepper::max_rows];
  PoolRequest* finished[Stepper::max_rows];
  Lock lock(mutex_);
  while (wait_for_rows(lock)) {
    const Index count = take_rows(rows);
    lock.unlock();
    worker.run(rows, count);
    lock.lock();
    if (const Index n = take_finished(rows, count, finished)) {
      // Before the sessions go on, so that the answers of each come in their order.
      lock.unlock();
      for (Index i = 0; i < n; ++i) finished[i]->done(finished[i], false);
      lock.lock();
    }
    if (PoolRequest* const cancelled = give_back(rows, count)) {
      lock.unlock();
      cancel(cancelled);
      lock.lock();
    }
  }
}

}  // namespace fastrnn
