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

/// Sets every element of an f32 weight in a folder of Hugging Face.
inline void fill_weight(const std::filesystem::path& folder, const std::string& name, float value) {
  const std::string path = (folder / "model.safetensors").string();
  const SafetensorsFile file(path);
  std::vector<SafetensorsItem> items;
  std::vector<std::vector<float>> values(file.entries().size());
  for (const SafetensorsEntry& entry : file.entries()) {
    std::vector<float>& stored = values[items.size()];
    const auto bytes = file.bytes(entry);
    stored.resize(bytes.size() / sizeof(float));
    std::memcpy(stored.data(), bytes.data(), bytes.size());
    if (entry.name == name) std::fill(stored.begin(), stored.end(), value);
    items.push_back({entry.name, entry.dtype, entry.shape, std::as_bytes(std::span(stored))});
  }
  write_safetensors(path, items, {{"format", "pt"}});
}

}  // namespace weir::test
