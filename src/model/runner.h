// A stream: the state of one sequence on its way through a network, step by step. After construction
// nothing is allocated, locked, asked of the system or thrown, and every loop is bounded.
#pragma once

#include "model/network.h"

namespace fastrnn {

class Runner {
 public:
  // The network must stream and outlive the runner. block_steps: of process() at a time, 0: what suits
  // the network. Throws std::bad_alloc.
  Runner(const Network& network, Index block_steps);

  // One step: x (input_size) to y (output_size), which may be the same memory.
  void step(const float* x, float* y);
  void step_token(std::int32_t token, float* y);
  // Any number of steps: the same bits, faster. Not overlapping.
  void process(const float* x, Index steps, float* y);
  void process_tokens(const std::int32_t* tokens, Index steps, float* y);
  // One step of each of `count` runners of one network, none twice: x (count, input_size) or tokens
  // (count), the other null; y (count, output_size).
  static void step_many(Runner* const* runners, Index count, const float* x,
                        const std::int32_t* tokens, float* y);

  void reset();
  void get_state(float* state) const;  // network().state_size() values
  void set_state(const float* state);
  const Network& network() const { return network_; }
  std::size_t memory() const;  // bytes

 private:
  const Network& network_;
};

}  // namespace fastrnn
