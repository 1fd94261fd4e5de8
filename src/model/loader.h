// From a model file, as fastrnn.save writes it, to a Network.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fastrnn/fastrnn.h"
#include "model/network.h"

namespace fastrnn {

struct LoadedModel {
  Network network;
  std::string metadata;  // JSON, as it stands in the file
  // Of the recurrent layers; FR_PRECISION_AS_STORED where they differ.
  fr_precision precision = FR_PRECISION_FLOAT32;
  std::uint64_t fingerprint = 0;  // of the file and the precision: what a state belongs to
  std::string not_streamed;       // the layer that needs whole sequences; "": none
};

// All of the file is checked, names, shapes and dtypes of the weights too, before anything larger than
// its header is allocated. Throws Failure, and std::bad_alloc.
void load_model(std::string_view file, fr_precision precision, LoadedModel& model);

}  // namespace fastrnn
