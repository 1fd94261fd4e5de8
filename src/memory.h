// Aligned memory: Buffer owns one array, Workspace lends scratch that later calls use again.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "types.h"

#if defined(__SANITIZE_ADDRESS__)
#define FASTRNN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTRNN_ASAN 1
#endif
#endif
#ifdef FASTRNN_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fastrnn {

constexpr std::size_t alignment = 64;  // a cache line, and the widest vector

// Memory that nobody has been given: AddressSanitizer, where it is in use, reports whoever touches it.
#ifdef FASTRNN_ASAN
constexpr std::size_t guard = alignment;  // bytes between pieces
inline void forbid(void* p, std::size_t size) { __asan_poison_memory_region(p, size); }
inline void allow(void* p, std::size_t size) { __asan_unpoison_memory_region(p, size); }
#else
constexpr std::size_t guard = 0;
inline void forbid(void*, std::size_t) {}
inline void allow(void*, std::size_t) {}
#endif

// Floats of rows that each begin at a cache line, where the first does.
constexpr Index padded(Index floats) { return (floats + 15) / 16 * 16; }

// a * b for sizes; throws std::bad_alloc where the product cannot be a size of an array.
inline std::size_t checked_product(std::size_t a, std::size_t b) {
  if (b != 0 && a > std::numeric_limits<std::size_t>::max() / 4 / b) throw std::bad_alloc();
  return a * b;
}

// Uninitialised memory. Over-allocated by hand: aligned_alloc is missing where macOS is old.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(std::size_t size) : size_(size), raw_(std::malloc(size + alignment)) {
    if (!raw_) throw std::bad_alloc();
    forbid(raw_.get(), size + alignment);
    allow(data(), size);
  }
  std::size_t size() const { return size_; }
  unsigned char* data() const {
    void* p = raw_.get();
    std::size_t space = size_ + alignment;
    return static_cast<unsigned char*>(std::align(alignment, size_, p, space));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::size_t size_ = 0;
  std::unique_ptr<void, Free> raw_;
};

// Memory of large arrays that come and go with each training step: kept by the thread that gave it
// back, as memory fresh from the system costs a page fault every 4 KiB.
class SpareBytes {
 public:
  static Bytes take(std::size_t size) {
    for (Bytes& spare : spares())
      if (spare.size() >= size && spare.size() / 2 <= size) {
        Bytes found = std::move(spare);
        std::swap(spare, spares().back());
        spares().pop_back();
        forbid(found.data(), found.size());
        allow(found.data(), size);
        return found;
      }
    return Bytes(size);
  }
  static void give(Bytes&& bytes) {
    std::size_t kept = bytes.size();
    for (const Bytes& spare : spares()) kept += spare.size();
    if (bytes.size() > 0 && kept <= most) spares().push_back(std::move(bytes));
  }

 private:
  static constexpr std::size_t most = 64u << 20;
  static std::vector<Bytes>& spares() {
    static thread_local std::vector<Bytes> list;
    return list;
  }
};

template <class Real>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count)
      : count_(count), bytes_(checked_product(count, sizeof(Real))) {}
  // From spare memory where there is some, and back to it.
  static Buffer from_spares(std::size_t count) {
    Buffer buffer;
    buffer.bytes_ = SpareBytes::take(checked_product(count, sizeof(Real)));
    buffer.count_ = count;
    return buffer;
  }
  void to_spares() {
    count_ = 0;
    SpareBytes::give(std::move(bytes_));
  }
  Real* data() const { return count_ ? reinterpret_cast<Real*>(bytes_.data()) : nullptr; }
  std::size_t size() const { return count_; }

 private:
  std::size_t count_ = 0;
  Bytes bytes_;
};

// Scratch for one call at a time: take() hands out pieces, reset() takes all of them back. A later
// call that needs no more than an earlier one allocates nothing. rewind() takes back what was handed
// out since mark(), for parts of a call that follow each other.
class Workspace {
 public:
  struct Mark {
    std::size_t block, used;
  };
  template <class Item>
  Item* take(Index count) {
    const std::size_t bytes = checked_product(static_cast<std::size_t>(count), sizeof(Item));
    return reinterpret_cast<Item*>(take_bytes(bytes));
  }
  template <class Item>
  Item* take_zeroed(Index count) {
    Item* items = take<Item>(count);
    std::fill(items, items + count, Item());
    return items;
  }
  std::size_t capacity() const {
    std::size_t sum = 0;
    for (const Bytes& block : blocks_) sum += block.size();
    return sum;
  }
  Mark mark() const { return {block_, used_}; }
  void rewind(Mark mark) {
    block_ = mark.block;
    used_ = mark.used;
    forbid_rest();
  }
  // Calls that have ended: what a call may take turns by.
  Index turn() const { return turn_; }
  // Frees everything beyond `keep` bytes and joins what is left to one block.
  void reset(std::size_t keep) {
    ++turn_;
    block_ = used_ = 0;
    const std::size_t total = capacity();
    if (blocks_.size() > 1 || total > keep) {
      blocks_.clear();
      if (total <= keep) blocks_.emplace_back(total);
    }
    forbid_rest();
  }

 private:
  unsigned char* take_bytes(std::size_t bytes) {
    const std::size_t whole = (bytes + alignment - 1) / alignment * alignment + guard;
    while (block_ < blocks_.size() && blocks_[block_].size() - used_ < whole) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      blocks_.emplace_back(std::max<std::size_t>(whole, 16384));
      forbid_rest();
    }
    unsigned char* piece = blocks_[block_].data() + used_;
    used_ += whole;
    allow(piece, bytes);
    forbid(piece + bytes, whole - bytes);
    return piece;
  }
  void forbid_rest() {
    if (guard == 0) return;
    for (std::size_t i = block_; i < blocks_.size(); ++i) {
      const std::size_t used = i == block_ ? used_ : 0;
      forbid(blocks_[i].data() + used, blocks_[i].size() - used);
    }
  }
  std::vector<Bytes> blocks_;
  std::size_t block_ = 0, used_ = 0;  // the block in use, and the bytes of it handed out
  Index turn_ = 0;
};

// Scratch of the calling thread; kept between calls up to a size that small work needs again. A call
// inside a call (a signal handler that uses fastrnn) gets scratch of its own.
class ScratchLease {
 public:
  ScratchLease() : nested_(lent()) { lent() = true; }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  ~ScratchLease() {
    if (nested_) return;
    scratch().reset(keep_bytes);
    lent() = false;
  }
  Workspace& operator*() { return nested_ ? own_ : scratch(); }
  static std::size_t kept() { return scratch().capacity(); }

 private:
  static constexpr std::size_t keep_bytes = 32u << 20;
  static Workspace& scratch() {
    static thread_local Workspace workspace;
    return workspace;
  }
  static bool& lent() {
    static thread_local bool value = false;
    return value;
  }
  const bool nested_;
  Workspace own_;
};

}  // namespace fastrnn
