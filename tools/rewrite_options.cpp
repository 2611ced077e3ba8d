#include "tools/rewrite_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lab/config.h"
#include "support/usage_error.h"

namespace weir {
namespace {

constexpr std::array<const char*, 3> kConstants = {"--v-scale-lambda", "--v-scale-sigma",
                                                   "--v-scale-layers"};

}  // namespace

void RewriteOptions::add_to(OptionTable& table) {
  table_ = &table;
  std::vector<std::string> variants, normalizers;
  for (VScaleVariant variant : v_scale_variants())
    variants.emplace_back(v_scale_variant_name(variant));
  for (AttentionNormalizer normalizer : all_normalizers())
    normalizers.emplace_back(normalizer_name(normalizer));
  table.add("--v-scale", &v_scale, one_of(variants), "scale values by their norm");
  table.add(kConstants[0], &lambda, within(0, 1e6),
            "factor of C = d_model d_head sigma^2 lambda; 1 if not given");
  table.add(kConstants[1], &sigma, within(0, 1e3),
            "the initialiser's standard deviation in C; 0.02 if not given");
  table.add(kConstants[2], &layers, within(0, 4095), "its layers, e.g. 0,1; all if not given");
  table.add("--attention", &attention, one_of(normalizers), "attention normaliser");
}

bool RewriteOptions::any_given() const {
  return !v_scale.empty() || !attention.empty() ||
         std::any_of(kConstants.begin(), kConstants.end(),
                     [&](const char* name) { return table_->given(name); });
}

void RewriteOptions::apply(CompileOptions& options, int64_t layers_of_model) const {
  if (!v_scale.empty()) options.v_scale.variant = parse_v_scale_variant(v_scale);
  if (!attention.empty()) options.attention = parse_normalizer(attention);
  if (table_->given(kConstants[0])) options.v_scale.lambda = lambda;
  if (table_->given(kConstants[1])) options.v_scale.sigma = sigma;
  if (table_->given(kConstants[2])) options.v_scale.layers = layers;
  UsageProblems problems(table_->command());
  for (const char* name : kConstants)
    if (table_->given(name) && options.v_scale.variant == VScaleVariant::none)
      problems.add(
          fmt::format("{} is a constant of V-scale, which the model does not have. "
                      "Give --v-scale full, learned, backward or forward, too.",
                      name));
  for (int64_t layer : layers)
    if (layer >= layers_of_model)
      problems.add(fmt::format("--v-scale-layers has {}, but the model has layers 0 to {}.", layer,
                               layers_of_model - 1));
  problems.raise();
}

}  // namespace weir
