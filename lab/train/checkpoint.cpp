#include "lab/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/hash.h"
#include "io/json_text.h"
#include "io/safetensors.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "weir.checkpoint/1";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";

// A renamed folder is on the disk only when its parent is.
void flush_folder(const fs::path& folder) {
  int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor < 0 || fsync(descriptor) != 0) {
    int reason = errno;
    if (descriptor >= 0) close(descriptor);
    user_error("checkpoint", "cannot flush {}: {}", folder.string(), std::strerror(reason));
  }
  close(descriptor);
}

FileDtype file_dtype(const StateArray& array) {
  switch (array.type.dtype) {
    case DType::f64:
      return FileDtype::f64;
    case DType::f32:
      return FileDtype::f32;
    case DType::bf16:
      return FileDtype::bf16;
    case DType::f16:
      return FileDtype::f16;
    case DType::i32:
      return FileDtype::i32;
    case DType::i8:
      return FileDtype::i8;
    case DType::u8:
      return FileDtype::u8;
    case DType::boolean:
      return FileDtype::boolean;
  }
  internal_error_at("unknown dtype");
}

void write_arrays(const fs::path& file, const std::vector<StateArray>& arrays) {
  std::vector<SafetensorsItem> items;
  for (const StateArray& array : arrays)
    items.push_back(
        {array.name,
         file_dtype(array),
         array.type.shape,
         {static_cast<const std::byte*>(array.data), static_cast<size_t>(array.type.bytes())}});
  write_safetensors(file.string(), items, {{"format", "pt"}});
}

// " The checkpoint before it is ...": what a user can do about a damaged one.
std::string way_out(const fs::path& checkpoint) {
  fs::path before;
  for (const fs::path& other : list_checkpoints(checkpoint.parent_path()))
    if (other.filename() < checkpoint.filename()) before = other;
  if (before.empty())
    return fmt::format(
        " There is no checkpoint before it: remove {} and resume, and the arm starts anew.",
        checkpoint.string());
  return fmt::format(" Remove {} and resume from the one before it, {}.", checkpoint.string(),
                     before.filename().string());
}

void read_arrays(const fs::path& file, const std::vector<StateArray>& arrays) {
  SafetensorsFile stored(file.string());
  Problems problems("checkpoint");
  for (const StateArray& array : arrays) {
    const SafetensorsEntry* entry = stored.find(array.name);
    if (!entry) {
      problems.add(fmt::format("{} has no tensor {}.", file.string(), array.name));
    } else if (entry->shape != array.type.shape || entry->dtype != file_dtype(array)) {
      problems.add(fmt::format("{}: {} is {}{}, but the model has {}.", file.string(), array.name,
                               safetensors_name(entry->dtype), shape_text(entry->shape),
                               to_string(array.type)));
    } else {
      auto bytes = stored.bytes(*entry);
      std::memcpy(array.data, bytes.data(), bytes.size());
      stored.release(*entry);
    }
  }
  for (const SafetensorsEntry& entry : stored.entries())
    if (std::none_of(arrays.begin(), arrays.end(),
                     [&](const StateArray& array) { return array.name == entry.name; }))
      problems.add(fmt::format("{} has {}, which the model has not.", file.string(), entry.name));
  problems.raise();
}

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("step{:06}", step); }

std::vector<std::string> checkpoint_files(const CheckpointInfo& info) {
  std::vector<std::string> names = {kModel, kOptimizer, kState};
  for (const auto& [name, text] : info.texts) names.push_back(name);
  return names;
}

