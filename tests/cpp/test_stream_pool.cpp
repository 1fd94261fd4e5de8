// A pool of streams, used by several threads at once: each session's outputs and states are, to the bit,
// those of a Runner alone; requests of a session are done in their order, each once; what closing and
// shutting down cancel is the end of a session's queue. For ThreadSanitizer first of all (tools/trust.sh).
#include "model/stream_pool.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "model/runner.h"
#include "networks.h"

using namespace fastrnn;
using namespace fastrnn::testing;
using namespace std::chrono_literals;
using Status = StreamPool::Status;
using Clock = StreamPool::Clock;
using Session = StreamPool::Session;

namespace {

std::atomic<int> failures{0};

void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("expected: %s\n", what);
}

class Latch {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// A request with memory of its own, and what it should give.
struct Sent : PoolRequest {
  Values own_x, own_y, own_in, own_out;
  std::vector<std::int32_t> own_tokens;
  struct Client* client = nullptr;
  std::size_t number = 0;      // of the client's
  std::function<void()> then;  // in the thread that says it is done
  bool was_cancelled = false;
  Latch over;

  static void tell(PoolRequest* request, bool cancelled);
};

// A session, and all that was sent to it, in order.
struct Client {
  Session session = 0;
  Values first_state;
  std::vector<std::unique_ptr<Sent>> sent;
  std::size_t answered = 0;  // written by threads of the pool, one after the other

  Sent& add(const Network& net, Index steps, Random& random, bool tokens = false) {
    sent.push_back(std::make_unique<Sent>());
    Sent& s = *sent.back();
    s.client = this;
    s.number = sent.size() - 1;
    s.done = Sent::tell;
    s.steps = steps;
    s.own_y = Values(static_cast<std::size_t>(steps * net.output_size()), -7.0f);
    s.y = s.own_y.data();
    if (tokens) {
      for (Index i = 0; i < steps; ++i)
        s.own_tokens.push_back(static_cast<std::int32_t>(random.next() % net.input_size()));
      s.tokens = s.own_tokens.data();
    } else {
      s.own_x = random(steps * net.input_size(), 1);
      s.x = s.own_x.data();
    }
    return s;
  }

  // Waits for all, and compares with a stream alone.
  void check(const Network& net) const {
    Runner alone(net, 0);
    if (!first_state.empty()) alone.set_state(first_state.data());
    bool over = false;
    for (const auto& s : sent) {
      s->over.wait();
      expect(s->was_cancelled || !over, "nothing is done after what was cancelled");
      over = s->was_cancelled;
      if (over) continue;
      if (s->reset) alone.reset();
      if (s->state_in) alone.set_state(s->state_in);
      Values y(s->own_y.size()), state(s->own_out.size());
      if (s->tokens)
        alone.process_tokens(s->tokens, s->steps, y.data());
      else
        alone.process(s->x, s->steps, y.data());
      expect(same(y, s->own_y), "the outputs of a stream alone");
      if (s->state_out) alone.get_state(state.data());
      expect(same(state, s->own_out), "the state of a stream alone");
    }
    expect(answered == sent.size(), "each is answered once");
  }

  static bool same(const Values& a, const Values& b) {
    return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }
};

void Sent::tell(PoolRequest* request, bool cancelled) {
  Sent& s = *static_cast<Sent*>(request);
  expect(s.client->answered++ == s.number, "answers come in their order");
  s.was_cancelled = cancelled;
  if (s.then) s.then();
  s.over.open();
}

Status send(StreamPool& pool, Client& client, Sent& sent,
            Clock::time_point until = Clock::time_point::max()) {
  const StreamPool::Submission one = {client.session, &sent};
  return pool.submit(&one, 1, until);
}

// Opens, closes, moves and steps some sessions at random.
class Visitor {
 public:
  Visitor(StreamPool& pool, std::uint32_t seed) : pool_(pool), net_(pool.network()) {
    for (std::uint32_t i = 0; i < seed * 100; ++i) random_.next();
  }

