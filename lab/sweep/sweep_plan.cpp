#include "lab/sweep/sweep_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "io/hash.h"
#include "io/json_text.h"
#include "lab/train/config_keys.h"
#include "lab/train/initial_weights.h"
#include "support/text.h"

namespace weir {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchema = "weir.sweep/1";

std::string shown(const Json& value) {
  return short_text(value.is_string() ? value.get<std::string>() : value.dump());
}

// What is said of a key that a sweep sets itself; "" of any other.
std::string own_key_problem(const std::string& key) {
  if (key == "out")
    return "out is set by the sweep: each run has its folder below that of the sweep (--out).";
  if (key == "seed") return "seed is set by the sweep. Give \"seeds\": [1, 2, 3].";
  if (key == "arms")
    return "arms belongs to the sweep itself: \"arms\": {name: {key: value}} beside \"base\". A "
           "run "
           "of a sweep has one arm.";
  return "";
}

// An object of keys, dotted. `problems` gets what is wrong with any of them, behind `where`.
Json read_settings(const Json& given, const std::string& where, UsageProblems& problems) {
  UsageProblems found("sweep");
  Json settings = Json::object();
  Settings texts;
  if (!given.is_object()) {
    found.add(fmt::format("{} is no object of keys and values.", shown(given)));
  } else {
    for (const auto& [key, value] : members_by_key(given)) {
      settings[key] = value;
      const std::string own = own_key_problem(key);
      if (own.empty())
        texts.emplace_back(key, text_of_value(value));
      else
        found.add(own);
    }
    RunConfig scratch;
    apply_settings(scratch, texts, found);
  }
  problems.add_all(found, where);
  return settings;
}

Settings texts_of(const Json& settings) {
  Settings texts;
  for (const auto& [key, value] : settings.items()) texts.emplace_back(key, text_of_value(value));
  return texts;
}

Json read_arms(const Json& given, UsageProblems& problems) {
  Json arms = Json::object();
  if (given.is_null() || (given.is_object() && given.empty())) {
    arms["baseline"] = Json::object();
    return arms;
  }
  if (!given.is_object()) {
    problems.add(
        fmt::format("arms is {}, but an object is needed: {{\"baseline\": {{}}, \"name\": "
                    "{{key: value}}}}.",
                    shown(given)));
    return arms;
  }
  for (const auto& [name, settings] : given.items()) {
    if (!is_folder_name(name))
      problems.add(
          fmt::format("arm name '{}': a name that can name a folder is needed.", short_text(name)));
    arms[name] = read_settings(settings, fmt::format("arm {}: ", name), problems);
  }
  return arms;
}

Json read_seeds(const Json& given, UsageProblems& problems) {
  if (given.is_null()) return Json::array({RunConfig().seed});
  Json seeds = Json::array();
  if (!given.is_array() || given.empty())
    problems.add(
        fmt::format("seeds is {}, but a list of seeds is needed: [1, 2, 3].", shown(given)));
  else
    for (const Json& seed : given) {
      if (!seed.is_number_unsigned())
        problems.add(fmt::format("seeds: {} is no whole number from 0 on.", shown(seed)));
      else if (std::find(seeds.begin(), seeds.end(), seed) != seeds.end())
        problems.add(fmt::format("seeds: {} is there twice; give it once.", seed.dump()));
      else
        seeds.push_back(seed);
    }
  return seeds;
}

Json read_grid(const Json& given, UsageProblems& problems) {
  Json grid = Json::object();
  if (given.is_null()) return grid;
  if (!given.is_object()) {
    problems.add(
        fmt::format("grid is {}, but an object is needed: {{key: [values]}}.", shown(given)));
    return grid;
  }
  for (const auto& [key, values] : members_by_key(given)) {
    if (grid.contains(key)) {
      problems.add(fmt::format("grid: {} is given twice; give it once.", key));
      continue;
    }
    if (!values.is_array() || values.empty()) {
      problems.add(fmt::format("grid: {} is {}, but a list of values is needed: [value, value].",
                               key, shown(values)));
      continue;
    }
    std::set<std::string> texts;
    for (const Json& value : values) {
      if (!texts.insert(text_of_value(value)).second)
        problems.add(fmt::format("grid: {} has {} twice; give it once.", key, shown(value)));
      read_settings(Json{{key, value}}, "grid: ", problems);
    }
    grid[key] = values;
  }
  return grid;
}

// A key that an arm and the grid set would have two values.
void check_apart(const SweepPlan& plan, UsageProblems& problems) {
  for (const auto& [name, settings] : plan.arms.items())
    for (const auto& [key, value] : settings.items())
      if (plan.grid.contains(key))
        problems.add(fmt::format(
            "{} is set by arm {} and by the grid. Leave it out of one of them, or make two sweeps.",
            key, name));
}

int64_t count_of(const SweepPlan& plan, UsageProblems& problems) {
  double count = static_cast<double>(plan.arms.size()) * static_cast<double>(plan.seeds.size());
  for (const auto& [key, values] : plan.grid.items()) count *= static_cast<double>(values.size());
  if (count <= static_cast<double>(kMaxSweepEntries)) return static_cast<int64_t>(count);
  problems.add(fmt::format(
      "arms x seeds x grid are {:.0f} entries; at most {} are possible. Make several sweeps.",
      count, kMaxSweepEntries));
  return 0;
}

// The points of the grid, the last key changing fastest.
std::vector<Json> points_of(const Json& grid) {
  std::vector<Json> points = {Json::object()};
  for (const auto& [key, values] : grid.items()) {
    std::vector<Json> longer;
    for (const Json& point : points)
      for (const Json& value : values) {
        longer.push_back(point);
        longer.back()[key] = value;
      }
    points = std::move(longer);
  }
  return points;
}

std::string point_text(const Json& grid) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : grid.items())
    parts.push_back(fmt::format("{} {}", key, shown(value)));
  return join(parts, ", ");
}