namespace {

void fill_checkpoint(const fs::path& temporary, const CheckpointInfo& info,
                     const std::vector<StateArray>& weights,
                     const std::vector<StateArray>& optimizer) {
  write_arrays(temporary / kModel, weights);
  write_arrays(temporary / kOptimizer, optimizer);
  for (const auto& [name, text] : info.texts) write_file((temporary / name).string(), text);
  Json state = {{"format", kFormat},
                {"step", info.step},
                {"target", info.target},
                {"xxh3_128",
                 {{kModel, hash_of_file(temporary / kModel)},
                  {kOptimizer, hash_of_file(temporary / kOptimizer)}}},
                {"files", checkpoint_files(info)},
                {"config", Json::parse(info.config)}};
  write_file((temporary / kState).string(), state.dump(2) + "\n");
  flush_folder(temporary);
}

// Removes what Weir wrote in a checkpoint, as its state.json lists it, state.json last.
void remove_files_of(const fs::path& checkpoint) {
  std::vector<std::string> names = {kModel, kOptimizer, "config.json"};
  std::error_code ignored;
  if (fs::exists(checkpoint / kState, ignored)) {
    const Json state = Json::parse(read_file((checkpoint / kState).string()), nullptr, false);
    if (state.is_object() && state.contains("files") && state["files"].is_array())
      for (const Json& name : state["files"])
        if (name.is_string()) names.push_back(fs::path(name.get<std::string>()).filename());
  }
  names.emplace_back(kState);
  for (const std::string& name : names)
    if (!fs::is_directory(fs::symlink_status(checkpoint / name, ignored)))
      fs::remove(checkpoint / name, ignored);
}

// Hidden folders: one that is being written, one whose place a new one takes, one that is removed.
fs::path hidden_place(const fs::path& checkpoint, const char* what) {
  return checkpoint.parent_path() / fmt::format(".{}.{}", checkpoint.filename().string(), what);
}
constexpr const char *kWritten = "part", *kReplaced = "old", *kRemoved = "gone";

// Removes a hidden checkpoint; what others put there moves to `place`.
void remove_hidden(const fs::path& checkpoint, const fs::path& place) {
  remove_files_of(checkpoint);
  std::error_code stays;
  if (fs::remove(checkpoint, stays)) return;
  if (!fs::exists(place)) return fs::rename(checkpoint, place);
  for (const auto& entry : fs::directory_iterator(checkpoint))
    if (!fs::exists(place / entry.path().filename()))
      fs::rename(entry.path(), place / entry.path().filename(), stays);
  fs::remove(checkpoint, stays);
}

}  // namespace

