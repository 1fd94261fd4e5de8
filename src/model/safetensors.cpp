#include "model/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "model/failure.h"
#include "model/json.h"

#if defined(__unix__) || defined(__APPLE__)
#define FASTRNN_POSIX 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace fastrnn {

// --- bytes ----------------------------------------------------------------------------------------

namespace {

[[noreturn]] void fail_io(const char* what) {
  fail(FR_IO_ERROR, std::string(what) + " (" + std::strerror(errno) + ")");
}

#ifdef FASTRNN_POSIX
class Descriptor {
 public:
  // Not waiting for the other end of a pipe, which is then refused.
  explicit Descriptor(const char* path) : fd_(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail_io("cannot be opened");
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(fd_); }

  std::size_t size() const {
    struct stat status;
    if (fstat(fd_, &status) != 0) fail_io("cannot be read");
    if (!S_ISREG(status.st_mode)) fail(FR_IO_ERROR, "cannot be read (not a regular file)");
    if (static_cast<std::uint64_t>(status.st_size) > PTRDIFF_MAX) throw std::bad_alloc();
    return static_cast<std::size_t>(status.st_size);
  }
  const char* map(std::size_t size) const {
    void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (data == MAP_FAILED) fail_io("cannot be mapped");
    return static_cast<const char*>(data);
  }
  // Up to `size` bytes: fewer, where the file has become shorter since it was asked for its size.
  std::vector<char> read_all(std::size_t size) const {
    std::vector<char> bytes(size);
    std::size_t got = 0;
    while (got < size) {
      const ssize_t n = read(fd_, bytes.data() + got, size - got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_io("cannot be read");
      if (n == 0) break;
      got += static_cast<std::size_t>(n);
    }
    bytes.resize(got);
    return bytes;
  }

 private:
  const int fd_;
};
#else
std::vector<char> read_file(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (!file) fail_io("cannot be opened");
  std::vector<char> bytes;
  try {
    for (std::size_t got = 1; got > 0;) {
      const std::size_t size = bytes.size();
      bytes.resize(size + 65536);
      got = std::fread(bytes.data() + size, 1, 65536, file);
      bytes.resize(size + got);
    }
  } catch (...) {
    std::fclose(file);
    throw;
  }
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) fail(FR_IO_ERROR, "cannot be read");
  return bytes;
}
#endif

}  // namespace

FileBytes::FileBytes(const char* path) {
#ifdef FASTRNN_POSIX
  const Descriptor file(path);
  const std::size_t size = file.size();
  if (size > read_limit) {
    bytes_ = {file.map(size), size};
    mapped_ = true;
    return;
  }
  own_ = file.read_all(size);
#else
  own_ = read_file(path);
#endif
  bytes_ = {own_.data(), own_.size()};
}

FileBytes::FileBytes(const void* data, std::size_t size)
    : bytes_(static_cast<const char*>(data), size) {}

FileBytes::~FileBytes() {
#ifdef FASTRNN_POSIX
  if (mapped_) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
#endif
}

// --- the format -----------------------------------------------------------------------------------

namespace {

constexpr std::uint64_t max_header = 100u << 20;  // as of the reference implementation
constexpr int most_nested = 100;
constexpr std::size_t max_dims = 8;

[[noreturn]] void fail_format(const std::string& what) {
  fail_model("not a whole safetensors file (" + what + ")");
}

// Bytes of a value; 0: no such dtype.
unsigned dtype_bytes(std::string_view dtype) {
  struct Dtype {
    const char* name;
    unsigned bytes;
  };
  constexpr Dtype known[] = {{"F32", 4}, {"F64", 8}, {"BF16", 2}, {"F16", 2}, {"I8", 1},
                             {"I16", 2}, {"I32", 4}, {"I64", 8},  {"U8", 1},  {"U16", 2},
                             {"U32", 4}, {"U64", 8}, {"BOOL", 1}};
  for (const Dtype& each : known)
    if (dtype == each.name) return each.bytes;
  return 0;
}

std::uint64_t read_header_length(std::string_view file) {
  if (file.size() < 8) fail_format("it has " + std::to_string(file.size()) + " bytes");
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | static_cast<unsigned char>(file[static_cast<std::size_t>(i)]);
  if (length > file.size() - 8 || length > max_header)
    fail_format("its header would have " + std::to_string(length) + " bytes, and it has " +
                std::to_string(file.size()));
  return length;
}

// The product of a shape and the bytes of a value.
std::uint64_t byte_count(const Tensor& tensor, std::uint64_t value_bytes) {
  std::uint64_t count = value_bytes;
  for (const std::uint64_t dim : tensor.dims)
    if (dim == 0) return 0;
  for (const std::uint64_t dim : tensor.dims) {
    if (count > UINT64_MAX / dim)
      fail_format(quoted(tensor.name) + ": the shape " + quoted(tensor.shape) + " is none");
    count *= dim;
  }
  return count;
}

class Reader {
 public:
  Reader(std::string_view data, std::vector<Tensor>& tensors) : data_(data), tensors_(tensors) {}

