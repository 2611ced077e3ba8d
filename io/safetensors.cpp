#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "io/json_error.h"
#include "io/tensor_lookup.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kHeaderCap = 100'000'000;  // of the format's reference implementation
constexpr uint64_t kMaxPadding = 64;
constexpr const char* kMetadata = "__metadata__";

struct Parsed {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// Checks a file and collects its problems; those that leave nothing to go on with throw at once.
class Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file), topic_problems_("safetensors") {}

  Parsed read(uint64_t& data_begin) {
    std::string_view header = header_text();
    data_begin = 8 + header.size();
    data_ = file_.bytes().subspan(data_begin);
    Json json = parse(header);
    for (const auto& [name, value] : json.items()) {
      if (name == kMetadata)
        metadata(value);
      else
        tensor(name, value);
    }
    std::stable_sort(parsed_.entries.begin(), parsed_.entries.end(),
                     [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                       return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
                     });
    check_end();
    // Overlaps and holes say little once a tensor is known to be wrong.
    if (problems_ == 0) check_layout();
    if (problems_ > kMaxListed)
      topic_problems_.add(fmt::format("and {} further problems", problems_ - kMaxListed));
    topic_problems_.raise();
    return std::move(parsed_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fatal(fmt::format_string<Args...> format, Args&&... args) const {
    user_error("safetensors", "{}: {}", file_.path(),
               fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    if (++problems_ <= kMaxListed)
      topic_problems_.add(
          fmt::format("{}: {}", file_.path(), fmt::format(format, std::forward<Args>(args)...)));
  }

  std::string_view header_text() const {
    uint64_t length = 0;
    if (file_.size() < 8)
      fatal("the file has {} bytes; at least 8 are needed for the length of the header.",
            file_.size());
    for (size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file_.text()[i]);
    if (length > kHeaderCap)
      fatal(
          "the header claims {} bytes, at most {} are allowed; this is not a safetensors file, "
          "or its first bytes are damaged.",
          length, kHeaderCap);
    if (length > file_.size() - 8)
      fatal(
          "truncated: the header needs {} bytes, the file has {}: {} bytes are missing before "
          "the first tensor. Download or copy it again.",
          length, file_.size() - 8, length - (file_.size() - 8));
    std::string_view header = file_.text().substr(8, length);
    if (!header.starts_with('{'))
      fatal("the header does not start with '{{'; this is not a safetensors file.");
    return header;
  }

  Json parse(std::string_view header) {
    // The parser keeps the last of equal keys, so they are caught on the way; the values of the
    // format are at most two objects or arrays deep.
    std::vector<std::set<std::string>> keys;
    auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > 8) fatal("the header is nested too deeply; it is damaged.");
      if (event == Json::parse_event_t::object_start) {
        keys.emplace_back();
      } else if (event == Json::parse_event_t::object_end) {
        keys.pop_back();
      } else if (event == Json::parse_event_t::key) {
        std::string key = value.get<std::string>();
        if (!keys.back().insert(key).second)
          problem("\"{}\" is given twice in the header; every name is needed once.", key);
      }
      return true;
    };
    try {
      return Json::parse(header.begin(), header.end(), watch);
    } catch (const Json::exception& error) {
      fatal("the header is not valid JSON ({}); the file is damaged.", json_reason(error.what()));
    }
  }

  void metadata(const Json& value) {
    if (value.is_null()) return;  // as if there were none
    if (!value.is_object()) {
      problem("__metadata__ is a JSON {}; an object of strings is needed.", value.type_name());
      return;
    }
    for (const auto& [key, entry] : value.items()) {
      if (entry.is_string())
        parsed_.metadata[key] = entry.get<std::string>();
      else
        problem("__metadata__ \"{}\" is a JSON {}; a string is needed.", key, entry.type_name());
    }
  }

  void tensor(const std::string& name, const Json& value) {
    SafetensorsEntry entry;
    entry.name = name;
    size_t before = problems_;
    if (!value.is_object()) {
      problem("tensor \"{}\" is a JSON {}; an object with dtype, shape and data_offsets is needed.",
              name, value.type_name());
      return;
    }
    for (const auto& [key, unused] : value.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        problem(
            "tensor \"{}\" has an unknown key \"{}\"; dtype, shape and data_offsets are "
            "allowed.",
            name, key);
    auto dtype = value.find("dtype");
    if (dtype == value.end() || !dtype->is_string()) {
      problem("tensor \"{}\" has no dtype; one of {} is needed.", name, safetensors_names());
    } else {
      std::string text = dtype->get<std::string>();
      std::optional<FileDtype> known = dtype_from_safetensors(text);
      if (known)
        entry.dtype = *known;
      else
        problem("tensor \"{}\" has dtype \"{}\"; one of {} is needed.", name, text,
                safetensors_names());
    }
    std::vector<uint64_t> offsets;
    std::vector<uint64_t> shape;
    if (!numbers(value, "shape", shape))
      problem("tensor \"{}\" has no valid shape; a list of sizes is needed.", name);
    if (!numbers(value, "data_offsets", offsets) || offsets.size() != 2)
      problem("tensor \"{}\" has no valid data_offsets; a list of two numbers is needed.", name);
    else if (offsets[0] > offsets[1])
      problem("tensor \"{}\" has data_offsets [{},{}]; the first must not exceed the second.", name,
              offsets[0], offsets[1]);
    if (problems_ != before) return;
    entry.begin = offsets[0];
    entry.end = offsets[1];
    entry.shape.assign(shape.begin(), shape.end());  // a size beyond 63 bits turns negative
    std::optional<uint64_t> needed = array_bytes(entry.dtype, entry.shape);
    if (!needed)
      problem("tensor \"{}\" has shape [{}]; its size in bytes overflows 63 bits.", name,
              fmt::join(shape, ","));
    else if (*needed != entry.end - entry.begin)
      problem("tensor \"{}\" is {} {} and needs {} bytes, its data_offsets [{},{}] hold {}.", name,
              safetensors_name(entry.dtype), shape_text(entry.shape), *needed, entry.begin,
              entry.end, entry.end - entry.begin);
    parsed_.entries.push_back(std::move(entry));
  }

  static bool numbers(const Json& object, const char* key, std::vector<uint64_t>& out) {
    auto list = object.find(key);
    if (list == object.end() || !list->is_array()) return false;
    for (const Json& number : *list) {
      if (!number.is_number_unsigned()) return false;
      out.push_back(number.get<uint64_t>());
    }
    return true;
  }

  /// One message for all tensors that reach beyond the file.
  void check_end() {
    const SafetensorsEntry* first = nullptr;
    uint64_t end = 0;
    size_t count = 0;
    for (const SafetensorsEntry& entry : parsed_.entries) {
      if (entry.end <= data_.size()) continue;
      if (first == nullptr) first = &entry;
      end = std::max(end, entry.end);
      ++count;
    }
    if (first == nullptr) return;
    problem(
        "truncated: the tensors need {} bytes of data, the file has {}: {} bytes are missing. "
        "Tensor \"{}\" ({} {}, bytes {} to {}){} beyond the end. Download or copy it again.",
        end, data_.size(), end - data_.size(), first->name, safetensors_name(first->dtype),
        shape_text(first->shape), first->begin, first->end,
        count == 1 ? std::string(" reaches") : fmt::format(" and {} more reach", count - 1));
  }

  void check_layout() {
    uint64_t covered = 0;
    const SafetensorsEntry* previous = nullptr;
    for (const SafetensorsEntry& entry : parsed_.entries) {
      if (entry.begin == entry.end) continue;
      if (entry.begin < covered)
        problem("tensors \"{}\" (bytes {} to {}) and \"{}\" (bytes {} to {}) overlap.",
                previous->name, previous->begin, previous->end, entry.name, entry.begin, entry.end);
      else
        check_hole(covered, entry.begin, fmt::format("before tensor \"{}\"", entry.name));
      if (entry.end > covered) {
        covered = entry.end;
        previous = &entry;
      }
    }
    check_hole(covered, data_.size(), "after the last tensor");
  }

  void check_hole(uint64_t begin, uint64_t end, const std::string& where) {
    if (begin >= end) return;
    bool zero =
        std::all_of(data_.begin() + static_cast<ptrdiff_t>(begin),
                    data_.begin() + static_cast<ptrdiff_t>(std::min(end, begin + kMaxPadding)),
                    [](std::byte byte) { return byte == std::byte{0}; });
    if (zero && end - begin < kMaxPadding) return;
    problem(
        "{} bytes {} (bytes {} to {}) belong to no tensor; only alignment by fewer than {} "
        "zero bytes is allowed.",
        end - begin, where, begin, end, kMaxPadding);
  }

  const MappedFile& file_;
  std::span<const std::byte> data_;
  Parsed parsed_;
  Problems topic_problems_;
  size_t problems_ = 0;
};

}  // namespace