// The settings of one arm at one point of the grid, for any seed.
RunConfig config_at(const RunConfig& base, const Json& arm, const Json& point,
                    UsageProblems& problems) {
  RunConfig config = base;
  Settings settings = texts_of(arm);
  for (const auto& setting : texts_of(point)) settings.push_back(setting);
  apply_settings(config, settings, problems);
  check_settings_together(config, problems);
  if (config.checkpoint_every < 0)
    config.checkpoint_every = std::max<int64_t>(1, (config.steps + 9) / 10);
  if (config.keep_checkpoints < 0) config.keep_checkpoints = 1;
  return config;
}

// The same mistake at many points is said once, with the first of them.
struct FoundAt {
  std::string message;
  std::vector<std::string> places;
};

void say_where(const std::vector<FoundAt>& found, size_t all, UsageProblems& problems) {
  constexpr size_t shown_places = 3;
  for (const auto& [message, places] : found) {
    if (places.size() == all) {
      problems.add(message);
      continue;
    }
    std::vector<std::string> first(
        places.begin(),
        places.begin() + static_cast<std::ptrdiff_t>(std::min(places.size(), shown_places)));
    std::string text = join(first, "; ");
    if (places.size() > shown_places)
      text += fmt::format("; and {} more", places.size() - shown_places);
    problems.add(fmt::format("{}: {}", text, message));
  }
}

// Base, with -1 where it says nothing of checkpoints.
RunConfig base_config(const Json& base, UsageProblems& problems) {
  RunConfig config;
  config.checkpoint_every = config.keep_checkpoints = -1;
  problems.collect([&] {
    const std::string init = base.contains("init") ? text_of_value(base["init"]) : "";
    if (!init.empty()) config = with_model_of(init, config);
  });
  apply_settings(config, texts_of(base), problems);
  return config;
}

void make_entries(SweepPlan& plan, UsageProblems& problems) {
  if (count_of(plan, problems) == 0) return;
  const RunConfig base = base_config(plan.base, problems);
  if (!problems.empty()) return;
  const std::vector<Json> points = points_of(plan.grid);
  std::vector<std::vector<RunConfig>> configs;  // [arm][point]
  std::vector<FoundAt> found;
  for (const auto& [name, arm] : plan.arms.items()) {
    configs.emplace_back();
    for (const Json& point : points) {
      UsageProblems here("sweep");
      configs.back().push_back(config_at(base, arm, point, here));
      const std::string place =
          point.empty() ? "arm " + name : fmt::format("arm {}, {}", name, point_text(point));
      for (const std::string& message : here.messages()) {
        auto same = std::find_if(found.begin(), found.end(),
                                 [&](const FoundAt& at) { return at.message == message; });
        if (same == found.end()) same = found.insert(found.end(), FoundAt{message, {}});
        same->places.push_back(place);
      }
    }
  }
  say_where(found, plan.arms.size() * points.size(), problems);
  if (!problems.empty()) return;
  size_t arm = 0;
  for (const auto& [name, settings] : plan.arms.items()) {
    for (const Json& seed : plan.seeds)
      for (size_t p = 0; p < points.size(); ++p) {
        SweepEntry entry{static_cast<int64_t>(plan.entries.size()),
                         name,
                         seed.get<uint64_t>(),
                         points[p],
                         "",
                         configs[arm][p]};
        entry.config.seed = entry.seed;
        entry.run = hash_of_settings(entry.config);
        plan.entries.push_back(std::move(entry));
      }
    ++arm;
  }
}

