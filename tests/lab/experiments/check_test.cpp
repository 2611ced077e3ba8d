// Identities and bounds on models that PyTorch references are of: all hold in f32 and in f64, and a
// kernel that is wrong by a thousandth is found and named.
#include "lab/experiments/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/edit.h"
#include "lab/reference_model.h"
#include "lab/report/check_report.h"

namespace weir {
namespace {

using test::error_of;
using test::ReferenceModel;
using ::testing::HasSubstr;
using Json = nlohmann::json;

CheckTask task_of(const ReferenceModel& model) {
  return {.options = model.task.options, .run = model.task.run};
}

class CheckedModel : public ::testing::TestWithParam<const char*> {};

void expect_all_hold(const CheckOutcome& outcome, int64_t layers, int64_t length) {
  EXPECT_THAT(outcome.failures, ::testing::IsEmpty());
  const Json record = Json::parse(outcome.record);
  EXPECT_EQ("weir.check/1", record.at("format"));
  int64_t attentions = 0;
  for (const Json& site : record.at("sites")) {
    attentions += site.at("site") == "attention";
    for (const auto& [key, result] : site.at("identities").items()) {
      if (result.contains("not_applicable")) continue;
      EXPECT_GT(result.at("places").get<int64_t>(), 0) << key;
      // Something is compared: only of a single token all gradients of scores are zero.
      if (result.contains("largest")) {
        double largest = 0;
        for (const Json& head : result.at("largest"))
          largest = std::max(largest, head.get<double>());
        if (length > 1) {
          EXPECT_GT(largest, 0) << key;
        }
        EXPECT_LE(largest, 1.0001) << key;
      }
    }
  }
  EXPECT_EQ(layers, attentions);
}

TEST_P(CheckedModel, HoldsInBothPrecisions) {
  ReferenceModel model(GetParam());
  for (bool interpret : {false, true}) {
    CheckTask task = task_of(model);
    task.run.interpret = interpret;
    expect_all_hold(Checker(model.source, model.batch, task).check(), model.source.sizes.layers,
                    model.batch.length);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CheckedModel,
                         ::testing::Values("llama_base", "llama_long", "llama_massive", "llama_odd",
                                           "llama_single", "llama_softmax_1", "llama_v_scale_full",
                                           "llama_v_scale_learned", "llama_v_scale_backward_only",
                                           "llama_v_scale_forward_only"),
                         [](const auto& info) { return std::string(info.param).substr(6); });

class CheckedNormalizer : public ::testing::TestWithParam<AttentionNormalizer> {};

TEST_P(CheckedNormalizer, HoldsWithGatesToo) {
  ReferenceModel model("llama_base");
  for (bool gated : {false, true})
    for (bool interpret : {false, true}) {
      CheckTask task = task_of(model);
      task.options.rewrites.attention = GetParam();
      if (gated) {
        task.options.rewrites.attention_gate = AttentionGate::head;
        task.options.rewrites.qk_norm = true;
        task.options.rewrites.value_gate.variant = ValueGate::head;
        task.options.rewrites.v_scale.variant = VScaleVariant::full;
      }
      task.run.interpret = interpret;
      expect_all_hold(Checker(model.source, model.batch, task).check(), model.source.sizes.layers,
                      model.batch.length);
    }
}

INSTANTIATE_TEST_SUITE_P(All, CheckedNormalizer, ::testing::ValuesIn(all_normalizers()),
                         [](const auto& info) {
                           std::string name = normalizer_name(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Interventions change gradients on their way, not what an attention or a norm computes.
TEST(Check, HoldsWithInterventions) {
  ReferenceModel model("llama_base");
  CheckTask task = task_of(model);
  task.options.rewrites.sink_gradient.gain = 4;
  task.options.rewrites.norm_jacobian.variant = NormJacobian::without_rms;
  EXPECT_THAT(Checker(model.source, model.batch, task).check().failures, ::testing::IsEmpty());
}

// All that changes what the model computes is in the record, and nothing that is off.
TEST(Check, RecordStatesAllRewrites) {
  ReferenceModel model("llama_base");
  const auto settings_with = [&](const Rewrites& rewrites) {
    CheckTask task = task_of(model);
    task.options.rewrites = rewrites;
    return Json::parse(Checker(model.source, model.batch, task).check().record).at("settings");
  };
  Json plain = settings_with({});
  for (const char* key : {"precision", "tolerance", "slack", "sink_token"}) plain.erase(key);
  EXPECT_EQ(plain, (Json{{"attention", "softmax"}, {"v_scale", "none"}}));
  Rewrites rewrites;
  rewrites.attention = AttentionNormalizer::sink_logit;
  rewrites.attention_gate = AttentionGate::head;
  rewrites.qk_norm = true;
  rewrites.value_gate = {.variant = ValueGate::head, .layers = {1}};
  rewrites.v_scale = {.variant = VScaleVariant::full, .layers = {0}, .lambda = 2};
  rewrites.sink_gradient.gain = 4;
  rewrites.norm_jacobian.variant = NormJacobian::without_rms;
  Json settings = settings_with(rewrites);
  for (const char* key : {"precision", "tolerance", "slack", "sink_token"}) settings.erase(key);
  EXPECT_EQ(settings, (Json{{"attention", "sink-logit"},
                            {"attention_gate", "head"},
                            {"qk_norm", true},
                            {"value_gate", "head"},
                            {"value_gate_layers", {1}},
                            {"v_scale", "full"},
                            {"v_scale_lambda", 2},
                            {"v_scale_sigma", 0.02},
                            {"v_scale_layers", {0}},
                            {"sink_gradient_gain", 4},
                            {"norm_jacobian", "without-rms"}}));
}

// What stands before a sequence belongs to what was checked.
TEST(Check, RecordNamesTheTokensAroundText) {
  ReferenceModel model("llama_base");
  model.batch.around = TextTokens{};
  model.batch.around->begin = {.id = 5, .text = "", .source = "a key"};
  const Json record =
      Json::parse(Checker(model.source, model.batch, task_of(model)).check().record);
  EXPECT_EQ(record.at("tokens").at("begin_token"), (Json{{"id", 5}, {"source", "a key"}}));
}

TEST(Check, SequenceBySequenceGivesTheSameNumbers) {
  ReferenceModel model("llama_odd");
  CheckTask task = task_of(model);
  const Json whole = Json::parse(Checker(model.source, model.batch, task).check().record);
  task.run.rows = 1;
  const Json parts = Json::parse(Checker(model.source, model.batch, task).check().record);
  EXPECT_EQ(whole.at("sites").size(), parts.at("sites").size());
  for (size_t i = 0; i < whole.at("sites").size(); ++i)
    for (const auto& [key, result] : whole.at("sites")[i].at("identities").items()) {
      const Json& other = parts.at("sites")[i].at("identities").at(key);
      if (result.contains("places")) {
        EXPECT_EQ(result.at("places"), other.at("places")) << key;
      }
      if (!result.contains("largest")) continue;
      for (size_t h = 0; h < result.at("largest").size(); ++h)
        EXPECT_NEAR(result.at("largest")[h].get<double>(), other.at("largest")[h].get<double>(),
                    1e-5)
            << key;
    }
}

// Multiplies one result of the n-th node of an op by a factor.
std::function<GraphPtr(const GraphPtr&)> wrong_by(Op op, int which, int32_t result, double factor) {
  return [=](const GraphPtr& program) {
    int found = 0;
    return rewrite(program, [&](Rewriter& to, int32_t id) -> std::optional<std::vector<Value>> {
      const Node& node = program->node(id);
      if (node.op != op || found++ != which) return std::nullopt;
      std::vector<Value> results = to.add_node(op, to[node.inputs], node.attrs, node.where);
      Value& value = results[static_cast<size_t>(result)];
      value = to.add(Op::mul, {value, to.constant(factor, {to.type(value).dtype, {}})});
      return results;
    });
  };
}

struct Fault {
  const char* name;
  Op op;
  int which;
  int32_t result;
  std::string found;  ///< in the sentence of a failure
};

class PlantedFault : public ::testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, IsFoundAndNamed) {
  const Fault& fault = GetParam();
  ReferenceModel model("llama_base");
  for (bool interpret : {false, true}) {
    CheckTask task = task_of(model);
    task.run.interpret = interpret;
    task.run.plant_fault = wrong_by(fault.op, fault.which, fault.result, 1.001);
    const CheckOutcome outcome = Checker(model.source, model.batch, task).check();
    EXPECT_THAT(outcome.failures, ::testing::Contains(HasSubstr(fault.found)));
    const Json failures = Json::parse(outcome.record).at("failures");
    ASSERT_GE(failures.size(), 1U);
    EXPECT_THAT(failures[0].at("worst").at("token").get<int64_t>(), ::testing::Ge(0));
    EXPECT_THAT(check_table(outcome.record), HasSubstr("not hold"));
  }
}

// Of the gradient nodes the first belongs to the last layer, as backward goes.
INSTANTIATE_TEST_SUITE_P(
    Kernels, PlantedFault,
    ::testing::Values(Fault{"query", Op::attention_grad, 0, 0, "blocks.1.attn: query gradient"},
                      Fault{"key", Op::attention_grad, 1, 1, "blocks.0.attn: key gradient"},
                      Fault{"value", Op::attention_grad, 1, 2, "blocks.0.attn: value gradient"},
                      Fault{"output", Op::attention, 0, 0, "blocks.0.attn: row sum"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Check, SaysWhatDoesNotApply) {
  ReferenceModel model("llama_softmax_1");
  const CheckOutcome outcome = Checker(model.source, model.batch, task_of(model)).check();
  const std::string table = check_table(outcome.record);
  EXPECT_THAT(table, HasSubstr("first_query: the first row of softmax-1 weighs something besides"));
  EXPECT_THAT(table, HasSubstr("Every identity and every bound holds."));
  EXPECT_THAT(check_page(outcome.record, "weir check"), HasSubstr("Tightness by layer and head"));
}

TEST(Check, RefusesASinkThatIsNone) {
  ReferenceModel model("llama_base");
  CheckTask task = task_of(model);
  task.sink = model.batch.length;
  EXPECT_THAT(error_of([&] { Checker(model.source, model.batch, task); }),
              HasSubstr("is not one of the"));
}

}  // namespace
}  // namespace weir
