#include "lab/train/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/json_text.h"
#include "lab/train/config_keys.h"
#include "lab/train/data.h"
#include "lab/train/text_batches.h"
#include "passes/probe_request.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

using Json = ConfigJson;

// Names in the folder of a run that no arm can have.
constexpr std::array<std::string_view, 6> kFilesOfARun = {
    "config.json", "run.json", "report.html", "manifest.jsonl", "lock", "complete"};

// Marks the resolved configuration of a run whose model no key describes.
constexpr const char* kOwnModel = "own_model";
using Assignments = Settings;

}  // namespace

std::string text_of_value(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::vector<std::string> parts;
  bool texts = std::any_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); });
  for (const Json& element : value) parts.push_back(text_of_value(element));
  if (!texts) return join(parts, ",");
  const bool has_semicolon = std::any_of(parts.begin(), parts.end(), [](const std::string& part) {
    return part.find(';') != std::string::npos;
  });
  const std::string mark = has_semicolon ? "\n" : ";";
  return join(parts, mark) + mark;
}

namespace {

// The sizes of a named model; what is no size stays.
void set_named_model(RunConfig& config, const std::string& name, UsageProblems& problems) {
  const std::vector<std::string> names = llama_config_names();
  if (std::find(names.begin(), names.end(), name) == names.end())
    problems.add(no_choice("model", name, names));
  else
    config.model = named_model(name);
}

// Of a key that one source gives twice none is meant more than the other.
void check_repeated(const Assignments& assignments, UsageProblems& problems) {
  std::map<std::string, std::vector<std::string>> values;
  for (const auto& [key, value] : assignments) values[key].push_back(short_text(value));
  for (const auto& [key, given] : values)
    if (given.size() > 1)
      problems.add(fmt::format("{} is given as {}; give it once.", key, join(given, " and as ")));
}

}  // namespace

void apply_settings(RunConfig& config, const Settings& assignments, UsageProblems& problems) {
  const auto named = [](const auto& assignment) { return assignment.first == "model"; };
  check_repeated(assignments, problems);
  for (const auto& [key, value] : assignments)
    if (key == "model") set_named_model(config, value, problems);
  for (const auto& assignment : assignments)
    if (!named(assignment)) set_config_key(config, assignment.first, assignment.second, problems);
}

namespace {

// "baseline; v-scale-full: v_scale.variant=full optimizer.rate=0.01"
std::vector<ArmConfig> arms_from_text(const std::string& text, UsageProblems& problems) {
  std::vector<ArmConfig> arms;
  for (const std::string& part : split(text, ';')) {
    if (trim(part).empty()) continue;
    size_t colon = part.find(':');
    ArmConfig arm{std::string(trim(part.substr(0, colon))), {}};
    if (colon != std::string::npos)
      for (const std::string& word : split(part.substr(colon + 1), ' ')) {
        if (word.empty()) continue;
        size_t equals = word.find('=');
        if (equals == std::string::npos)
          problems.add(fmt::format("arm {}: '{}' is no key=value.", arm.name, word));
        else
          arm.overrides.emplace_back(word.substr(0, equals), word.substr(equals + 1));
      }
    arms.push_back(std::move(arm));
  }
  return arms;
}

std::vector<ArmConfig> arms_from_json(const Json& json, UsageProblems& problems) {
  std::vector<ArmConfig> arms;
  if (json.is_string()) return arms_from_text(json.get<std::string>(), problems);
  if (!json.is_array()) {
    problems.add("arms is no list of objects with a name and keys.");
    return arms;
  }
  for (const Json& entry : json) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) {
      problems.add(fmt::format("arms: {} is no object with a name.", entry.dump()));
      continue;
    }
    ArmConfig arm{entry["name"].get<std::string>(), {}};
    for (const auto& [key, value] : entry.items())
      if (key != "name") arm.overrides.emplace_back(key, text_of_value(value));
    arms.push_back(std::move(arm));
  }
  return arms;
}

void add_members(const Json& json, const std::string& prefix,
                 std::vector<std::pair<std::string, Json>>& members) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix + key;
    if (value.is_object() && !find_config_key(name) && name != "arms" && name != kOwnModel)
      add_members(value, name + ".", members);
    else
      members.emplace_back(name, value);
  }
}

void read_json(RunConfig& config, const Json& json, Assignments& assignments,
               UsageProblems& problems) {
  for (const auto& [name, value] : members_by_key(json)) {
    if (name == "arms")
      config.arms = arms_from_json(value, problems);
    else if (name == kOwnModel)  // which no file can describe
      config.own_model = config.own_model ? config.own_model : std::make_shared<ModelDefinition>();
    else
      assignments.emplace_back(name, text_of_value(value));
  }
}

}  // namespace