  // Ends after `actions`, or when the pool does.
  void run(int actions) {
    for (int i = 0; i < actions && accepted_; ++i) {
      const auto action = random_.next() % 16;
      if (open_.empty() || (action == 0 && open_.size() < 6))
        open();
      else if (action == 1)
        close();
      else if (action == 2)
        move();
      else if (action < 6)
        send_many();
      else
        send_one();
    }
  }
  void check() const {
    for (const auto& client : all_) client->check(net_);
  }
  bool cancelled() const {
    for (const auto& client : all_)
      for (const auto& s : client->sent)
        if (s->was_cancelled) return true;
    return false;
  }
  void never_close() { closes_ = false; }

 private:
  Client& any() { return *open_[random_.next() % open_.size()]; }

  bool good(Status status) {
    accepted_ = status != Status::shut_down;
    expect(!accepted_ || status == Status::ok, "to be accepted");
    return status == Status::ok;
  }

  void open() {
    auto client = std::make_unique<Client>();
    if (random_.next() % 2) client->first_state = random_(net_.state_size(), 0.5f);
    const float* state = client->first_state.empty() ? nullptr : client->first_state.data();
    if (!good(pool_.open(state, &client->session))) return;
    open_.push_back(client.get());
    all_.push_back(std::move(client));
  }

  void close() {
    if (!closes_) return;
    const auto at = open_.begin() + static_cast<Index>(random_.next() % open_.size());
    expect(pool_.close((*at)->session) == Status::ok, "to be closed");
    expect(pool_.close((*at)->session) == Status::unknown_session, "to be closed once");
    open_.erase(at);
  }

  Sent& add(Client& client) {
    const Index steps = random_.next() % 4 ? 1 : random_.next() % 90;
    const bool tokens = net_.takes_tokens() || (net_.accepts_tokens() && random_.next() % 2);
    Sent& sent = client.add(net_, steps, random_, tokens);
    sent.reset = random_.next() % 8 == 0;
    if (random_.next() % 4 == 0) {
      sent.own_out = Values(static_cast<std::size_t>(net_.state_size()));
      sent.state_out = sent.own_out.data();
    }
    return sent;
  }

  void send_one() {
    Client& client = any();
    if (!good(send(pool_, client, add(client)))) client.sent.pop_back();
  }

  // Some sessions, one of them perhaps twice.
  void send_many() {
    std::vector<StreamPool::Submission> submissions;
    std::vector<Client*> clients;
    for (auto n = random_.next() % 5; n > 0; --n) {
      clients.push_back(&any());
      submissions.push_back({clients.back()->session, &add(*clients.back())});
    }
    if (good(pool_.submit(submissions.data(), static_cast<Index>(submissions.size()),
                          Clock::time_point::max())))
      return;
    for (Client* client : clients) client->sent.pop_back();
  }

  // One session's state goes on in another.
  void move() {
    Client &from = any(), &to = any();
    Sent& out = add(from);
    out.own_out = Values(static_cast<std::size_t>(net_.state_size()));
    out.state_out = out.own_out.data();
    if (!good(send(pool_, from, out))) return from.sent.pop_back();
    out.over.wait();
    if (out.was_cancelled) return;
    Sent& in = add(to);
    in.own_in = out.own_out;
    in.state_in = in.own_in.data();
    if (!good(send(pool_, to, in))) to.sent.pop_back();
  }

