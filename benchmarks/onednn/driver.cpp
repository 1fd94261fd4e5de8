// oneDNN's recurrent primitives behind a line protocol: the bar for hand-tuned kernels without Python.
//
//     driver CELL MODE T B I H LAYERS DIRECTIONS THREADS FILE
//     driver --version
//
// CELL: LSTM, GRU (reset after, lbr_gru) or RNN (tanh). MODE: inference, training (forward and all
// gradients) or step (T 1, the state carried from run to run). FILE: raw float32, in order x (T, B, I),
// dy (T, B, D H), then for each layer and direction weight_ih (G H, I), weight_hh (G H, H), bias_ih and
// bias_hh (G H), gates in PyTorch's order (LSTM i f g o, GRU r z n).
//
// Everything is prepared, weights in the layout the primitive prefers; then it prints `ready` and answers
// each line of its input:
//     run          do the work once; print its nanoseconds
//     run N        N times, one after the other; print the nanoseconds of all together
//     output PATH  write y (T, B, D H) of the last run; print ok
//     grads PATH   write dx, then the weights' gradients, ordered as in FILE; print ok
//     quit         end
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;
using Args = std::unordered_map<int, memory>;
using Floats = std::vector<float>;

enum class Cell { lstm, gru, rnn };
enum class Mode { inference, training, step };

struct Work {
  Cell cell;
  Mode mode;
  memory::dim T, B, I, H, layers, D;

  memory::dim gates() const { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
  // lbr_gru has a fourth bias, the recurrent one of the candidate.
  memory::dim biases() const { return cell == Cell::gru ? 4 : gates(); }
  memory::dim input_size(memory::dim layer) const { return layer == 0 ? I : D * H; }
  // PyTorch's gate at oneDNN's place g: LSTM i f g o in both, GRU r z n there and u r o (z r n) here.
  memory::dim torch_gate(memory::dim g) const { return cell == Cell::gru && g < 2 ? 1 - g : g; }
};

// One layer and direction in PyTorch's layout: values or gradients.
struct Weights {
  Floats w_ih, w_hh, b_ih, b_hh;

