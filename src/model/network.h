// A trained network as programs without Python run it: layers one after the other, packed once and
// immutable then, so that any number of threads may use it at once. Its streams: runner.h.
#pragma once

#include <memory>
#include <vector>

#include "kernels/step.h"
#include "sequence/cell.h"

namespace fastrnn {

enum class ActivationLayer { tanh, sigmoid, relu, softmax };
enum class MergeMode { concat, sum, mean, mul };  // of two directions

// A recurrent layer as Python knows it: cells[layer * directions + direction], forward before reverse.
// h0 (num_layers * directions, P) and c0 (..., H): learned initial states, null: zeros. go_backwards: of
// one direction; outputs stand in the order of processing, as in Keras.
struct RecurrentLayers {
  int num_layers, directions;
  const CellWeights<float>* cells;
  MergeMode merge_mode;
  bool go_backwards;
  const float *h0, *c0;
};

// From rows of `in` values to rows of `out`. A recurrent layer of Python's is one for each of its
// num_layers, after a `reverse` where it goes backwards.
struct NetworkLayer {
  enum class Kind { embedding, linear, layer_norm, activation, reverse, recurrent };
  Kind kind;
  Index in, out;
  // embedding: the table. linear: packed for the product, and where its accumulators begin.
  // layer_norm: gain; shift, or none. recurrent: initial states h of all directions, then c; zeros, at
  // which a projection begins.
  Buffer<float> weight, bias;
  ActivationLayer activation = {};
  float epsilon = 0;
  std::vector<std::unique_ptr<Cell<float>>> cells;  // one or two directions
  MergeMode merge_mode = {};
  Index state_at = 0;  // in a stream's state: h, then c where there is one
  // A row in one call (step.h), of a recurrent or linear layer that is small and plain; else null. The
  // layer that follows may be the cell's head.
  decltype(StepKernels::linear) linear_step = nullptr;
  StepLinear step_linear = {};
  std::remove_extent_t<decltype(StepKernels::cells)> cell_step = nullptr;
  StepCell step_cell = {};

  std::size_t memory() const;
};

// Rows of a layer that is neither `reverse` nor `recurrent`; tokens instead of x, where not null, for
// an embedding, or as one-hot vectors for a linear layer. No y may overlap an x.
void forward_rows(const NetworkLayer& layer, Index rows, const float* const* x, const Index* tokens,
                  float* const* y);

class Network {
 public:
  // Layers in their order; the caller has checked the sizes. Throw std::bad_alloc alone. What is null
  // is not there.
  void add_embedding(Index rows, Index width, const float* weight);
  void add_linear(Index in, Index out, const float* weight, const float* bias);
  void add_layer_norm(Index features, const float* weight, const float* bias, float epsilon);
  void add_activation(ActivationLayer function);
  // Leaves all steps as they are: who wants the last one takes it from the output. So no recurrent
  // layer may follow.
  void add_last_step() {}
  void add_recurrent(const RecurrentLayers& layers);

  // Values of a step; tokens there are, of a network that begins with an embedding. 0 where no layer
  // has a size.
  Index input_size() const { return layers_.empty() ? 0 : layers_.front().in; }
  Index output_size() const { return layers_.empty() ? 0 : layers_.back().out; }
  Index state_size() const { return streams_ ? state_size_ : 0; }
  bool takes_tokens() const;    // and nothing else
  bool accepts_tokens() const;  // too: as one-hot vectors
  bool streams() const { return streams_; }
  std::size_t memory() const;  // bytes

  // Whole sequences: x (batch, steps, input_size) or tokens (batch, steps), the other null, to
  // y (batch, steps, output_size). lengths (batch), or null where all are `steps`: what lies past one
  // is not read, and zeros in y. On the calling thread, but for OpenMP; allocates.
  void run(const float* x, const std::int32_t* tokens, Index batch, Index steps,
           const Index* lengths, float* y) const;

  const std::vector<NetworkLayer>& layers() const { return layers_; }
  Index widest() const;  // of what layers give
  void initial_state(float* state) const;

 private:
  NetworkLayer& add(NetworkLayer::Kind kind, Index in, Index out);
  void add_cells(const RecurrentLayers& layers, int layer);

  std::vector<NetworkLayer> layers_;
  Index state_size_ = 0;
  bool streams_ = true;
};

}  // namespace fastrnn
