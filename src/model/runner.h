// A stream: the state of one sequence on its way through a network. Once it is made, nothing here
// allocates, takes a lock, calls the system or throws, and every loop is bounded.
#pragma once

#include "model/stepper.h"

namespace fastrnn {

class Runner {
 public:
  // As Stepper.
  Runner(const Network& network, Index block_steps);

  // One step: x (input_size) to y (output_size), which may be the same memory.
  void step(const float* x, float* y) { stepper_.step(state_.data(), x, y); }
  void step_token(std::int32_t token, float* y) { stepper_.step_token(state_.data(), token, y); }
  // Any number of steps, with the same bits, faster. x and y must not overlap.
  void process(const float* x, Index steps, float* y) {
    stepper_.process(state_.data(), x, nullptr, steps, y);
  }
  void process_tokens(const std::int32_t* tokens, Index steps, float* y) {
    stepper_.process(state_.data(), nullptr, tokens, steps, y);
  }
  // One step of each of `count` runners of one network, none twice: x (count, input_size) or tokens
  // (count), the other null, to y (count, output_size). Must not overlap.
  static void step_many(Runner* const* runners, Index count, const float* x,
                        const std::int32_t* tokens, float* y);

  void reset() { network().initial_state(state_.data()); }
  // state_size() values.
  void get_state(float* state) const;
  void set_state(const float* state);

  const Network& network() const { return stepper_.network(); }
  std::size_t memory() const {
    return sizeof(*this) + state_.size() * sizeof(float) + stepper_.memory();
  }

  static constexpr Index max_block = Stepper::max_rows;

 private:
  Stepper stepper_;
  Buffer<float> state_;
};

}  // namespace fastrnn
