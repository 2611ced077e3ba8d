#pragma once
// GGUF files, versions 2 and 3: typed metadata, then tensors, quantised or not. Read through a
// memory map. Format: docs/gguf.md of ggml.
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/file.h"
#include "io/ggml_type.h"

namespace weir {

/// What a value of the metadata is; the numbers are the format's.
enum class GgufKind : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  list,
  u64,
  i64,
  f64
};
/// "u32", "text", "list" ...
std::string_view gguf_kind_name(GgufKind kind);

/// One value of the metadata, a view into its file. Every conversion that the value does not allow
/// is a UserError with the file, the key, what it is and what is needed.
class GgufValue {
 public:
  const std::string& key() const { return key_; }
  GgufKind kind() const { return kind_; }
  /// Of a list: what its elements are, and how many.
  GgufKind element_kind() const { return element_kind_; }
  uint64_t size() const { return size_; }

  /// Any integer kind, within 63 bits.
  int64_t whole() const;
  /// Any integer or floating kind.
  double number() const;
  bool flag() const;
  std::string_view text() const;
  /// Lists of the same; `wholes` also takes a single number as a list of one.
  std::vector<int64_t> wholes() const;
  std::vector<double> numbers() const;
  std::vector<std::string_view> texts() const;

 private:
  friend class GgufReader;
  [[noreturn]] void wrong(std::string_view needed) const;
  int64_t whole_at(GgufKind kind, size_t offset) const;
  double number_at(GgufKind kind, size_t offset) const;

  std::shared_ptr<const std::string> source_;
  std::string key_;
  GgufKind kind_ = GgufKind::u8;
  GgufKind element_kind_ = GgufKind::u8;
  uint64_t size_ = 1;
  std::string_view bytes_;  ///< of the value, or of all elements of the list
};

/// One tensor: elements in C order (the format gives sizes in the opposite order).
struct GgufEntry {
  std::string name;
  GgmlType type = GgmlType::f32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< first byte, counted from the begin of the tensors
  uint64_t end = 0;    ///< one past the last byte
  /// Number of elements.
  uint64_t size() const;
};

/// A checked file. The constructor throws one UserError with all problems of the file: damaged or
/// lying lengths and counts, keys or tensors given twice, types that are not read, tensors outside
/// the file, unaligned or overlapping. What it allocates is bounded by the size of the file.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path) : GgufFile(MappedFile(path)) {}
  explicit GgufFile(MappedFile file);

  const std::string& path() const { return file_.path(); }
  uint32_t version() const { return version_; }

  /// All values of the metadata in the order of the file.
  const std::vector<GgufValue>& values() const { return values_; }
  /// Null when there is no such key.
  const GgufValue* find(const std::string& key) const;
  /// UserError with the nearest keys when there is no such key.
  const GgufValue& at(const std::string& key) const;

  /// All tensors in the order of the file.
  const std::vector<GgufEntry>& entries() const { return entries_; }
  /// Null when there is no such tensor.
  const GgufEntry* find_tensor(const std::string& name) const;
  /// UserError with the nearest names when there is no such tensor.
  const GgufEntry& tensor(const std::string& name) const;

  /// The stored bytes inside the map.
  std::span<const std::byte> bytes(const GgufEntry& entry) const;
  /// All elements, dequantised; `out` has room for entry.size(). May be called from any thread.
  void to_f32(const GgufEntry& entry, float* out) const;
  std::vector<float> to_f32(const std::string& name) const;
  /// Gives back the memory that reading the tensor took (MappedFile::release).
  void release(const GgufEntry& entry) const { file_.release(bytes(entry)); }

 private:
  friend class GgufReader;
  MappedFile file_;
  uint32_t version_ = 0;
  uint64_t data_begin_ = 0;
  std::vector<GgufValue> values_;
  std::vector<GgufEntry> entries_;
  std::unordered_map<std::string, size_t> value_index_;
  std::unordered_map<std::string, size_t> entry_index_;
};

}  // namespace weir