SafetensorsFile::SafetensorsFile(MappedFile file) : file_(std::move(file)) {
  Parsed parsed = Reader(file_).read(data_begin_);
  entries_ = std::move(parsed.entries);
  metadata_ = std::move(parsed.metadata);
  for (size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].name] = i;
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(const std::string& name) const {
  if (const SafetensorsEntry* entry = find(name)) return *entry;
  no_such_tensor("safetensors", path(), name, entries_);
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return file_.bytes().subspan(data_begin_ + entry.begin, entry.end - entry.begin);
}

std::vector<float> SafetensorsFile::to_f32(const std::string& name) const {
  const SafetensorsEntry& entry = at(name);
  return weir::to_f32(entry.dtype, bytes(entry));
}

void write_safetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, items, [&](size_t index) { return items[index].data; }, metadata);
}

void write_safetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                       const std::function<std::span<const std::byte>(size_t)>& bytes,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::set<std::string> names;
  Problems problems("safetensors");
  uint64_t offset = 0;
  for (const SafetensorsItem& item : items) {
    std::optional<uint64_t> needed = array_bytes(item.dtype, item.shape);
    WEIR_CHECK(needed, "tensor {} has shape {}", item.name, shape_text(item.shape));
    if (item.name == kMetadata)
      problems.add(fmt::format("{}: a tensor cannot be named {}.", path, kMetadata));
    else if (!names.insert(item.name).second)
      problems.add(fmt::format("{}: two tensors are named \"{}\"; every name is needed once.", path,
                               item.name));
    else
      header.push_back({item.name,
                        {{"dtype", safetensors_name(item.dtype)},
                         {"shape", item.shape},
                         {"data_offsets", {offset, offset + *needed}}}});
    offset += *needed;
  }
  problems.raise();
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception&) {
    user_error("safetensors", "{}: a tensor's name or the metadata are not valid UTF-8.", path);
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kHeaderCap)
    user_error("safetensors", "{}: the header has {} bytes, at most {} are allowed.", path,
               text.size(), kHeaderCap);
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  AtomicFile file(path);
  file.write(length);
  file.write(text);
  for (size_t i = 0; i < items.size(); ++i) {
    std::span<const std::byte> data = bytes(i);
    WEIR_CHECK(data.size() == array_bytes(items[i].dtype, items[i].shape),
               "tensor {} {} {} with {} bytes", items[i].name, safetensors_name(items[i].dtype),
               shape_text(items[i].shape), data.size());
    file.write(data);
  }
  file.commit();
}

}  // namespace weir
