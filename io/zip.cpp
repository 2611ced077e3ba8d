#include "io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <set>

#include "support/error.h"

namespace weir {
namespace {

// The format: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (directory entry) and
// 4.3.16 (end of directory). All numbers are little-endian.
constexpr uint32_t kLocal = 0x04034b50;
constexpr uint32_t kCentral = 0x02014b50;
constexpr uint32_t kEnd = 0x06054b50;
constexpr size_t kLocalBytes = 30;
constexpr size_t kCentralBytes = 46;
constexpr size_t kEndBytes = 22;
constexpr uint64_t kMax32 = 0xFFFFFFFF;

uint32_t get(std::string_view bytes, size_t at, size_t width) {
  uint32_t value = 0;
  for (size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

void put(std::string& out, uint32_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

uint32_t checksum(std::string_view bytes, uint32_t seed = 0) {
  return static_cast<uint32_t>(
      crc32_z(seed, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

struct Entry {
  std::string name;
  uint32_t flags, method, crc, packed_bytes, bytes, offset;
};

class ZipReader {
 public:
  explicit ZipReader(const MappedFile& file) : file_(file), text_(file.text()) {}

  std::vector<std::pair<std::string, std::string>> read() {
    std::vector<std::pair<std::string, std::string>> out;
    std::set<std::string> seen;
    uint64_t packed = 0;
    for (const Entry& entry : directory()) {
      if (!seen.insert(entry.name).second)
        user_error("npz", "{}: two entries are named \"{}\".", file_.path(), entry.name);
      out.emplace_back(entry.name, content(entry));
      // Entries that share bytes could make a small archive into a huge one.
      packed += entry.packed_bytes;
      if (packed > text_.size()) damaged("its entries overlap");
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(std::string_view what) const {
    user_error("npz", "{} is damaged: {}. Write or copy it again.", file_.path(), what);
  }

  std::vector<Entry> directory() const {
    size_t end = text_.npos;
    if (text_.size() >= kEndBytes) {
      size_t lowest = text_.size() - std::min<size_t>(text_.size(), kEndBytes + 0xFFFF);
      for (size_t at = text_.size() - kEndBytes + 1; at-- > lowest;)
        if (get(text_, at, 4) == kEnd) {
          end = at;
          break;
        }
    }
    if (end == text_.npos)
      damaged("no zip directory at its end (truncated, or not a zip archive at all)");
    uint32_t count = get(text_, end + 10, 2);
    uint64_t begin = get(text_, end + 16, 4);
    if (count == 0xFFFF || begin == kMax32)
      user_error("npz", "{} is a zip64 archive, which is not read. Save its arrays as .npy files.",
                 file_.path());
    std::vector<Entry> entries;
    uint64_t at = begin;
    for (uint32_t i = 0; i < count; ++i) {
      if (at + kCentralBytes > end || get(text_, at, 4) != kCentral)
        damaged(fmt::format("directory entry {} of {} is cut off or overwritten", i + 1, count));
      size_t name_bytes = get(text_, at + 28, 2);
      size_t rest = name_bytes + get(text_, at + 30, 2) + get(text_, at + 32, 2);
      if (at + kCentralBytes + rest > end)
        damaged(fmt::format("directory entry {} of {} is cut off", i + 1, count));
      entries.push_back({std::string(text_.substr(at + kCentralBytes, name_bytes)),
                         get(text_, at + 8, 2), get(text_, at + 10, 2), get(text_, at + 16, 4),
                         get(text_, at + 20, 4), get(text_, at + 24, 4), get(text_, at + 42, 4)});
      at += kCentralBytes + rest;
    }
    return entries;
  }

  std::string content(const Entry& entry) const {
    if ((entry.flags & 1) != 0)
      user_error("npz", "{}: entry \"{}\" is encrypted, which is not read.", file_.path(),
                 entry.name);
    if (entry.packed_bytes == kMax32 || entry.bytes == kMax32 || entry.offset == kMax32)
      user_error("npz", "{}: entry \"{}\" needs zip64, which is not read. Save it as a .npy file.",
                 file_.path(), entry.name);
    uint64_t at = entry.offset;
    if (at + kLocalBytes > text_.size() || get(text_, at, 4) != kLocal)
      damaged(fmt::format("entry \"{}\" has no header at byte {}", entry.name, at));
    // The sizes of the directory count; those of the local header may be left out.
    at += kLocalBytes + get(text_, at + 26, 2) + get(text_, at + 28, 2);
    if (at > text_.size() || entry.packed_bytes > text_.size() - at)
      damaged(fmt::format("entry \"{}\" reaches beyond the end of the file", entry.name));
    std::string_view packed = text_.substr(at, entry.packed_bytes);
    std::string out;
    if (entry.method == 0) {
      out = packed;
    } else if (entry.method == 8) {
      out = inflate_raw(packed, entry);
    } else {
      user_error("npz",
                 "{}: entry \"{}\" uses compression method {}; stored (0) or deflated (8) "
                 "is needed.",
                 file_.path(), entry.name, entry.method);
    }
    if (out.size() != entry.bytes || checksum(out) != entry.crc)
      damaged(fmt::format("the content of entry \"{}\" does not match its checksum", entry.name));
    return out;
  }

  std::string inflate_raw(std::string_view packed, const Entry& entry) const {
    z_stream stream{};
    WEIR_CHECK(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "zlib {}", zlibVersion());
    // Deflate expands at most 1032-fold, so that a false size cannot ask for absurd memory.
    std::string out(std::min<uint64_t>(entry.bytes, packed.size() * 1032ULL), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    int code = inflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    inflateEnd(&stream);
    if (code != Z_STREAM_END)
      damaged(fmt::format("the deflated content of entry \"{}\" cannot be read", entry.name));
    return out;
  }

  const MappedFile& file_;
  std::string_view text_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> read_zip(const MappedFile& file) {
  return ZipReader(file).read();
}

void ZipWriter::add(const std::string& name, std::string_view head,
                    std::span<const std::byte> body) {
  if (std::find(names_.begin(), names_.end(), name) != names_.end())
    user_error("npz", "{}: two entries are named \"{}\"; every name is needed once.", path_, name);
  uint64_t bytes = head.size() + body.size();
  if (bytes >= kMax32 || offset_ + bytes >= kMax32 || names_.size() >= 0xFFFE)
    user_error("npz",
               "{}: entry \"{}\" of {} bytes would make the archive need zip64 (4 GiB or 65535 "
               "entries), which is not written. Write .npy files or safetensors instead.",
               path_, name, bytes);
  if (name.size() > 0xFFFF)
    user_error("npz", "{}: a name of {} bytes is longer than the 65535 of a zip archive.", path_,
               name.size());
  std::string_view body_text(reinterpret_cast<const char*>(body.data()), body.size());
  uint32_t crc = checksum(body_text, checksum(head));
  // Both headers share these: version 2.0, no flags, stored, 1980-01-01 00:00 (the least date of
  // the format), checksum, sizes, name length, no extra field.
  std::string shared;
  put(shared, 20, 2);
  put(shared, 0, 2);
  put(shared, 0, 2);
  put(shared, 0, 2);
  put(shared, 1U << 5 | 1U, 2);
  put(shared, crc, 4);
  put(shared, static_cast<uint32_t>(bytes), 4);
  put(shared, static_cast<uint32_t>(bytes), 4);
  put(shared, static_cast<uint32_t>(name.size()), 2);
  put(shared, 0, 2);
  std::string local;
  put(local, kLocal, 4);
  local += shared + name;
  file_.write(local);
  file_.write(head);
  file_.write(body);
  put(directory_, kCentral, 4);
  put(directory_, 20, 2);  // made by version 2.0
  directory_ += shared;
  put(directory_, 0, 2);  // comment length
  put(directory_, 0, 2);  // volume
  put(directory_, 0, 2);  // internal attributes
  put(directory_, 0, 4);  // external attributes
  put(directory_, static_cast<uint32_t>(offset_), 4);
  directory_ += name;
  names_.push_back(name);
  offset_ += local.size() + bytes;
}

void ZipWriter::commit() {
  if (offset_ + directory_.size() >= kMax32)
    user_error("npz", "{} would need zip64, which is not written. Write .npy files instead.",
               path_);
  std::string end;
  put(end, kEnd, 4);
  put(end, 0, 4);  // volumes
  put(end, static_cast<uint32_t>(names_.size()), 2);
  put(end, static_cast<uint32_t>(names_.size()), 2);
  put(end, static_cast<uint32_t>(directory_.size()), 4);
  put(end, static_cast<uint32_t>(offset_), 4);
  put(end, 0, 2);
  file_.write(directory_);
  file_.write(end);
  file_.commit();
}

}  // namespace weir
