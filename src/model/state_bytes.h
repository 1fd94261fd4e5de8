// The state of a stream as bytes, to go on in another process or on another machine: bound to the model
// whose state it is, and checked when it is read.
//
// Little endian: 8 bytes "fr_state", u32 version (1), u32 number of floats, u64 fingerprint of the model,
// the floats, u64 hash_bytes of all that stands before.
#pragma once

#include <cstdint>
#include <string_view>

#include "types.h"

namespace fastrnn {

// The same on every machine. Not for secrets: whoever wants to can find bytes of the same hash.
std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t start = 0);

std::size_t state_bytes(Index state_size);
void write_state(const float* state, Index state_size, std::uint64_t fingerprint,
                 unsigned char* to);
// Throws Failure with what is wrong.
void read_state(std::string_view from, Index state_size, std::uint64_t fingerprint, float* state);

}  // namespace fastrnn
