#include "lab/experiments/dial.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/measure/measure.h"
#include "models/transformer.h"
#include "runtime/random.h"
#include "testing/error_of.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using nlohmann::json;

constexpr int64_t kBatch = 3, kLength = 12;

// In f32 the neutral setting, which a sweep would take from the unchanged model.
constexpr double kNearlyZero = 1e-300, kNearlyOne = 1 + 1e-12;

// Weights large enough for attention and norms to be far from uniform.
ModelSource random_source(ModelConfig config = test::small_model(3)) {
  config = resolved(config);
  ModelSource source;
  source.sizes = {config.name,  config.layers,     config.d_model,
                  config.heads, config.kv_heads,   config.d_head,
                  config.d_ff,  config.vocabulary, 0};
  source.build = [config](int64_t B, int64_t T) { return build_model(config, B, T); };
  source.read = [](const Parameter& parameter, float* out) {
    uint64_t stream = 0;
    for (char c : parameter.name) stream = 131 * stream + static_cast<uint64_t>(c);
    Random random(5, stream);
    for (int64_t i = 0; i < parameter.type.elements(); ++i)
      out[i] =
          static_cast<float>((parameter.initial == Initial::ones ? 1 : 0) + 0.4 * random.normal());
  };
  return source;
}

TokenBatch random_batch(int64_t vocabulary) {
  Random random(6, 0);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kBatch * (kLength + 1); ++i)
    ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
  return token_batch(kBatch, kLength, ids);
}

struct Experiment {
  ModelSource source = random_source();
  TokenBatch batch = random_batch(source.sizes.vocabulary);

  DialTask task(Dial dial, DialForm form = DialForm::logit) const {
    DialTask task{.dial = dial, .form = form};
    task.run.cache = WEIR_TEST_CACHE;
    task.values = default_values(dial, form, 0, kLength, 2, 1);
    return task;
  }
  DialResult run(const DialTask& task) const { return Dialler(source, batch, task).run(); }
};

const DialCheck& check_of(const DialResult& result, const std::string& begin) {
  for (const DialCheck& check : result.checks)
    if (check.name.starts_with(begin)) return check;
  throw std::runtime_error("no check " + begin);
}

size_t at_value(const DialTask& task, double number) {
  for (size_t v = 0; v < task.values.size(); ++v)
    if (task.values[v].number == number) return v;
  throw std::runtime_error("no such value");
}

TEST(MassDial, ZeroIsThePlainModel) {
  const Experiment experiment;
  const DialTask task = experiment.task(Dial::mass);
  const DialResult result = experiment.run(task);
  ASSERT_EQ(result.layers.size(), 3u);
  const size_t neutral = at_value(task, 0);
  MeasureTask plain;
  Measurer measurer(experiment.source, experiment.batch, plain);
  const json record = json::parse(measurer.measure().record);
  EXPECT_EQ(result.loss, record["loss"].get<double>());
  for (const LayerDial& layer : result.layers) {
    const DialSweep &frozen = layer.sweeps[0], &recomputed = layer.sweeps[1];
    EXPECT_EQ(recomputed.loss[neutral], result.loss);
    const json& measured = record["layers"][static_cast<size_t>(layer.layer)];
    for (size_t h = 0; h < 4; ++h) {
      // The record's sums have query 0, which sees nothing else.
      EXPECT_NEAR(frozen.attention[neutral].mass[h], measured["sink_mass"][h].get<double>() - 1,
                  1e-5);
      EXPECT_NEAR(frozen.attention[neutral].second_moment[h],
                  measured["sink_second_moment"][h].get<double>() - 1, 1e-5);
      EXPECT_NEAR(frozen.attention[neutral].energy[h], recomputed.attention[neutral].energy[h],
                  1e-5 * frozen.attention[neutral].energy[h]);
    }
    // More logit is more mass.
    for (size_t v = 1; v < task.values.size(); ++v)
      EXPECT_GT(frozen.attention[v].mass[1], frozen.attention[v - 1].mass[1]);
  }
  for (const DialCheck& check : result.checks)
    EXPECT_TRUE(check.holds) << check.name << check.where;
}

