#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/dtype.h"
#include "io/gguf_kind.h"
#include "io/tensor_lookup.h"
#include "io/utf8.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read where it lies");

constexpr std::string_view kGgufMagic = "GGUF";
constexpr uint64_t kMaxNameBytes = 65535;
constexpr uint32_t kMaxRank = 4;
constexpr uint32_t kLastKind = static_cast<uint32_t>(GgufKind::f64);
constexpr int kMaxNesting = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr const char* kAlignmentKey = "general.alignment";
// The least that a key with its value, and that a tensor's description, take in the file.
constexpr uint64_t kLeastValueBytes = 8 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;

}  // namespace

/// Walks through the header and collects its problems; those that leave nothing to go on with
/// throw at once.
class GgufReader {
 public:
  explicit GgufReader(GgufFile& file)
      : file_(file),
        text_(file.file_.text()),
        source_(std::make_shared<const std::string>(file.path())),
        topic_problems_("gguf") {}

  void read() {
    read_begin();
    const auto tensors = load<uint64_t>("the number of tensors");
    const auto values = load<uint64_t>("the number of metadata entries");
    check_count(values, kLeastValueBytes, "metadata entries");
    check_count(tensors, kLeastTensorBytes, "tensors");
    for (uint64_t i = 0; i < values; ++i) read_value();
    for (uint64_t i = 0; i < tensors; ++i) read_tensor();
    const uint64_t alignment = read_alignment();
    file_.data_begin_ = (at_ + alignment - 1) / alignment * alignment;
    data_bytes_ = text_.size() - std::min<uint64_t>(text_.size(), file_.data_begin_);
    for (const GgufEntry& entry : file_.entries_)
      if (entry.begin % alignment != 0)
        problem("tensor \"{}\" begins at byte {}, which is no multiple of the alignment {}.",
                entry.name, entry.begin, alignment);
    check_end();
    // Overlaps say little once a tensor is known to be wrong.
    if (problems_ == 0) check_overlaps();
    if (problems_ > kMaxListed)
      topic_problems_.add(fmt::format("and {} further problems", problems_ - kMaxListed));
    topic_problems_.raise();
  }

