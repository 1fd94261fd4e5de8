// StreamPool for Python: requests own copies of what they need, so that threads of the pool never need
// the interpreter.
#include "model/stream_pool.h"

#include <fcntl.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <string_view>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "model/failure.h"
#include "model/loader.h"
#include "model/state_bytes.h"

namespace fastrnn::bindings {
namespace {

using Clock = StreamPool::Clock;
constexpr auto after = StreamPool::after;

class Answer;

// Threads of a pool do not exist in a forked child.
[[noreturn]] void throw_forked() {
  throw std::runtime_error("the pool belongs to the process that made it, not to its children");
}

// Answers that are done, for a loop that waits for a file descriptor: readable while there are some.
class Completions {
 public:
  Completions() {
    if (::pipe(ends_) != 0) throw std::runtime_error("no file descriptor is left for a pipe");
    for (int end : ends_) {
      ::fcntl(end, F_SETFL, O_NONBLOCK);
      ::fcntl(end, F_SETFD, FD_CLOEXEC);
    }
  }
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;
  ~Completions() {
    for (int end : ends_) ::close(end);
  }
  int descriptor() const { return ends_[0]; }
  void add(std::shared_ptr<Answer> answer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (done_.empty()) {
      const char byte = 0;
      [[maybe_unused]] const auto written = ::write(ends_[1], &byte, 1);  // a full pipe wakes too
    }
    done_.push_back(std::move(answer));
  }
  std::vector<std::shared_ptr<Answer>> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    char bytes[64];
    while (::read(ends_[0], bytes, sizeof bytes) > 0) continue;
    return std::exchange(done_, {});
  }

 private:
  int ends_[2];
  std::mutex mutex_;
  std::vector<std::shared_ptr<Answer>> done_;
};

// Requests that were submitted at once, of one session or of many, and what becomes of them.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(std::shared_ptr<const LoadedModel> model, Index count, Index steps, bool wants_state)
      : model_(std::move(model)),
        count_(count),
        steps_(steps),
        y_(static_cast<std::size_t>(count * steps * model_->network.output_size())),
        states_(wants_state ? static_cast<std::size_t>(count * model_->network.state_size()) : 0),
        wants_state_(wants_state),
        requests_(static_cast<std::size_t>(count)),
        left_(count) {
    const Network& n = model_->network;
    for (Index i = 0; i < count; ++i) {
      Request& r = requests_[static_cast<std::size_t>(i)];
      r.owner = this;
      r.request.steps = steps;
      r.request.y = y_.data() + i * steps * n.output_size();
      if (wants_state) r.request.state_out = states_.data() + i * n.state_size();
      r.request.done = [](PoolRequest* request, bool cancelled) {
        reinterpret_cast<Request*>(request)->owner->finish(cancelled);
      };
    }
  }

  // Copies (count, steps, input_size).
  void set_x(const float* x) {
    const Index in = model_->network.input_size(), n = count_ * steps_ * in;
    x_ = Buffer<float>(static_cast<std::size_t>(n));
    std::copy_n(x, n, x_.data());
    for (Index i = 0; i < count_; ++i) request(i).x = x_.data() + i * steps_ * in;
  }
  void set_tokens(const std::int32_t* tokens) {
    const Index n = count_ * steps_;
    tokens_ = Buffer<std::int32_t>(static_cast<std::size_t>(n));
    std::copy_n(tokens, n, tokens_.data());
    for (Index i = 0; i < count_; ++i) request(i).tokens = tokens_.data() + i * steps_;
  }
  void set_state(Buffer<float> state) {
    state_in_ = std::move(state);
    request(0).state_in = state_in_.data();
  }
  ::pid_t process() const { return process_; }
  PoolRequest& request(Index i) { return requests_[static_cast<std::size_t>(i)].request; }
  Index count() const { return count_; }

  // From now on it lives until it is done; one of no sessions is.
  void begin(std::shared_ptr<Completions> completions) {
    if (count_ > 0) self_ = shared_from_this();
    completions_ = std::move(completions);
  }
  void forget() { self_ = nullptr; }