  void add(const std::string& name, const json::Value& entry) {
    Tensor tensor;
    tensor.name = name;
    const auto member = [&](const char* key, bool array) {
      const std::optional<json::Value> found = entry.find(key);
      if (!found || !(array ? found->is_array() : found->is_string()))
        fail_format(quoted(name) + " lacks its " + key);
      return *found;
    };
    tensor.dtype = *member("dtype", false).string();
    const unsigned value_bytes = dtype_bytes(tensor.dtype);
    if (value_bytes == 0) fail_format(quoted(name) + ": unknown dtype " + quoted(tensor.dtype));
    const json::Value shape = member("shape", true);
    tensor.shape = shape.text();
    tensor.dims = sizes(name, shape, max_dims);
    const std::vector<std::uint64_t> offsets = sizes(name, member("data_offsets", true), 2);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_.size())
      fail_format(quoted(name) + " does not lie within it");
    if (byte_count(tensor, value_bytes) != offsets[1] - offsets[0])
      fail_format(quoted(name) + " has " + std::to_string(offsets[1] - offsets[0]) +
                  " bytes, which is not its shape");
    tensor.bytes = data_.substr(static_cast<std::size_t>(offsets[0]),
                                static_cast<std::size_t>(offsets[1] - offsets[0]));
    tensors_.push_back(std::move(tensor));
  }

  // In the order of their places each begins where the one before ends, and the last one ends the file.
  void check_places() {
    std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
      return a.bytes.data() != b.bytes.data() ? a.bytes.data() < b.bytes.data()
                                              : a.bytes.size() < b.bytes.size();
    });
    const char* end = data_.data();
    for (const Tensor& tensor : tensors_) {
      if (tensor.bytes.data() != end)
        fail_format("there is a gap before " + quoted(tensor.name) + ", or it overlaps another");
      end += tensor.bytes.size();
    }
    if (end != data_.data() + data_.size()) fail_format("there are bytes behind its tensors");
  }

 private:
  static std::vector<std::uint64_t> sizes(const std::string& name, const json::Value& array,
                                          std::size_t most) {
    std::vector<std::uint64_t> out;
    for (json::Items items(array); items.next();) {
      const std::optional<std::int64_t> size = items.value().integer();
      if (!size || *size < 0 || out.size() == most)
        fail_format(quoted(name) + ": expected at most " + std::to_string(most) + " sizes, got " +
                    quoted(array.text()));
      out.push_back(static_cast<std::uint64_t>(*size));
    }
    return out;
  }

  const std::string_view data_;
  std::vector<Tensor>& tensors_;
};

}  // namespace

Safetensors::Safetensors(std::string_view file) {
  const auto length = static_cast<std::size_t>(read_header_length(file));
  const std::string_view header = file.substr(8, length);
  if (header.empty() || header[0] != '{') fail_format("its header is no JSON object");
  const json::Value root = json::Value::parse("the header", header, most_nested);
  Reader reader(file.substr(8 + length), tensors_);
  for (json::Items items(root); items.next();) {
    if (items.name() != "__metadata__") {
      reader.add(items.name(), items.value());
      continue;
    }
    if (!items.value().is_object()) fail_format("__metadata__ is no object");
    for (json::Items entries(items.value()); entries.next();) {
      if (!entries.value().is_string())
        fail_format("__metadata__: " + quoted(entries.name()) + " is no string");
      if (entries.name() == "fastrnn") description_ = entries.value().string();
    }
  }
  reader.check_places();
  std::sort(tensors_.begin(), tensors_.end(),
            [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
}

const Tensor* Safetensors::find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const Tensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace fastrnn
