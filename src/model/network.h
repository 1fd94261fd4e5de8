// A trained network as embedded programs run it: layers one after the other, packed once, immutable
// then, so that any number of threads may use it at once. Streams are Runners (runner.h).
#pragma once

#include <memory>
#include <vector>

#include "sequence/cell.h"

namespace fastrnn {

enum class ActivationLayer { tanh, sigmoid, relu, softmax };
enum class MergeMode { concat, sum, mean, mul };

// A recurrent layer as Python knows it: cells[layer * directions + direction], each with what
// CellWeights takes, forward before reverse. h0 (num_layers * directions, P) and c0 (..., H): learned
// initial states, null: zeros. go_backwards: of one direction; outputs stand in the order of
// processing, as in Keras.
struct RecurrentLayers {
  int num_layers, directions;
  const CellWeights<float>* cells;
  MergeMode merge_mode;
  bool go_backwards;
  const float *h0, *c0;
};

// One step of a network: rows to rows, from `in` values to `out`. A recurrent layer of Python's has
// one for each of its num_layers, with one cell for each direction.
struct NetworkLayer {
  enum class Kind { embedding, linear, layer_norm, activation, reverse, recurrent };
  Kind kind;
  Index in, out;
  ActivationLayer activation = {};
  float epsilon = 0;
  // embedding: the table; linear: packed for the product, and where its accumulators start;
  // layer_norm: gain and shift (no values: none); recurrent: initial states, by direction h, then c.
  Buffer<float> weight, bias;
  std::vector<std::unique_ptr<Cell<float>>> cells;
  MergeMode merge_mode = {};
  Index state_at = 0;  // in a stream's state: h, then c
};

// Rows of any layer but `recurrent` and `reverse`; tokens (not null: of an embedding or linear
// layer) in place of x. x and y must not overlap, but for activations, where they may be the same.
void forward_rows(const NetworkLayer& layer, Index rows, const float* const* x, const Index* tokens,
                  float* const* y);

class Network {
 public:
  // In the order of the layers; each takes what the one before gives. Sizes have been checked by the
  // caller. Throw std::bad_alloc only.
  void add_embedding(Index rows, Index width, const float* weight);
  void add_linear(Index in, Index out, const float* weight, const float* bias);  // bias: or null
  // weight, bias: or null.
  void add_layer_norm(Index features, const float* weight, const float* bias, float epsilon);
  void add_activation(ActivationLayer function);
  // Leaves all steps as they are: streams and run() give each step's output, whoever wants the last
  // one takes it. No recurrent layer may follow.
  void add_last_step() {}
  void add_recurrent(const RecurrentLayers& layers);

  Index input_size() const { return layers_.empty() ? 0 : layers_.front().in; }
  Index output_size() const { return layers_.empty() ? 0 : layers_.back().out; }
  Index state_size() const { return streams_ ? state_size_ : 0; }
  bool takes_tokens() const;    // tokens only
  bool accepts_tokens() const;  // tokens too, as one-hot vectors: input_size() of them
  bool streams() const { return streams_; }
  std::size_t memory() const;  // bytes

  // Whole sequences: x (batch, steps, input_size) or tokens (batch, steps), the other null, and
  // y (batch, steps, output_size). lengths (batch) or null: what lies past a row's is not read, and
  // zeros in y. On the calling thread; allocates.
  void run(const float* x, const std::int32_t* tokens, Index batch, Index steps,
           const Index* lengths, float* y) const;

  const std::vector<NetworkLayer>& layers() const { return layers_; }
  void initial_state(float* state) const;  // state_size() values

 private:
  NetworkLayer& add(NetworkLayer::Kind kind, Index in, Index out);

  std::vector<NetworkLayer> layers_;
  Index state_size_ = 0;
  bool streams_ = true;
};

}  // namespace fastrnn
