#include "lab/train/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json_text.h"
#include "io/npy.h"
#include "lab/measure/token_input.h"
#include "lab/train/checkpoint.h"
#include "lab/train/manifest.h"
#include "support/error.h"
#include "support/usage_error.h"
#include "support/versions.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

Json data_json(const DataFacts& facts) {
  Json json = {{"hash", facts.hash}, {"what", facts.what}};
  if (!facts.around) return json;
  json.update({{"tokens", facts.tokens}, {"documents", facts.documents}});
  json.update(Json::parse(tokens_json(*facts.around)));
  return json;
}

}  // namespace

RunConfig read_run_config(const fs::path& file, const char* topic) {
  try {
    UsageProblems problems("config");
    const RunConfig config =
        parse_config({read_file(file.string()), file.string()}, {}, {}, problems);
    problems.raise();
    return config;
  } catch (const UserError& error) {  // no mistake of this command line
    user_error(topic, "{} is damaged, or of another version of Weir: {}", file.string(),
               error.what());
  }
}

fs::path probes_of_step(int64_t step) {
  return fs::path("probes") / (checkpoint_name(step) + ".npz");
}

std::optional<int64_t> step_without_probes(const fs::path& arm, const std::vector<int64_t>& steps) {
  // An archive ends with its directory, a record of 22 bytes last.
  constexpr size_t end_record = 22;
  for (int64_t step : steps) {
    const std::string file = (arm / probes_of_step(step)).string();
    if (!file_exists(file)) return step;
    const MappedFile mapped(file);
    const std::string_view text = mapped.text();
    if (!text.starts_with("PK\x03\x04") || text.size() < end_record ||
        !text.substr(text.size() - end_record).starts_with("PK\x05\x06"))
      return step;
  }
  return std::nullopt;
}

bool has_damaged_map(const fs::path& arm) {
  const std::string file = (arm / "maps.json").string();
  if (!fs::exists(file))
    return Manifest::read(arm.parent_path()).lists((arm.filename() / "maps.json").string());
  const Json maps = Json::parse(read_file(file), nullptr, false);
  return !maps.is_array() || maps.empty();
}

void write_run_json(const fs::path& folder, const RunConfig& config, const RunFacts& facts) {
  Json arms = Json::array();
  for (const ArmConfig& arm : config.arms) {
    Json overrides = Json::object();
    for (const auto& [key, value] : arm.overrides) overrides[key] = value;
    Json entry = {{"name", arm.name}, {"folder", arm.name}, {"overrides", overrides}};
    if (const auto data = facts.data.find(arm.name); data != facts.data.end()) {
      entry["data"] = data_json(data->second.training);
      if (!data->second.validation.what.empty()) {
        entry["validation"] = data_json(data->second.validation);
        entry["validation"]["evaluated_tokens"] = data->second.evaluated_tokens;
      }
      if (!data->second.initial.what.empty()) entry["init"] = data_json(data->second.initial);
    }
    arms.push_back(entry);
  }
  Json versions = Json::object();
  for (const auto& [name, version] : build_versions()) versions[name] = version;
  Json run = {{"arms", arms},           {"command", facts.command}, {"versions", versions},
              {"target", facts.target}, {"seed", config.seed},      {"started", facts.started}};
  for (const auto& [when, command] : facts.resumed)
    run["resumed"].push_back({{"at", when}, {"command", command}});
  if (facts.seconds > 0) run["seconds"] = facts.seconds;
  write_file((folder / "run.json").string(),
             run.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

RunFacts read_run_json(const fs::path& folder, const char* topic) {
  const fs::path file = folder / "run.json";
  const std::string content = read_file(file.string());
  const Json run = Json::parse(content, nullptr, false);
  const auto damaged = [&](const std::string& what) {
    user_error(topic,
               "{} is damaged: {}. Start the run anew in another folder, or put the file back.",
               file.string(), what);
  };
  if (!run.is_object()) damaged("it is no JSON object");
  if (const std::vector<std::string> twice = repeated_keys(content); !twice.empty())
    damaged(fmt::format("an object in it has the key \"{}\" twice", twice.front()));
  const auto text = [](const Json& json, const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string()
               ? json[key].get<std::string>()
               : "";
  };
  RunFacts facts{text(run, "command"), text(run, "target"), text(run, "started"), 0};
  if (run.contains("seconds") && run["seconds"].is_number())
    facts.seconds = run["seconds"].get<double>();
  if (run.contains("resumed") && run["resumed"].is_array())
    for (const Json& entry : run["resumed"])
      facts.resumed.emplace_back(text(entry, "at"), text(entry, "command"));
  if (run.contains("arms") && run["arms"].is_array())
    for (const Json& arm : run["arms"])
      if (arm.is_object()) {
        ArmData& data = facts.data[text(arm, "name")];
        for (const auto& [key, part] :
             {std::pair("data", &data.training), std::pair("validation", &data.validation),
              std::pair("init", &data.initial)})
          if (arm.contains(key)) *part = {text(arm[key], "hash"), text(arm[key], "what")};
      }
  return facts;
}

void write_map(const fs::path& file, int64_t step, const AttentionMap& map,
               const std::vector<std::string>& tokens) {
  write_file(file.string(), "[" + map_json(map, step, tokens) + "]\n");
}

void write_probes(const fs::path& file, const Tensors& values,
                  const std::vector<std::string>& ids) {
  std::vector<std::vector<float>> stored;
  std::vector<std::pair<std::string, NpyView>> arrays;
  stored.reserve(ids.size());
  for (const std::string& id : ids) {
    const HostTensor& value = values.at(id);
    stored.emplace_back(value.data.begin(), value.data.end());
    arrays.push_back(
        {id, {FileDtype::f32, value.type.shape, std::as_bytes(std::span(stored.back()))}});
  }
  write_npz(file.string(), arrays);
}

}  // namespace weir
