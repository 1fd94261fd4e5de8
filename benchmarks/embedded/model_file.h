// Models of random weights, as the file that fastrnn.save would write: one LSTM or GRU of one input and a
// linear layer to one output.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

// As PyTorch stores them.
struct Weights {
  bool lstm;
  int hidden;
  std::vector<float> weight_ih, weight_hh, bias_ih, bias_hh, linear, linear_bias;
};

// Uniform over +-scale / sqrt(H); scale 1: PyTorch's initial weights, 3: rather those of a trained net.
inline Weights random_weights(bool lstm, int H, float scale) {
  std::mt19937 generator(1);
  const float bound = scale / std::sqrt(static_cast<float>(H));
  std::uniform_real_distribution<float> uniform(-bound, bound);
  const auto some = [&](int n) {
    std::vector<float> out(n);
    for (float& x : out) x = uniform(generator);
    return out;
  };
  const int rows = (lstm ? 4 : 3) * H;
  return {lstm, H, some(rows), some(rows * H), some(rows), some(rows), some(H), some(1)};
}

inline std::string model_file(const Weights& w) {
  const std::string H = std::to_string(w.hidden);
  std::string config =
      R"({"format":1,"version":"0","metadata":{},"model":{"class":"Sequential","config":{"layers":[)"
      R"({"class":")" +
      std::string(w.lstm ? "LSTM" : "GRU") + R"(","config":{"input_size":1,"hidden_size":)" + H +
      R"(}},{"class":"Linear","config":{"in_features":)" + H + R"(,"out_features":1}}]}}})";
  std::string quoted;
  for (char c : config) quoted += c == '"' ? std::string("\\\"") : std::string(1, c);
  std::string header = R"({"__metadata__":{"fastrnn":")" + quoted + "\"}", data;
  const auto add = [&](const char* name, const std::vector<float>& values,
                       const std::string& shape) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    header += std::string(",\"") + name + R"(":{"dtype":"F32","shape":[)" + shape +
              R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(data.size()) +
              "]}";
  };
  const std::string rows = std::to_string(w.bias_ih.size());
  add("0.weight_ih_l0", w.weight_ih, rows + ",1");
  add("0.weight_hh_l0", w.weight_hh, rows + "," + H);
  add("0.bias_ih_l0", w.bias_ih, rows);
  add("0.bias_hh_l0", w.bias_hh, rows);
  add("1.weight", w.linear, "1," + H);
  add("1.bias", w.linear_bias, "1");
  header += "}";
  const std::uint64_t size = header.size();
  std::string file(sizeof size, '\0');
  std::memcpy(&file[0], &size, sizeof size);
  return file + header + data;
}
