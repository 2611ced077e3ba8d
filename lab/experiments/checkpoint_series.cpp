#include "lab/experiments/checkpoint_series.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "io/file.h"
#include "io/gguf_parts.h"
#include "lab/train/checkpoint.h"
#include "models/hugging_face_config.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

std::optional<int64_t> number_of(const std::string& digits) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

fs::path without_slash(const std::string& path) {
  const fs::path whole = fs::path(path).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

bool is_gguf(const fs::path& path) { return path.extension() == ".gguf"; }

// Whether a folder has a model in it, whatever is wrong with the model.
bool is_model_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) return true;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    if (is_gguf(entry->path()) || entry->path().extension() == ".safetensors") return true;
  return false;
}

std::vector<std::string> step_folders(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code error, ignored;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    if (fs::is_directory(entry->path(), ignored) && step_in_name(entry->path().string()))
      found.push_back(entry->path().string());
  std::sort(found.begin(), found.end());
  return found;
}

// The models in .gguf files of a folder, where it has several and each is named by its step.
std::vector<std::string> step_files(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error) ||
      fs::directory_iterator(folder, error) == fs::directory_iterator())
    return {};
  const std::vector<std::string> files = gguf_models_in(folder.string());
  const bool steps = std::all_of(files.begin(), files.end(), [](const std::string& file) {
    return step_in_name(file).has_value();
  });
  return files.size() > 1 && steps ? files : std::vector<std::string>();
}

bool is_glob(const std::string& word) {
  std::error_code error;
  return !fs::exists(word, error) && word.find_first_of("*?[{") != std::string::npos;
}

std::vector<std::string> models_of_glob(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> models;
  std::error_code ignored;
  if (::glob(pattern.c_str(), GLOB_BRACE, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i) {
      const fs::path path = found.gl_pathv[i];
      if (fs::is_directory(path, ignored) || is_gguf(path)) models.push_back(path.string());
    }
  ::globfree(&found);
  std::sort(models.begin(), models.end());
  return models;
}

// What trainer_state.json of transformers states.
std::optional<int64_t> step_of_trainer(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "trainer_state.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return std::nullopt;
  const Json state = Json::parse(read_file(file.string()), nullptr, false);
  if (!state.is_object() || !state.contains("global_step") ||
      !state["global_step"].is_number_integer())
    user_error("checkpoint",
               "{} is damaged: it has no global_step. Put the file back, or leave the checkpoint "
               "out.",
               file.string());
  return state["global_step"].get<int64_t>();
}

int64_t step_of(const std::string& path) {
  std::optional<int64_t> stated;
  if (fs::is_directory(path)) {
    stated = stated_step(path);
    if (!stated) stated = step_of_trainer(path);
  }
  std::optional<int64_t> named = step_in_name(path);
  if (!named) named = step_in_name(fs::weakly_canonical(path).string());  // "latest", a link
  if (stated && named && *stated != *named)
    user_error("checkpoint",
               "{} is of step {} by its own state, but of step {} by its name. Give it the name of "
               "its step, or leave it out.",
               path, *stated, *named);
  if (!stated && !named)
    user_error("checkpoint",
               "{} does not say of which step it is: neither a state in it (state.json, "
               "trainer_state.json) nor its name, such as step1000, global_step1000, "
               "checkpoint-1000 or iter_1000, does.",
               path);
  return stated ? *stated : *named;
}

// What a program is compiled for, by the keys of a configuration. The context is none of them:
// sequences are as long as they are.
Json sizes_of(const SeriesMember& member) {
  Json sizes = Json::parse(hugging_face_config(member.checkpoint->config(), "float32"));
  for (const char* key : {"torch_dtype", "max_position_embeddings", "architectures"})
    sizes.erase(key);
  return sizes;
}

// One sentence for each kind of model there is: what it has otherwise, and its checkpoints.
void check_alike(const std::vector<SeriesMember>& members, UsageProblems& problems) {
  std::map<std::string, std::vector<const SeriesMember*>> kinds;
  for (const SeriesMember& member : members) kinds[sizes_of(member).dump()].push_back(&member);
  if (kinds.size() < 2) return;
  std::set<std::string> differing;
  const Json first = Json::parse(kinds.begin()->first);
  for (const auto& [text, alike] : kinds) {
    const Json sizes = Json::parse(text);
    for (const Json& keys : {first, sizes})
      for (const auto& [key, value] : keys.items())
        if (first.value(key, Json()) != sizes.value(key, Json())) differing.insert(key);
  }
  std::vector<std::string> parts;
  for (const auto& [text, alike] : kinds) {
    const Json sizes = Json::parse(text);
    std::vector<std::string> names, values;
    for (const SeriesMember* member : alike) names.push_back(member->path);
    for (const std::string& key : differing)
      values.push_back(
          fmt::format("{} {}", key, sizes.contains(key) ? sizes[key].dump() : "absent"));
    parts.push_back(fmt::format("{} ({})", join(values, ", "), join(names, ", ")));
  }
  problems.add_failure(
      fmt::format("the checkpoints of a series are measured by one program, but there are {} kinds "
                  "of models: {}. Measure each kind by itself.",
                  kinds.size(), join(parts, "; ")));
}

// By rising step; two of one step are a problem.
void sort_by_step(std::vector<SeriesMember>& members, UsageProblems& problems) {
  std::stable_sort(members.begin(), members.end(),
                   [](const SeriesMember& a, const SeriesMember& b) { return a.step < b.step; });
  for (size_t i = 1; i < members.size(); ++i)
    if (members[i].step == members[i - 1].step)
      problems.add_failure(fmt::format("{} and {} are both of step {}. Leave one of them out.",
                                       members[i - 1].path, members[i].path, members[i].step));
}

}  // namespace

