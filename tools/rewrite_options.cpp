#include "tools/rewrite_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/usage_error.h"

namespace weir {
namespace {

// "v_scale.lambda" is --v-scale-lambda, "v_scale.variant" --v-scale.
std::string option_name(const RewriteKey& key) {
  if (std::string(key.name) == "v_scale.variant") return "--v-scale";
  std::string name = std::string("--") + key.name;
  std::replace_if(name.begin(), name.end(), [](char c) { return c == '_' || c == '.'; }, '-');
  return name;
}

bool is_constant_of_v_scale(const RewriteKey& key) {
  return option_name(key).starts_with("--v-scale-");
}

// The words on the command line of a row, null where there are none.
const std::string* given(const OptionTable& table, const std::string& name) {
  for (const Option& row : table.rows())
    if (row.name == name && !row.given.empty()) return &row.given.back();
  return nullptr;
}

}  // namespace

void RewriteOptions::add_to(OptionTable& table) {
  table_ = &table;
  for (const RewriteKey& key : rewrite_keys()) {
    const std::string name = option_name(key);
    const RewriteSlot slot = key.slot(read_);
    const auto* plain = std::get_if<ValueSlot>(&slot);
    table.add(name, plain ? *plain : ValueSlot(&choices_[name]), key.rule, key.meaning);
  }
}

bool RewriteOptions::any_given() const {
  const auto& keys = rewrite_keys();
  return std::any_of(keys.begin(), keys.end(), [&](const RewriteKey& key) {
    return given(*table_, option_name(key)) != nullptr;
  });
}

void RewriteOptions::apply(Rewrites& rewrites, int64_t layers_of_model) const {
  UsageProblems problems(table_->command());
  const auto add = [&](const std::string& wrong) {
    if (!wrong.empty()) problems.add(wrong);
  };
  for (const RewriteKey& key : rewrite_keys())
    if (const std::string* text = given(*table_, option_name(key)))
      add(read_rewrite(option_name(key), *text, key.slot(rewrites), key.rule));
  for (const RewriteKey& key : rewrite_keys())
    if (is_constant_of_v_scale(key) && given(*table_, option_name(key)) &&
        rewrites.v_scale.variant == VScaleVariant::none)
      problems.add(
          fmt::format("{} is a constant of V-scale, which the model does not have. "
                      "Give --v-scale full, learned, backward-only or forward-only, too.",
                      option_name(key)));
  if (given(*table_, "--v-scale-layers"))
    add(check_v_scale_layers("--v-scale-layers", rewrites, layers_of_model));
  problems.raise();
}

}  // namespace weir
