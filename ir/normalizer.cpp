#include "ir/normalizer.h"

#include <algorithm>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

const std::vector<NormalizerInfo>& normalizers() {
  using enum RowExtra;
  static const std::vector<NormalizerInfo> rows = {
#define NORMALIZER(id, definition, ...) {AttentionNormalizer::id, __VA_ARGS__},
#include "ir/normalizers.def"
  };
  return rows;
}

}  // namespace

const NormalizerInfo& info(AttentionNormalizer normalizer) {
  const NormalizerInfo& row = normalizers().at(static_cast<size_t>(normalizer));
  WEIR_CHECK(row.normalizer == normalizer, "row {} of the normalisers is another one", row.name);
  return row;
}

const std::vector<AttentionNormalizer>& all_normalizers() {
  static const std::vector<AttentionNormalizer> all = [] {
    std::vector<AttentionNormalizer> result;
    for (const NormalizerInfo& row : normalizers()) result.push_back(row.normalizer);
    return result;
  }();
  return all;
}

const std::vector<AttentionNormalizer>& head_normalizers() {
  static const std::vector<AttentionNormalizer> some = [] {
    std::vector<AttentionNormalizer> result = all_normalizers();
    std::erase_if(result, is_across_heads);
    return result;
  }();
  return some;
}

AttentionNormalizer parse_normalizer(const std::string& text) {
  std::string wanted = text;
  std::replace(wanted.begin(), wanted.end(), '_', '-');
  std::vector<std::string> known;
  for (const NormalizerInfo& row : normalizers()) {
    if (wanted == row.name) return row.normalizer;
    known.emplace_back(row.name);
  }
  user_error("attention", "unknown normaliser '{}'.{} The normalisers are {}.", text,
             did_you_mean(wanted, known), join(known, ", "));
}

AttentionNormalizer normalizer_of(const Attrs& attrs) {
  if (!attrs.has(kNormalizer)) return AttentionNormalizer::softmax;
  return parse_normalizer(attrs.get_string(kNormalizer));
}

void set_normalizer(Attrs& attrs, AttentionNormalizer normalizer) {
  if (normalizer == AttentionNormalizer::softmax)
    attrs.erase(kNormalizer);
  else
    attrs.set(std::string(kNormalizer), std::string(normalizer_name(normalizer)));
}

}  // namespace weir