 private:
  template <typename... Args>
  [[noreturn]] void fatal(fmt::format_string<Args...> format, Args&&... args) const {
    user_error("gguf", "{}: {}", *source_, fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    if (++problems_ <= kMaxListed)
      topic_problems_.add(
          fmt::format("{}: {}", *source_, fmt::format(format, std::forward<Args>(args)...)));
  }

  uint64_t left() const { return text_.size() - at_; }

  /// The next bytes of the header.
  std::string_view take(uint64_t count, std::string_view what) {
    if (count > left())
      fatal(
          "truncated or damaged: {} needs {} bytes at byte {}, the file has {} more. Download or "
          "copy it again.",
          what, count, at_, left());
    std::string_view bytes = text_.substr(at_, count);
    at_ += count;
    return bytes;
  }

  template <typename T>
  T load(std::string_view what) {
    T value;
    const std::string_view bytes = take(sizeof value, what);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  void read_begin() {
    if (!text_.starts_with(kGgufMagic))
      fatal("the file does not start with \"GGUF\"; this is not a GGUF file.");
    at_ = kGgufMagic.size();
    file_.version_ = load<uint32_t>("the version");
    if (file_.version_ == 2 || file_.version_ == 3) return;
    const uint32_t swapped = __builtin_bswap32(file_.version_);
    if (swapped >= 1 && swapped <= 3)
      fatal("the file is big-endian (version {}); a little-endian one is needed.", swapped);
    fatal("the file has format version {}; 2 or 3 is needed. Convert the model again.",
          file_.version_);
  }

  void check_count(uint64_t count, uint64_t least, std::string_view what) const {
    if (count > left() / least)
      fatal(
          "the header claims {} {}, which need at least {} bytes each, but only {} bytes follow; "
          "the file is truncated or damaged.",
          count, what, least, left());
  }

  /// A length and as many bytes; valid UTF-8 is not demanded of values.
  std::string name(std::string_view what) {
    const auto length = load<uint64_t>(what);
    if (length > kMaxNameBytes)
      fatal("{} at byte {} claims {} bytes; at most {} are allowed. The file is damaged.", what,
            at_ - 8, length, kMaxNameBytes);
    std::string text(take(length, what));
    std::string storage;
    const std::string_view valid = valid_utf8(text, storage);
    if (valid != text) problem("{} \"{}\" is not UTF-8.", what, valid);
    return std::string(valid);
  }

  GgufKind kind(std::string_view key) {
    const auto number = load<uint32_t>("a kind");
    if (number > kLastKind)
      fatal("\"{}\" is of kind {}; 0 to {} are known. The file is damaged, or of a newer format.",
            key, number, kLastKind);
    return static_cast<GgufKind>(number);
  }

  void read_value() {
    GgufValue value;
    value.source_ = source_;
    value.key_ = name("a key");
    value.kind_ = kind(value.key_);
    if (value.kind_ == GgufKind::list) {
      value.element_kind_ = kind(value.key_);
      value.size_ = load<uint64_t>("the length of a list");
      value.bytes_ = take_elements(value.element_kind_, value.size_, value.key_, 0);
    } else {
      value.bytes_ = take_elements(value.kind_, 1, value.key_, 0);
    }
    if (!file_.value_index_.emplace(value.key_, file_.values_.size()).second)
      problem("the key \"{}\" is given twice; every key is needed once.", value.key_);
    file_.values_.push_back(std::move(value));
  }

  /// Skips checked elements and returns their bytes.
  std::string_view take_elements(GgufKind kind, uint64_t count, const std::string& key,
                                 int nesting) {
    const size_t begin = at_;
    const size_t fixed = gguf_kind_bytes(kind);
    const uint64_t least = fixed != 0 ? fixed : kind == GgufKind::text ? 8 : 12;
    if (count > left() / least)
      fatal(
          "\"{}\" claims {} elements of kind {}, which need at least {} bytes each, but only {} "
          "bytes follow; the file is truncated or damaged.",
          key, count, gguf_kind_name(kind), least, left());
    if (fixed != 0) {
      const std::string_view bytes = take(count * fixed, key);
      if (kind == GgufKind::boolean &&
          std::any_of(bytes.begin(), bytes.end(), [](char c) { return c != 0 && c != 1; }))
        problem("\"{}\" has a boolean that is neither 0 nor 1.", key);
      return bytes;
    }
    if (nesting > kMaxNesting) fatal("\"{}\" is nested too deeply; the file is damaged.", key);
    for (uint64_t i = 0; i < count; ++i) {
      if (kind == GgufKind::text) {
        take(load<uint64_t>(key), key);
      } else {
        const GgufKind inner = this->kind(key);
        const auto size = load<uint64_t>(key);
        take_elements(inner, size, key, nesting + 1);
      }
    }
    return text_.substr(begin, at_ - begin);
  }

  uint64_t read_alignment() {
    const GgufValue* value = file_.find(kAlignmentKey);
    if (value == nullptr) return kDefaultAlignment;
    uint64_t alignment = 0;
    if (value->kind() == GgufKind::u32) alignment = static_cast<uint64_t>(value->whole());
    if (std::has_single_bit(alignment)) return alignment;
    problem("\"{}\" is {}; a power of two of kind u32 is needed.", kAlignmentKey,
            value->kind() == GgufKind::u32 ? std::to_string(alignment)
                                           : std::string(gguf_kind_name(value->kind())));
    return kDefaultAlignment;
  }

  void read_tensor() {
    GgufEntry entry;
    entry.name = name("a tensor's name");
    const auto rank = load<uint32_t>("the rank of a tensor");
    if (rank > kMaxRank)
      fatal("tensor \"{}\" has rank {}; at most {} is allowed. The file is damaged.", entry.name,
            rank, kMaxRank);
    std::vector<uint64_t> sizes(rank);
    for (uint64_t& size : sizes) size = load<uint64_t>("a size of a tensor");
    const auto number = load<uint32_t>("the type of a tensor");
    entry.begin = load<uint64_t>("the place of a tensor");
    // In the file the size that runs fastest comes first; one beyond 63 bits turns negative.
    entry.shape.assign(sizes.rbegin(), sizes.rend());
    set_end(entry, number);
    if (!file_.entry_index_.emplace(entry.name, file_.entries_.size()).second)
      problem("tensor \"{}\" is given twice; every name is needed once.", entry.name);
    file_.entries_.push_back(std::move(entry));
  }

  /// Type and last byte from the shape; leaves a tensor without bytes when it has a problem.
  void set_end(GgufEntry& entry, uint32_t number) {
    entry.end = entry.begin;
    const std::optional<GgmlType> type = ggml_type(number);
    if (!type) {
      problem("tensor \"{}\" is of type {}, which is not read; one of {} is needed.", entry.name,
              ggml_number_name(number), ggml_names());
      return;
    }
    entry.type = *type;
    const GgmlBlock block = ggml_block(*type);
    const std::optional<uint64_t> count = element_count(entry.shape);
    if (!count || *count > uint64_t{1} << 56 || entry.begin >> 62 != 0) {
      problem("tensor \"{}\" has shape {} at byte {}; that is beyond what a file can hold.",
              entry.name, shape_text(entry.shape), entry.begin);
      return;
    }
    const int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
    if (row % block.elements != 0) {
      problem("tensor \"{}\" is {} {}; its rows are no multiple of {}, the block of this type.",
              entry.name, ggml_name(*type), shape_text(entry.shape), block.elements);
      return;
    }
    entry.end +=
        *count / static_cast<uint64_t>(block.elements) * static_cast<uint64_t>(block.bytes);
  }

  /// One message for all tensors that reach beyond the file.
  void check_end() {
    const GgufEntry* first = nullptr;
    uint64_t end = 0;
    size_t count = 0;
    for (const GgufEntry& entry : file_.entries_) {
      if (entry.end <= data_bytes_ || entry.begin == entry.end) continue;
      if (first == nullptr) first = &entry;
      end = std::max(end, entry.end);
      ++count;
    }
    if (first == nullptr) return;
    problem(
        "truncated: the tensors need {} bytes of data, the file has {}: {} bytes are missing. "
        "Tensor \"{}\" ({} {}, bytes {} to {}){} beyond the end. Download or copy it again.",
        end, data_bytes_, end - data_bytes_, first->name, ggml_name(first->type),
        shape_text(first->shape), first->begin, first->end,
        count == 1 ? std::string(" reaches") : fmt::format(" and {} more reach", count - 1));
  }

  void check_overlaps() {
    std::vector<const GgufEntry*> order;
    for (const GgufEntry& entry : file_.entries_)
      if (entry.begin != entry.end) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](const GgufEntry* a, const GgufEntry* b) { return a->begin < b->begin; });
    for (size_t i = 1; i < order.size(); ++i)
      if (order[i]->begin < order[i - 1]->end)
        problem("tensors \"{}\" (bytes {} to {}) and \"{}\" (bytes {} to {}) overlap.",
                order[i - 1]->name, order[i - 1]->begin, order[i - 1]->end, order[i]->name,
                order[i]->begin, order[i]->end);
  }

