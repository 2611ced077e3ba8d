#pragma once
// Builds GGUF files byte by byte, right or wrong, without the library under test.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace weir {

/// The little-endian bytes of a number.
template <typename T>
std::string raw(T value) {
  std::string text(sizeof value, '\0');
  std::memcpy(text.data(), &value, sizeof value);
  return text;
}

inline std::string gguf_text(const std::string& text) { return raw<uint64_t>(text.size()) + text; }

/// Kind numbers of the format.
enum : uint32_t {
  kU8 = 0,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBoolean = 7,
  kText = 8,
  kList = 9,
  kU64 = 10
};

struct GgufBuilder {
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::vector<std::string> values;
  std::vector<std::string> tensors;
  std::string data;

  GgufBuilder& value(const std::string& key, uint32_t kind, const std::string& bytes) {
    values.push_back(gguf_text(key) + raw(kind) + bytes);
    return *this;
  }
  GgufBuilder& text(const std::string& key, const std::string& text) {
    return value(key, kText, gguf_text(text));
  }
  GgufBuilder& texts(const std::string& key, const std::vector<std::string>& list) {
    std::string bytes = raw<uint32_t>(kText) + raw<uint64_t>(list.size());
    for (const std::string& element : list) bytes += gguf_text(element);
    return value(key, kList, bytes);
  }
  template <typename T>
  GgufBuilder& list(const std::string& key, uint32_t kind, const std::vector<T>& list) {
    std::string bytes = raw<uint32_t>(kind) + raw<uint64_t>(list.size());
    for (T element : list) bytes += raw(element);
    return value(key, kList, bytes);
  }
  /// Sizes in the order of the file: the one that runs fastest first.
  GgufBuilder& tensor(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                      uint64_t offset) {
    std::string bytes = gguf_text(name) + raw(static_cast<uint32_t>(sizes.size()));
    for (uint64_t size : sizes) bytes += raw(size);
    tensors.push_back(bytes + raw(type) + raw(offset));
    return *this;
  }
  /// A tensor whose bytes follow those before it, aligned.
  GgufBuilder& stored(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                      const std::string& bytes) {
    data.append((alignment - data.size() % alignment) % alignment, '\0');
    tensor(name, sizes, type, data.size());
    data += bytes;
    return *this;
  }
  std::string build() const {
    std::string text =
        "GGUF" + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(values.size());
    for (const std::string& part : values) text += part;
    for (const std::string& part : tensors) text += part;
    text.append((alignment - text.size() % alignment) % alignment, '\0');
    return text + data;
  }
};

}  // namespace weir
