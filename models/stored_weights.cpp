#include "models/stored_weights.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "io/json_text.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_real(FileDtype dtype) {
  return dtype == FileDtype::f64 || dtype == FileDtype::f32 || dtype == FileDtype::f16 ||
         dtype == FileDtype::bf16;
}

class SafetensorsWeights : public StoredWeights {
 public:
  void add(std::unique_ptr<SafetensorsFile> file) {
    for (const SafetensorsEntry& entry : file->entries()) {
      tensors_.push_back({entry.name, std::string(safetensors_name(entry.dtype)), entry.shape,
                          static_cast<int64_t>(entry.end - entry.begin), is_real(entry.dtype),
                          file->path()});
      places_.push_back({file.get(), &entry});
    }
    files_.push_back(std::move(file));
  }
  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const auto& file : files_) paths.push_back(file->path());
    return paths;
  }
  void read(size_t index, float* out) const override {
    const auto& [file, entry] = places_.at(index);
    to_f32(entry->dtype, file->bytes(*entry), out);
    file->release(*entry);
  }

 private:
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<Place> places_;
};

class GgufWeights : public StoredWeights {
 public:
  explicit GgufWeights(GgufParts parts) : parts_(std::move(parts)) {
    for (const auto& file : parts_.files())
      for (const GgufEntry& entry : file->entries()) {
        if (entry.name == "rope_freqs.weight") continue;
        tensors_.push_back({entry.name, std::string(ggml_name(entry.type)), entry.shape,
                            static_cast<int64_t>(file->bytes(entry).size()), true, file->path()});
        places_.push_back({file.get(), &entry});
      }
  }
  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const auto& file : parts_.files()) paths.push_back(file->path());
    return paths;
  }
  void read(size_t index, float* out) const override {
    const auto& [file, entry] = places_.at(index);
    file->to_f32(*entry, out);
    file->release(*entry);
  }

 private:
  struct Place {
    const GgufFile* file;
    const GgufEntry* entry;
  };
  GgufParts parts_;
  std::vector<Place> places_;
};

// Checks an index against its shards.
class Index {
 public:
  explicit Index(const fs::path& path) : path_(path), problems_("checkpoint") {}

  std::unique_ptr<StoredWeights> open() {
    read_map();
    auto weights = std::make_unique<SafetensorsWeights>();
    for (const auto& [shard, listed] : by_shard_) {
      const fs::path file = path_.parent_path() / shard;
      if (!file_exists(file.string())) {
        problem("the shard {} is missing: {} tensors are listed in it. Download or copy it again.",
                shard, listed.size());
        continue;
      }
      auto opened = std::make_unique<SafetensorsFile>(file.string());
      check_shard(shard, *opened);
      weights->add(std::move(opened));
    }
    if (count_ > kMaxListed)
      problems_.add(fmt::format("and {} further problems", count_ - kMaxListed));
    problems_.raise();
    return weights;
  }

 private:
  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    if (++count_ <= kMaxListed)
      problems_.add(
          fmt::format("{}: {}", path_.string(), fmt::format(format, std::forward<Args>(args)...)));
  }

  void read_map() {
    const Json json = parse_json<Json>(read_file(path_.string()), "checkpoint", path_.string());
    auto map = json.is_object() ? json.find("weight_map") : json.end();
    if (!json.is_object() || map == json.end() || !map->is_object() || map->empty())
      user_error("checkpoint", "{} has no weight_map, an object from tensor to file name.",
                 path_.string());
    for (const auto& [tensor, shard] : map->items()) {
      if (!shard.is_string()) {
        problem("tensor {} has no file name but {}.", tensor, shard.dump());
        continue;
      }
      const std::string name = shard.get<std::string>();
      if (!name.ends_with(".safetensors") || name.find_first_of("/\\") != std::string::npos)
        problem(
            "tensor {} is said to be in \"{}\"; a *.safetensors file in the same folder is "
            "needed.",
            tensor, name);
      else
        by_shard_[name].push_back(tensor), shard_of_[tensor] = name;
    }
  }

  void check_shard(const std::string& shard, const SafetensorsFile& file) {
    for (const std::string& tensor : by_shard_.at(shard))
      if (!file.find(tensor)) problem("tensor {} is listed in {}, which lacks it.", tensor, shard);
    for (const SafetensorsEntry& entry : file.entries()) {
      auto listed = shard_of_.find(entry.name);
      if (listed == shard_of_.end())
        problem("tensor {} of {} is not listed.", entry.name, shard);
      else if (listed->second != shard)
        problem("tensor {} is listed in {}, but stored in {}.", entry.name, listed->second, shard);
    }
  }

  fs::path path_;
  Problems problems_;
  size_t count_ = 0;
  std::map<std::string, std::vector<std::string>> by_shard_;
  std::map<std::string, std::string> shard_of_;
};

}  // namespace

std::unique_ptr<StoredWeights> open_safetensors_folder(const std::string& folder) {
  const fs::path single = fs::path(folder) / kSingle, index = fs::path(folder) / kIndex;
  if (file_exists(single.string())) {
    auto weights = std::make_unique<SafetensorsWeights>();
    weights->add(std::make_unique<SafetensorsFile>(single.string()));
    return weights;
  }
  if (file_exists(index.string())) return Index(index).open();
  user_error("checkpoint",
             "{} holds neither {} nor {}. Weights in another format (pytorch_model.bin) have to be "
             "saved as safetensors first.",
             folder, kSingle, kIndex);
}

std::unique_ptr<StoredWeights> gguf_weights(GgufParts parts) {
  return std::make_unique<GgufWeights>(std::move(parts));
}

}  // namespace weir
