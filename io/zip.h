#pragma once
// The part of the zip format that .npz files use: stored or deflated entries, no zip64, no
// encryption, one volume. Entries are written stored.
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/file.h"

namespace weir {

/// All entries of an archive in its order, decompressed and checked by CRC. A damaged archive, a
/// duplicate name or an unsupported feature is a UserError with the file and the entry.
std::vector<std::pair<std::string, std::string>> read_zip(const MappedFile& file);

/// Writes stored entries in the given order, atomically, always the same bytes for the same input.
/// An entry or archive of 4 GiB or more, or more than 65535 entries, is a UserError.
class ZipWriter {
 public:
  explicit ZipWriter(const std::string& path) : path_(path), file_(path) {}
  /// The content is the concatenation of the two parts.
  void add(const std::string& name, std::string_view head, std::span<const std::byte> body);
  void commit();

 private:
  std::string path_;
  AtomicFile file_;
  std::string directory_;
  std::vector<std::string> names_;
  uint64_t offset_ = 0;
};

}  // namespace weir
