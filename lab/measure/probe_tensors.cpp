#include "lab/measure/probe_tensors.h"

#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "support/error.h"

namespace weir {

using Json = nlohmann::ordered_json;

namespace {

// "HOOK" and "REDUCTIONS" of an id.
std::pair<std::string, std::string> parts_of(const std::string& id) {
  const size_t colon = id.find(':');
  WEIR_CHECK(colon != std::string::npos, "the id {} of a probe has no reductions", id);
  return {id.substr(0, colon), id.substr(colon + 1)};
}

std::map<std::string, std::string> metadata_of(const std::map<std::string, std::string>& names,
                                               const std::string& record) {
  Json probes = Json::object();
  for (const auto& [id, name] : names) {
    const auto [hook, reductions] = parts_of(id);
    probes[name] = {{"hook", hook}, {"reductions", reductions}};
  }
  std::map<std::string, std::string> metadata = {{"format", kProbeTensorsFormat},
                                                 {"probes", probes.dump()}};
  const Json measured = Json::parse(record);
  for (const char* key : {"step", "model", "tokens", "settings", "loss", "provenance"})
    if (measured.contains(key)) metadata[key] = measured[key].dump();
  return metadata;
}

}  // namespace

std::map<std::string, std::string> probe_tensor_names(const std::vector<std::string>& ids) {
  std::map<std::string, int> probes_of;
  for (const std::string& id : ids) ++probes_of[parts_of(id).first];
  std::map<std::string, std::string> names;
  for (const std::string& id : ids) {
    const std::string hook = parts_of(id).first;
    names[id] = probes_of[hook] == 1 ? hook : id;
  }
  return names;
}

void write_probe_tensors(const std::string& path, const Tensors& values, FileDtype dtype,
                         const std::string& record) {
  std::vector<std::string> ids;
  for (const auto& [id, value] : values) ids.push_back(id);
  const std::map<std::string, std::string> names = probe_tensor_names(ids);
  std::vector<SafetensorsItem> items;
  for (const std::string& id : ids)
    items.push_back({names.at(id), dtype, values.at(id).type.shape, {}});
  std::vector<float> numbers;
  std::vector<std::byte> stored;
  const auto bytes = [&](size_t i) -> std::span<const std::byte> {
    const std::vector<double>& data = values.at(ids[i]).data;
    numbers.assign(data.begin(), data.end());
    if (dtype == FileDtype::f32) return std::as_bytes(std::span(numbers));
    stored.resize(numbers.size() * dtype_bytes(dtype));
    from_f32(numbers, dtype, stored.data());
    return stored;
  };
  write_safetensors(path, items, bytes, metadata_of(names, record));
}

}  // namespace weir
