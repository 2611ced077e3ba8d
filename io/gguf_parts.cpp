#include "io/gguf_parts.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCount = "split.count";
constexpr const char* kNumber = "split.no";
constexpr const char* kTensors = "split.tensors.count";

// A file's name as one of several: FOLDER/NAME-00002-of-00003.gguf.
struct PartName {
  std::string stem;  // FOLDER/NAME
  int64_t number = 0, count = 0;

  std::string of(int64_t other) const {
    return fmt::format("{}-{:05}-of-{:05}.gguf", stem, other, count);
  }
};

std::optional<PartName> part_name(const std::string& path) {
  constexpr std::string_view pattern = "-00000-of-00000.gguf";
  if (path.size() <= pattern.size()) return std::nullopt;
  const std::string_view tail = std::string_view(path).substr(path.size() - pattern.size());
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    if (pattern[i] == '0' ? !digit : tail[i] != pattern[i]) return std::nullopt;
  }
  PartName name{path.substr(0, path.size() - pattern.size()),
                std::stoll(std::string(tail.substr(1, 5))),
                std::stoll(std::string(tail.substr(10, 5)))};
  if (name.number < 1 || name.number > name.count) return std::nullopt;
  return name;
}

int64_t whole_or(const GgufFile& file, const char* key, int64_t otherwise) {
  const GgufValue* value = file.find(key);
  return value ? value->whole() : otherwise;
}

void need_all(const PartName& name) {
  std::vector<std::string> missing;
  for (int64_t i = 1; i <= name.count; ++i)
    if (!file_exists(name.of(i))) missing.push_back(name.of(i));
  if (missing.empty()) return;
  const size_t count = missing.size();
  if (count > kMaxListed) missing.resize(kMaxListed);
  user_error("gguf",
             "the model is cut into {} files, of which {} missing: {}{}. Download or copy {}.",
             name.count, count == 1 ? "one is" : fmt::format("{} are", count), join(missing, ", "),
             count > kMaxListed ? " ..." : "", count == 1 ? "it" : "them");
}

// What the files say of themselves and of each other.
void check_together(const std::vector<std::shared_ptr<const GgufFile>>& files) {
  Problems problems("gguf");
  const auto count = static_cast<int64_t>(files.size());
  std::map<std::string, std::string> owner;
  int64_t tensors = 0;
  for (int64_t i = 0; i < count; ++i) {
    const GgufFile& file = *files[static_cast<size_t>(i)];
    if (const int64_t stated = whole_or(file, kCount, 1); stated != count)
      problems.add(fmt::format("{}: {} is {}, but its name says {} files.", file.path(), kCount,
                               stated, count));
    if (const int64_t number = whole_or(file, kNumber, 0); number != i)
      problems.add(
          fmt::format("{}: {} is {}, but its name makes it {}.", file.path(), kNumber, number, i));
    tensors += static_cast<int64_t>(file.entries().size());
    for (const GgufEntry& entry : file.entries())
      if (auto [first, added] = owner.emplace(entry.name, file.path()); !added)
        problems.add(
            fmt::format("{}: tensor {} is in {}, too.", file.path(), entry.name, first->second));
  }
  if (const int64_t stated = whole_or(*files.front(), kTensors, tensors); stated != tensors)
    problems.add(fmt::format("{}: {} is {}, but the files have {} tensors.", files.front()->path(),
                             kTensors, stated, tensors));
  problems.raise();
}

}  // namespace

GgufParts::GgufParts(GgufFile file) {
  files_.push_back(std::make_shared<const GgufFile>(std::move(file)));
}

GgufParts GgufParts::open(const std::string& path) {
  GgufParts parts;
  const std::optional<PartName> name = part_name(path);
  if (!name || name->count == 1) {
    parts.files_.push_back(std::make_shared<const GgufFile>(path));
    if (const int64_t count = whole_or(parts.metadata(), kCount, 1); count > 1)
      user_error("gguf",
                 "{} is one of {} files of a model, but the others are found by names like "
                 "NAME-00001-of-{:05}.gguf. Rename the files.",
                 path, count, count);
    return parts;
  }
  need_all(*name);
  for (int64_t i = 1; i <= name->count; ++i)
    parts.files_.push_back(std::make_shared<const GgufFile>(name->of(i)));
  check_together(parts.files_);
  return parts;
}

const GgufFile* GgufParts::file_of(const std::string& tensor) const {
  for (const auto& file : files_)
    if (file->find_tensor(tensor)) return file.get();
  return nullptr;
}

std::vector<std::string> gguf_files_with(const std::string& path) {
  const std::optional<PartName> name = part_name(path);
  if (!name) return {path};
  std::vector<std::string> files;
  for (int64_t i = 1; i <= name->count; ++i)
    if (file_exists(name->of(i))) files.push_back(name->of(i));
  return files;
}

std::vector<std::string> gguf_models_in(const std::string& folder) {
  std::set<std::string> models;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    const std::string path = entry.path().string();
    const std::optional<PartName> name = part_name(path);
    models.insert(name ? name->of(1) : path);
  }
  return {models.begin(), models.end()};
}

}  // namespace weir
