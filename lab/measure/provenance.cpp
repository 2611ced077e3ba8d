#include "lab/measure/provenance.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/hash.h"
#include "support/clock.h"
#include "support/error.h"
#include "support/versions.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

constexpr size_t kFilesListed = 100;  // files of an input; a folder of shards may have thousands

std::string absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

Json files_json(const std::vector<std::string>& files) {
  Json list = Json::array();
  for (const std::string& file : files)
    list.push_back({{"path", absolute(file)},
                    {"bytes", static_cast<int64_t>(fs::file_size(file))},
                    {"xxh3_128", hash_of_file(file)}});
  return list;
}

Json model_json(const Provenance& provenance) {
  return {{"path", absolute(provenance.model)}, {"weights", files_json(provenance.weight_files)}};
}

Json id_json(std::optional<int32_t> id) { return id ? Json(*id) : Json(nullptr); }

// What the model is given, and its token ids.
void add_input(const Provenance& provenance, std::span<const int32_t> ids, Json& json) {
  std::vector<std::string> listed = provenance.input_files;
  if (listed.size() > kFilesListed) listed.resize(kFilesListed);
  json["input"] = {{"kind", provenance.input_kind},
                   {"files", files_json(listed)},
                   {"file_count", provenance.input_files.size()}};
  if (!provenance.tokenizer.empty())
    json["input"]["tokenizer"] = {{"description", provenance.tokenizer},
                                  {"fingerprint", provenance.tokenizer_fingerprint}};
  Hasher hasher;
  hasher.add({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
  json["tokens"] = {{"xxh3_128", hasher.hex_128()},
                    {"begin_token", id_json(provenance.begin_token)},
                    {"separator", id_json(provenance.separator)}};
}

}  // namespace

std::string provenance_json(const Provenance& provenance, std::span<const int32_t> ids) {
  Json versions = Json::object();
  for (const auto& [name, version] : build_versions()) versions[name] = version;
  Json json = {{"command", provenance.command},
               {"time", utc_now()},
               {"versions", versions},
               {"target", provenance.target}};
  if (!provenance.model.empty()) json["model"] = model_json(provenance);
  if (!provenance.input_kind.empty() || !ids.empty()) add_input(provenance, ids, json);
  // A path need not be UTF-8, which JSON has to be.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string with_model(const std::string& provenance, const Provenance& model) {
  Json json = Json::parse(provenance);
  json["time"] = utc_now();
  json["model"] = model_json(model);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<int32_t> ids_of_batch(std::span<const int32_t> tokens, std::span<const int32_t> targets,
                                  int64_t length) {
  const auto T = static_cast<size_t>(length);
  WEIR_CHECK(tokens.size() == targets.size() && tokens.size() % T == 0, "{} tokens, {} targets",
             tokens.size(), targets.size());
  std::vector<int32_t> ids;
  ids.reserve(tokens.size() + tokens.size() / T);
  for (size_t begin = 0; begin < tokens.size(); begin += T) {
    ids.insert(ids.end(), tokens.begin() + static_cast<ptrdiff_t>(begin),
               tokens.begin() + static_cast<ptrdiff_t>(begin + T));
    ids.push_back(targets[begin + T - 1]);
  }
  return ids;
}

}  // namespace weir
