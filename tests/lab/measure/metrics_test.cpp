// The whole metric path against PyTorch in f64 (tests/reference/measure_record.py): probes by the
// interpreter, every number of the record at 1e-9.
#include "lab/measure/metrics.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "interpret/interpret.h"
#include "lab/measure/record_keys.h"
#include "lab/measure/statistics.h"
#include "lab/reference_case.h"
#include "passes/pipeline.h"
#include "passes/probes.h"
#include "testing/reference_data.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using Json = nlohmann::json;
using test::expect_agree;

struct Case {
  std::string file;
  VScaleVariant variant = VScaleVariant::none;
  std::string record = "";  ///< where it is not `file`
  int64_t sink = 0;
  AttentionNormalizer attention = AttentionNormalizer::softmax;
};
// The name of a test ends with it.
void PrintTo(const Case& c, std::ostream* out) { *out << (c.record.empty() ? c.file : c.record); }

class MetricRecord : public ::testing::TestWithParam<Case> {
 protected:
  // The record of the reference case, its batch computed in `parts` micro-batches.
  void check(int64_t parts) const {
    const Tensors reference = test::read_reference(GetParam().file);
    const Json config_json = test::read_reference_metadata(GetParam().file).at("config");
    const std::string name = GetParam().record.empty() ? GetParam().file : GetParam().record;
    Json expected =
        Json::parse(std::ifstream(fmt::format("{}/reference/{}.json", WEIR_TEST_DATA, name)));
    const ModelConfig config = test::reference_config(config_json);
    const HostTensor& ids = reference.at("tokens");
    const int64_t B = ids.shape()[0], T = ids.shape()[1] - 1;
    MetricSettings settings{.sink_token = GetParam().sink,
                            .v_scale = GetParam().variant,
                            .attention = GetParam().attention};

    CompileOptions options{.gradients = {"*"}, .stop = Stage::differentiated};
    options.rewrites.v_scale.variant = GetParam().variant;
    options.rewrites.v_scale.sigma = config_json.at("v_scale_sigma").get<double>();
    options.rewrites.attention = GetParam().attention;
    settings.set_v_scale(options.rewrites.v_scale);
    GraphPtr graph = run_pipeline(build_llama(config, B, T).graph, options).graph;
    auto probes = resolve_probes(graph, parse_probe_requests(metric_requests(settings, T)));
    GraphPtr probed = insert_probes(graph, probes);

    Tensors inputs = {{"tokens", zeros(i32({B, T}))},
                      {"targets", zeros(i32({B, T}))},
                      {"loss_scale", scalar(1.0 / static_cast<double>(B * T))}};
    for (int64_t b = 0; b < B; ++b)
      for (int64_t t = 0; t < T; ++t) {
        inputs["tokens"].data[b * T + t] = ids.at({b, t});
        inputs["targets"].data[b * T + t] = ids.at({b, t + 1});
      }
    int64_t parameters = 0;
    for (int32_t id : probed->inputs()) {
      const std::string& input = probed->input_name(id);
      if (inputs.contains(input)) continue;
      inputs[input] = reference.at(input);
      parameters += probed->node(id).types[0].elements();
    }
    Interpretation run = interpret_all(*probed, inputs);
    Tensors values;
    for (const auto& [id, value] : run.probes) {
      const bool by_sequence = value.shape()[0] == B && B > 1;
      if (!by_sequence || parts == 1) {
        add_probe_value(values, id, value);
        continue;
      }
      const int64_t row = static_cast<int64_t>(value.data.size()) / B;
      for (int64_t b = 0; b < B; ++b) {
        HostTensor part = value;
        part.type.shape[0] = 1;
        part.data = {value.data.begin() + b * row, value.data.begin() + (b + 1) * row};
        add_probe_value(values, id, part);
      }
    }
    MeasuredModel model{expected["model"]["name"].get<std::string>(),
                        config.layers,
                        config.d_model,
                        config.heads,
                        config.kv_heads,
                        config.d_head,
                        config.d_ff,
                        config.vocabulary,
                        parameters};
    std::string line = metric_record(
        model, settings, {.batch = B, .length = T, .loss = run.outputs.at("loss").data[0]}, values);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    int compared = 0;
    expect_agree(Json::parse(line), expected, 1e-9, "record", compared);
    EXPECT_GT(compared, 60);
    expect_keys(nlohmann::ordered_json::parse(line)["layers"][0]);
  }

  // What a layer has is what lab/measure/record_keys.h says, in its order.
  static void expect_keys(const nlohmann::ordered_json& layer) {
    std::vector<std::string> actual, expected;
    for (const auto& [key, value] : layer.items()) actual.push_back(key);
    for (const RecordKey& key : kLayerKeys)
      if (!key.optional || layer.contains(key.name)) expected.emplace_back(key.name);
    EXPECT_EQ(actual, expected);
    for (const RecordKey& key : kLayerKeys) {
      if (key.kind == RecordKind::other || !layer.contains(key.name)) continue;
      EXPECT_EQ(layer[key.name].is_array(), key.kind != RecordKind::number) << key.name;
    }
  }
};

TEST_P(MetricRecord, AgreesWithPyTorch) { check(1); }

INSTANTIATE_TEST_SUITE_P(
    Cases, MetricRecord,
    ::testing::Values(Case{"llama_base"}, Case{"llama_long"}, Case{"llama_massive"},
                      Case{"llama_odd"},
                      Case{"llama_odd", VScaleVariant::none, "llama_odd_sink3", 3},
                      Case{"llama_single"}, Case{"llama_v_scale_full", VScaleVariant::full},
                      Case{"llama_v_scale_learned", VScaleVariant::learned},
                      Case{"llama_v_scale_backward_only", VScaleVariant::backward},
                      Case{"llama_v_scale_forward_only", VScaleVariant::forward},
                      Case{"llama_softmax_1", VScaleVariant::none, "", 0,
                           AttentionNormalizer::softmax_1}),
    [](const auto& info) {
      return (info.param.record.empty() ? info.param.file : info.param.record).substr(6);
    });

class MetricRecordByMicroBatch : public MetricRecord {};
TEST_P(MetricRecordByMicroBatch, AgreesWithPyTorch) { check(2); }
INSTANTIATE_TEST_SUITE_P(Cases, MetricRecordByMicroBatch, ::testing::Values(Case{"llama_base"}),
                         [](const auto&) { return std::string("base"); });

TEST(Statistics, FollowNumPy) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(quantile({1, 2, 3, 4}, 0.25), 1.75);
  EXPECT_EQ(quantile({5}, 0.75), 5);
  EXPECT_TRUE(std::isnan(median({})));
  EXPECT_TRUE(std::isnan(median({1, NAN})));
  EXPECT_TRUE(std::isnan(largest(std::vector<double>{1, NAN, 3})));
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(ratio(1, 0)));
  EXPECT_DOUBLE_EQ(excess_kurtosis(std::vector<double>{-1, 1, -1, 1}), -2);
}

}  // namespace
}  // namespace weir
