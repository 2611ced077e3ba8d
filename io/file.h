#pragma once
// Files: mapped, read whole, written whole or not at all.
// Every failure is a UserError that names the path and the system's reason.
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace weir {

/// The bytes of a file, mapped read-only for the life of the object. The file must not be shortened
/// meanwhile by anybody; AtomicFile never does that to an existing file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  /// A copy of bytes that are in memory already, under a name for messages.
  static MappedFile from_memory(std::string name, std::span<const std::byte> bytes);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  /// Gives back the memory that reading `part` of the bytes has taken; they can be read again, from
  /// any thread. Whole pages only, so that its edges may stay.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::unique_ptr<std::byte[]> copy_;  ///< what data_ points to, when nothing is mapped
};

/// The whole content of a file as it is (no decompression).
std::string read_file(const std::string& path);

/// Whether anything can be opened at the path: a file, or a link to one.
bool file_exists(const std::string& path);

/// A file that appears under its name only when complete: it is written beside its destination,
/// flushed to the disk and renamed on commit(); without commit() nothing is left behind.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites bytes already written, e.g. a header whose values are known only at the end.
  void write_at(size_t offset, std::span<const std::byte> bytes);
  void commit();

 private:
  void flush();

  std::string path_;
  std::string temporary_;
  std::string buffer_;
  int descriptor_ = -1;
};

/// Writes the whole content atomically.
void write_file(const std::string& path, std::string_view content);

/// Opens a regular file for reading and tells its size; the caller closes the descriptor.
int open_regular(const std::string& path, size_t& size);

/// UserError "cannot WHAT PATH: REASON" for a number of errno; a path that does not exist gets the
/// names near it.
[[noreturn]] void file_error(std::string_view what, const std::string& path, int error);

}  // namespace weir
