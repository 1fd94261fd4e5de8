// Whole sequences through a network, for layers that need them whole, and many rows at once.
#pragma once

#include "model/network.h"

namespace fastrnn {

struct Sequences {  // as Network::run takes them
  const float* x;
  const std::int32_t* tokens;
  Index batch, steps;
  const Index* lengths;
  float* y;
};
void run_sequences(const Network& network, const Sequences& sequences);

}  // namespace fastrnn
