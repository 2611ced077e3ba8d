#include "tools/kept_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "io/tokenizer_files.h"
#include "lab/train/manifest.h"
#include "lab/train/run_lock.h"
#include "support/error.h"
#include "tools/outputs.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

constexpr const char* kReport = "report.html";

// Where a path stands: as it is written and, if it is a link, where that leads.
std::set<fs::path> places_of(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::absolute(path, error).lexically_normal();
  if (error) return {};
  const fs::path folder = fs::weakly_canonical(whole.parent_path(), error);
  std::set<fs::path> places = {(error ? whole.parent_path() : folder) / whole.filename()};
  const fs::path led_to = fs::weakly_canonical(whole, error);
  if (!error) places.insert(led_to);
  return places;
}

bool is_weights(const std::string& name) {
  return name.ends_with(".safetensors") || name.ends_with(".gguf") ||
         (name.starts_with("pytorch_model") && name.ends_with(".bin"));
}

// The files by which a tokenizer alone is known.
bool is_tokenizer(const std::string& name) {
  static const std::set<std::string> names = {"tokenizer.json", "tokenizer.model", "vocab.json"};
  return names.contains(name);
}

// What Weir or transformers reads in the folder of a model without being told so.
bool is_of_model(const std::string& name) {
  const std::vector<std::string>& names = tokenizer_file_names();
  return is_weights(name) || name == "config.json" ||
         std::find(names.begin(), names.end(), name) != names.end() ||
         name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json");
}

// Whether a folder holds weights or a tokenizer in a file that is not `but`.
bool is_model_folder(const fs::path& folder, const fs::path& but) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const fs::path name = entry->path().filename();
    const bool weights = is_weights(name.string()) && !holds_probe_tensors(entry->path().string());
    if (name != but && (weights || is_tokenizer(name.string()))) return true;
  }
  return false;
}

// A manifest of Weir's; other programs have files of that name as well.
bool has_manifest(const fs::path& folder) {
  std::error_code error;
  const fs::path file = folder / Manifest::kName;
  if (!fs::is_regular_file(file, error)) return false;
  std::string line;
  std::ifstream stream(file);
  std::getline(stream, line);
  return line.find("\"weir.manifest/") != std::string::npos;
}

bool is_listed(const fs::path& run, const fs::path& place) {
  const std::string name = place.lexically_relative(run).generic_string();
  if (name == Manifest::kName || name == RunLock::kName) return true;
  std::error_code error;
  if (!fs::exists(fs::symlink_status(place, error))) return false;
  try {
    const std::vector<std::string> others = Manifest::read(run).unlisted();
    return std::find(others.begin(), others.end(), name) == others.end();
  } catch (const UserError&) {  // a damaged manifest does not say whose the file is
    return true;
  } catch (const fs::filesystem_error&) {  // a folder that cannot be read
    return true;
  }
}

bool is_one_of(const fs::path& folder, const std::vector<std::string>& inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [&](const std::string& input) {
    std::error_code error;
    return fs::equivalent(folder, input, error) && !error;
  });
}

}  // namespace

std::string model_file_problem(const std::string& path, bool of_another_kind) {
  for (const fs::path& place : places_of(path))
    if (is_of_model(place.filename().string()) &&
        is_model_folder(place.parent_path(), of_another_kind ? fs::path() : place.filename()))
      return fmt::format(
          "{} is a name that files of the model in {} have, which are read without being named. "
          "Give another name.",
          path, place.parent_path().string());
  return "";
}

std::string run_file_problem(const std::string& path, const std::vector<std::string>& inputs) {
  for (const fs::path& place : places_of(path))
    for (fs::path run = place.parent_path();; run = run.parent_path()) {
      const bool own_report = place == run / kReport && is_one_of(run, inputs);
      if (has_manifest(run) && !own_report && is_listed(run, place))
        return fmt::format("{} is a file of the run in {}. Give another name.", path, run.string());
      if (run == run.parent_path()) break;
    }
  return "";
}

}  // namespace weir
