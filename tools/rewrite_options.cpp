#include "tools/rewrite_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "support/usage_error.h"

namespace weir {
namespace {

// "v_scale.lambda" is --v-scale-lambda, "v_scale.variant" --v-scale.
std::string option_name(const std::string& key) {
  constexpr std::string_view variant = ".variant";
  std::string name = "--" + key;
  if (name.ends_with(variant)) name.resize(name.size() - variant.size());
  std::replace_if(name.begin(), name.end(), [](char c) { return c == '_' || c == '.'; }, '-');
  return name;
}

std::string option_name(const RewriteKey& key) { return option_name(std::string(key.name)); }

// What is wrong with a constant of a rewrite that is off.
std::string idle_constant(const RewriteKey& key) {
  const std::string option = option_name(key);
  if (option.starts_with("--v-scale-"))
    return fmt::format(
        "{} is a constant of V-scale, which the model does not have. "
        "Give --v-scale full, learned, backward-only or forward-only, too.",
        option);
  const char* switched = option.starts_with("--value-gate-")      ? "--value-gate head"
                         : option.starts_with("--sink-gradient-") ? "--sink-gradient-gain 0"
                                                                  : "--norm-jacobian without-rms";
  return fmt::format(
      "{} changes nothing without the rewrite that it belongs to. Give it, too, e.g. "
      "{}.",
      option, switched);
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
    if (is_idle(rewrites, key.name) && given(*table_, option_name(key)))
      problems.add(idle_constant(key));
  for (const auto& [key, layers] : layers_by_key(rewrites))
    if (const std::string name = option_name(key); given(*table_, name))
      add(check_layers(name, layers, layers_of_model));
  problems.raise();
}

}  // namespace weir
