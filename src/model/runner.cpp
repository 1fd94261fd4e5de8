#include "model/runner.h"

#include <algorithm>

namespace fastrnn {

Runner::Runner(const Network& network, Index block_steps)
    : stepper_(network, block_steps, 1), state_(std::max<Index>(network.state_size(), 1)) {
  reset();
}

void Runner::step_many(Runner* const* runners, Index count, const float* x,
                       const std::int32_t* tokens, float* y) {
  constexpr Index most = Stepper::max_rows;
  Stepper* steppers[most];
  StepOfStream steps[most];
  for (Index begin = 0; begin < count; begin += most) {
    const Index rows = std::min(most, count - begin);
    for (Index i = 0; i < rows; ++i) {
      Runner& runner = *runners[begin + i];
      const Network& network = runner.network();
      steppers[i] = &runner.stepper_;
      steps[i] = {runner.state_.data(), x ? x + (begin + i) * network.input_size() : nullptr,
                  tokens ? tokens[begin + i] : 0, y + (begin + i) * network.output_size()};
    }
    Stepper::step_each(steppers, steps, rows);
  }
}

void Runner::get_state(float* state) const {
  std::copy_n(state_.data(), network().state_size(), state);
}
void Runner::set_state(const float* state) {
  std::copy_n(state, network().state_size(), state_.data());
}

}  // namespace fastrnn
