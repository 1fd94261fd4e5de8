// Inference through a stack of recurrent layers: the output of each is the input of the next.
#pragma once

#include "sequence/layer.h"

namespace fastrnn {

// cells: `directions` of each layer, from the first layer to the last; input sizes fit.
template <class Real>
struct Stack {
  const Cell<Real>* const* cells;
  int layers, directions;
};

// As layer_forward, with states (layers * D, B, H), and without a cache. What lies between two layers
// needs O(H) values per row; with two directions, which need whole sequences, O(T H).
template <class Real>
bool stack_forward(const Stack<Real>& stack, const LayerInput<Real>& in,
                   const LayerOutput<Real>& out, Workspace& workspace, Interrupt interrupt);

}  // namespace fastrnn
