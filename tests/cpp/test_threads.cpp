// Threads, for ThreadSanitizer first of all: the drivers with teams of two to eight threads, called
// from several threads at once, give what one thread gives. `test_threads [rounds]`, 1 by default.
// tools/trust.sh says how it is run.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "parallel.h"
#include "sequence/stack.h"

using namespace fastrnn;

namespace {

using Values = std::vector<float>;

std::atomic<int> failures{0};
std::atomic<int> team_calls{0};  // calls for which a team could be had

Values values(Index n, unsigned seed, float scale = 1) {
  Values out(static_cast<std::size_t>(n));
  for (float& x : out) {
    seed = seed * 1664525u + 1013904223u;
    x = scale * (static_cast<float>(seed >> 8) / 8388608.0f - 1);
  }
  return out;
}

// One piece of work: what it gives, whatever the threads.
struct Job {
  std::string name;
  std::function<Values()> run;
};

struct Shape {
  const char* name;
  CellKind kind;
  Index T, B, I, H;
  int layers, directions;
  bool ragged;
  Index checkpoint_every;  // of training; -1: inference through a stack
};

// Layers of a shape, with their weights; immutable, so all threads share it.
class Layers {
 public:
  explicit Layers(const Shape& s) : s_(s) {
    const Index rows = gate_count(s.kind) * s.H;
    cells_.reserve(static_cast<std::size_t>(s.layers * s.directions));
    for (int i = 0; i < s.layers * s.directions; ++i) {
      const Index in = i < s.directions ? s.I : s.directions * s.H;
      const unsigned seed = static_cast<unsigned>(i) + 1;
      const Values ih = values(rows * in, seed, 0.3f), hh = values(rows * s.H, seed + 9, 0.3f);
      const Values bias = values(rows, seed + 17);
      CellWeights<float> weights = {};
      weights.kind = s.kind;
      weights.input_size = in;
      weights.hidden_size = weights.output_size = s.H;
      weights.weights[Weight::weight_ih] = ih.data();
      weights.weights[Weight::weight_hh] = hh.data();
      weights.weights[Weight::bias_ih] = weights.weights[Weight::bias_hh] = bias.data();
      cells_.emplace_back(weights, true);
    }
    for (const Cell<float>& cell : cells_) pointers_.push_back(&cell);
    x_ = values(s.T * s.B * s.I, 5);
    for (Index b = 0; b < s.B; ++b) lengths_.push_back((b * 5 + s.T) % (s.T + 1));
  }

  Values run() const { return s_.checkpoint_every < 0 ? infer() : train(); }

 private:
  LayerInput<float> input() const {
    LayerInput<float> in = {};
    in.steps = s_.T;
    in.batch = s_.B;
    in.x = {x_.data(), s_.B * s_.I, s_.I};
    if (s_.ragged) in.lengths = lengths_.data();
    return in;
  }

  Values infer() const {
    const Index width = s_.directions * s_.H, state = s_.layers * s_.B * width;
    Values y(static_cast<std::size_t>(s_.T * s_.B * width)), h(static_cast<std::size_t>(state));
    Values c(h.size());
    ScratchLease scratch;
    stack_forward({pointers_.data(), s_.layers, s_.directions}, input(),
                  {{y.data(), s_.B * width, width}, h.data(), c.data(), nullptr, 0}, *scratch, {});
    y.insert(y.end(), h.begin(), h.end());
    return y;
  }

