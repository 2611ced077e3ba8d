#include "lab/measure/metric_probes.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "passes/probes.h"
#include "support/error.h"

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

MetricProbe token_peaks() { return {"mlp.hook_post", false, "abs,max(feature)"}; }

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

namespace {

std::vector<MetricProbe> metric_probes(const MetricSettings& cut) {
  std::vector<MetricProbe> probes = {sink_scores(cut),    sink_mass(cut), sink_second_moment(cut),
                                     attention_entropy(), token_peaks(),  raw_resid_post()};
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
  return probes;
}

std::set<std::string> resolved_ids(const GraphPtr& graph,
                                   const std::vector<std::string>& requests) {
  std::set<std::string> ids;
  for (const ResolvedProbe& probe : resolve_probes(graph, parse_probe_requests(requests)))
    ids.insert(probe.id);
  return ids;
}

}  // namespace

std::vector<std::string> metric_requests(const MetricSettings& settings, int64_t T) {
  std::vector<std::string> requests;
  for (const MetricProbe& probe : metric_probes(cut_to(settings, T)))
    requests.push_back(probe.request());
  return requests;
}

MetricPlan plan_metrics(const GraphPtr& built, const MetricSettings& settings, int64_t layers,
                        int64_t T) {
  MetricPlan plan{metric_requests(settings, T)};
  std::set<std::string> there;
  try {
    there = resolved_ids(built, plan.requests);
  } catch (const UserError&) {  // one by one: which requests no hook carries
    std::vector<std::string> carried;
    for (const std::string& request : plan.requests) try {
        there.merge(resolved_ids(built, {request}));
        carried.push_back(request);
      } catch (const UserError&) {
        continue;
      }
    plan.requests = std::move(carried);
  }
  for (const MetricProbe& probe : metric_probes(cut_to(settings, T))) {
    std::vector<int64_t> lacking;
    for (int64_t l = 0; l < layers; ++l)
      if (!there.contains(probe.id(l))) {
        lacking.push_back(l);
        plan.missing.insert(probe.id(l));
      }
    const auto name = [&](const std::string& layer) {
      const std::string hook =
          fmt::format("blocks.{}.{}{}", layer, probe.hook, probe.gradient ? ".grad" : "");
      if (std::find(plan.left_out.begin(), plan.left_out.end(), hook) == plan.left_out.end())
        plan.left_out.push_back(hook);
    };
    if (static_cast<int64_t>(lacking.size()) == layers)
      name("*");
    else
      for (int64_t l : lacking) name(fmt::format("{}", l));
  }
  return plan;
}

}  // namespace weir
