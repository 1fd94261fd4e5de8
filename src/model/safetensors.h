// The file format of models, https://huggingface.co/docs/safetensors: 8 bytes, the header's length;
// the header, a JSON object of names to {"dtype", "shape", "data_offsets"}, and "__metadata__", an
// object of strings; the tensors' bytes, without gaps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "types.h"

namespace fastrnn {

// Bytes of a file or of the caller's memory, as long as this lives. A file of up to read_limit bytes
// is read; a larger one is mapped, so that it takes no memory twice. (Of a mapped file that another
// program shortens meanwhile, the system kills the reader with SIGBUS: replace models by renaming, as
// fastrnn.save does.)
class FileBytes {
 public:
  static constexpr std::size_t read_limit = 16u << 20;

  explicit FileBytes(const char* path);  // throws Failure
  FileBytes(const void* data, std::size_t size);
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;
  ~FileBytes();
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
  std::vector<char> own_;
  bool mapped_ = false;
};

struct Tensor {
  std::string name, dtype;          // "F32", ...
  std::string_view shape;           // as JSON, of the file
  std::vector<std::uint64_t> dims;  // at most 8; of more, none that anybody asks for
  std::string_view bytes;           // of the file; may stand at any address
};

// The checked content of a file: whatever it says of sizes and places holds.
class Safetensors {
 public:
  explicit Safetensors(std::string_view file);  // must live as long; throws Failure
  const std::vector<Tensor>& tensors() const { return tensors_; }  // by name, ascending
  const Tensor* find(std::string_view name) const;                 // null: none
  const std::optional<std::string>& description() const { return description_; }  // "fastrnn"

 private:
  std::vector<Tensor> tensors_;
  std::optional<std::string> description_;
};

}  // namespace fastrnn
