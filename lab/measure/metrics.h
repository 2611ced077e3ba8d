#pragma once
// The record `weir.measure/1`: which probes it needs, and how their values become its numbers. The
// formulas are those of "Attention Sinks Induce Gradient Sinks" (arXiv 2603.17771); lab/README.md
// lists the choices where the paper leaves one.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "interpret/host_tensor.h"
#include "io/text_tokens.h"
#include "ir/graph.h"
#include "ir/normalizer.h"
#include "lab/measure/outliers.h"
#include "models/model.h"
#include "passes/rewrites.h"
#include "runtime/threads.h"

namespace weir {

/// The constants of the definitions; every record carries them.
struct MetricSettings {
  int64_t sink_token = 0;
  int64_t sink_window = 64;      ///< queries over which the sink score is averaged
  double sink_threshold = 0.3;   ///< a head sinks in a sequence whose score is above it
  int64_t gradient_window = 31;  ///< last token that the gradient-sink ratio compares with
  double massive_absolute = 100, massive_ratio = 1000;  ///< both exceeded: a massive activation
  VScaleVariant v_scale = VScaleVariant::none;
  /// Of all attention. Unless its rows sum to one, statistics of heads are of a / sum_s a, as
  /// probes give them, and the sum of a row is recorded.
  AttentionNormalizer attention = AttentionNormalizer::softmax;
  /// The constants of V-scale, where there is one.
  double v_scale_lambda = 1, v_scale_sigma = 0.02;
  std::vector<int64_t> v_scale_layers = {};  ///< empty: all

  /// Further rewrites, which records state.
  Rewrites rewrites = {};

  /// Takes variant and constants.
  void set_v_scale(const VScaleOptions& options);
  /// The same of all rewrites.
  void set_rewrites(const Rewrites& all);
};

/// The sizes that a record states, as the model's configuration has them.
struct MeasuredModel {
  std::string name;
  int64_t layers = 0, d_model = 0, heads = 0, kv_heads = 0, d_head = 0, d_ff = 0;
  int64_t vocabulary = 0, parameters = 0;
};

/// `settings` with its windows cut to sequences of T tokens.
MetricSettings cut_to(MetricSettings settings, int64_t T);

/// The probe requests (passes/probe_request) of a record, for the hook names of models/.
std::vector<std::string> metric_requests(const MetricSettings& settings, int64_t T);

/// What a record can say of a model, whose hooks may be fewer than those of models/.
struct MetricPlan {
  std::vector<std::string> requests = {};
  std::set<std::string> missing = {};  ///< ids of probes that the model's hooks do not carry
  /// The same for people: "blocks.*.hook_mlp_out", "blocks.3.attn.hook_v.grad"; a record names them
  /// as `left_out`.
  std::vector<std::string> left_out = {};
};

/// `built`: the model's graph of stage built, or a later one that has its gradients.
MetricPlan plan_metrics(const GraphPtr& built, const MetricSettings& settings, int64_t layers,
                        int64_t T);

/// Probe values by id. The parts of a value that comes once a micro-batch are joined along the
/// batch axis, the first; a batch-reduced value comes once.
void add_probe_value(Tensors& values, const std::string& id, HostTensor part);

struct Measurement {
  std::optional<int64_t> step = {};  ///< of a training run; absent for a checkpoint
  int64_t batch = 0, length = 0;
  double loss = 0;
  std::optional<TextTokens> around = {};  ///< of text that was tokenised for the measurement
  MetricPlan plan = {};                   ///< what may be missing
  std::string provenance =
      {};  ///< a JSON object (lab/measure/provenance.h); "": the record has none
};

/// The record as one line of JSON without its end. `values` has what metric_requests asks for;
/// internal error if one is missing that the measurement's plan does not leave out.
std::string metric_record(const MeasuredModel& model, const MetricSettings& settings,
                          const Measurement& measurement, const Tensors& values);
/// The same with the outliers of layers given, for which `values` then need not have the residual
/// streams; the workers share out the layers.
std::string metric_record(const MeasuredModel& model, const MetricSettings& settings,
                          const Measurement& measurement, const Tensors& values,
                          const std::map<int64_t, Outliers>& outliers, const Workers& workers);

}  // namespace weir