TEST(Dial, NeutralSettingsGiveTheBitsOfThePlainModel) {
  const Experiment experiment;
  for (Dial dial : {Dial::mass, Dial::value, Dial::norm}) {
    DialTask task = experiment.task(dial, dial == Dial::norm ? DialForm::branch : DialForm::logit);
    const double nearly = dial == Dial::mass ? kNearlyZero : kNearlyOne;
    task.values = {{"neutral", dial == Dial::mass ? 0.0 : 1.0, {}}, {"nearly", nearly, {}}};
    task.upstream = {Upstream::recomputed};
    const DialResult result = experiment.run(task);
    for (const LayerDial& layer : result.layers) {
      const DialSweep& sweep = layer.sweeps[0];
      EXPECT_EQ(sweep.loss[0], result.loss);
      EXPECT_EQ(sweep.loss[1], result.loss);
      if (dial == Dial::norm) continue;
      EXPECT_EQ(sweep.attention[0].energy, sweep.attention[1].energy);
    }
  }
}

TEST(MassDial, CompiledIsInterpreted) {
  const Experiment experiment;
  for (DialForm form : {DialForm::logit, DialForm::multiply}) {
    DialTask task = experiment.task(Dial::mass, form);
    task.layers = {1};
    task.values = parse_values({"0.5", "3"}, Dial::mass, form, 0, kLength, 0, 1);
    const DialResult compiled = experiment.run(task);
    task.run.interpret = true;
    const DialResult exact = experiment.run(task);
    for (size_t s = 0; s < 2; ++s)
      for (size_t v = 0; v < 2; ++v) {
        const AttentionPoint &a = compiled.layers[0].sweeps[s].attention[v],
                             &b = exact.layers[0].sweeps[s].attention[v];
        for (size_t h = 0; h < 4; ++h) {
          EXPECT_NEAR(a.energy[h], b.energy[h], 1e-4 * b.energy[h]);
          EXPECT_NEAR(a.mass[h], b.mass[h], 1e-5 * b.mass[h]);
          EXPECT_NEAR(a.noise_curve[h], b.noise_curve[h], 1e-4 * b.noise_curve[h]);
        }
      }
    for (size_t v = 0; v < 2; ++v)
      EXPECT_NEAR(compiled.layers[0].sweeps[1].loss[v], exact.layers[0].sweeps[1].loss[v], 1e-5);
    for (const DialCheck& check : exact.checks)
      EXPECT_TRUE(check.holds) << check.name << " " << check.where << " " << check.worst;
  }
}

TEST(MassDial, PartsOfABatchGiveItsNumbers) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::mass);
  task.layers = {2};
  const DialResult whole = experiment.run(task);
  task.run.rows = 1;
  const DialResult parts = experiment.run(task);
  EXPECT_NEAR(parts.loss, whole.loss, 1e-5);
  for (size_t v = 0; v < task.values.size(); ++v)
    for (size_t h = 0; h < 4; ++h) {
      const double energy = whole.layers[0].sweeps[1].attention[v].energy[h];
      EXPECT_NEAR(parts.layers[0].sweeps[1].attention[v].energy[h], energy, 1e-4 * energy);
    }
}

TEST(MassDial, AMultipliedColumnHasTheExponentTwo) {
  const Experiment experiment;
  const DialResult result = experiment.run(experiment.task(Dial::mass, DialForm::multiply));
  const DialCheck& check = check_of(result, "exponent");
  EXPECT_TRUE(check.holds) << check.worst << check.where;
  EXPECT_LT(check.worst, 1e-5);
  // With g recomputed it is another number, and so is that of a logit.
  EXPECT_GT(std::abs(mass_fit(result.layers[0].sweeps[1], 0, 0.95).slope - 2), 1e-3);
  const DialResult logit = experiment.run(experiment.task(Dial::mass));
  EXPECT_GT(std::abs(mass_fit(logit.layers[0].sweeps[0], std::nullopt, 0.95).slope - 2), 1e-3);
}

TEST(MassDial, OneHeadLeavesTheOthers) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::mass);
  task.layers = {1};
  task.heads = {2};
  const DialResult one = experiment.run(task);
  task.heads = {};
  const DialResult all = experiment.run(task);
  ASSERT_EQ(one.layers[0].sweeps[0].attention[0].mass.size(), 1u);
  // With g frozen heads do not feel one another.
  EXPECT_EQ(one.layers[0].sweeps[0].attention[0].energy[0],
            all.layers[0].sweeps[0].attention[0].energy[2]);
  EXPECT_NE(one.layers[0].sweeps[1].loss[0], all.layers[0].sweeps[1].loss[0]);
}

