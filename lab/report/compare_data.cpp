#include "lab/report/compare_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "io/file.h"
#include "io/json_text.h"
#include "lab/report/page_text.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr const char* kTopic = "compare";
constexpr const char* kSweepSchema = "weir.sweep/1";

// Keys that change no number of a record, or are what replicates differ in.
bool is_immaterial(const std::string& key) {
  static const std::set<std::string> keys = {"out",
                                             "seed",
                                             "threads",
                                             "memory",
                                             "checkpoint_every",
                                             "keep_checkpoints",
                                             "arms",
                                             "model.name",
                                             "measure.steps",
                                             "measure.every",
                                             "measure.metrics",
                                             "measure.probes",
                                             "measure.map_layer",
                                             "measure.map_head",
                                             "measure.validation_batches"};
  return keys.contains(key);
}

// The fact that a key belongs to; "" if it may differ between arms.
std::string fact_of_key(const std::string& key) {
  if (key.starts_with("data.") || key == "data") return "data";
  if (key == "steps" || key == "batch" || key == "length") return "tokens";
  for (const char* size : {"model", "model.layers", "model.d_model", "model.heads",
                           "model.kv_heads", "model.d_head", "model.d_ff", "model.vocabulary"})
    if (key == size) return "sizes";
  if (key.starts_with("measure.sink") || key.starts_with("measure.gradient")) return "definitions";
  return "";
}

ordered_json object_in(const fs::path& file) {
  ordered_json value = parse_json<ordered_json>(read_file(file.string()), kTopic, file.string());
  if (!value.is_object()) user_error(kTopic, "{} holds no JSON object.", file.string());
  return value;
}

std::map<std::string, std::string> flat(const ordered_json& object) {
  std::map<std::string, std::string> result;
  for (const auto& [name, value] : object.items())
    if (name != "arms")
      for_each_leaf(value, name, [&](const std::string& key, const ordered_json& leaf) {
        result[key] = plain(leaf);
      });
  return result;
}

ordered_json flat_json(const ordered_json& object) {
  ordered_json result = ordered_json::object();
  for (const auto& [key, value] : flat(object)) result[key] = value;
  return result;
}

int64_t whole_number(const std::string& text, int64_t otherwise) {
  try {
    return std::stoll(text);
  } catch (const std::exception&) {
    return otherwise;
  }
}

std::string model_sizes(const json& model) {
  std::vector<std::string> parts;
  for (const char* key : {"layers", "d_model", "heads", "kv_heads", "d_head", "d_ff", "vocabulary"})
    if (model.contains(key)) parts.push_back(fmt::format("{} {}", key, model.at(key).dump()));
  return join(parts, ", ");
}

std::string definitions_of(const json& settings) {
  std::vector<std::string> parts;
  for (const char* key : {"sink_token", "sink_window", "gradient_window"})
    if (settings.contains(key)) parts.push_back(fmt::format("{} {}", key, settings.at(key).dump()));
  return join(parts, ", ");
}

// Keys of data without those that other facts have, and the hash of what was read.
std::string data_of(const std::map<std::string, std::string>& configuration,
                    const ordered_json& entry) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : configuration)
    if (fact_of_key(key) == "data" && !value.empty() && value != "[]")
      parts.push_back(fmt::format("{}={}", key, value));
  if (entry.contains("data") && entry.at("data").is_object())
    if (const std::string hash = entry.at("data").value("hash", ""); !hash.empty())
      parts.push_back("hash " + hash);
  return join(parts, " ");
}

/// Reads runs into a CompareInput.
class Reader {
 public:
  explicit Reader(CompareInput& input) : input_(input) {}

  void folder(const std::string& name) {
    const fs::path path = name;
    if (fs::exists(path / "sweep.json")) return sweep(path);
    if (fs::exists(path / "run.json")) return run(path, {});
    user_error(
        kTopic,
        "{} is no folder of a run (it has no run.json) and of no sweep (no sweep.json). Give "
        "folders that `weir train` or `weir sweep` wrote.",
        name);
  }

 private:
  /// What a sweep says of a run; empty outside of sweeps.
  struct Entry {
    std::string arm;
    ordered_json overrides, grid = ordered_json::object();
    std::string seed;
  };

  void leave_out(const fs::path& folder, const std::string& arm, const std::string& seed,
                 std::string why) {
    input_.left_out.push_back({folder.lexically_normal().string(), arm, std::move(why), seed});
  }

