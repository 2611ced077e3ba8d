#include "models/hugging_face_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/gguf_tokenizer.h"
#include "io/safetensors.h"
#include "io/tokenizer_json_writer.h"
#include "models/hugging_face_config.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexFile = "model.safetensors.index.json";

// The files that a conversion writes: none of them is there before, and unless all could be written
// none is there after it.
class WrittenFiles {
 public:
  explicit WrittenFiles(fs::path folder) : folder_(std::move(folder)) {}
  ~WrittenFiles() {
    std::error_code ignored;
    if (kept_ || !started_) return;
    for (const std::string& name : names_) fs::remove(folder_ / name, ignored);
    if (made_folder_) fs::remove(folder_, ignored);  // what others put there meanwhile stays
  }
  WrittenFiles(const WrittenFiles&) = delete;
  WrittenFiles& operator=(const WrittenFiles&) = delete;

  void name(const std::string& file) { names_.push_back(file); }
  void make_folder() {
    Problems problems("convert");
    for (const std::string& name : names_)
      if (fs::exists(fs::symlink_status(folder_ / name)))
        problems.add(fmt::format("{} is there already. Give another folder, or move it elsewhere.",
                                 (folder_ / name).string()));
    problems.raise();
    made_folder_ = !fs::exists(folder_);
    std::error_code failed;
    fs::create_directories(folder_, failed);
    if (failed)
      user_error("convert", "cannot make the folder {}: {}", folder_.string(), failed.message());
    started_ = true;
  }
  void keep() { kept_ = true; }

 private:
  fs::path folder_;
  std::vector<std::string> names_;
  bool made_folder_ = false, started_ = false, kept_ = false;
};

struct Shard {
  std::vector<const Parameter*> parameters;
  uint64_t bytes = 0;
};

uint64_t bytes_of(const Parameter& parameter, FileDtype dtype) {
  return static_cast<uint64_t>(parameter.type.elements()) * dtype_bytes(dtype);
}

// In order; a shard is closed before the weight that would make it too large.
std::vector<Shard> cut(const std::vector<Parameter>& parameters,
                       const HuggingFaceOptions& options) {
  std::vector<Shard> shards(1);
  for (const Parameter& parameter : parameters) {
    const uint64_t bytes = bytes_of(parameter, options.dtype);
    if (shards.back().bytes > 0 && shards.back().bytes + bytes > options.shard_bytes)
      shards.emplace_back();
    shards.back().parameters.push_back(&parameter);
    shards.back().bytes += bytes;
  }
  return shards;
}

void write_shard(const fs::path& path, const Shard& shard, const ReadWeight& read,
                 FileDtype dtype) {
  std::vector<SafetensorsItem> items;
  for (const Parameter* parameter : shard.parameters)
    items.push_back({parameter->name, dtype, parameter->type.shape, {}});
  std::vector<float> values;
  std::vector<std::byte> bytes;
  auto next = [&](size_t index) -> std::span<const std::byte> {
    const Parameter& parameter = *shard.parameters[index];
    values.resize(static_cast<size_t>(parameter.type.elements()));
    bytes.resize(bytes_of(parameter, dtype));
    read(parameter, values.data());
    from_f32(values, dtype, bytes.data());
    return bytes;
  };
  write_safetensors(path.string(), items, next, {{"format", "pt"}});
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_index(const fs::path& folder, const std::vector<Shard>& shards) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    total += shards[i].bytes;
    for (const Parameter* parameter : shards[i].parameters)
      map[parameter->name] = shard_name(i, shards.size());
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file((folder / kIndexFile).string(), index.dump(2) + "\n");
}

// Finite weights that become infinite in f16.
void check_range(const std::vector<Parameter>& parameters, const ReadWeight& read) {
  Problems problems("convert");
  std::vector<float> values;
  for (const Parameter& parameter : parameters) {
    values.resize(static_cast<size_t>(parameter.type.elements()));
    read(parameter, values.data());
    const auto beyond = std::count_if(values.begin(), values.end(), [](float value) {
      return std::isfinite(value) && std::isinf(f16_to_f32(f32_to_f16(value)));
    });
    if (beyond > 0)
      problems.add(
          fmt::format("{} has {} values beyond 65504, the largest of f16. Choose bf16 or "
                      "f32 (--dtype).",
                      parameter.name, beyond));
  }
  problems.raise();
}

const char* library_dtype(FileDtype dtype) {
  if (dtype == FileDtype::f32) return "float32";
  if (dtype == FileDtype::f16) return "float16";
  WEIR_CHECK(dtype == FileDtype::bf16, "weights as {}", safetensors_name(dtype));
  return "bfloat16";
}

}  // namespace

void write_hugging_face(const std::string& folder, const ModelConfig& config,
                        const std::vector<Parameter>& parameters, const ReadWeight& read,
                        const HuggingFaceOptions& options) {
  const fs::path path = folder;
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"})
    if (file_exists((path / name).string()))
      user_error("convert", "{} holds a model already ({}). Give another folder, or remove it.",
                 folder, name);
  if (options.dtype == FileDtype::f16) check_range(parameters, read);
  const std::vector<Shard> shards = cut(parameters, options);
  WrittenFiles files(path);
  for (size_t i = 0; i < shards.size(); ++i) files.name(shard_name(i, shards.size()));
  if (shards.size() > 1) files.name(kIndexFile);
  for (const auto& [name, text] : options.texts) files.name(name);
  files.name("config.json");
  files.make_folder();
  for (size_t i = 0; i < shards.size(); ++i)
    write_shard(path / shard_name(i, shards.size()), shards[i], read, options.dtype);
  if (shards.size() > 1) write_index(path, shards);
  for (const auto& [name, text] : options.texts) write_file((path / name).string(), text);
  write_file((path / "config.json").string(),
             hugging_face_config(config, library_dtype(options.dtype)));
  files.keep();
}

}  // namespace weir
