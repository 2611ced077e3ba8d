#pragma once
// The table of keys of a training configuration: name, place, what a value may be, meaning.
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lab/train/config.h"
#include "support/usage_error.h"
#include "support/value_rule.h"

namespace weir {

using KeySlot = RewriteSlot;
using ConfigJson = nlohmann::ordered_json;

struct ConfigKey {
  const char* name;
  std::function<KeySlot(RunConfig&)> slot;
  ValueRule rule;
  const char* meaning;
};

/// All keys but `arms` and `model` (a named size), in the order of the resolved configuration.
const std::vector<ConfigKey>& config_keys();
/// Null for an unknown name.
const ConfigKey* find_config_key(std::string_view name);
/// " Did you mean ...?" for a name that is no key, "" where nothing is near. Knows what PyTorch
/// and Hugging Face call a key.
std::string key_hint(const std::string& name);
/// Reads a value into its place, or adds what is wrong with name or value.
void set_config_key(RunConfig& config, const std::string& name, const std::string& text,
                    UsageProblems& problems);
ConfigJson config_value(const ConfigKey& key, RunConfig& config);
/// What values there are, for help; "" if nothing needs saying.
std::string config_range(const ConfigKey& key);

}  // namespace weir
