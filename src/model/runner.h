// A stream: the state of one sequence on its way through a network. Once it is made, nothing here
// allocates, takes a lock, calls the system or throws, and every loop is bounded.
#pragma once

#include "model/network.h"

namespace fastrnn {

class Runner {
 public:
  // network: one that streams; must outlive this. block_steps: of process() at a time, at most
  // max_block; 0: what suits the network. Throws std::bad_alloc.
  Runner(const Network& network, Index block_steps);

  // One step: x (input_size) to y (output_size), which may be the same memory.
  void step(const float* x, float* y);
  void step_token(std::int32_t token, float* y);
  // Any number of steps, with the same bits, faster. x and y must not overlap.
  void process(const float* x, Index steps, float* y);
  void process_tokens(const std::int32_t* tokens, Index steps, float* y);
  // One step of each of `count` runners of one network, none twice: x (count, input_size) or tokens
  // (count), the other null, to y (count, output_size). Must not overlap.
  static void step_many(Runner* const* runners, Index count, const float* x,
                        const std::int32_t* tokens, float* y);

  void reset() { network_.initial_state(state_); }
  // state_size() values.
  void get_state(float* state) const;
  void set_state(const float* state);

  const Network& network() const { return network_; }
  std::size_t memory() const {
    return sizeof(*this) + memory_.size() * sizeof(float) + scratch_.size();
  }

  static constexpr Index max_block = 64;

 private:
  friend class RunnerPass;
  void one_step(const float* x, const std::int32_t* token, float* y);
  void small_step(const float* x, float* y);
  void blocks(const float* x, const std::int32_t* tokens, Index steps, float* y);

  const Network& network_;
  const NetworkLayer* last_;
  // Of a network that is a small cell and its head, the commonest: a step is this call.
  decltype(NetworkLayer::cell_step) only_step_ = nullptr;
  StepRow only_row_ = {};
  Index block_;
  bool small_;     // each layer takes a row in one call
  bool by_steps_;  // and process() takes no more at a time
  // One allocation: the state; for each row of a block z and two rows between layers, for one more z of
  // a normalised product, units before a projection, and r * h.
  Buffer<float> memory_;
  Buffer<unsigned char> scratch_;  // of products, for each row of a block
  Index scratch_stride_ = 0;
  float *state_, *z_, *between_[2], *z_state_, *units_, *reset_h_;
  Index z_stride_, width_;
  bool last_first_ = false;  // as in Product: steps take turns
};

}  // namespace fastrnn
