#include "model/state_bytes.h"

#include <cstring>

#include "model/failure.h"

namespace fastrnn {
namespace {

constexpr char state_magic[] = {'f', 'r', '_', 's', 't', 'a', 't', 'e'};
constexpr std::uint32_t state_version = 1;

struct StateHeader {
  char magic[8];
  std::uint32_t version, count;
  std::uint64_t fingerprint;
};
static_assert(sizeof(StateHeader) == 24 && sizeof(float) == 4, "as the file has it");

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastrnn reads and writes little-endian numbers as they lie in memory"
#endif

}  // namespace

// Eight bytes at a time; each step is a bijection of the sum before, so that any single change of the
// bytes changes the result. The multiplier is that of FNV-1a.
std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t start) {
  constexpr std::uint64_t prime = 0x100000001b3;
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t hash = (0xcbf29ce484222325 ^ start ^ size) * prime;
  for (; size > 0;) {
    const std::size_t n = size < 8 ? size : 8;
    std::uint64_t word = 0;
    std::memcpy(&word, bytes, n);
    hash = (hash ^ word) * prime;
    hash ^= hash >> 29;
    bytes += n;
    size -= n;
  }
  return hash;
}

std::size_t state_bytes(Index state_size) {
  return sizeof(StateHeader) + static_cast<std::size_t>(state_size) * sizeof(float) +
         sizeof(std::uint64_t);
}

void write_state(const float* state, Index state_size, std::uint64_t fingerprint,
                 unsigned char* to) {
  StateHeader header = {{}, state_version, static_cast<std::uint32_t>(state_size), fingerprint};
  std::memcpy(header.magic, state_magic, sizeof state_magic);
  const std::size_t floats = static_cast<std::size_t>(state_size) * sizeof(float);
  std::memcpy(to, &header, sizeof header);
  if (floats > 0) std::memcpy(to + sizeof header, state, floats);
  const std::uint64_t sum = hash_bytes(to, sizeof header + floats);
  std::memcpy(to + sizeof header + floats, &sum, sizeof sum);
}

void read_state(std::string_view from, Index state_size, std::uint64_t fingerprint, float* state) {
  StateHeader header;
  std::uint64_t sum;
  if (from.size() < sizeof header + sizeof sum ||
      std::memcmp(from.data(), state_magic, sizeof state_magic) != 0)
    fail(FR_INVALID_ARGUMENT, "expected the bytes of an exported state, got something else");
  std::memcpy(&header, from.data(), sizeof header);
  if (header.version != state_version)
    fail(FR_INVALID_ARGUMENT, "expected version " + std::to_string(state_version) + ", got " +
                                  std::to_string(header.version));
  const std::size_t content = from.size() - sizeof sum;
  std::memcpy(&sum, from.data() + content, sizeof sum);
  if (sum != hash_bytes(from.data(), content))
    fail(FR_INVALID_ARGUMENT, "the bytes are damaged: their checksum differs");
  if (header.fingerprint != fingerprint)
    fail(FR_INVALID_ARGUMENT, "the state is that of another model, or of another version of it");
  const std::size_t floats = static_cast<std::size_t>(state_size) * sizeof(float);
  if (header.count != static_cast<std::uint64_t>(state_size) || content != sizeof header + floats)
    fail(FR_INVALID_ARGUMENT, "expected " + std::to_string(state_size) + " numbers, got " +
                                  std::to_string(header.count));
  if (floats > 0) std::memcpy(state, from.data() + sizeof header, floats);
}

}  // namespace fastrnn
