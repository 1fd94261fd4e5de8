// Steps of streams, whose states lie with the caller. Once it is made, nothing here allocates, takes a
// lock, calls the system or throws, and every loop is bounded.
#pragma once

#include "model/network.h"

namespace fastrnn {

// One step of a stream: x, or a token where x is null, to y; the state goes on in place.
struct StepOfStream {
  float* state;
  const float* x;
  std::int32_t token;
  float* y;
};

class Stepper {
 public:
  // network: one that streams; must outlive this. block_steps: of process() at a time, at most
  // max_rows; 0: what suits the network. streams: of step_each() at once, at most max_rows. Throws
  // std::bad_alloc.
  Stepper(const Network& network, Index block_steps, Index streams);

  // One step: x (input_size) to y (output_size), which may be the same memory.
  void step(float* state, const float* x, float* y);
  void step_token(float* state, std::int32_t token, float* y);
  // Any number of steps, with the same bits, faster: x (steps, input_size) or tokens (steps), the other
  // null. x and y must not overlap.
  void process(float* state, const float* x, const std::int32_t* tokens, Index steps, float* y);
  // One step of each of some streams, none twice, all of x or all of tokens. No y may overlap an x.
  void step_each(const StepOfStream* steps, Index count);
  // The same where each stream has a stepper of its own, of which this takes memory.
  static void step_each(Stepper* const* steppers, const StepOfStream* steps, Index count);

  const Network& network() const { return network_; }
  std::size_t memory() const { return memory_.size() * sizeof(float) + scratch_.size(); }

  static constexpr Index max_rows = 64;

 private:
  friend class StepperPass;
  void one_step(float* state, const float* x, const std::int32_t* token, float* y);
  void small_step(float* state, const float* x, float* y);
  void blocks(float* state, const float* x, const std::int32_t* tokens, Index steps, float* y);

  const Network& network_;
  const NetworkLayer* last_;
  // Of a network that is a small cell and its head, the commonest: a step is this call.
  decltype(NetworkLayer::cell_step) only_step_ = nullptr;
  Index block_, streams_;
  bool small_;     // each layer takes a row in one call
  bool by_steps_;  // and process() takes no more at a time
  // One allocation: for each row z and two rows between layers; for each stream one more z of a
  // normalised product, units before a projection, and r * h.
  Buffer<float> memory_;
  Buffer<unsigned char> scratch_;  // of products, for each row
  Index scratch_stride_ = 0;
  float *z_, *between_[2], *z_state_, *units_, *reset_h_;
  Index z_stride_, width_, units_stride_;
  bool last_first_ = false;  // as in Product: steps take turns
};

}  // namespace fastrnn
