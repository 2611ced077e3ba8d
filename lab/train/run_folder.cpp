#include "lab/train/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "io/file.h"
#include "io/json_text.h"
#include "io/npy.h"
#include "lab/measure/token_input.h"
#include "lab/train/checkpoint.h"
#include "support/error.h"
#include "support/usage_error.h"
#include "support/versions.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

Json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

Json data_json(const DataFacts& facts) {
  Json json = {{"hash", facts.hash}, {"what", facts.what}};
  if (!facts.around) return json;
  json.update({{"tokens", facts.tokens}, {"documents", facts.documents}});
  json.update(Json::parse(tokens_json(*facts.around)));
  return json;
}

// Takes the "step" of a line and nothing else of it: a record may be large.
class StepOfLine : public nlohmann::json_sax<Json> {
 public:
  const std::optional<int64_t>& step() const { return step_; }

  bool start_object(size_t) override {
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    ++depth_;
    return depth_ > 1;  // a line is an object
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    at_step_ = depth_ == 1 && name == "step";
    return true;
  }
  bool number_integer(int64_t value) override { return take(value); }
  bool number_unsigned(uint64_t value) override { return take(static_cast<int64_t>(value)); }
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_float(double, const std::string&) override { return other(); }
  bool string(std::string&) override { return other(); }
  bool binary(Json::binary_t&) override { return other(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool take(int64_t value) {
    if (at_step_ && depth_ == 1) step_ = value;
    return other();
  }
  bool other() {
    at_step_ = false;
    return true;
  }

  int depth_ = 0;
  bool at_step_ = false;
  std::optional<int64_t> step_;
};

}  // namespace

JsonLines::JsonLines(fs::path file, const std::string& kept) : file_(std::move(file)) {
  write_file(file_.string(), kept);
  descriptor_ = open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail();
}

JsonLines::~JsonLines() {
  if (descriptor_ >= 0) close(descriptor_);
}

void JsonLines::fail() const {
  user_error("train", "cannot write {}: {}.", file_.string(), std::strerror(errno));
}

void JsonLines::append(const std::string& line) {
  const std::string whole = line + "\n";
  const off_t before = lseek(descriptor_, 0, SEEK_END);
  ssize_t written = -1;
  do written = write(descriptor_, whole.data(), whole.size());
  while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(whole.size())) return;
  const int reason = written < 0 ? errno : ENOSPC;  // a part fits where the disk is full
  if (written > 0 && ftruncate(descriptor_, before) != 0)
    user_error("train", "cannot write {}: {}; its last line is cut off.", file_.string(),
               std::strerror(errno));
  errno = reason;
  fail();
}

void JsonLines::flush() {
  if (fsync(descriptor_) != 0) fail();
}

StepLines read_step_lines(const fs::path& file, const std::vector<int64_t>& wanted, int64_t below) {
  StepLines lines;
  std::map<int64_t, std::string_view> by_step;
  std::optional<MappedFile> mapped;
  if (fs::exists(file)) mapped.emplace(file.string());
  const std::string_view text = mapped ? mapped->text() : "";
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1);
    const std::string_view line = text.substr(begin, end + 1 - begin);
    begin = end + 1;
    StepOfLine reader;
    const bool sound =
        line.ends_with('\n') && Json::sax_parse(line, &reader) && repeated_keys(line).empty();
    const std::optional<int64_t> step = sound ? reader.step() : std::nullopt;
    if (!step) {
      lines.as_written = false;
      continue;
    }
    if (*step >= below) continue;
    lines.as_written &= by_step.empty() || by_step.rbegin()->first < *step;
    by_step.emplace(*step, line);
  }
  for (const auto& [step, line] : by_step) lines.text += line;
  for (int64_t step : wanted)
    if (!lines.missing && !by_step.contains(step)) lines.missing = step;
  return lines;
}

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
  return file_exists(file) && !Json::accept(read_file(file));
}

void check_lines(const fs::path& run) {
  Problems problems("report");
  for (const auto& entry : fs::directory_iterator(run)) {
    const fs::path& arm = entry.path();
    if (!fs::exists(arm / "config.json") || !fs::exists(arm / "loss.jsonl")) continue;
    RunConfig config;
    try {
      config = read_run_config(arm / "config.json", "report");
    } catch (const UserError& error) {
      const std::string_view message = error.what();
      problems.add(fmt::format("{} `weir train resume={}` writes it anew.",
                               message.substr(message.find("] ") + 2), run.string()));
      continue;
    }
    constexpr int64_t all = std::numeric_limits<int64_t>::max();
    const bool complete = fs::exists(arm / "complete");
    const auto check = [&](const char* file, const std::vector<int64_t>& wanted) {
      const StepLines lines = read_step_lines(arm / file, wanted, all);
      if (lines.missing)
        problems.add(fmt::format(
            "{} lacks the line of step {}. `weir train resume={}` computes again what is missing.",
            (arm / file).string(), *lines.missing, run.string()));
      return std::count(lines.text.begin(), lines.text.end(), '\n');
    };
    // Which steps an unfinished run has done, its losses say.
    std::vector<int64_t> steps(static_cast<size_t>(complete ? config.steps : 0));
    std::iota(steps.begin(), steps.end(), 0);
    const int64_t losses = check("loss.jsonl", steps);
    // The last step may be killed between its lines.
    const int64_t done = complete ? config.steps + 1 : losses - 1;
    std::vector<int64_t> wanted = measured_steps(config);
    std::erase_if(wanted, [&](int64_t step) { return step >= done; });
    if (config.measure.metrics) check("metrics.jsonl", wanted);
    if (!config.data.validation.empty()) check("validation.jsonl", wanted);
    const auto damaged = [&](const fs::path& file, const char* what) {
      problems.add(fmt::format("{} is {}. `weir train resume={}` computes it again.",
                               (arm / file).string(), what, run.string()));
    };
    if (!config.measure.probes.empty())
      if (const auto step = step_without_probes(arm, wanted))
        damaged(probes_of_step(*step), "missing, empty or cut off");
    if (has_damaged_map(arm)) damaged("maps.json", "damaged");
  }
  problems.raise();
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

RunFacts read_run_json(const fs::path& folder) {
  const fs::path file = folder / "run.json";
  const std::string content = read_file(file.string());
  const Json run = Json::parse(content, nullptr, false);
  const auto damaged = [&](const std::string& what) {
    user_error("train",
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
             {std::pair("data", &data.training), std::pair("validation", &data.validation)})
          if (arm.contains(key)) *part = {text(arm[key], "hash"), text(arm[key], "what")};
      }
  return facts;
}

std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second) {
  return Json{{"step", step},
              {"loss", number(loss)},
              {"lr", number(rate)},
              {"grad_norm", number(grad_norm)},
              {"tokens_per_second", number(std::round(tokens_per_second))}}
      .dump();
}

std::string validation_line(int64_t step, double loss, int64_t tokens) {
  return Json{{"step", step}, {"loss", number(loss)}, {"tokens", tokens}}.dump();
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