fs::path write_checkpoint(const fs::path& folder, const CheckpointInfo& info,
                          const std::vector<StateArray>& weights,
                          const std::vector<StateArray>& optimizer) {
  const fs::path final_path = folder / checkpoint_name(info.step);
  const fs::path temporary = hidden_place(final_path, kWritten),
                 replaced = hidden_place(final_path, kReplaced);
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  fs::create_directories(temporary);
  try {
    fill_checkpoint(temporary, info, weights, optimizer);
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
  const bool again = fs::exists(final_path);
  if (again) fs::rename(final_path, replaced);
  fs::rename(temporary, final_path);
  flush_folder(folder);
  if (again) remove_hidden(replaced, final_path);
  return final_path;
}

std::vector<fs::path> list_checkpoints(const fs::path& folder) {
  std::vector<fs::path> found;
  if (!fs::is_directory(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const bool has_content = entry.is_directory() && (fs::exists(entry.path() / kModel) ||
                                                      fs::exists(entry.path() / kOptimizer) ||
                                                      fs::exists(entry.path() / kState));
    if (has_content && step_of_checkpoint(entry.path()) >= 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    return step_of_checkpoint(a) < step_of_checkpoint(b);
  });
  return found;
}

int64_t step_of_checkpoint(const fs::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  int64_t step = -1;
  const char* end = name.data() + name.size();
  if (name.size() < 5 || !name.starts_with("step")) return -1;
  const auto [stop, error] = std::from_chars(name.data() + 4, end, step);
  return error == std::errc() && stop == end ? step : -1;
}

void remove_leftovers(const fs::path& folder) {
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path());
  for (const fs::path& path : names) {
    const std::string name = path.filename().string();
    if (!name.starts_with(".step") || !fs::is_directory(path)) continue;
    const fs::path place = folder / path.stem().string().substr(1);
    const std::string what = path.extension().string();
    if (step_of_checkpoint(place) < 0) continue;
    std::error_code ignored;
    if (what == std::string(".") + kWritten) fs::remove_all(path, ignored);
    if (what == std::string(".") + kReplaced && !fs::exists(place))
      fs::rename(path, place);
    else if (what == std::string(".") + kReplaced || what == std::string(".") + kRemoved)
      remove_hidden(path, place);
  }
}

void prune_checkpoints(const fs::path& folder, int64_t keep) {
  const std::vector<fs::path> found = list_checkpoints(folder);
  if (keep <= 0) return;
  for (size_t i = 0; i + static_cast<size_t>(keep) < found.size(); ++i) {
    fs::rename(found[i], hidden_place(found[i], kRemoved));
    remove_hidden(hidden_place(found[i], kRemoved), found[i]);
  }
}

std::optional<int64_t> stated_step(const fs::path& checkpoint) {
  const fs::path state_file = checkpoint / kState, weights = checkpoint / kModel;
  if (!fs::exists(state_file)) return std::nullopt;
  const Json state = Json::parse(read_file(state_file.string()), nullptr, false);
  // Other programs may have a file of that name.
  if (state.is_object() && state.value("format", Json()) != kFormat) return std::nullopt;
  if (!state.is_object() || !state.value("step", Json()).is_number_integer() ||
      !state.value("xxh3_128", Json()).is_object())
    user_error("checkpoint", "{} is damaged. Put the file back, or leave the checkpoint out.",
               state_file.string());
  const std::string expected = state["xxh3_128"].value(kModel, ""), found = hash_of_file(weights);
  if (found != expected)
    user_error("checkpoint",
               "{} is damaged: its hash is {}, but {} says {}. Put the file back, or leave the "
               "checkpoint out.",
               weights.string(), found, kState, expected);
  return state["step"].get<int64_t>();
}

CheckpointInfo read_checkpoint(const fs::path& checkpoint, const std::vector<StateArray>& weights,
                               const std::vector<StateArray>& optimizer) {
  const fs::path state_file = checkpoint / kState;
  if (!fs::exists(state_file))
    user_error("checkpoint", "{} is missing.{}", state_file.string(), way_out(checkpoint));
  const std::string state_text = read_file(state_file.string());
  Json state = Json::parse(state_text, nullptr, false);
  if (!state.is_object() || state.value("format", "") != kFormat ||
      !state.value("step", Json()).is_number_integer() || !state.contains("config") ||
      !state.value("xxh3_128", Json()).is_object())
    user_error("checkpoint", "{} is damaged.{}", state_file.string(), way_out(checkpoint));
  if (const std::vector<std::string> twice = repeated_keys(state_text); !twice.empty())
    user_error("checkpoint", "{} is damaged: an object in it has the key \"{}\" twice.{}",
               state_file.string(), twice.front(), way_out(checkpoint));
  const int64_t named = step_of_checkpoint(checkpoint), stated = state["step"].get<int64_t>();
  if (stated < 0 || (named >= 0 && stated != named))
    user_error("checkpoint", "{} is damaged: it is of step {}, but its folder of step {}.{}",
               state_file.string(), stated, named, way_out(checkpoint));
  for (const char* name : {kModel, kOptimizer}) {
    const fs::path file = checkpoint / name;
    if (!fs::exists(file))
      user_error("checkpoint", "{} is missing.{}", file.string(), way_out(checkpoint));
    const std::string expected = state["xxh3_128"].value(name, ""), found = hash_of_file(file);
    if (found != expected)
      user_error("checkpoint", "{} is damaged: its hash is {}, but {} says {}.{}", file.string(),
                 found, kState, expected, way_out(checkpoint));
  }
  read_arrays(checkpoint / kModel, weights);
  read_arrays(checkpoint / kOptimizer, optimizer);
  return {state["step"].get<int64_t>(), state["config"].dump(), state.value("target", ""), {}};
}

}  // namespace weir
