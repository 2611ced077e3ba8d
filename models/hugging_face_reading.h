#pragma once
// What the readers of a config.json share while they go through it.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/architecture.h"

namespace weir {

struct HuggingFaceReading {
  using Json = nlohmann::ordered_json;

  const Json& file;
  const Json& library;  ///< of hugging_face_defaults(), for this model type
  const Architecture& architecture;
  std::string model_type;
  ModelConfig config = {};
  std::vector<std::string> problems = {};

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    problems.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  /// What was decided, and the user should know.
  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    config.notes.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  /// The member of the file, or null where there is none or it is null.
  const Json& given(const std::string& key) const {
    static const Json null;
    auto found = file.find(key);
    return found == file.end() ? null : *found;
  }
  /// The same, with the library's default where the file has no such key.
  const Json& value(const std::string& key) const {
    if (file.contains(key)) return given(key);
    static const Json null;
    const Json& defaults = library.at("defaults");
    auto found = defaults.find(key);
    return found == defaults.end() ? null : *found;
  }

  // Readers of one value; `key` is its name in messages.
  void read_size(const std::string& key, const Json& value, int64_t most, int64_t& size) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 ||
        value.get<uint64_t>() > static_cast<uint64_t>(most))
      return problem("{} is {}; an integer from 1 to {} is needed.", key, value.dump(), most);
    size = value.get<int64_t>();
  }
  void read_number(const std::string& key, const Json& value, double& number) {
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0)
      return problem("{} is {}; a number >= 0 is needed.", key, value.dump());
    number = value.get<double>();
  }
  void read_flag(const std::string& key, const Json& value, bool& flag) {
    if (!value.is_boolean())
      return problem("{} is {}; true or false is needed.", key, value.dump());
    flag = value.get<bool>();
  }
};

}  // namespace weir