std::optional<int64_t> step_in_name(const std::string& path) {
  fs::path whole = without_slash(path);
  std::string name = (is_gguf(whole) ? whole.stem() : whole.filename()).string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!name.empty() && name.find_first_not_of("0123456789") == std::string::npos)
    return number_of(name);
  static const std::regex form(
      "(?:^|[^a-z])(?:global[-_]?)?(?:step|checkpoint|ckpt|iter|iteration|update)s?[-_=.]?([0-9]+)"
      "(?![a-z0-9])");
  std::set<std::string> found;
  std::optional<int64_t> step;
  for (std::sregex_iterator match(name.begin(), name.end(), form), end; match != end; ++match) {
    step = number_of((*match)[1]);
    found.insert((*match)[1]);
  }
  return found.size() == 1 ? step : std::nullopt;
}

std::vector<std::string> models_behind(const std::string& word) {
  if (is_glob(word)) return models_of_glob(word);
  std::error_code error;
  if (!fs::is_directory(word, error)) return {word};
  std::vector<std::string> files = step_files(word);
  if (!files.empty()) return files;
  if (is_model_folder(word)) return {word};
  const std::vector<std::string> below = step_folders(word);
  return below.empty() ? std::vector{word} : below;
}

bool names_series(const std::vector<std::string>& words) {
  return words.size() > 1 ||
         (words.size() == 1 && (is_glob(words[0]) || models_behind(words[0]) != words));
}

CheckpointSeries::CheckpointSeries(const std::string& topic,
                                   const std::vector<std::string>& words) {
  UsageProblems problems(topic);
  std::set<fs::path> places;
  for (const std::string& word : words) {
    const std::vector<std::string> paths = models_behind(word);
    if (paths.empty())
      problems.add_failure(
          fmt::format("the pattern {} matches no folder and no .gguf file.", word));
    for (const std::string& path : paths) {
      std::error_code error;
      if (!places.insert(fs::weakly_canonical(without_slash(path), error)).second) continue;
      problems.collect([&] {
        SeriesMember member{path, 0, nullptr};
        member.checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(path));
        trained_rewrites(*member.checkpoint);
        member.step = step_of(path);
        members_.push_back(std::move(member));
      });
    }
  }
  problems.raise();
  sort_by_step(members_, problems);
  check_alike(members_, problems);
  problems.raise();
  choose(last());
}

ModelSource CheckpointSeries::source() const {
  ModelSource source = checkpoint_source(last().checkpoint);
  for (const SeriesMember& member : members_)
    source.mapped_bytes = std::max(source.mapped_bytes, member.checkpoint->largest_stored_bytes());
  const auto chosen = chosen_;
  source.read = [chosen](const Parameter& parameter, float* out) {
    (*chosen)->read(parameter, out);
  };
  source.read_added = [chosen](const AddedState& state, float* out) {
    const Parameter parameter{state.name, state.type};
    if (!(*chosen)->has(parameter)) return false;
    (*chosen)->read(parameter, out);
    return true;
  };
  source.check_weights = [chosen] { (*chosen)->need_finite(); };
  return source;
}

}  // namespace weir
