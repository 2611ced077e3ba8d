#include "testing/reference_data.h"

#include <cstring>
#include <filesystem>
#include <set>

#include "io/safetensors.h"
#include "support/error.h"
#include "support/text.h"

namespace weir::test {
namespace {

std::string path_of(const std::string& file) {
  return std::string(WEIR_TEST_DATA) + "/reference/" + file + ".safetensors";
}

template <typename T>
std::vector<double> elements(std::span<const std::byte> bytes) {
  std::vector<T> stored(bytes.size() / sizeof(T));
  std::memcpy(stored.data(), bytes.data(), bytes.size());
  return {stored.begin(), stored.end()};
}

}  // namespace

Tensors read_reference(const std::string& file) {
  SafetensorsFile source(path_of(file));
  Tensors tensors;
  for (const SafetensorsEntry& entry : source.entries()) {
    HostTensor& tensor = tensors[entry.name];
    bool is_integer = entry.dtype == FileDtype::i32;
    tensor.type = {is_integer ? DType::i32 : DType::f32, entry.shape};
    if (entry.dtype == FileDtype::f64)
      tensor.data = elements<double>(source.bytes(entry));
    else if (entry.dtype == FileDtype::f32)
      tensor.data = elements<float>(source.bytes(entry));
    else
      tensor.data = elements<int32_t>(source.bytes(entry));
    WEIR_CHECK(static_cast<int64_t>(tensor.data.size()) == tensor.type.elements(),
               "{} in {} is neither F64, F32 nor I32", entry.name, file);
  }
  return tensors;
}

nlohmann::json read_reference_metadata(const std::string& file) {
  return nlohmann::json::parse(SafetensorsFile(path_of(file)).metadata().at("reference"));
}

std::map<std::string, ReferenceCase> read_cases(const std::string& name) {
  std::string file = "op_" + name;
  std::map<std::string, ReferenceCase> cases;
  nlohmann::json metadata = read_reference_metadata(file);
  for (const auto& [key, attributes] : metadata.at("cases").items())
    cases[key].attributes = attributes;
  for (const auto& [key, tensor] : read_reference(file)) {
    std::vector<std::string> parts = split(key, '.');  // CASE.KIND.X
    WEIR_CHECK(parts.size() == 3 && cases.count(parts[0]), "{} in {}", key, file);
    ReferenceCase& one = cases[parts[0]];
    Tensors& kind = parts[1] == "in"         ? one.in
                    : parts[1] == "out"      ? one.out
                    : parts[1] == "upstream" ? one.upstream
                                             : one.grad;
    kind[parts[2]] = tensor;
  }
  return cases;
}

std::vector<std::string> model_cases(const std::string& file) {
  namespace fs = std::filesystem;
  std::set<std::string> folders;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(WEIR_TEST_DATA) / "models"))
    if (glob_match(file, entry.path().filename().string()))
      folders.insert(entry.path().parent_path().filename().string());
  return {folders.begin(), folders.end()};
}

}  // namespace weir::test
