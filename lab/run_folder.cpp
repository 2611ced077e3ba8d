#include "lab/run_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/npy.h"
#include "lab/versions.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

Json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

// The lines of `text` whose step is below `keep_below`.
std::string kept_lines(const fs::path& file, const std::string& text, int64_t keep_below) {
  std::string kept;
  size_t begin = 0;
  for (int line = 1; begin < text.size(); ++line) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut off while it was written
    const std::string content = text.substr(begin, end - begin);
    begin = end + 1;
    Json json = Json::parse(content, nullptr, false);
    if (!json.is_object() || !json.value("step", Json()).is_number_integer())
      user_error("train", "{}:{} is damaged. Remove the line, or start the run anew (--overwrite).",
                 file.string(), line);
    if (json["step"].get<int64_t>() < keep_below) kept += content + "\n";
  }
  return kept;
}

}  // namespace

JsonLines::JsonLines(fs::path file, int64_t keep_below) : file_(std::move(file)) {
  std::string kept;
  if (keep_below > 0 && fs::exists(file_))
    kept = kept_lines(file_, read_file(file_.string()), keep_below);
  write_file(file_.string(), kept);
  stream_ = std::fopen(file_.c_str(), "ab");
  if (!stream_) user_error("train", "cannot write {}: {}", file_.string(), std::strerror(errno));
}

JsonLines::~JsonLines() {
  if (stream_) std::fclose(stream_);
}

void JsonLines::append(const std::string& line) {
  const std::string whole = line + "\n";
  if (std::fwrite(whole.data(), 1, whole.size(), stream_) != whole.size() ||
      std::fflush(stream_) != 0)
    user_error("train", "cannot write {}: {}", file_.string(), std::strerror(errno));
}

void JsonLines::flush() {
  if (std::fflush(stream_) != 0 || fsync(fileno(stream_)) != 0)
    user_error("train", "cannot write {}: {}", file_.string(), std::strerror(errno));
}

void write_run_json(const fs::path& folder, const RunConfig& config, const RunFacts& facts) {
  Json arms = Json::array();
  for (const ArmConfig& arm : config.arms) {
    Json overrides = Json::object();
    for (const auto& [key, value] : arm.overrides) overrides[key] = value;
    arms.push_back({{"name", arm.name}, {"folder", arm.name}, {"overrides", overrides}});
  }
  Json versions = Json::object();
  for (const auto& [name, version] : build_versions()) versions[name] = version;
  Json run = {{"arms", arms},           {"command", facts.command}, {"versions", versions},
              {"target", facts.target}, {"seed", config.seed},      {"started", facts.started}};
  if (facts.seconds > 0) run["seconds"] = facts.seconds;
  write_file((folder / "run.json").string(), run.dump(2) + "\n");
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

std::string utc_now() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace weir
