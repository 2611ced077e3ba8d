#pragma once
// Memory that kernels work on: 64-byte aligned buffers, and buffers that end at an unmapped page
// for tests, because sanitizers do not see compiled code.
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/abi.h"

namespace weir {

/// Owns `bytes` bytes aligned to WEIR_BUFFER_ALIGNMENT, zeroed; large ones on huge pages where the
/// system gives them, taken when first touched. Movable; UserError when the machine has not the
/// memory.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  std::span<T> as() const {
    return {static_cast<T*>(data_), bytes_ / sizeof(T)};
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/// A buffer of exactly `bytes` bytes followed by an unmapped page, so that reading or writing one
/// byte past its end faults; the page before it is unmapped too. Its start is aligned to
/// WEIR_BUFFER_ALIGNMENT when `bytes` is a multiple of it, else only to `bytes`' own alignment:
/// `data()` then breaks the alignment rule of the ABI unless `aligned`, which moves the start down
/// and leaves up to 63 bytes before the page, filled with a pattern that `overrun()` checks.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes, bool aligned = true);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  std::span<T> as() const {
    return {static_cast<T*>(data()), bytes_ / sizeof(T)};
  }
  /// Whether anything was written between the end of the buffer and the unmapped page.
  bool overrun() const;

 private:
  void* mapping_ = nullptr;
  size_t mapped_ = 0;
  unsigned char* data_ = nullptr;
  size_t bytes_ = 0;
  unsigned char* end_ = nullptr;  // of the mapped part, where the unmapped page starts
};

}  // namespace weir