  void sweep(const fs::path& folder) {
    const fs::path file = folder / "sweep.json";
    const ordered_json sweep = object_in(file);
    if (sweep.value("schema", "") != kSweepSchema)
      user_error(kTopic, "{}: \"schema\" is {}, and \"{}\" is needed.", file.string(),
                 sweep.contains("schema") ? sweep.at("schema").dump() : "missing", kSweepSchema);
    if (!sweep.contains("entries") || !sweep.at("entries").is_array())
      user_error(kTopic, "{} is damaged: it has no list \"entries\".", file.string());
    const ordered_json none = ordered_json::object();
    const ordered_json& arms = sweep.contains("arms") ? sweep.at("arms") : none;
    size_t index = 0;
    for (const ordered_json& entry : sweep.at("entries")) {
      const auto is = [&](const char* key, bool (ordered_json::*kind)() const noexcept) {
        return entry.is_object() && entry.contains(key) && (entry.at(key).*kind)();
      };
      if (!is("arm", &ordered_json::is_string) || !is("run", &ordered_json::is_string) ||
          !is("seed", &ordered_json::is_number_integer))
        user_error(kTopic, "{} is damaged: entries[{}] needs \"arm\", \"seed\" and \"run\".",
                   file.string(), index);
      ++index;
      const std::string run_name = entry.at("run");
      Entry facts{entry.at("arm"), none, none, entry.at("seed").dump()};
      if (arms.is_object() && arms.contains(facts.arm))
        facts.overrides = flat_json(arms.at(facts.arm));
      if (is("grid", &ordered_json::is_object)) facts.grid = entry.at("grid");
      const fs::path path = folder / "runs" / run_name;
      if (run_name.find('/') != std::string::npos || !fs::exists(path / "run.json"))
        leave_out(path, facts.arm, facts.seed, "It has not begun.");
      else
        run(path, facts);
    }
  }

  void run(const fs::path& folder, const Entry& entry) {
    ordered_json run, config;
    try {
      run = object_in(folder / "run.json");
      config = object_in(folder / "config.json");
    } catch (const UserError& error) {
      return leave_out(folder, entry.arm, entry.seed, error.what());
    }
    if (!run.contains("arms") || !run.at("arms").is_array() || run.at("arms").empty())
      return leave_out(folder, entry.arm, entry.seed, "Its run.json is damaged: it has no arms.");
    const auto whole = flat(config);
    for (const ordered_json& arm : run.at("arms")) {
      const std::string name = arm.is_object() ? arm.value("name", "") : "";
      const std::string subfolder = arm.is_object() ? arm.value("folder", "") : "";
      if (name.empty() || subfolder.empty() || subfolder.find('/') != std::string::npos) {
        leave_out(folder, name, entry.seed,
                  "Its run.json is damaged: an arm needs a name and a folder.");
        continue;
      }
      trained(folder, arm, subfolder, whole, entry, run.at("arms").size() > 1);
    }
  }

  // One arm of a run.
  void trained(const fs::path& run, const ordered_json& arm, const std::string& subfolder,
               std::map<std::string, std::string> configuration, const Entry& entry,
               bool has_others) {
    Replicate one;
    const std::string name = arm.at("name");
    const ordered_json overrides = flat_json(arm.value("overrides", ordered_json::object()));
    for (const auto& [key, value] : overrides.items()) configuration[key] = plain(value);
    one.arm = entry.arm.empty() ? name : has_others ? entry.arm + ", " + name : entry.arm;
    one.overrides = entry.overrides.is_object() ? entry.overrides : ordered_json::object();
    one.overrides.update(overrides);
    one.grid = entry.grid;
    one.folder = (run / subfolder).lexically_normal().string();
    const std::string seed = configuration.contains("seed") ? configuration.at("seed") : "";
    if (overrides.contains("seed") && entry.arm.empty()) {
      // Arms that differ in their seeds are replicates, called by what else they say.
      std::vector<std::string> parts;
      for (const auto& [key, value] : overrides.items())
        if (key != "seed") parts.push_back(key + "=" + plain(value));
      one.arm = parts.empty() ? "baseline" : join(parts, " ");
    }
    one.overrides.erase("seed");
    if (seed.empty() || seed.find_first_not_of("0123456789") != std::string::npos)
      return leave_out(one.folder, one.arm, "", "Its config.json has no seed.");
    one.seed = std::stoull(seed);
    if (configuration.contains("measure.metrics") && configuration.at("measure.metrics") == "false")
      return leave_out(one.folder, one.arm, seed, "It was not measured: measure.metrics=false.");
    const fs::path metrics = fs::path(one.folder) / "metrics.jsonl";
    if (!fs::exists(metrics))
      return leave_out(one.folder, one.arm, seed, "It has no metrics.jsonl: it has not begun.");
    try {
      one.measured = read_measured(one.folder, one.arm);
    } catch (const UserError& error) {
      return leave_out(one.folder, one.arm, seed, error.what());
    }
    const int64_t last = one.measured.measured.back().step, needed = last_step(configuration);
    if (last < needed)
      return leave_out(
          one.folder, one.arm, seed,
          fmt::format("It is not finished: its last measured step is {} of {}.", last, needed));
    const json& tokens = one.measured.tokens;
    const int64_t length = tokens.value("length", int64_t{0});
    one.tokens_a_step = tokens.value("batch", int64_t{0}) * length;
    one.facts = {{"data", data_of(configuration, arm)},
                 {"tokens", fmt::format("{} steps of {} sequences of {} tokens", last,
                                        tokens.value("batch", int64_t{0}), length)},
                 {"sizes", model_sizes(one.measured.model)},
                 {"definitions", definitions_of(one.measured.settings)}};
    for (const auto& [key, value] : configuration)
      if (!is_immaterial(key) && fact_of_key(key).empty()) one.configuration[key] = value;
    input_.replicates.push_back(std::move(one));
  }