  bool done() const { return left_.load(std::memory_order_acquire) == 0; }
  bool cancelled() const { return done() && cancelled_; }

  // False: `until` came before.
  bool wait(Clock::time_point until) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_until(lock, until, [this] { return done(); });
  }

  py::array_t<float> y() {
    const Index out = model_->network.output_size();
    return py::array_t<float>({count_, steps_, out}, y_.data(), owner());
  }
  py::list states() {
    const Index size = model_->network.state_size();
    py::list list;
    for (Index i = 0; wants_state_ && i < count_; ++i) {
      std::string bytes(state_bytes(size), '\0');
      write_state(states_.data() + i * size, size, model_->fingerprint,
                  reinterpret_cast<unsigned char*>(bytes.data()));
      list.append(py::bytes(bytes));
    }
    return list;
  }

  std::uint64_t key = 0;  // the caller's

 private:
  struct Request {  // request stands first: from its address comes that of this
    PoolRequest request;
    Answer* owner = nullptr;
  };

  py::capsule owner() {
    return py::capsule(new std::shared_ptr<Answer>(shared_from_this()),
                       [](void* p) { delete static_cast<std::shared_ptr<Answer>*>(p); });
  }

  void finish(bool cancelled) {
    if (cancelled) cancelled_ = true;
    if (left_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const std::shared_ptr<Answer> self = std::move(self_);  // Python may drop its own at once
    {
      const std::lock_guard<std::mutex> between_question_and_sleep(mutex_);
    }
    changed_.notify_all();
    // No longer its own: the two would hold each other where nobody takes it.
    if (const auto to = std::move(completions_)) to->add(self);
  }

  const ::pid_t process_ = ::getpid();
  const std::shared_ptr<const LoadedModel> model_;
  const Index count_, steps_;
  Buffer<float> x_, y_, state_in_, states_;
  Buffer<std::int32_t> tokens_;
  const bool wants_state_;
  std::vector<Request> requests_;
  std::atomic<Index> left_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Answer> self_;
  std::shared_ptr<Completions> completions_;
};

using Bytes = std::optional<py::bytes>;

// Waits in pieces, between which Ctrl-C is heard. wait(until) is called without the interpreter lock and
// says whether it is over.
template <class Wait>
bool wait_for(double timeout, Wait wait) {
  const auto until = after(timeout);
  for (;;) {
    const auto piece = std::min(until, after(0.1));
    // Not by a guard: where the interpreter has ended meanwhile, taking its lock ends this thread, which
    // must not happen in a destructor.
    PyThreadState* const state = PyEval_SaveThread();
    const bool over = wait(piece);
    PyEval_RestoreThread(state);
    if (over) return true;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (piece == until) return false;
  }
}

class Pool {
 public:
  Pool(const py::bytes& file, const PoolOptions& options) : process_(::getpid()) {
    auto loaded = std::make_shared<LoadedModel>();
    try {
      load_model(std::string_view(file), FR_PRECISION_AS_STORED, *loaded);
    } catch (const Failure& failure) {
      throw py::value_error("model: " + failure.message);
    }
    if (!loaded->network.streams())
      throw py::value_error("model: expected one that can be streamed, but " +
                            loaded->not_streamed);
    model_ = std::move(loaded);
    pool_ = std::make_unique<StreamPool>(model_->network, options);
  }
  // Threads do not exist in a forked child: there the pool is left as it lies.
  ~Pool() {
    if (::getpid() != process_) {
      [[maybe_unused]] const auto* left = pool_.release();
      return;
    }
    const py::gil_scoped_release release;
    pool_.reset();
  }

  const Network& network() const { return model_->network; }
  const PoolOptions& options() const { return pool_->options(); }