TEST(NormDial, TheBranchFormHasTheSlopeMinusOne) {
  const Experiment experiment;
  const DialTask task = experiment.task(Dial::norm, DialForm::branch);
  for (bool mlp : {false, true}) {
    DialTask one = task;
    one.branch = mlp ? DialBranch::mlp : DialBranch::attention;
    const DialResult result = experiment.run(one);
    for (const DialCheck& check : result.checks)
      EXPECT_TRUE(check.holds) << check.name << " " << check.where << " " << check.worst;
    for (const LayerDial& layer : result.layers)
      for (const DialSweep& sweep : layer.sweeps) {
        const LineFit fit = norm_fit(sweep, layer.eps, 0.95);
        EXPECT_GE(fit.points, 4);
        EXPECT_NEAR(fit.slope, -1, 1e-3);
      }
  }
}

TEST(NormDial, TheStreamFormChangesTheLoss) {
  const Experiment experiment;
  const DialTask task = experiment.task(Dial::norm, DialForm::stream);
  const DialResult result = experiment.run(task);
  const DialSweep& sweep = result.layers[1].sweeps[1];
  EXPECT_EQ(sweep.loss[at_value(task, 1)], result.loss);
  EXPECT_GT(std::abs(sweep.loss.back() - result.loss), 1e-4);
  EXPECT_TRUE(result.checks.empty());
}

TEST(ValueDial, OneIsThePlainModel) {
  const Experiment experiment;
  const DialTask task = experiment.task(Dial::value);
  const DialResult result = experiment.run(task);
  for (const LayerDial& layer : result.layers) {
    ASSERT_EQ(layer.sweeps.size(), 1u);  // g recomputed
    const DialSweep& sweep = layer.sweeps[0];
    EXPECT_EQ(sweep.loss[at_value(task, 1)], result.loss);
    EXPECT_NE(sweep.loss[at_value(task, 0)], sweep.loss[at_value(task, 1)]);
    // Weights do not change.
    EXPECT_EQ(sweep.attention[0].mass, sweep.attention.back().mass);
  }
}

TEST(PositionDial, TheMassGoesToTheTokenThatIsOffered) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::position);
  const DialResult result = experiment.run(task);
  for (const LayerDial& layer : result.layers) {
    const DialSweep& sweep = layer.sweeps[1];
    EXPECT_EQ(sweep.loss[at_value(task, 0)], result.loss);
    EXPECT_GT(std::abs(sweep.loss[at_value(task, 4)] - result.loss), 1e-7);
  }
  for (const DialCheck& check : result.checks) EXPECT_TRUE(check.holds) << check.name;
}

TEST(MaskDial, LossAndTheMassThatWasBlocked) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::mask);
  ASSERT_EQ(task.values.size(), 5u);
  EXPECT_EQ(task.values[2].keys, (std::vector<int64_t>{8, 9, 10, 11}));
  const DialResult result = experiment.run(task);
  const DialResult mass = experiment.run(experiment.task(Dial::mass));
  for (size_t l = 0; l < 3; ++l) {
    const DialSweep& sweep = result.layers[l].sweeps[0];
    ASSERT_EQ(sweep.loss.size(), 5u);
    EXPECT_GT(std::abs(sweep.loss[0] - result.loss), 1e-6);
    // What was on the sink is what the mass dial says of it.
    EXPECT_NEAR(sweep.attention[0].mass[1], mass.layers[l].sweeps[0].attention[10].mass[1], 1e-5);
  }
}

TEST(DialRecord, HasWhatWasMeasured) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::mass);
  task.layers = {2};
  task.heads = {0, 3};
  task.provenance = R"({"command":"weir dial"})";
  Dialler dialler(experiment.source, experiment.batch, task);
  const DialResult result = dialler.run();
  const json record =
      json::parse(dial_record(experiment.source.sizes, experiment.batch, dialler.task(), result));
  EXPECT_EQ(record["format"], "weir.dial/1");
  EXPECT_EQ(record["provenance"]["command"], "weir dial");
  EXPECT_EQ(record["settings"]["values"].size(), 21u);
  EXPECT_EQ(record["settings"]["heads"], (json{0, 3}));
  const json& layer = record["layers"][0];
  EXPECT_EQ(layer["layer"], 2);
  EXPECT_EQ(layer["recomputed"]["energy"][4][1].get<double>(),
            result.layers[0].sweeps[1].attention[4].energy[1]);
  EXPECT_EQ(layer["frozen"]["head_fits"].size(), 2u);
  const LineFit fit = mass_fit(result.layers[0].sweeps[0], std::nullopt, 0.95);
  EXPECT_EQ(layer["frozen"]["fit"]["exponent"].get<double>(), fit.slope);
  EXPECT_EQ(record["checks"].size(), 4u);
}