  Weights(const Work& work, memory::dim layer)
      : w_ih(work.gates() * work.H * work.input_size(layer)),
        w_hh(work.gates() * work.H * work.H),
        b_ih(work.gates() * work.H),
        b_hh(work.gates() * work.H) {}
  std::vector<Floats*> all() { return {&w_ih, &w_hh, &b_ih, &b_hh}; }
};

memory::desc f32(const Dims& dims, Tag tag) { return {dims, memory::data_type::f32, tag}; }
float* data(const memory& m) { return static_cast<float*>(m.get_data_handle()); }
void zero(const memory& m) { std::memset(m.get_data_handle(), 0, m.get_desc().get_size()); }

void reorder(dnnl::stream& stream, memory from, memory to) {
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

// --- primitives ---------------------------------------------------------------------------------

// Of one block; states are empty where none is passed in or out.
struct Descs {
  memory::desc x, h0, c0, w_ih, w_hh, bias, y, h, c;
};

// The primitive descriptors of one cell type; the backward one is empty but for training.
struct Primitives {
  dnnl::primitive_desc_base forward, backward;
};

template <class Forward, class Backward>
Primitives describe(const Work& work, const dnnl::engine& engine, const Descs& d) {
  const bool training = work.mode == Mode::training;
  const auto kind =
      training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  const auto direction = work.D == 2 ? dnnl::rnn_direction::bidirectional_concat
                                     : dnnl::rnn_direction::unidirectional_left2right;
  const auto tanh = dnnl::algorithm::eltwise_tanh;
  const auto back = dnnl::prop_kind::backward;
  using ForwardDesc = typename Forward::primitive_desc;
  using BackwardDesc = typename Backward::primitive_desc;
  const auto forward = [&] {
    if constexpr (std::is_same_v<Forward, dnnl::lstm_forward>) {
      return ForwardDesc(engine, kind, direction, d.x, d.h0, d.c0, d.w_ih, d.w_hh, d.bias, d.y, d.h,
                         d.c);
    } else if constexpr (std::is_same_v<Forward, dnnl::lbr_gru_forward>) {
      return ForwardDesc(engine, kind, direction, d.x, d.h0, d.w_ih, d.w_hh, d.bias, d.y, d.h);
    } else {
      return ForwardDesc(engine, kind, tanh, direction, d.x, d.h0, d.w_ih, d.w_hh, d.bias, d.y,
                         d.h);
    }
  }();
  if (!training) return {forward, {}};
  // Gradients have the descriptors of what they are gradients of.
  const auto backward = [&] {
    if constexpr (std::is_same_v<Forward, dnnl::lstm_forward>) {
      return BackwardDesc(engine, back, direction, d.x, d.h0, d.c0, d.w_ih, d.w_hh, d.bias, d.y,
                          d.h, d.c, d.x, d.h0, d.c0, d.w_ih, d.w_hh, d.bias, d.y, d.h, d.c,
                          forward);
    } else if constexpr (std::is_same_v<Forward, dnnl::lbr_gru_forward>) {
      return BackwardDesc(engine, back, direction, d.x, d.h0, d.w_ih, d.w_hh, d.bias, d.y, d.h, d.x,
                          d.h0, d.w_ih, d.w_hh, d.bias, d.y, d.h, forward);
    } else {
      return BackwardDesc(engine, back, tanh, direction, d.x, d.h0, d.w_ih, d.w_hh, d.bias, d.y,
                          d.h, d.x, d.h0, d.w_ih, d.w_hh, d.bias, d.y, d.h, forward);
    }
  }();
  return {forward, backward};
}

Primitives describe(const Work& work, const dnnl::engine& engine, const Descs& d) {
  switch (work.cell) {
    case Cell::lstm: return describe<dnnl::lstm_forward, dnnl::lstm_backward>(work, engine, d);
    case Cell::gru: return describe<dnnl::lbr_gru_forward, dnnl::lbr_gru_backward>(work, engine, d);
    default:
      return describe<dnnl::vanilla_rnn_forward, dnnl::vanilla_rnn_backward>(work, engine, d);
  }
}

// --- a block of layers --------------------------------------------------------------------------

// `count` layers of one input size from layer `first`: one primitive, or one forward and one backward.
class Block {
 public:
  Block(const Work& work, const dnnl::engine& engine, dnnl::stream& stream, memory::dim first,
        memory::dim count, const std::vector<Weights>& weights, const memory& x)
      : work_(work), stream_(stream), first_(first), count_(count), input_(work.input_size(first)) {
    const Dims state{count, work.D, work.B, work.H};
    w_ih_dims_ = {count, work.D, input_, work.gates(), work.H};
    w_hh_dims_ = {count, work.D, work.H, work.gates(), work.H};
    Descs d;
    d.x = x.get_desc();
    d.w_ih = f32(w_ih_dims_, Tag::any);
    d.w_hh = f32(w_hh_dims_, Tag::any);
    d.bias = f32({count, work.D, work.biases(), work.H}, Tag::ldgo);
    d.y = f32({work.T, work.B, work.D * work.H}, Tag::tnc);
    // Without an initial state the gradient of weight_hh comes out wrong (3.2 and 3.13).
    if (work.mode != Mode::inference) d.h0 = f32(state, Tag::ldnc);
    if (work.mode == Mode::step) d.h = d.h0;
    if (work.cell == Cell::lstm) d.c0 = d.h0, d.c = d.h;
    const Primitives made = describe(work, engine, d);
    const memory bias = pack_bias(engine, d.bias, weights);
    y_ = memory(d.y, engine);
    Args forward{{DNNL_ARG_SRC_LAYER, x}, {DNNL_ARG_DST_LAYER, y_}, {DNNL_ARG_BIAS, bias}};
    add_weights(forward, made.forward, engine, weights);
    forward_ = dnnl::primitive(made.forward.get());
    if (work.mode == Mode::training) add_backward(forward, made, engine, weights);
    forward_args_ = {forward, forward};
    if (work.mode == Mode::step) add_states(engine, d.h);
  }

  const memory& y() const { return y_; }
  const memory& d_x() const { return d_x_; }
  void set_d_y(const memory& d_y) { backward_args_[DNNL_ARG_DIFF_DST_LAYER] = d_y; }

  void forward() {
    forward_.execute(stream_, forward_args_[parity_]);
    if (work_.mode == Mode::step) parity_ = 1 - parity_;
  }

  void backward() {
    for (const memory& sum : {d_w_ih_, d_w_hh_, d_bias_}) zero(sum);  // the primitive adds to them
    backward_.execute(stream_, backward_args_);
  }

  void read_gradients(const dnnl::engine& engine, std::vector<Weights>& gradients) {
    const memory ih(f32(w_ih_dims_, Tag::ldgoi), engine), hh(f32(w_hh_dims_, Tag::ldgoi), engine);
    reorder(stream_, d_w_ih_, ih);
    reorder(stream_, d_w_hh_, hh);
    const memory::dim H = work_.H, G = work_.gates(), extra = work_.biases() - G;
    for (memory::dim n = 0; n < count_ * work_.D; ++n) {
      Weights& w = gradients[first_ * work_.D + n];
      const float* bias = data(d_bias_) + n * work_.biases() * H;
      for (memory::dim g = 0; g < G; ++g) {
        const memory::dim to = work_.torch_gate(g) * H;
        std::copy_n(data(ih) + (n * G + g) * H * input_, H * input_, &w.w_ih[to * input_]);
        std::copy_n(data(hh) + (n * G + g) * H * H, H * H, &w.w_hh[to * H]);
        std::copy_n(bias + g * H, H, &w.b_ih[to]);
        std::copy_n(bias + (g == G - 1 ? g + extra : g) * H, H, &w.b_hh[to]);
      }
    }
  }

 private:
  memory pack_bias(const dnnl::engine& engine, const memory::desc& desc,
                   const std::vector<Weights>& weights) const {
    const memory bias(desc, engine);
    const memory::dim H = work_.H, G = work_.gates();
    for (memory::dim n = 0; n < count_ * work_.D; ++n) {
      const Weights& w = weights[first_ * work_.D + n];
      float* out = data(bias) + n * work_.biases() * H;
      for (memory::dim g = 0; g < G; ++g) {
        const memory::dim from = work_.torch_gate(g) * H;
        const bool apart = work_.cell == Cell::gru && g == G - 1;
        for (memory::dim u = 0; u < H; ++u) {
          out[g * H + u] = w.b_ih[from + u] + (apart ? 0 : w.b_hh[from + u]);
          if (apart) out[G * H + u] = w.b_hh[from + u];
        }
      }
    }
    return bias;
  }

  // PyTorch's (G H, I) with the gates in oneDNN's order is oneDNN's ldgoi.
  memory pack(const dnnl::engine& engine, const Dims& dims, const memory::desc& wanted,
              const std::vector<Weights>& weights, Floats Weights::* which) {
    const memory plain(f32(dims, Tag::ldgoi), engine);
    const memory::dim size = work_.H * dims[2];
    float* out = data(plain);
    for (memory::dim n = 0; n < count_ * work_.D; ++n) {
      for (memory::dim g = 0; g < work_.gates(); ++g, out += size) {
        const float* from = (weights[first_ * work_.D + n].*which).data();
        std::copy_n(from + work_.torch_gate(g) * size, size, out);
      }
    }
    const memory packed(wanted, engine);
    reorder(stream_, plain, packed);
    return packed;
  }

  void add_weights(Args& args, const dnnl::primitive_desc_base& made, const dnnl::engine& engine,
                   const std::vector<Weights>& weights) {
    const auto wanted = [&](int arg) { return made.query_md(dnnl::query::exec_arg_md, arg); };
    args[DNNL_ARG_WEIGHTS_LAYER] =
        pack(engine, w_ih_dims_, wanted(DNNL_ARG_WEIGHTS_LAYER), weights, &Weights::w_ih);
    args[DNNL_ARG_WEIGHTS_ITER] =
        pack(engine, w_hh_dims_, wanted(DNNL_ARG_WEIGHTS_ITER), weights, &Weights::w_hh);
  }

  // Zero initial states, a workspace, and for the backward pass a place for each gradient.
  void add_backward(Args& forward, const Primitives& made, const dnnl::engine& engine,
                    const std::vector<Weights>& weights) {
    const auto of = [&](int arg) {
      const memory m(made.backward.query_md(dnnl::query::exec_arg_md, arg), engine);
      zero(m);
      return m;
    };
    std::vector<int> states{DNNL_ARG_SRC_ITER};
    if (work_.cell == Cell::lstm) states.push_back(DNNL_ARG_SRC_ITER_C);
    for (int arg : states) forward[arg] = of(arg);
    forward[DNNL_ARG_WORKSPACE] = memory(made.forward.query_md(dnnl::query::workspace_md), engine);
    backward_ = dnnl::primitive(made.backward.get());
    backward_args_ = forward;
    add_weights(backward_args_, made.backward, engine, weights);
    const auto gradient_of = [&](int arg) {
      const int diff = DNNL_ARG_DIFF_SRC_LAYER - DNNL_ARG_SRC_LAYER + arg;
      return backward_args_[diff] = of(diff);
    };
    for (int arg : states) gradient_of(arg);
    d_x_ = gradient_of(DNNL_ARG_SRC_LAYER);
    d_w_ih_ = gradient_of(DNNL_ARG_WEIGHTS_LAYER);
    d_w_hh_ = gradient_of(DNNL_ARG_WEIGHTS_ITER);
    d_bias_ = gradient_of(DNNL_ARG_BIAS);
  }

  // Two sets of states, each the input of every other step.
  void add_states(const dnnl::engine& engine, const memory::desc& desc) {
    const auto add = [&](int in, int out) {
      const memory states[] = {memory(desc, engine), memory(desc, engine)};
      for (int i = 0; i < 2; ++i) {
        zero(states[i]);
        forward_args_[i][in] = states[i];
        forward_args_[i][out] = states[1 - i];
      }
    };
    add(DNNL_ARG_SRC_ITER, DNNL_ARG_DST_ITER);
    if (work_.cell == Cell::lstm) add(DNNL_ARG_SRC_ITER_C, DNNL_ARG_DST_ITER_C);
  }

  const Work& work_;
  dnnl::stream& stream_;
  memory::dim first_, count_, input_;
  Dims w_ih_dims_, w_hh_dims_;
  dnnl::primitive forward_, backward_;
  std::vector<Args> forward_args_;
  Args backward_args_;
  memory y_, d_x_, d_w_ih_, d_w_hh_, d_bias_;
  int parity_ = 0;
};

// --- the program --------------------------------------------------------------------------------

class Network {
 public:
  Network(const Work& work, std::istream& file) : work_(work) {
    const auto read = [&](float* to, size_t count) {
      file.read(reinterpret_cast<char*>(to), std::streamsize(count * sizeof(float)));
      if (!file) throw std::runtime_error("the file of weights is too short");
    };
    const memory x(f32({work.T, work.B, work.I}, Tag::tnc), engine_);
    const memory d_y(f32({work.T, work.B, work.D * work.H}, Tag::tnc), engine_);
    for (const memory& m : {x, d_y}) read(data(m), m.get_desc().get_size() / sizeof(float));
    for (memory::dim n = 0; n < work.layers * work.D; ++n) {
      weights_.emplace_back(work, n / work.D);
      for (Floats* part : weights_.back().all()) read(part->data(), part->size());
    }
    // One primitive takes a stack of one direction and one input size.
    memory input = x;
    for (memory::dim first = 0, count; first < work.layers; first += count) {
      const bool rest = work.D == 1 && work.input_size(first) == work.H;
      count = rest ? work.layers - first : 1;
      blocks_.emplace_back(work_, engine_, stream_, first, count, weights_, input);
      input = blocks_.back().y();
    }
    if (work.mode != Mode::training) return;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i].set_d_y(i + 1 < blocks_.size() ? blocks_[i + 1].d_x() : d_y);
    }
  }

