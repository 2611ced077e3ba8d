#include "lab/measure/metric_probes.h"

#include <fmt/format.h>

namespace weir {

std::string MetricProbe::request() const {
  return fmt::format("blocks.*.{}{} : {}", hook, gradient ? ".grad" : "",
                     reductions.empty() ? "raw" : reductions);
}

std::string MetricProbe::id(int64_t layer) const {
  return fmt::format("blocks.{}.{}{}:{}", layer, hook, gradient ? ".grad" : "",
                     reductions.empty() ? "raw" : reductions);
}

MetricProbe token_norm(const std::string& hook) {
  return {hook, false, "norm(feature),mean(batch)"};
}

MetricProbe token_norm_max(const std::string& hook, int64_t token) {
  return {hook, false,
          fmt::format("norm(feature),slice(token,{},{}),max(batch)", token, token + 1)};
}

MetricProbe summed_gradient(const std::string& hook) {
  return {hook, true, "batch_sum,norm(feature)"};
}

MetricProbe summed_gradient_of_heads(const std::string& hook) {
  return {hook, true, "batch_sum,norm(head,feature)"};
}

MetricProbe sink_scores(const MetricSettings& cut) {
  return {"attn.hook_pattern", false,
          fmt::format("sink_column({}),slice(query,{},{}),mean(query)", cut.sink_token,
                      cut.sink_token, cut.sink_token + cut.sink_window)};
}

MetricProbe sink_mass(const MetricSettings& cut) {
  return {
      "attn.hook_pattern", false,
      fmt::format("column_mass,slice(key,{},{}),mean(batch)", cut.sink_token, cut.sink_token + 1)};
}

MetricProbe sink_second_moment(const MetricSettings& cut) {
  return {"attn.hook_pattern", false,
          fmt::format("column_square,slice(key,{},{}),mean(batch)", cut.sink_token,
                      cut.sink_token + 1)};
}

MetricProbe attention_entropy() {
  return {"attn.hook_pattern", false, "entropy,mean(batch,query)"};
}

MetricProbe attention_row_sum() {
  return {"attn.hook_pattern", false, "row_sum,mean(batch,query)"};
}

MetricProbe raw_resid_post() { return {"hook_resid_post", false, ""}; }

const std::vector<HookOfKey>& stream_hooks() {
  static const std::vector<HookOfKey> hooks = {{"resid_pre", "hook_resid_pre"},
                                               {"resid_mid", "hook_resid_mid"},
                                               {"resid_post", "hook_resid_post"},
                                               {"attn_out", "hook_attn_out"},
                                               {"mlp_out", "hook_mlp_out"}};
  return hooks;
}

const std::vector<HookOfKey>& gradient_hooks() {
  static const std::vector<HookOfKey> hooks = {
      {"attn_in", "ln1.hook_normalized"}, {"attn_out", "hook_attn_out"},
      {"mlp_in", "ln2.hook_normalized"},  {"mlp_out", "hook_mlp_out"},
      {"resid_pre", "hook_resid_pre"},    {"resid_mid", "hook_resid_mid"},
      {"resid_post", "hook_resid_post"}};
  return hooks;
}

const std::vector<HookOfKey>& head_gradient_hooks() {
  static const std::vector<HookOfKey> hooks = {
      {"q", "attn.hook_rot_q"}, {"k", "attn.hook_rot_k"}, {"v", kValueHook}};
  return hooks;
}

std::vector<std::string> metric_requests(const MetricSettings& settings, int64_t T) {
  const MetricSettings cut = cut_to(settings, T);
  std::vector<MetricProbe> probes = {sink_scores(cut), sink_mass(cut), sink_second_moment(cut),
                                     attention_entropy(), raw_resid_post()};
  if (!info(cut.attention).rows_sum_to_one) probes.push_back(attention_row_sum());
  for (const HookOfKey& stream : stream_hooks()) {
    probes.push_back(token_norm(stream.hook));
    probes.push_back(token_norm_max(stream.hook, cut.sink_token));
  }
  for (const HookOfKey& hook : gradient_hooks()) probes.push_back(summed_gradient(hook.hook));
  for (const char* hook : {kAttentionBranch, kMlpBranch}) probes.push_back(summed_gradient(hook));
  for (const HookOfKey& hook : head_gradient_hooks())
    probes.push_back(summed_gradient_of_heads(hook.hook));
  probes.push_back(token_norm(kValueHook));
  probes.push_back(summed_gradient(kValueHook));
  if (cut.v_scale != VScaleVariant::none) {
    probes.push_back(token_norm(kScaledValueHook));
    probes.push_back(summed_gradient_of_heads(kScaledValueHook));
  }
  std::vector<std::string> requests;
  for (const MetricProbe& probe : probes) requests.push_back(probe.request());
  return requests;
}

}  // namespace weir