  Values train() const {
    const Index width = s_.directions * s_.H, rows = gate_count(s_.kind) * s_.H;
    const LayerInput<float> in = input();
    Values y(static_cast<std::size_t>(s_.T * s_.B * width)),
        h(static_cast<std::size_t>(s_.B * width));
    Values c(h.size()), d_h(h.size()), d_c(h.size()), d_x(x_.size());
    // One value more, so that there is an address where nothing is kept.
    Values cache(static_cast<std::size_t>(
        cache_values(*pointers_[0], s_.directions, in, s_.checkpoint_every) + 1));
    const LayerOutput<float> out = {
        {y.data(), s_.B * width, width}, h.data(), c.data(), cache.data(), s_.checkpoint_every};
    ScratchLease scratch;
    layer_forward(pointers_.data(), s_.directions, in, out, *scratch, {});
    Values d_ih[2], d_hh[2], d_bias[2];
    LayerGradients<float> g = {};
    g.d_y = {y.data(), s_.B * width, width};
    g.d_x = {d_x.data(), s_.B * s_.I, s_.I};
    g.d_h0 = d_h.data();
    g.d_c0 = d_c.data();
    for (int d = 0; d < s_.directions; ++d) {
      d_ih[d] = Values(static_cast<std::size_t>(rows * s_.I));
      d_hh[d] = Values(static_cast<std::size_t>(rows * s_.H));
      d_bias[d] = Values(static_cast<std::size_t>(rows));
      g.cells[d][Weight::weight_ih] = d_ih[d].data();
      g.cells[d][Weight::weight_hh] = d_hh[d].data();
      g.cells[d][Weight::bias_ih] = d_bias[d].data();
    }
    layer_backward(pointers_.data(), s_.directions, in, out, g, *scratch, {});
    for (const Values* part : {&d_x, &d_h, &d_ih[0], &d_hh[0], &d_bias[0], &d_ih[1], &d_hh[1]})
      y.insert(y.end(), part->begin(), part->end());
    return y;
  }

