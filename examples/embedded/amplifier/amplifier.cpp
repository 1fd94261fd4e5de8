// amplifier.c in C++, without the clock: a recording goes through a trained network in blocks.
//
//     amplifier_cpp model.safetensors input.wav output.wav
#include <cstdio>
#include <exception>
#include <fastrnn/fastrnn.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../wav.h"

namespace {

constexpr std::size_t block = 64;

class Effect {
 public:
  Effect(const fastrnn::Model& model, std::size_t channels) : channels_(channels) {
    if (model.input_size() != 1 || model.output_size() != 1) {
      throw std::runtime_error("expected a model of one input and one output");
    }
    for (std::size_t c = 0; c < channels; ++c) streams_.emplace_back(model);
  }

  // The audio callback: count <= block frames, in place.
  void process(float* frames, std::size_t count) {
    float x[block], y[block];
    for (std::size_t c = 0; c < channels_; ++c) {
      for (std::size_t t = 0; t < count; ++t) x[t] = frames[t * channels_ + c];
      streams_[c].process({x, count}, count, {y, count});
      for (std::size_t t = 0; t < count; ++t) frames[t * channels_ + c] = y[t];
    }
  }

 private:
  std::size_t channels_;
  std::vector<fastrnn::Stream> streams_;  // one for each channel: it holds the state
};

void check(const char* path, const char* problem) {
  if (problem) throw std::runtime_error(std::string(path) + ": " + problem);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: amplifier_cpp MODEL.safetensors INPUT.wav OUTPUT.wav\n", stderr);
    return 2;
  }
  try {
    wav recording;
    check(argv[2], wav_read(argv[2], &recording));
    const std::unique_ptr<float, void (*)(void*)> owner(recording.samples, std::free);
    const fastrnn::Model model(argv[1]);
    Effect effect(model, recording.channels);
    for (std::size_t at = 0; at < recording.frames; at += block) {
      const std::size_t left = recording.frames - at;
      effect.process(recording.samples + at * recording.channels, left < block ? left : block);
    }
    check(argv[3], wav_write(argv[3], &recording));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "amplifier_cpp: %s\n", error.what());
    return 1;
  }
  return 0;
}
