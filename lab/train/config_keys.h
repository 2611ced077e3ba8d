#pragma once
// The table of keys of a training configuration: name, place, what a value may be, meaning.
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
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

/// Keys with their values as texts, in the order in which one source gives them.
using Settings = std::vector<std::pair<std::string, std::string>>;
/// The members of a JSON object by dotted keys: nested objects that are no value of a key are
/// taken apart. A key that is given twice stays there twice.
std::vector<std::pair<std::string, ConfigJson>> members_by_key(const ConfigJson& json);
/// The text form of a JSON value, so that files and words are read by the same rules.
std::string text_of_value(const ConfigJson& value);
/// Sets what one source gives, whose order does not matter: `model`, a named size, comes first.
/// Adds unknown keys, values outside their range, and keys that are there twice.
void apply_settings(RunConfig& config, const Settings& settings, UsageProblems& problems);
/// Adds what does not fit together, which ranges of single keys cannot say.
void check_settings_together(const RunConfig& config, UsageProblems& problems);

ConfigJson config_value(const ConfigKey& key, RunConfig& config);
/// What values there are, for help; "" if nothing needs saying.
std::string config_range(const ConfigKey& key);

}  // namespace weir
