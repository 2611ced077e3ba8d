#pragma once
// The bytes of a file in order, decompressed as they are read.
#include <memory>
#include <string>
#include <string_view>

namespace weir {

/// A regular file from its begin to its end: as it is, gzip (several members allowed) or Zstandard
/// (several frames allowed), told apart by content. At most a window of the compressed stream is in
/// memory. A name that ends in .gz or .zst demands that content. User errors: a file that cannot be
/// read, a stream that is damaged or ends early.
class ByteStream {
 public:
  explicit ByteStream(const std::string& path);
  ~ByteStream();
  ByteStream(ByteStream&&) noexcept;
  ByteStream& operator=(ByteStream&&) noexcept;

  /// The next bytes, at most `size`; 0 at the end.
  size_t read(char* out, size_t size);

 private:
  struct Packed;  ///< how the bytes are stored
  class Plain;
  class Gzip;
  class Zstandard;
  std::unique_ptr<Packed> packed_;
};

/// The name without an ending that says how a file is compressed (.gz, .zst).
std::string_view without_compression(std::string_view path);

}  // namespace weir
