#include "io/npy.h"

#include <charconv>
#include <cstring>

#include "io/file.h"
#include "io/zip.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr size_t kAlignment = 64;

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

/// Reads the header, which is a Python dict literal of exactly the three keys of the format.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  NpyHeader parse() {
    NpyHeader header;
    bool descr = false;
    bool order = false;
    bool shape = false;
    expect('{');
    while (!take('}')) {
      std::string key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        if (peek() == '[')
          user_error("npy", "{}: structured element types are not read; save one array a field.",
                     where_);
        header.descr = quoted();
        descr = true;
      } else if (key == "fortran_order" && !order) {
        header.fortran_order = boolean();
        order = true;
      } else if (key == "shape" && !shape) {
        header.shape = tuple();
        shape = true;
      } else {
        bad(fmt::format("key '{}' is unknown or given twice", key));
      }
      if (!take(',') && peek() != '}') bad("',' or '}' is needed after a value");
    }
    if (peek() != '\0') bad("there is text after the closing '}'");
    if (!descr || !order || !shape) bad("one of the keys descr, fortran_order, shape is missing");
    return header;
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    user_error("npy", "{}: the header is damaged at its byte {}: {}. Save the array again.", where_,
               at_, what);
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) bad(fmt::format("'{}' is needed", wanted));
  }
  std::string quoted() {
    char quote = peek();
    if (quote != '\'' && quote != '"') bad("a quoted text is needed");
    size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) bad("a quoted text does not end");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    peek();
    for (std::string_view word : {"True", "False"})
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return word == "True";
      }
    bad("True or False is needed");
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!take(')')) {
      peek();
      int64_t size = 0;
      auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) bad("a size (a number of at most 63 bits) is needed");
      at_ = static_cast<size_t>(end - text_.data());
      take('L');  // Python 2 wrote long numbers so
      sizes.push_back(size);
      if (!take(',') && peek() != ')') bad("',' or ')' is needed after a size");
    }
    return sizes;
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

/// Magic, version, length and the dict padded with spaces, so that the data begin at 64 bytes.
std::string npy_header(const NpyView& array, const std::string& where) {
  std::optional<std::string_view> descr = npy_name(array.dtype);
  if (!descr)
    user_error("npy", "{}: NumPy has no element type {}; widen the array to f32 first.", where,
               safetensors_name(array.dtype));
  std::optional<uint64_t> needed = array_bytes(array.dtype, array.shape);
  WEIR_CHECK(needed && *needed == array.data.size(), "{}: shape {} with {} bytes", where,
             shape_text(array.shape), array.data.size());
  std::string dict =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", *descr,
                  fmt::join(array.shape, ", "), array.shape.size() == 1 ? "," : "");
  bool version_2 = dict.size() + kAlignment > 0xFFFF;
  size_t prefix = kNpyMagic.size() + 2 + (version_2 ? 4 : 2);
  dict.append((kAlignment - (prefix + dict.size() + 1) % kAlignment) % kAlignment, ' ');
  dict += '\n';
  std::string header(kNpyMagic);
  header += version_2 ? '\x02' : '\x01';
  header += '\0';
  for (size_t i = 0; i < (version_2 ? 4U : 2U); ++i)
    header += static_cast<char>(dict.size() >> (8 * i) & 0xFF);
  return header + dict;
}

}  // namespace

NpyArray parse_npy(std::string_view bytes, const std::string& where) {
  if (bytes.size() < 10 || !bytes.starts_with(kNpyMagic))
    user_error("npy", "{} is not a .npy file: it does not start with \\x93NUMPY.", where);
  auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(bytes[at])); };
  size_t version = byte(6);
  if (version != 1 && version != 2)
    user_error("npy", "{} has format version {}.{}; 1 or 2 is needed.", where, version, byte(7));
  size_t data_begin = version == 1 ? 10 : 12;
  size_t header_bytes = byte(8) | byte(9) << 8;
  if (version == 2 && bytes.size() >= 12) header_bytes |= byte(10) << 16 | byte(11) << 24;
  if (bytes.size() < data_begin || header_bytes > bytes.size() - data_begin)
    user_error("npy", "{} is truncated: its header needs {} bytes, the file has {} in all.", where,
               header_bytes + data_begin, bytes.size());
  NpyHeader header = HeaderParser(bytes.substr(data_begin, header_bytes), where).parse();
  data_begin += header_bytes;

  NpyArray array;
  std::optional<FileDtype> dtype = dtype_from_npy(header.descr);
  if (!dtype)
    user_error("npy",
               "{} has element type '{}'; <f8, <f4, <f2, <i8, <i4, <i2, |i1, <u8, <u4, <u2, |u1 or "
               "|b1 is needed. "
               "Convert it with numpy.astype first.",
               where, header.descr);
  if (header.fortran_order)
    user_error("npy",
               "{} is in Fortran order; C order is needed. Convert it with "
               "numpy.ascontiguousarray first.",
               where);
  array.dtype = *dtype;
  array.shape = std::move(header.shape);
  std::optional<uint64_t> needed = array_bytes(array.dtype, array.shape);
  if (!needed)
    user_error("npy", "{}: shape {} is beyond what a file can hold.", where,
               shape_text(array.shape));
  uint64_t found = bytes.size() - data_begin;
  if (found != *needed)
    user_error("npy", "{}: '{}' of shape {} needs {} bytes of data, the file has {}: {}.", where,
               header.descr, shape_text(array.shape), *needed, found,
               found < *needed ? fmt::format("{} bytes are missing", *needed - found)
                               : fmt::format("{} bytes are too many", found - *needed));
  array.data.resize(found);
  if (found > 0) std::memcpy(array.data.data(), bytes.data() + data_begin, found);
  return array;
}

NpyArray read_npy(const std::string& path) { return parse_npy(MappedFile(path).text(), path); }

void write_npy(const std::string& path, const NpyView& array) {
  std::string header = npy_header(array, path);
  AtomicFile file(path);
  file.write(header);
  file.write(array.data);
  file.commit();
}

void write_npy(const std::string& path, std::span<const int64_t> shape,
               std::span<const float> data) {
  write_npy(path, {FileDtype::f32, shape, std::as_bytes(data)});
}

std::vector<std::pair<std::string, NpyArray>> read_npz(const std::string& path) {
  return read_npz(MappedFile(path));
}

std::vector<std::pair<std::string, NpyArray>> read_npz(const MappedFile& file) {
  std::vector<std::pair<std::string, NpyArray>> arrays;
  for (const auto& [name, content] : read_zip(file)) {
    NpyArray array = parse_npy(content, fmt::format("{}, entry \"{}\"", file.path(), name));
    arrays.emplace_back(name.ends_with(".npy") ? name.substr(0, name.size() - 4) : name,
                        std::move(array));
  }
  return arrays;
}

void write_npz(const std::string& path,
               const std::vector<std::pair<std::string, NpyView>>& arrays) {
  ZipWriter zip(path);
  for (const auto& [name, array] : arrays)
    zip.add(name + ".npy", npy_header(array, fmt::format("{}, entry \"{}\"", path, name)),
            array.data);
  zip.commit();
}

}  // namespace weir
