#pragma once
// Hashes for keys and for content checks (xxHash's XXH3).
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace weir {

uint64_t hash_64(std::string_view bytes);
/// 32 hexadecimal digits of a file's bytes, those that `xxhsum -H128` prints; memory does not grow
/// with the file. User error if it cannot be read.
std::string hash_of_file(const std::string& path);

/// Hash of a sequence of bytes that arrives in parts; how it is cut into parts does not matter.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void add(std::string_view bytes);
  /// The hash of all bytes so far.
  uint64_t hash_64() const;
  /// 32 hexadecimal digits.
  std::string hex_128() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
