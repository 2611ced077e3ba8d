#pragma once
// The probes of the metric record by name: one definition gives both the request for all layers and
// the id under which the value of one layer arrives.
#include <string>
#include <vector>

#include "lab/measure/metrics.h"

namespace weir {

struct MetricProbe {
  std::string hook;  ///< without "blocks.N."
  bool gradient = false;
  std::string reductions;  ///< canonical, as passes/probe_request prints them; "" is the raw value

  std::string request() const;
  std::string id(int64_t layer) const;
};

/// Norm over features, mean over sequences: [1,T,1], of values by head [1,T,heads,1].
MetricProbe token_norm(const std::string& hook);
/// Largest norm of one token over the sequences: one number.
MetricProbe token_norm_max(const std::string& hook, int64_t token);
/// Gradient summed over sequences, then norm over features: [1,T,1], [1,T,heads,1].
MetricProbe summed_gradient(const std::string& hook);
/// The same with the norm over the features of all heads together: [1,T,1,1].
MetricProbe summed_gradient_of_heads(const std::string& hook);
/// Sink score of each sequence and head: [B,H,1].
MetricProbe sink_scores(const MetricSettings& cut);
/// Sum over queries of the weight on the sink token, mean over sequences: [1,H,1].
MetricProbe sink_mass(const MetricSettings& cut);
/// Sum over queries of its square, likewise.
MetricProbe sink_second_moment(const MetricSettings& cut);
/// Mean over sequences and queries, nats: [1,H,1].
MetricProbe attention_entropy();
/// Sum of a row's weights, mean over sequences and queries: [1,H,1]. Asked for where it is not one;
/// the statistics above are of weights divided by it.
MetricProbe attention_row_sum();
/// The largest |x| of a token in the input of the MLP's last projection: [B,T,1].
MetricProbe token_peaks();
/// The residual stream after the block as it is: [B,T,D].
MetricProbe raw_resid_post();

/// The keys of a record and the hooks they come from, in the record's order.
struct HookOfKey {
  const char* key;
  const char* hook;
};
const std::vector<HookOfKey>& stream_hooks();         ///< "norm", "sink_token_max", "others"
const std::vector<HookOfKey>& gradient_hooks();       ///< "grad_norm" of values without heads
const std::vector<HookOfKey>& head_gradient_hooks();  ///< "grad_norm" of q, k, v
inline constexpr const char* kValueHook = "attn.hook_v";
inline constexpr const char* kScaledValueHook = "attn.hook_v_scaled";
inline constexpr const char* kAttentionBranch = "ln1.hook_in";
inline constexpr const char* kMlpBranch = "ln2.hook_in";

}  // namespace weir