  void run() {
    for (Block& block : blocks_) block.forward();
    if (work_.mode == Mode::training) {
      for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) block->backward();
    }
    stream_.wait();
  }

  void write_output(std::ostream& file) const { write(file, blocks_.back().y()); }

  void write_gradients(std::ostream& file) {
    write(file, blocks_.front().d_x());
    std::vector<Weights> gradients = weights_;
    for (Block& block : blocks_) block.read_gradients(engine_, gradients);
    for (Weights& w : gradients) {
      for (const Floats* part : w.all()) write(file, part->data(), part->size() * sizeof(float));
    }
  }

 private:
  static void write(std::ostream& file, const float* from, size_t bytes) {
    file.write(reinterpret_cast<const char*>(from), std::streamsize(bytes));
  }
  static void write(std::ostream& file, const memory& m) {
    write(file, data(m), m.get_desc().get_size());
  }

  Work work_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::vector<Weights> weights_;
  std::vector<Block> blocks_;
};

Work parse(char** argv) {
  const auto index = [](const std::string& name, const std::vector<std::string>& names) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw std::invalid_argument("unknown: " + name);
    return int(found - names.begin());
  };
  return {Cell(index(argv[1], {"LSTM", "GRU", "RNN"})),
          Mode(index(argv[2], {"inference", "training", "step"})),
          std::stol(argv[3]),
          std::stol(argv[4]),
          std::stol(argv[5]),
          std::stol(argv[6]),
          std::stol(argv[7]),
          std::stol(argv[8])};
}