  StreamPool& pool_;
  const Network& net_;
  Random random_;
  std::vector<Client*> open_;
  std::vector<std::unique_ptr<Client>> all_;
  bool accepted_ = true, closes_ = true;
};

enum class End { drain, cancel, both };

void visitors(const Network& net, const PoolOptions& options, int actions, End end,
              bool close = true) {
  StreamPool pool(net, options);
  std::vector<std::unique_ptr<Visitor>> all;
  for (std::uint32_t seed = 1; seed <= 4; ++seed) {
    all.push_back(std::make_unique<Visitor>(pool, seed));
    if (!close) all.back()->never_close();
  }
  std::vector<std::thread> threads;
  for (const auto& visitor : all) threads.emplace_back([&, v = visitor.get()] { v->run(actions); });
  if (end == End::drain)
    for (std::thread& thread : threads) thread.join();
  std::vector<std::thread> enders;
  for (int i = 0; i < 3; ++i)
    if (end != End::drain) enders.emplace_back([&, i] { pool.shut_down(end == End::both && i); });
  pool.shut_down(end != End::cancel);
  for (std::thread& thread : enders) thread.join();
  if (end != End::drain)
    for (std::thread& thread : threads) thread.join();
  for (const auto& visitor : all) {
    visitor->check();
    expect(end != End::drain || close || !visitor->cancelled(), "all to be done first");
  }
  expect(pool.stats().pending_steps == 0, "nothing to be pending");
}

// A session whose only thread stands in done(), until let go.
class Held {
 public:
  Held(const Network& net, Index max_pending, std::chrono::nanoseconds idle_timeout = 0ns)
      : net(net), pool(net, options(max_pending, idle_timeout)) {
    expect(pool.open(nullptr, &client.session) == Status::ok, "to be opened");
    Sent& first = client.add(net, 1, random);
    first.then = [this] {
      reached.open();
      go.wait();
    };
    expect(send(pool, client, first) == Status::ok, "to be accepted");
    reached.wait();
  }
  Status try_send(Index steps) {
    const Status status =
        send(pool, client, client.add(net, steps, random), Clock::time_point::min());
    if (status != Status::ok) client.sent.pop_back();
    return status;
  }
  // Submits in a thread of its own, which waits for room, does `meanwhile`, and returns the status.
  template <class Do>
  Status wait_for_room(Do meanwhile) {
    Status status = Status::ok;
    Sent& sent = client.add(net, 1, random);
    std::thread waiting([&] { status = send(pool, client, sent); });
    meanwhile();
    waiting.join();
    if (status != Status::ok) client.sent.pop_back();
    return status;
  }
  void end() {
    go.open();
    pool.shut_down(true);
    client.check(net);
  }

  static PoolOptions options(Index max_pending, std::chrono::nanoseconds idle_timeout = 0ns) {
    PoolOptions o;
    o.max_pending = max_pending;
    o.idle_timeout = idle_timeout;
    o.capacity = 2;
    return o;
  }
  const Network& net;
  Random random;
  Client client;
  Latch reached, go;
  StreamPool pool;
};

void full_queues(const Network& net) {
  Held a(net, 4);  // what is done has left the queue
  expect(a.try_send(3) == Status::ok, "room for 3 of 4");
  expect(a.try_send(2) == Status::queue_full, "no room for 2 more");
  expect(a.try_send(1) == Status::ok, "room for 1 more");
  expect(a.try_send(0) == Status::queue_full, "what has no steps to take a place, too");
  expect(a.wait_for_room([&] { a.go.open(); }) == Status::ok, "to be woken by room");
  a.end();

  Held b(net, 4);
  expect(b.try_send(40) == Status::ok, "a request alone to have more steps");
  expect(b.wait_for_room([&] {
    std::this_thread::sleep_for(20ms);  // until it waits, most likely
    b.pool.close(b.client.session);
  }) == Status::unknown_session,
         "to be woken by the session's end");
  b.end();

  Held c(net, 4);
  expect(c.try_send(4) == Status::ok, "room for 4");
  std::thread ending;
  expect(c.wait_for_room([&] { ending = std::thread([&] { c.pool.shut_down(false); }); }) ==
             Status::shut_down,
         "to be woken by the pool's end");
  c.go.open();
  ending.join();
  c.end();

  Held d(net, 1);  // all of one submission, of a session with an empty queue
  Sent &first = d.client.add(net, 1, d.random), &second = d.client.add(net, 1, d.random);
  const StreamPool::Submission two[] = {{d.client.session, &first}, {d.client.session, &second}};
  expect(d.pool.submit(two, 2, Clock::time_point::min()) == Status::ok, "both at once");
  expect(d.try_send(1) == Status::queue_full, "then no room");
  d.end();
}

// Each answer submits the next request.
void chains(const Network& net) {
  StreamPool pool(net, Held::options(1));
  Client client;
  Random random;
  expect(pool.open(nullptr, &client.session) == Status::ok, "to be opened");
  Latch last;
  std::function<void()> next = [&] {
    if (client.sent.size() == 100) return last.open();
    Sent& sent = client.add(net, 1, random);
    sent.then = next;
    expect(send(pool, client, sent) == Status::ok, "to be accepted in done()");
  };
  next();
  last.wait();
  pool.shut_down(true);
  client.check(net);
}

// A drain ends when what it waits for is closed, and sessions can be closed afterwards.
void drains(const Network& net, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    StreamPool pool(net, Held::options(1));
    Client clients[2];
    Random random;
    for (Client& client : clients) {
      expect(pool.open(nullptr, &client.session) == Status::ok, "to be opened");
      expect(send(pool, client, client.add(net, 1, random)) == Status::ok, "to be accepted");
    }
    std::thread ending([&] { pool.shut_down(true); });
    for (Client& client : clients) expect(pool.close(client.session) == Status::ok, "to be closed");
    ending.join();
    for (Client& client : clients) client.check(net);
    expect(pool.stats().sessions == 0, "no session to be open");
    Session session;
    expect(pool.open(nullptr, &session) == Status::shut_down, "no session to be opened");
  }
}

