#pragma once
// A checkpoint with a weight of one's own choice.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace weir::test {

/// Writes the f32 weights of a folder of Hugging Face again, all for which `change(name, values)`
/// is true.
template <typename Change>
void rewrite_weights(const std::filesystem::path& folder, Change change) {
  const std::string path = (folder / "model.safetensors").string();
  const SafetensorsFile file(path);
  std::vector<SafetensorsItem> items;
  std::vector<std::vector<float>> values(file.entries().size());
  for (size_t i = 0; i < values.size(); ++i) {
    const SafetensorsEntry& entry = file.entries()[i];
    const auto bytes = file.bytes(entry);
    values[i].resize(bytes.size() / sizeof(float));
    std::memcpy(values[i].data(), bytes.data(), bytes.size());
    if (change(entry.name, values[i]))
      items.push_back({entry.name, entry.dtype, entry.shape, std::as_bytes(std::span(values[i]))});
  }
  write_safetensors(path, items, {{"format", "pt"}});
}

/// Sets every element of a weight.
inline void fill_weight(const std::filesystem::path& folder, const std::string& name, float value) {
  rewrite_weights(folder, [&](const std::string& found, std::vector<float>& values) {
    if (found == name) std::fill(values.begin(), values.end(), value);
    return true;
  });
}

inline void remove_weight(const std::filesystem::path& folder, const std::string& name) {
  rewrite_weights(folder, [&](const std::string& found, auto&) { return found != name; });
}

}  // namespace weir::test