void answer(Network& network, const std::string& line) {
  using Clock = std::chrono::steady_clock;
  const size_t space = line.find(' ');
  const std::string command = line.substr(0, space);
  if (command == "run") {
    const long times = space == std::string::npos ? 1 : std::stol(line.substr(space + 1));
    const auto start = Clock::now();
    for (long i = 0; i < times; ++i) network.run();
    const std::chrono::nanoseconds taken = Clock::now() - start;
    std::cout << taken.count() << std::endl;
    return;
  }
  if (space == std::string::npos || (command != "output" && command != "grads")) {
    throw std::invalid_argument("unknown command: " + line);
  }
  std::ofstream file(line.substr(space + 1), std::ios::binary);
  command == "output" ? network.write_output(file) : network.write_gradients(file);
  file.close();
  if (!file) throw std::runtime_error("cannot write " + line.substr(space + 1));
  std::cout << "ok" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 2 && std::string(argv[1]) == "--version") {
      const dnnl_version_t* v = dnnl::version();
      std::cout << "oneDNN " << v->major << '.' << v->minor << '.' << v->patch << std::endl;
      return 0;
    }
    if (argc != 11)
      throw std::invalid_argument("expected 10 arguments; see the head of driver.cpp");
    const Work work = parse(argv);
    omp_set_num_threads(std::stoi(argv[9]));
    std::ifstream file(argv[10], std::ios::binary);
    Network network(work, file);
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) answer(network, line);
  } catch (const std::exception& error) {
    std::cerr << "driver: " << error.what() << std::endl;
    return 1;
  }
}