// Of two that shut down at once, neither returns while a thread works; what was cancelled then can be
// closed, or expires, like all else.
void after_the_end(const Network& net) {
  Held held(net, 8, 100ms);
  Session idle;
  expect(held.pool.open(nullptr, &idle) == Status::ok, "to be opened");
  expect(held.try_send(3) == Status::ok, "to be accepted");
  std::atomic<int> ended{0};
  std::thread enders[2];
  for (std::thread& ender : enders)
    ender = std::thread([&] { held.pool.shut_down(false), ++ended; });
  while (held.try_send(0) != Status::shut_down) std::this_thread::yield();
  std::this_thread::sleep_for(5ms);
  expect(ended == 0, "to wait for a thread that works");
  held.go.open();
  for (std::thread& ender : enders) ender.join();
  held.client.check(net);
  held.pool.close(held.client.session);  // if it did not expire before
  std::this_thread::sleep_for(101ms);
  expect(held.pool.stats().sessions == 0, "the idle session to expire");
}

void expiry(const Network& net) {
  PoolOptions options = Held::options(8);
  options.idle_timeout = 1ns;
  StreamPool pool(net, options);
  Session sessions[5];
  for (Session& session : sessions)  // more than there is room for
    expect(pool.open(nullptr, &session) == Status::ok, "an idle session to make room");
  std::this_thread::sleep_for(1ms);
  for (Session session : sessions)
    expect(pool.close(session) == Status::unknown_session, "to have expired");
  expect(pool.stats().expired == 5 && pool.stats().sessions == 0, "all to have expired");

  options.idle_timeout = 1h;
  StreamPool patient(net, options);
  for (int i = 0; i < 2; ++i)
    expect(patient.open(nullptr, &sessions[i]) == Status::ok, "to be opened");
  expect(patient.open(nullptr, &sessions[2]) == Status::pool_full, "to be full");
  expect(patient.stats().expired == 0, "none to have expired");
}

}  // namespace

int main(int count, char** arguments) {
  const int actions = count > 1 ? std::atoi(arguments[1]) : 150;
  for (const Named& named : networks()) {
    if (named.name.find(" 130") != std::string::npos) continue;  // slow, and no other code
    const Network& net = *named.network;
    const int before = failures;
    for (const int threads : {1, 2, 3})
      for (const End end : {End::drain, End::cancel, End::both}) {
        PoolOptions options;
        options.capacity = 32;
        options.threads = threads;
        options.max_batch = threads == 2 ? 3 : 64;
        options.max_pending = threads == 3 ? 20 : 1000;
        options.max_delay = threads == 3 ? 50us : 0us;
        visitors(net, options, actions, end, threads != 1);
      }
    if (failures > before) std::printf("%s: %d failures\n", named.name.c_str(), failures - before);
  }
  const std::vector<Named> some = networks();
  const Network& net = *some.front().network;
  full_queues(net);
  chains(net);
  drains(net, actions * 20);
  after_the_end(net);
  expiry(net);
  std::printf("%d actions, %d failures\n", actions, failures.load());
  return failures.load() ? 1 : 0;
}