  GgufFile& file_;
  std::string_view text_;
  size_t at_ = 0;
  uint64_t data_bytes_ = 0;
  std::shared_ptr<const std::string> source_;
  Problems topic_problems_;
  size_t problems_ = 0;
};

uint64_t GgufEntry::size() const { return element_count(shape).value_or(0); }

GgufFile::GgufFile(MappedFile file) : file_(std::move(file)) { GgufReader(*this).read(); }

const GgufValue* GgufFile::find(const std::string& key) const {
  auto found = value_index_.find(key);
  return found == value_index_.end() ? nullptr : &values_[found->second];
}

const GgufValue& GgufFile::at(const std::string& key) const {
  if (const GgufValue* value = find(key)) return *value;
  std::vector<std::string> keys;
  for (const GgufValue& value : values_) keys.push_back(value.key());
  user_error("gguf", "{}: the metadata has no \"{}\".{}", path(), key, did_you_mean(key, keys));
}

const GgufEntry* GgufFile::find_tensor(const std::string& name) const {
  auto found = entry_index_.find(name);
  return found == entry_index_.end() ? nullptr : &entries_[found->second];
}

const GgufEntry& GgufFile::tensor(const std::string& name) const {
  if (const GgufEntry* entry = find_tensor(name)) return *entry;
  no_such_tensor("gguf", path(), name, entries_);
}

std::span<const std::byte> GgufFile::bytes(const GgufEntry& entry) const {
  if (entry.begin == entry.end) return {};
  return file_.bytes().subspan(data_begin_ + entry.begin, entry.end - entry.begin);
}

void GgufFile::to_f32(const GgufEntry& entry, float* out) const {
  dequantise(entry.type, bytes(entry), out);
}

std::vector<float> GgufFile::to_f32(const std::string& name) const {
  const GgufEntry& entry = tensor(name);
  std::vector<float> out(entry.size());
  to_f32(entry, out.data());
  return out;
}

}  // namespace weir