void check_settings_together(const RunConfig& c, UsageProblems& problems) {
  if (c.micro_batches > 0 && c.batch % c.micro_batches != 0)
    problems.add(
        fmt::format("batch {} is no multiple of micro_batches {}.", c.batch, c.micro_batches));
  auto below = [&](const char* key, int64_t value, const char* bound_name, int64_t bound) {
    if (value < 0 || value >= bound)
      problems.add(fmt::format("{} is {}, but {} is {}: 0 to {} are there.", key, value, bound_name,
                               bound, bound - 1));
  };
  if (c.optimizer.restart > 0 && c.optimizer.schedule != "cosine")
    problems.add("optimizer.restart needs optimizer.schedule=cosine.");
  if (c.optimizer.restart > 0 && c.optimizer.restart >= c.steps)
    problems.add(fmt::format("optimizer.restart is {}, but the run ends after {} steps.",
                             c.optimizer.restart, c.steps));
  below("measure.sink_token", c.measure.sink_token, "length", c.length);
  below("measure.map_layer", c.measure.map_layer, "model.layers", c.model.layers);
  below("measure.map_head", c.measure.map_head, "model.heads", c.model.heads);
  for (const auto& [key, layers] : layers_by_key(c.rewrites))
    for (int64_t layer : layers) below(key.c_str(), layer, "model.layers", c.model.layers);
  if (c.rewrites.sink_gradient.gain != 1)
    below("sink_gradient.token", c.rewrites.sink_gradient.token, "length", c.length);
  for (int64_t step : c.measure.steps)
    if (step < 0 || step > c.steps)
      problems.add(
          fmt::format("measure.steps has {}, but the run has steps 0 to {}.", step, c.steps));
  problems.collect([&] { parse_probe_requests(c.measure.probes); });
  // Of a file of bigrams only the file tells.
  if (c.data.kind == "backcopy" && c.data.bigrams.empty() && c.data.triggers > c.data.symbols - 2)
    problems.add(fmt::format(
        "data.triggers is {}, but of data.symbols {} two at least are ordinary ones: 0 to {} are "
        "there.",
        c.data.triggers, c.data.symbols, c.data.symbols - 2));
  if (c.data.kind == "recall")
    for (const std::string& problem : recall_problems(recall_options(c.data, c.seed), c.length))
      problems.add(problem);
  const std::string& begin = c.data.begin_token;
  if (c.data.kind != "text" && begin != "auto" && begin != "none" && begin != kTokenizersOwn)
    problems.add(
        fmt::format("data.begin_token is '{}', but sequences of {} begin with its own <s> (auto or "
                    "tokenizer) or without it (none).",
                    short_text(begin), c.data.kind));
  if (c.data.kind == "text" && c.data.files.empty())
    problems.add("data.kind is text, but data.files is empty. Name files or a folder.");
  if (!c.data.validation.empty() && c.data.kind == "backcopy")
    problems.add(
        "data.validation needs data.kind=text: of backcopy every sequence is new, so that the loss "
        "of training is a validation loss already.");
  if (!c.data.validation.empty() && c.data.kind == "recall")
    problems.add(
        "data.validation needs data.kind=text: of recall sequences are held out in any case, "
        "measure.validation_batches (of batch) as many.");
  if (const auto fraction = validation_fraction(c.data.validation))
    if (!(*fraction > 0 && *fraction < 1))
      problems.add(fmt::format(
          "data.validation is {}, but a fraction between 0 and 1, or files, are needed.",
          c.data.validation[0]));
  if (!c.own_model) try {
      ModelConfig model = c.model;
      if (model.vocabulary == 0) model.vocabulary = 1;
      check_config(model);
    } catch (const UserError& error) {
      problems.add(error.what());
    }
}

namespace {

void check_arm_names(const RunConfig& config, UsageProblems& problems) {
  std::set<std::string> names;
  for (const ArmConfig& arm : config.arms)
    if (!names.insert(arm.name).second || !is_folder_name(arm.name))
      problems.add(fmt::format(
          "arm name '{}': each arm needs a name of its own that can name a folder.", arm.name));
    else if (std::find(kFilesOfARun.begin(), kFilesOfARun.end(), arm.name) != kFilesOfARun.end())
      problems.add(fmt::format("arm name '{}' is the name of a file of every run. Choose another.",
                               arm.name));
}

// A word that gives a label where a named size is meant.
void check_label(const Assignments& words, UsageProblems& problems) {
  const std::vector<std::string> names = llama_config_names();
  const auto has = [&](const char* key) {
    return std::any_of(words.begin(), words.end(),
                       [&](const auto& word) { return word.first == key; });
  };
  for (const auto& [key, value] : words)
    if (key == "model.name" && !has("model") &&
        std::find(names.begin(), names.end(), value) != names.end())
      problems.add(fmt::format("model.name is only a label. The sizes of {} are set by model={}.",
                               value, value));
}

}  // namespace