  std::uint64_t open(const Bytes& state) {
    Buffer<float> values;
    if (state) values = read(*state);
    StreamPool::Session session = 0;
    switch (pool().open(values.data(), &session)) {
      case StreamPool::Status::pool_full: return 0;
      case StreamPool::Status::shut_down: throw std::runtime_error("the pool was shut down");
      default: return session;
    }
  }
  bool close(std::uint64_t session) {
    const py::gil_scoped_release release;
    return pool().close(session) == StreamPool::Status::ok;
  }
  void shut_down(bool drain) {
    if (::getpid() != process_) return;
    const py::gil_scoped_release release;
    pool_->shut_down(drain);
  }
  void tell() { pool().tell(); }
  PoolStats stats() { return pool().stats(); }

  // x (n, steps, input_size) or tokens (n, steps) of n sessions, or neither: no steps. None: no room.
  // With completions, threads that sleep are not told: tell() is to follow.
  std::shared_ptr<Answer> submit(const py::array& sessions, const py::object& x,
                                 const py::object& tokens, bool wants_state, bool reset,
                                 const Bytes& state, double timeout,
                                 std::shared_ptr<Completions> completions, std::uint64_t key) {
    const auto* ids = input<std::uint64_t>(sessions, {any}, "sessions");
    const Index n = sessions.shape(0);
    auto answer = make_answer(n, x, tokens, wants_state);
    answer->key = key;
    if (state) answer->set_state(read(*state));
    std::vector<StreamPool::Submission> submissions;
    submissions.reserve(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) {
      answer->request(i).reset = reset;
      submissions.push_back({ids[i], &answer->request(i)});
    }
    const bool tell = completions == nullptr;  // a loop tells once in a turn
    answer->begin(std::move(completions));
    StreamPool::Status status = StreamPool::Status::queue_full;
    const auto try_until = [&](Clock::time_point until) {
      status = pool().submit(submissions.data(), n, until, tell);
      return status != StreamPool::Status::queue_full;
    };
    try {
      if (!try_until(Clock::time_point::min())) wait_for(timeout, try_until);
    } catch (...) {
      answer->forget();
      throw;
    }
    if (status == StreamPool::Status::ok) return answer;
    answer->forget();
    if (status == StreamPool::Status::shut_down) throw std::runtime_error("the pool was shut down");
    if (status == StreamPool::Status::unknown_session)
      throw py::key_error("session: expected an open one, got one that is not, or expired");
    return nullptr;
  }

  py::array_t<float> read_state(const py::bytes& state) {
    const Buffer<float> values = read(state);
    py::array_t<float> array(network().state_size());
    std::copy_n(values.data(), network().state_size(), array.mutable_data());
    return array;
  }

  // (offset, size) of each recurrent layer's h in a state.
  std::vector<std::pair<Index, Index>> hidden() const {
    std::vector<std::pair<Index, Index>> found;
    for (const NetworkLayer& layer : network().layers())
      if (layer.kind == NetworkLayer::Kind::recurrent)
        found.emplace_back(layer.state_at, layer.cells[0]->output_size);
    return found;
  }

 private:
  StreamPool& pool() {
    if (::getpid() != process_) throw_forked();
    return *pool_;
  }

  Buffer<float> read(const py::bytes& state) const {
    Buffer<float> values(static_cast<std::size_t>(std::max<Index>(network().state_size(), 1)));
    try {
      fastrnn::read_state(std::string_view(state), network().state_size(), model_->fingerprint,
                          values.data());
    } catch (const Failure& failure) {
      throw py::value_error("state: " + failure.message);
    }
    return values;
  }