  const Shape s_;
  std::vector<Cell<float>> cells_;
  std::vector<const Cell<float>*> pointers_;
  std::vector<Index> lengths_;
  Values x_;
};

Job linear_job() {
  return {"linear", [] {
            const Index N = 70, I = 96, O = 80;
            const Values x = values(N * I, 1), w = values(O * I, 2), d_y = values(N * O, 3);
            Values y(N * O), d_x(N * I), d_w(O * I), d_b(O);
            ScratchLease scratch;
            linear_forward<float>({N, I, O, x.data(), w.data(), nullptr, y.data()}, *scratch);
            linear_backward<float>(
                {N, I, O, x.data(), w.data(), d_y.data(), d_w.data(), d_b.data(), d_x.data()},
                *scratch);
            y.insert(y.end(), d_w.begin(), d_w.end());
            y.insert(y.end(), d_x.begin(), d_x.end());
            return y;
          }};
}

// Optimisers, layer norm, cross entropy and functions of values, over enough of them for threads.
Job elementwise_job() {
  return {"elementwise", [] {
            const Index n = 100000, C = 100, N = n / C;
            Values param = values(n, 1), momentum = values(n, 2), y(n), mean(N), rstd(N), losses(N);
            const Values grad = values(n, 3), ones(static_cast<std::size_t>(C), 1.0f);
            SgdStep<float> sgd = {};
            sgd.n = n;
            sgd.param = param.data();
            sgd.momentum_buffer = momentum.data();
            sgd.grad = grad.data();
            sgd.lr = 0.01f;
            sgd.momentum = sgd.fresh = 0.9f;
            sgd_step(sgd);
            layer_norm_forward<float>({N, C, param.data(), ones.data(), nullptr, 1e-5f, y.data(),
                                       mean.data(), rstd.data()});
            std::vector<Index> targets(static_cast<std::size_t>(N), 7);
            cross_entropy<float>(
                {N, C, -1, y.data(), targets.data(), nullptr, losses.data(), momentum.data()});
            apply(Nonlinearity::tanh, momentum.data(), y.data(), n);
            y.insert(y.end(), losses.begin(), losses.end());
            y.push_back(static_cast<float>(sum_of_squares(param.data(), n)));
            return y;
          }};
}

// Members of a team write in turn what the next one reads: wrong as soon as one passes too early.
Job barrier_job(int members) {
  return {
      "barrier of " + std::to_string(members), [members] {
        constexpr int rounds = 200;
        SpinBarrier barrier;
        std::vector<int> at(static_cast<std::size_t>(members));  // not atomic: the barrier is all
        std::atomic<int> wrong{0};
        barrier.set_members(members);
        auto body = [&](int member, int) {
          for (int round = 1; round <= rounds; ++round) {
            at[static_cast<std::size_t>(member)] = round;
            barrier.wait();
            if (at[static_cast<std::size_t>((member + 1) % members)] != round) ++wrong;
            barrier.wait();
          }
        };
        run_team(members, body);
        return Values{static_cast<float>(wrong.load())};
      }};
}

std::vector<Job> all_jobs() {
  using K = CellKind;
  const Shape shapes[] = {
      {"rows shared", K::gru, 6, 48, 24, 40, 1, 1, false, 0},
      {"rows shared, ragged", K::lstm, 9, 40, 24, 40, 1, 1, true, 0},
      {"units shared", K::lstm, 6, 1, 40, 160, 1, 1, false, 0},
      {"units shared, reset before", K::gru_reset_before, 6, 2, 40, 160, 1, 1, false, 0},
      {"two directions", K::gru, 8, 6, 40, 64, 1, 2, true, 0},
      {"checkpoints", K::lstm, 12, 6, 40, 64, 1, 1, false, 4},
      {"checkpoints, reset before", K::gru_reset_before, 12, 2, 40, 160, 1, 1, true, 5},
      {"layers shared", K::gru, 90, 1, 24, 64, 4, 1, false, -1},
      {"layers shared, ragged", K::lstm, 90, 3, 24, 48, 3, 1, true, -1},
      {"stack, rows shared", K::rnn_tanh, 20, 64, 40, 64, 3, 1, true, -1},
      {"stack, two directions", K::lstm, 9, 4, 40, 64, 2, 2, false, -1}};
  std::vector<Job> jobs;
  for (const Shape& shape : shapes) {
    auto layers = std::make_shared<const Layers>(shape);
    jobs.push_back({shape.name, [layers] { return layers->run(); }});
  }
  jobs.push_back(linear_job());
  jobs.push_back(elementwise_job());
  for (const int members : {2, 3, 8}) jobs.push_back(barrier_job(members));
  return jobs;
}

// After a team was kept from its cores, calls use one thread for up to a second: wait for it.
void wait_for_teams() {
  if (!has_openmp()) return;
  for (int ms = 0; ms < 1100 && usable_threads() == 1; ++ms)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (usable_threads() > 1) ++team_calls;
}

void call_all(const std::vector<Job>& jobs, const std::vector<Values>& expected,
              std::size_t first) {
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const std::size_t job = (i + first) % jobs.size();
    wait_for_teams();
    if (jobs[job].run() == expected[job]) continue;
    ++failures;
    std::printf("%s: other values among threads (limit %d)\n", jobs[job].name.c_str(),
                max_threads());
  }
}

int run_all(int rounds) {
  const std::vector<Job> jobs = all_jobs();
  std::vector<Values> expected;
  set_max_threads(1);
  for (const Job& job : jobs) expected.push_back(job.run());
  int calls = 0;
  for (int round = 0; round < rounds; ++round)
    for (const int threads : {2, 3, 4, 8}) {
      set_max_threads(threads);
      std::vector<std::thread> callers;
      for (std::size_t caller = 0; caller < 3; ++caller)
        callers.emplace_back([&, caller] { call_all(jobs, expected, 5 * caller); });
      for (std::thread& caller : callers) caller.join();
      calls += 3 * static_cast<int>(jobs.size());
    }
  std::printf("%d calls of %zu jobs by 3 threads at once, %d with teams of 2 to 8, %d failed\n",
              calls, jobs.size(), team_calls.load(), failures.load());
  return failures.load() ? 1 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run_all(count > 1 ? std::atoi(arguments[1]) : 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_threads: %s\n", error.what());
    return 1;
  }
}