RunConfig::RunConfig() { model.vocabulary = 0; }

std::vector<std::pair<std::string, Json>> members_by_key(const Json& json) {
  std::vector<std::pair<std::string, Json>> members;
  add_members(json, "", members);
  return members;
}

bool is_folder_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return c != '/' && static_cast<unsigned char>(c) >= 32 && c != 127;
  });
  constexpr size_t longest = 200;
  return plain && !name.empty() && name.size() <= longest && name != "." && name != "..";
}

RunConfig parse_config(const ConfigText& json, const std::vector<std::string>& words,
                       RunConfig config, UsageProblems& problems) {
  if (!json.text.empty() || !json.source.empty()) {
    Assignments assignments;
    const Json parsed = parse_json<Json>(json.text, "config", json.source);
    if (!parsed.is_object())
      user_error("config", "{} is no JSON object. Give {{\"steps\": 100, ...}}.", json.source);
    read_json(config, parsed, assignments, problems);
    apply_settings(config, assignments, problems);
  }
  Assignments assignments;
  for (const std::string& word : words) {
    size_t equals = word.find('=');
    if (equals == std::string::npos) {
      problems.add(fmt::format("'{}' is no key=value.", short_text(word)));
      continue;
    }
    assignments.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  check_repeated(assignments, problems);
  std::erase_if(assignments, [&](const auto& assignment) {
    if (assignment.first != "arms") return false;
    config.arms = arms_from_text(assignment.second, problems);
    return true;
  });
  check_label(assignments, problems);
  apply_settings(config, assignments, problems);
  check_arm_names(config, problems);
  for (const ArmConfig& arm : config.arms) {
    RunConfig trial = config;
    apply_settings(trial, arm.overrides, problems);
    if (problems.empty()) check_settings_together(trial, problems);
  }
  check_settings_together(config, problems);
  return config;
}

RunConfig parse_config(const std::string& json, const std::vector<std::string>& words,
                       RunConfig config) {
  UsageProblems problems("config");
  config = parse_config({json, json.empty() ? "" : "the configuration"}, words, std::move(config),
                        problems);
  problems.raise();
  return config;
}

RunConfig with_arm(const RunConfig& config, const ArmConfig& arm) {
  RunConfig result = config;
  UsageProblems problems("config");
  apply_settings(result, arm.overrides, problems);
  result.arms.clear();
  check_settings_together(result, problems);
  problems.raise();
  return result;
}

std::string config_json(const RunConfig& config) {
  RunConfig copy = config;
  Json json = Json::object();
  for (const ConfigKey& key : config_keys()) {
    Json value = config_value(key, copy);
    std::string name = key.name;
    size_t dot = name.find('.');
    if (dot == std::string::npos)
      json[name] = value;
    else
      json[name.substr(0, dot)][name.substr(dot + 1)] = value;
  }
  if (config.own_model) json[kOwnModel] = true;
  json["arms"] = Json::array();
  for (const ArmConfig& arm : config.arms) {
    Json entry = {{"name", arm.name}};
    for (const auto& [key, value] : arm.overrides) entry[key] = value;
    json["arms"].push_back(entry);
  }
  return json.dump(2);
}

std::map<std::string, std::string> rewrite_settings(const RunConfig& config) {
  std::map<std::string, std::string> settings;
  RunConfig copy = config, defaults;
  for (const RewriteKey& row : rewrite_keys()) {
    if (is_idle(config.rewrites, row.name)) continue;
    const ConfigKey& key = *find_config_key(row.name);
    const Json value = config_value(key, copy);
    if (value != config_value(key, defaults)) settings[row.name] = text_of_value(value);
  }
  return settings;
}

std::string config_help() {
  RunConfig defaults;
  std::string text;
  const auto line = [&](const char* name, const std::string& value, const std::string& meaning) {
    text += fmt::format("  {:<26} {:<12} {}\n", name, value, meaning);
  };
  line("model", "", "sets the sizes of a named model: " + join(llama_config_names(), ", "));
  for (const ConfigKey& key : config_keys()) {
    const std::string range = config_range(key);
    line(key.name, config_value(key, defaults).dump(),
         range.empty() ? key.meaning : fmt::format("{} ({})", key.meaning, range));
  }
  line("arms", "[]", "runs to compare, \"name; name: key=value key=value\"");
  return text +
         "\nA named model comes first, then single keys, whatever their order; words go before a "
         "file, an\narm before both. Named models:\n" +
         named_model_help();
}

}  // namespace weir