void check_members(const Json& json, UsageProblems& problems) {
  const std::vector<std::string> names = {"base", "arms", "seeds", "grid"};
  const bool made = json.contains("schema");
  for (const auto& [name, value] : json.items())
    if (std::find(names.begin(), names.end(), name) == names.end() &&
        !(made && (name == "schema" || name == "entries")))
      problems.add(fmt::format(
          "a sweep has no member '{}'.{} There are base, arms, seeds, grid; keys of a run go into "
          "base.",
          short_text(name), did_you_mean(name, names)));
  if (made && json["schema"] != kSchema)
    problems.add(fmt::format("schema is {}, but this version of Weir reads {}.",
                             shown(json["schema"]), kSchema));
}

// Whether the runs that a sweep.json names are those that its settings give now.
void check_runs(const SweepPlan& plan, const Json& json, UsageProblems& problems) {
  if (!json.contains("entries") || !problems.empty()) return;
  const Json now = Json::parse(sweep_json(plan))["entries"];
  if (now != json["entries"])
    problems.add(
        "its entries are not those that its settings give: it was changed by hand, or another "
        "version of Weir made it, whose runs may differ. Go on with that version, or give base, "
        "arms, seeds and grid to a sweep in another folder (--out).");
}

}  // namespace

std::string entry_text(const SweepEntry& entry) {
  const std::string point = point_text(entry.grid);
  return fmt::format("arm {}, seed {}{}{}", entry.arm, entry.seed, point.empty() ? "" : ", ",
                     point);
}

std::vector<const SweepEntry*> SweepPlan::runs() const {
  std::vector<const SweepEntry*> first;
  std::set<std::string> seen;
  for (const SweepEntry& entry : entries)
    if (seen.insert(entry.run).second) first.push_back(&entry);
  return first;
}

SweepPlan read_sweep(const ConfigText& text, UsageProblems& problems) {
  const Json json = parse_json<Json>(text.text, "sweep", text.source);
  if (!json.is_object())
    throw UsageError(fmt::format(
        "[sweep] {} is no JSON object. Give {{\"base\": {{\"steps\": 100}}, \"arms\": "
        "{{\"baseline\": {{}}, \"v-scale\": {{\"v_scale.variant\": \"full\"}}}}, \"seeds\": [1, 2, "
        "3]}}.",
        text.source));
  check_members(json, problems);
  const auto member = [&](const char* name) { return json.contains(name) ? json[name] : Json(); };
  SweepPlan plan;
  plan.base =
      json.contains("base") ? read_settings(json["base"], "base: ", problems) : Json::object();
  plan.arms = read_arms(member("arms"), problems);
  plan.seeds = read_seeds(member("seeds"), problems);
  plan.grid = read_grid(member("grid"), problems);
  check_apart(plan, problems);
  if (!problems.empty()) return plan;
  make_entries(plan, problems);
  check_runs(plan, json, problems);
  if (!problems.empty()) plan.entries.clear();
  return plan;
}

std::string sweep_json(const SweepPlan& plan) {
  Json json = {{"schema", kSchema},   {"base", plan.base}, {"arms", plan.arms},
               {"seeds", plan.seeds}, {"grid", plan.grid}, {"entries", Json::array()}};
  for (const SweepEntry& entry : plan.entries)
    json["entries"].push_back({{"index", entry.index},
                               {"arm", entry.arm},
                               {"seed", entry.seed},
                               {"grid", entry.grid},
                               {"run", entry.run}});
  return json.dump(2) + "\n";
}

std::string hash_of_settings(const RunConfig& config) {
  RunConfig rest = config;
  const RunConfig defaults;
  rest.out = defaults.out;
  rest.threads = defaults.threads;
  rest.memory = defaults.memory;
  rest.checkpoint_every = defaults.checkpoint_every;
  rest.keep_checkpoints = defaults.keep_checkpoints;
  rest.arms.clear();
  // Keys in the order of the alphabet: the order of the table of keys says nothing.
  Hasher hasher;
  hasher.add(nlohmann::json::parse(config_json(rest)).dump());
  return hasher.hex_128().substr(0, 16);
}

}  // namespace weir
