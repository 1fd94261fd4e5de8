// Tells where someone speaks in a recording: a GRU looks at one frame of features after the other, as
// it would behind a microphone.
//
//     vad [--int8 | --bf16] model.safetensors speech.wav [frames.csv]
//
// Prints the segments of speech. frames.csv gets the features and the probability of each frame.
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fastrnn/fastrnn.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../wav.h"
#include "features.hpp"

namespace {

struct Frame {
  std::array<float, LogMel::bands> energies;
  float probability;
};

// Joins what belongs together: speech begins with a frame above one half, and ends where so many
// frames in a row were not.
class Segments {
 public:
  void add(float probability) {
    quiet_ = probability > 0.5F ? 0 : quiet_ + 1;
    if (quiet_ == 0 && begin_ < 0) begin_ = frame_;
    ++frame_;
    if (quiet_ == patience) end();
  }
  // Of the recording, or of a segment.
  void end() {
    if (begin_ >= 0) print(begin_, frame_ - quiet_);
    begin_ = -1;
  }
  int count() const { return count_; }

 private:
  static constexpr int patience = 8;

  void print(int from, int to) {
    const double seconds = double(LogMel::hop) / LogMel::rate;
    std::printf("%3d  %7.2f s to %7.2f s\n", ++count_, from * seconds, to * seconds);
  }

  int frame_ = 0, begin_ = -1, quiet_ = 0, count_ = 0;
};

wav read_recording(const char* path) {
  wav recording;
  const char* problem = wav_read(path, &recording);
  if (!problem && (recording.rate != LogMel::rate || recording.channels != 1)) {
    std::free(recording.samples);
    problem = "expected one channel at 8000 Hz";
  }
  if (problem) throw std::runtime_error(std::string(path) + ": " + problem);
  return recording;
}

std::vector<Frame> listen(const fastrnn::Model& model, const wav& recording) {
  if (model.input_size() != LogMel::bands || model.output_size() != 1) {
    throw std::runtime_error("expected a model of 20 inputs and 1 output, got " +
                             std::to_string(model.input_size()) + " and " +
                             std::to_string(model.output_size()));
  }
  const LogMel features;
  fastrnn::Stream stream(model);
  Segments segments;
  std::vector<Frame> frames;
  for (std::size_t at = 0; at + LogMel::window <= recording.frames; at += LogMel::hop) {
    Frame frame;
    features.frame(recording.samples + at, frame.energies.data());
    stream.step(frame.energies, {&frame.probability, 1});
    segments.add(frame.probability);
    frames.push_back(frame);
  }
  segments.end();
  std::printf("%d segments in %zu frames\n", segments.count(), frames.size());
  return frames;
}

void write(const char* path, const std::vector<Frame>& frames) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "w"), std::fclose);
  if (!file) throw std::runtime_error(std::string(path) + ": cannot be created");
  for (const Frame& frame : frames) {
    for (const float energy : frame.energies) std::fprintf(file.get(), "%.9g,", energy);
    std::fprintf(file.get(), "%.9g\n", frame.probability);
  }
  if (std::fflush(file.get())) throw std::runtime_error(std::string(path) + ": cannot be written");
}

fr_precision precision_of(const std::string& flag) {
  if (flag == "--int8") return FR_PRECISION_INT8;
  if (flag == "--bf16") return FR_PRECISION_BF16;
  return FR_PRECISION_AS_STORED;
}

}  // namespace

int main(int argc, char** argv) {
  const fr_precision precision = argc > 1 ? precision_of(argv[1]) : FR_PRECISION_AS_STORED;
  const int first = precision == FR_PRECISION_AS_STORED ? 1 : 2;
  if (argc < first + 2 || argc > first + 3 || argv[first][0] == '-') {
    std::fputs("usage: vad [--int8 | --bf16] MODEL.safetensors RECORDING.wav [FRAMES.csv]\n",
               stderr);
    return 2;
  }
  try {
    const fastrnn::Model model(argv[first], precision);
    const wav recording = read_recording(argv[first + 1]);
    const std::unique_ptr<float, void (*)(void*)> owner(recording.samples, std::free);
    const std::vector<Frame> frames = listen(model, recording);
    if (argc == first + 3) write(argv[first + 2], frames);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vad: %s\n", error.what());
    return 1;
  }
  return 0;
}
