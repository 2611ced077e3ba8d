#pragma once
// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes. Read through
// a memory map, written atomically.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/dtype.h"
#include "io/file.h"

namespace weir {

/// One tensor of a file: elements in C order, little-endian.
struct SafetensorsEntry {
  std::string name;
  FileDtype dtype = FileDtype::f32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< first byte, counted from the end of the header
  uint64_t end = 0;    ///< one past the last byte
};

/// A checked file: the constructor throws one UserError with all problems of the file (each names
/// the tensor, what was found and what is needed). Between and after tensors, runs of fewer than 64
/// zero bytes (alignment) are allowed; any other byte that belongs to no tensor is a problem.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path) : SafetensorsFile(MappedFile(path)) {}
  explicit SafetensorsFile(MappedFile file);

  const std::string& path() const { return file_.path(); }
  /// All tensors by rising offset.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  /// The `__metadata__` of the header; empty when absent.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// Null when there is no such tensor.
  const SafetensorsEntry* find(const std::string& name) const;
  /// UserError with the nearest names when there is no such tensor.
  const SafetensorsEntry& at(const std::string& name) const;

  /// The bytes inside the map; may be unaligned, as the format allows that.
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;
  /// The elements widened (or rounded, see to_f32) to f32.
  std::vector<float> to_f32(const std::string& name) const;
  /// Gives back the memory that reading the tensor took (MappedFile::release).
  void release(const SafetensorsEntry& entry) const { file_.release(bytes(entry)); }

 private:
  MappedFile file_;
  uint64_t data_begin_ = 0;
  std::vector<SafetensorsEntry> entries_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written, its bytes elsewhere in memory.
struct SafetensorsItem {
  std::string name;
  FileDtype dtype = FileDtype::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

/// Writes tensors in the given order, atomically. The data begin at a multiple of 8 bytes; give
/// wider types first if every tensor shall be aligned, as the format has no room for padding.
/// UserError for a name that is given twice, reserved (`__metadata__`) or not UTF-8.
void write_safetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                       const std::map<std::string, std::string>& metadata = {});

/// The same where not all tensors are in memory at once: `bytes(i)` gives those of items[i] (whose
/// `data` is not used), and is called once for each in turn.
void write_safetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                       const std::function<std::span<const std::byte>(size_t)>& bytes,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace weir
