#include "models/tensor_names.h"

#include <algorithm>
#include <cctype>

#include "models/architecture.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using Part = const char* WeightNames::*;
using W = WeightNames;

constexpr Part kOuter[] = {&W::embedding, &W::positions, &W::final_norm, &W::output};
constexpr Part kNormsOfALayer[] = {&W::attention_norm,     &W::q_norm,   &W::k_norm,
                                   &W::attention_out_norm, &W::mlp_norm, &W::mlp_out_norm};
constexpr Part kMatricesOfALayer[] = {&W::q,    &W::k,  &W::v,   &W::qkv, &W::attention_out,
                                      &W::gate, &W::up, &W::down};

// A name cut at its layer and its last dot: "model.layers.12.mlp.up_proj.weight" is
// {"12", "mlp.up_proj", "weight"}, "model.norm.weight" is {"", "model.norm", "weight"}.
struct CutName {
  std::string layer, part, kind;
};

CutName cut(const WeightNames& names, const std::string& weight) {
  CutName result;
  const size_t dot = weight.rfind('.');
  result.part = weight.substr(0, dot);
  result.kind = weight.substr(dot + 1);
  const std::string layer = names.layer;
  const size_t number = layer.find("{}");
  if (!weight.starts_with(layer.substr(0, number))) return result;
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  const std::string rest = result.part.substr(number);
  const auto end = std::find_if_not(rest.begin(), rest.end(), digit);
  result.layer.assign(rest.begin(), end);
  result.part = std::string(end, rest.end()).substr(layer.size() - number - 2);
  return result;
}

template <size_t N>
Part find(const Part (&parts)[N], const WeightNames& names, const std::string& part) {
  const auto* found =
      std::find_if(parts, parts + N, [&](Part each) { return part == names.*each; });
  return found == parts + N ? nullptr : *found;
}

StoredAs norm_layout(const Architecture& architecture) {
  return architecture.block.norm == NormKind::rms_plus_one ? StoredAs::plus_one : StoredAs::same;
}

StoredAs layout(const Architecture& architecture, Part matrix, const std::string& kind) {
  if (architecture.block.projections == Projections::joint)
    return kind == "weight" ? StoredAs::transposed : StoredAs::same;
  if (architecture.gguf_neighbours && matrix == &W::q) return StoredAs::interleaved_q;
  if (architecture.gguf_neighbours && matrix == &W::k) return StoredAs::interleaved_k;
  return StoredAs::same;
}

}  // namespace

std::vector<std::string> hugging_face_names(const Architecture& architecture,
                                            const std::string& weight) {
  const std::string base = architecture.block.names.base;
  std::vector<std::string> names = {weight};
  if (!base.empty() && weight.starts_with(base)) names.push_back(weight.substr(base.size()));
  return names;
}

GgufName gguf_name(const Architecture& architecture, const std::string& weight) {
  const WeightNames &names = architecture.block.names, &gguf = architecture.gguf_names;
  const CutName name = cut(names, weight);
  if (name.layer.empty()) {
    if (const Part part = find(kOuter, names, name.part))
      return {std::string(gguf.*part) + "." + name.kind,
              part == &W::final_norm ? norm_layout(architecture) : StoredAs::same};
  } else {
    std::string layer = gguf.layer;
    layer.replace(layer.find("{}"), 2, name.layer);
    if (const Part part = find(kNormsOfALayer, names, name.part))
      return {layer + gguf.*part + "." + name.kind, norm_layout(architecture)};
    if (const Part part = find(kMatricesOfALayer, names, name.part))
      return {layer + gguf.*part + "." + name.kind, layout(architecture, part, name.kind)};
  }
  internal_error_at("no name in GGUF for the weight " + weight);
}

bool is_computed_table(const Architecture& architecture, const std::string& stored) {
  return std::any_of(architecture.computed_tables.begin(), architecture.computed_tables.end(),
                     [&](const char* pattern) { return glob_match(pattern, stored); });
}

}  // namespace weir