  std::shared_ptr<Answer> make_answer(Index n, const py::object& x, const py::object& tokens,
                                      bool wants_state) const {
    const Index in = network().input_size();
    if (!x.is_none()) {
      const auto array = py::cast<py::array>(x);
      const float* values = input<float>(array, {n, any, in}, "x");
      auto answer = std::make_shared<Answer>(model_, n, array.shape(1), wants_state);
      answer->set_x(values);
      return answer;
    }
    if (tokens.is_none()) return std::make_shared<Answer>(model_, n, 0, wants_state);
    const auto array = py::cast<py::array>(tokens);
    const std::int32_t* values = input<std::int32_t>(array, {n, any}, "x");
    for (Index i = 0; i < array.size(); ++i)
      if (values[i] < 0 || values[i] >= in)
        throw py::value_error("x: expected tokens from 0 to " + std::to_string(in - 1) + ", got " +
                              std::to_string(values[i]));
    auto answer = std::make_shared<Answer>(model_, n, array.shape(1), wants_state);
    answer->set_tokens(values);
    return answer;
  }

  const ::pid_t process_;
  std::shared_ptr<const LoadedModel> model_;
  std::unique_ptr<StreamPool> pool_;
};

PoolOptions options(Index capacity, Index max_batch, double max_delay, Index max_pending,
                    double idle_timeout, int threads) {
  return {capacity,
          max_batch,
          StreamPool::nanoseconds(max_delay),
          max_pending,
          StreamPool::nanoseconds(idle_timeout),
          threads};
}

py::dict as_dict(const PoolStats& s) {
  using namespace py::literals;
  return py::dict(
      "sessions"_a = s.sessions, "pending_steps"_a = s.pending_steps, "steps"_a = s.steps,
      "batches"_a = s.batches, "expired"_a = s.expired,
      "batch_sizes"_a = std::vector<std::uint64_t>(s.batch_sizes, s.batch_sizes + s.sizes));
}

}  // namespace

void register_stream_pool(py::module_& m) {
  py::class_<Completions, std::shared_ptr<Completions>>(m, "Completions")
      .def(py::init<>())
      .def("fileno", &Completions::descriptor)
      .def("take", &Completions::take);
  py::class_<Answer, std::shared_ptr<Answer>>(m, "PoolAnswer")
      .def_readonly("key", &Answer::key)
      .def("done", &Answer::done)
      .def("cancelled", &Answer::cancelled)
      .def("wait",
           [](Answer& answer, double timeout) {
             if (answer.done()) return true;
             if (answer.process() != ::getpid()) throw_forked();
             return wait_for(timeout, [&](auto until) { return answer.wait(until); });
           })
      .def("y", &Answer::y)
      .def("states", &Answer::states);
  py::class_<Pool>(m, "StreamPool")
      .def(py::init([](const py::bytes& file, Index capacity, Index max_batch, double max_delay,
                       Index max_pending, double idle_timeout, int threads) {
             return std::make_unique<Pool>(
                 file, options(capacity, max_batch, max_delay, max_pending, idle_timeout, threads));
           }),
           py::arg("model"), py::arg("capacity"), py::arg("max_batch"), py::arg("max_delay"),
           py::arg("max_pending"), py::arg("idle_timeout"), py::arg("threads"))
      .def_property_readonly("input_size", [](const Pool& p) { return p.network().input_size(); })
      .def_property_readonly("output_size", [](const Pool& p) { return p.network().output_size(); })
      .def_property_readonly("state_size", [](const Pool& p) { return p.network().state_size(); })
      .def_property_readonly("takes_tokens",
                             [](const Pool& p) { return p.network().takes_tokens(); })
      .def_property_readonly("accepts_tokens",
                             [](const Pool& p) { return p.network().accepts_tokens(); })
      .def("open", &Pool::open, py::arg("state"))
      .def("close", &Pool::close, py::arg("session"))
      .def("submit", &Pool::submit, py::arg("sessions"), py::arg("x"), py::arg("tokens"),
           py::arg("wants_state"), py::arg("reset"), py::arg("state"), py::arg("timeout"),
           py::arg("completions"), py::arg("key"))
      .def("tell", &Pool::tell)
      .def("read_state", &Pool::read_state, py::arg("state"))
      .def("hidden", &Pool::hidden)
      .def("stats", [](Pool& p) { return as_dict(p.stats()); })
      .def("shut_down", &Pool::shut_down, py::arg("drain"));
}

}  // namespace fastrnn::bindings