  // The last step that is measured, by the configuration.
  static int64_t last_step(const std::map<std::string, std::string>& configuration) {
    const auto steps = configuration.find("steps");
    const int64_t all = steps == configuration.end() ? 0 : whole_number(steps->second, 0);
    const auto chosen = configuration.find("measure.steps");
    if (chosen == configuration.end()) return all;
    int64_t last = -1;
    for (const std::string& text : split(chosen->second, ',')) {
      const size_t digit = text.find_first_of("0123456789");
      if (digit == std::string::npos) continue;
      const int64_t step = whole_number(text.substr(digit), -1);
      if (step <= all) last = std::max(last, step);
    }
    return last < 0 ? all : last;
  }

  CompareInput& input_;
};

// Two replicates of one name and grid point whose configurations differ are different arms: the
// later ones are called by what differs.
void part_by_configuration(std::vector<Replicate>& replicates) {
  std::map<std::string, const Replicate*> first;
  for (Replicate& one : replicates) {
    const Replicate* base = first.try_emplace(one.arm + one.grid.dump(), &one).first->second;
    if (base == &one) continue;
    std::vector<std::string> parts;
    for (const auto& [key, value] : one.configuration) {
      const auto there = base->configuration.find(key);
      if (there == base->configuration.end() || there->second != value)
        parts.push_back(fmt::format("{}={}", key, value));
    }
    if (!parts.empty()) one.measured.name = one.arm + ", " + join(parts, " ");
  }
  for (Replicate& one : replicates) one.arm = one.measured.name;
}

// Whether the arm or the grid point sets a key of a fact.
bool sets(const Replicate& one, const std::string& fact) {
  for (const ordered_json* keys : {&one.overrides, &one.grid})
    for (const auto& [key, value] : keys->items())
      if (fact_of_key(key) == fact) return true;
  return false;
}

std::string what_differs(const std::string& fact) {
  return fact == "data"     ? "data"
         : fact == "tokens" ? "numbers of tokens"
         : fact == "sizes"  ? "sizes of the model"
                            : "definitions of what is measured";
}

// Leaves out what cannot be compared with the first arm of its grid point, and what is there twice.
void keep_comparable(CompareInput& input) {
  std::map<std::string, const Replicate*> first, seen;
  std::vector<Replicate> kept;
  kept.reserve(input.replicates.size());
  std::set<std::string> notes;
  for (Replicate& one : input.replicates) {
    const std::string seed = std::to_string(one.seed);
    const auto twice = seen.find(one.arm + one.grid.dump() + "/" + seed);
    if (twice != seen.end()) {
      input.left_out.push_back(
          {one.folder, one.arm,
           fmt::format("The same arm and seed are in {}.", twice->second->folder), seed});
      continue;
    }
    const auto found = first.find(one.grid.dump());
    const Replicate* base = found == first.end() ? nullptr : found->second;
    std::string why;
    for (const auto& [fact, value] : one.facts) {
      if (!base || base->facts.at(fact) == value) continue;
      if (sets(one, fact) || sets(*base, fact))
        notes.insert(fmt::format("{} and {} have different {}, as their keys say: {}; {}.", one.arm,
                                 base->arm, what_differs(fact), value, base->facts.at(fact)));
      else
        why += fmt::format("{}It cannot be compared with {}: the {} differ: {}; there {}.",
                           why.empty() ? "" : " ", base->folder, what_differs(fact), value,
                           base->facts.at(fact));
    }
    if (!why.empty()) {
      input.left_out.push_back({one.folder, one.arm, why, seed});
      continue;
    }
    kept.push_back(std::move(one));
    first.try_emplace(kept.back().grid.dump(), &kept.back());
    seen.emplace(kept.back().arm + kept.back().grid.dump() + "/" + seed, &kept.back());
  }
  input.replicates = std::move(kept);
  input.notes.assign(notes.begin(), notes.end());
}

}  // namespace

CompareInput read_comparison(const std::vector<std::string>& folders) {
  CompareInput input;
  Problems problems(kTopic);
  Reader reader(input);
  for (const std::string& folder : folders) {
    try {
      reader.folder(folder);
    } catch (const UserError& error) {
      std::string message = error.what();
      const std::string topic = fmt::format("[{}] ", kTopic);
      problems.add(message.starts_with(topic) ? message.substr(topic.size()) : message);
    }
  }
  problems.raise();
  part_by_configuration(input.replicates);
  keep_comparable(input);
  return input;
}

}  // namespace weir
