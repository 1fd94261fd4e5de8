// A recurrent layer of a model file, checked, and not yet packed.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "fastrnn/fastrnn.h"
#include "model/config.h"
#include "model/network.h"
#include "model/weights.h"

namespace fastrnn {

struct RecurrentLayer {
  // Reads what layer_class (RNN, LSTM, GRU, IndRNN) has in its configuration and, under names that
  // begin with `prefix`, its weights. asked: see fr_model_options. Throws Failure.
  RecurrentLayer(const std::string& layer_class, Config& config, Weights& weights,
                 const std::string& prefix, fr_precision asked);
  void add_to(Network& network) const;

  CellKind kind = {};
  std::uint64_t input = 0, hidden = 0, output = 0, layers = 1;  // output: of one direction
  bool bidirectional = false, go_backwards = false;
  MergeMode merge_mode = {};
  fr_precision stored = FR_PRECISION_FLOAT32, precision = FR_PRECISION_FLOAT32;
  std::uint64_t directions() const { return bidirectional ? 2 : 1; }
  std::uint64_t width() const {  // of the layer's output
    return output * (merge_mode == MergeMode::concat ? directions() : 1);
  }

 private:
  struct CellTensors {
    WeightPointers<const Tensor*> at;
    WeightPointers<const Tensor*> scales;
  };
  struct Parts {  // which weights there are
    bool bias = true, projects = false, layer_norm = false, peephole = false, slope = false;
  };

  Parts read_cell(const std::string& layer_class, Config& config);
  void read_options(Config& config, bool needed);
  void choose_precision(Config& config, fr_precision asked);
  void take_weights(const Parts& parts, bool learned_state, Weights& weights,
                    const std::string& prefix);
  CellTensors take_cell(const Parts& parts, Weights& weights, const std::string& prefix,
                        const std::string& suffix, std::uint64_t inputs) const;
  CellWeights<float> cell_weights(const CellTensors& tensors, std::uint64_t inputs,
                                  Arrays& arrays) const;

  CellOptions<float> options_ = {};
  bool has_options_ = false;
  std::vector<CellTensors> cells_;  // layers * directions
  const Tensor *h0_ = nullptr, *c0_ = nullptr;
};

}  // namespace fastrnn
