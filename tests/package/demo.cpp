// demo.c in C++: the same output.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fastrnn/fastrnn.hpp>
#include <memory>

#include "model.h"

int main() try {
  std::size_t size;
  const std::unique_ptr<char, decltype(&std::free)> file(make_model(&size), &std::free);
  const auto model = fastrnn::Model::from_memory(file.get(), size);
  fastrnn::Stream stream(model);
  std::uint64_t state = 2;
  for (int step = 0; step < 200; ++step) {
    std::array<float, inputs> x;
    std::array<float, outputs> y;
    for (float& value : x) value = 4 * next_value(&state);
    stream.step(x, y);
    std::array<std::uint32_t, outputs> bits;
    std::memcpy(bits.data(), y.data(), sizeof bits);
    std::printf("%08x %08x\n", static_cast<unsigned>(bits[0]), static_cast<unsigned>(bits[1]));
  }
} catch (const fastrnn::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
