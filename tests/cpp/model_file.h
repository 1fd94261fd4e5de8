// Model files for tests, as fastrnn.save (Python) writes them: safetensors with the model's classes and
// arguments in its metadata.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

// The bytes of a file that holds float32 tensors one after the other, with small fixed values.
class ModelFile {
 public:
  void add(const std::string& name, std::vector<std::size_t> shape) {
    std::size_t count = 1;
    std::string sizes;
    for (std::size_t n : shape) {
      count *= n;
      sizes += (sizes.empty() ? "" : ",") + std::to_string(n);
    }
    const std::size_t begin = values_.size() * sizeof(float);
    for (std::size_t i = 0; i < count; ++i) values_.push_back(next());
    tensors_ += ",\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + sizes +
                "],\"data_offsets\":[" + std::to_string(begin) + "," +
                std::to_string(values_.size() * sizeof(float)) + "]}";
  }

  // model: {"class": ..., "config": {...}}
  std::string bytes(const std::string& model) const {
    const std::string text =
        R"({"format": 1, "version": "0.1.0", "model": )" + model + R"(, "metadata": {}})";
    std::string header = "{\"__metadata__\":{\"fastrnn\":\"";
    for (char c : text) header += c == '"' ? std::string("\\\"") : std::string(1, c);
    header += "\"}" + tensors_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::string file;
    for (int i = 0; i < 8; ++i)
      file += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i));
    file += header;
    file.append(reinterpret_cast<const char*>(values_.data()), values_.size() * sizeof(float));
    return file;
  }

 private:
  float next() {  // in (-0.25, 0.25)
    state_ = state_ * 1664525u + 1013904223u;
    return (static_cast<float>(state_ >> 8) / 16777216.0f - 0.5f) / 2;
  }
  std::string tensors_;
  std::vector<float> values_;
  std::uint32_t state_ = 1;
};

// A recurrent layer of `kind` ("GRU", gates 3; "LSTM", gates 4) and a linear one behind it.
inline std::string recurrent_model(const std::string& kind, std::size_t gates, std::size_t inputs,
                                   std::size_t hidden, std::size_t outputs) {
  ModelFile file;
  file.add("0.bias_hh_l0", {gates * hidden});
  file.add("0.bias_ih_l0", {gates * hidden});
  file.add("0.weight_hh_l0", {gates * hidden, hidden});
  file.add("0.weight_ih_l0", {gates * hidden, inputs});
  file.add("1.bias", {outputs});
  file.add("1.weight", {outputs, hidden});
  const auto text = [](std::size_t n) { return std::to_string(n); };
  return file.bytes(R"({"class": "Sequential", "config": {"layers": [{"class": ")" + kind +
                    R"(", "config": {"input_size": )" + text(inputs) + R"(, "hidden_size": )" +
                    text(hidden) + R"(}}, {"class": "Linear", "config": {"in_features": )" +
                    text(hidden) + R"(, "out_features": )" + text(outputs) + "}}]}}");
}