// All that changes what the model computes, and nothing that is off.
TEST(DialRecord, StatesAllRewrites) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::value);
  task.layers = {0};
  task.values = {{"2", 2, {}}};
  const auto settings = [&] {
    Dialler dialler(experiment.source, experiment.batch, task);
    const DialResult result = dialler.run();
    return json::parse(
        dial_record(experiment.source.sizes, experiment.batch, dialler.task(), result))["settings"];
  };
  const json plain = settings();
  EXPECT_EQ(plain["v_scale"], "none");
  for (const char* key : {"attention_gate", "qk_norm", "value_gate", "v_scale_lambda"})
    EXPECT_FALSE(plain.contains(key)) << key;
  Rewrites& rewrites = task.options.rewrites;
  rewrites.attention = AttentionNormalizer::softmax_1;
  rewrites.attention_gate = AttentionGate::element;
  rewrites.qk_norm = true;
  rewrites.value_gate.variant = ValueGate::head;
  rewrites.v_scale = {.variant = VScaleVariant::full, .lambda = 3};
  const json stated = settings();
  EXPECT_EQ(stated["attention"], "softmax-1");
  EXPECT_EQ(stated["attention_gate"], "element");
  EXPECT_EQ(stated["qk_norm"], true);
  EXPECT_EQ(stated["value_gate"], "head");
  EXPECT_EQ(stated["v_scale_lambda"], 3);
}

TEST(Dial, Errors) {
  const Experiment experiment;
  DialTask task = experiment.task(Dial::mass);
  task.layers = {0, 3, 0};
  task.heads = {4};
  task.sink_token = kLength;
  EXPECT_EQ(test::error_of([&] { experiment.run(task); }),
            "[dial] 4 problems:\n"
            "  - layer 3 is asked for, but the model has 0 to 2.\n"
            "  - head 4 is asked for, but a layer has 0 to 3.\n"
            "  - key 12 is asked for, but a sequence has 0 to 11.\n"
            "  - layer 0 is asked for twice. Name it once.");
  task = experiment.task(Dial::value);
  task.upstream = {Upstream::frozen};
  EXPECT_EQ(
      test::error_of([&] { experiment.run(task); }),
      "[dial] the value dial has no meaning with g frozen: nothing but the value changes. Let "
      "g be recomputed.");
  const auto parsed = [](const std::vector<std::string>& words, Dial dial,
                         DialForm form = DialForm::logit) {
    return test::error_of([&] { parse_values(words, dial, form, 0, kLength, 2, 1); });
  };
  EXPECT_EQ(parsed({"x", "1"}, Dial::mass),
            "[dial] 'x' is no value of the mass dial: a number is needed.");
  EXPECT_EQ(parsed({"0"}, Dial::mass, DialForm::multiply),
            "[dial] '0' is no value of the mass dial: a positive factor up to 1000000 is needed.");
  EXPECT_EQ(parsed({}, Dial::mass),
            "[dial] the mass dial is given no value. Name some, or leave --values out.");
  EXPECT_EQ(parsed({"12"}, Dial::position),
            "[dial] '12' is no value of the position dial, which needs a key from 0 to 11.");
  EXPECT_EQ(
      test::error_of([] { default_values(Dial::mask, DialForm::logit, 0, kLength, kLength, 1); }),
      "[dial] 12 random keys are asked for, but a sequence has 11 beside the sink.");
  std::set<int64_t> drawn;
  for (const DialValue& value :
       parse_values({"random"}, Dial::mask, DialForm::logit, 3, kLength, kLength - 1, 1))
    drawn.insert(value.keys.at(0));
  EXPECT_EQ(drawn.size(), 11u);
  EXPECT_FALSE(drawn.contains(3));
  EXPECT_EQ(parsed({"first"}, Dial::mask),
            "[dial] 'first' is no value of the mask dial, which needs sink, middle, last-four, "
            "random or a key from 0 to 11.");
}

}  // namespace
}  // namespace weir
