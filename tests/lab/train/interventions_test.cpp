// Interventions in training: each of them trains as the interpreter does, gives the same bits for
// any number of threads, with probes and after resuming, and travels with its checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "codegen/llvm/object_cache.h"
#include "interpret/interpret.h"
#include "lab/fill_weight.h"
#include "lab/lab_test_util.h"
#include "lab/measure/measure.h"
#include "lab/measure/model_source.h"
#include "lab/train/checkpoint.h"
#include "lab/train/data.h"
#include "lab/train/initial_weights.h"
#include "lab/train/train.h"
#include "lab/train/trainer.h"
#include "testing/expect_close.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_all;
using test::tiny_run;
using ::testing::HasSubstr;

const test::TestCache cache;

struct Intervention {
  const char* name;
  std::vector<std::string> words;
};

const std::vector<Intervention>& interventions() {
  static const std::vector<Intervention> all = {
      {"LearnedVScale", {"v_scale.variant=learned"}},
      {"SinkGradient", {"sink_gradient.gain=4", "sink_gradient.token=1"}},
      {"NoSinkGradientInOneLayer", {"sink_gradient.gain=0", "sink_gradient.layers=1"}},
      {"NormJacobian", {"norm_jacobian.variant=without-rms"}},
      {"ValueGate", {"value_gate.variant=head", "v_scale.variant=learned", "v_scale.layers=0"}},
      {"PostNorm", {"model.norm_place=post"}},
      {"SandwichGatedNorm", {"model.norm_place=sandwich", "model.norm_gate=3"}},
      {"NoNorm", {"model.norm_place=none", "optimizer.rate=1e-3"}},
      {"Muon", {"optimizer.kind=muon"}},
      {"Sgd", {"optimizer.kind=sgd", "optimizer.rate=0.1"}},
      {"NoBeginToken", {"data.begin_token=none"}},
      {"Together",
       {"optimizer.kind=muon", "optimizer.momentum=0.95", "model.norm_gate=2",
        "norm_jacobian.variant=without-rms", "norm_jacobian.layers=1", "value_gate.variant=head",
        "sink_gradient.gain=0.5", "v_scale.variant=backward-only"}},
  };
  return all;
}

TrainOptions quietly() {
  TrainOptions options;
  options.quiet = true;
  return options;
}

std::string bytes_of(const std::vector<StateArray>& arrays) {
  std::string text;
  for (const StateArray& array : arrays)
    text.append(static_cast<const char*>(array.data), static_cast<size_t>(array.type.bytes()));
  return text;
}

class EachIntervention : public ::testing::TestWithParam<Intervention> {};

TEST_P(EachIntervention, TrainsAsTheInterpreterDoes) {
  RunConfig config = tiny_run("unused", GetParam().words);
  const auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  constexpr int64_t steps = 4;
  Trainer trainer(config, *source, {.cache = default_object_cache()}, false);
  trainer.initialise();
  std::vector<double> losses;
  for (int64_t step = 0; step < steps; ++step) losses.push_back(trainer.step(step).loss);

  const TrainingGraphs& graphs = trainer.graphs();
  const Graph& step_graph = *graphs.plain.front();
  Tensors inputs;
  for (int32_t id : step_graph.inputs())
    inputs[step_graph.input_name(id)] = zeros(step_graph.node(id).types[0]);
  for (const Parameter& parameter : graphs.parameters) {
    std::vector<float> start(static_cast<size_t>(parameter.type.elements()));
    initialise_parameter(parameter, config.seed, start.data());
    inputs[parameter.name].data.assign(start.begin(), start.end());
  }
  const auto count = static_cast<size_t>(config.batch * config.length);
  std::vector<int32_t> tokens(count), targets(count);
  for (int64_t step = 0; step < steps; ++step) {
    source->fill(step * config.batch, config.batch, config.length, tokens.data(), targets.data());
    inputs["tokens"].data.assign(tokens.begin(), tokens.end());
    inputs["targets"].data.assign(targets.begin(), targets.end());
    inputs["loss_scale"] = scalar(1.0 / static_cast<double>(count));
    inputs["rate"] = scalar(learning_rate(config.optimizer, step, config.steps));
    if (inputs.contains("bias1")) {
      inputs["bias1"] = scalar(1 / (1 - std::pow(0.9, step + 1.0)));
      inputs["bias2"] = scalar(1 / (1 - std::pow(0.95, step + 1.0)));
    }
    const Tensors outputs = interpret(step_graph, inputs);
    EXPECT_NEAR(losses[static_cast<size_t>(step)], outputs.at("loss").data[0], 5e-4)
        << "step " << step;
    for (const auto& [name, value] : outputs)
      if (inputs.contains(name)) inputs[name] = value;
  }
  for (const StateArray& weight : trainer.weights()) {
    HostTensor compiled = zeros(weight.type);
    const auto* data = static_cast<const float*>(weight.data);
    compiled.data.assign(data, data + weight.type.elements());
    EXPECT_TRUE(test::close(compiled, inputs.at(weight.name), {.relative = 0.02, .absolute = 2e-3}))
        << weight.name;
  }
}

TEST_P(EachIntervention, SameBitsForThreadsProbesAndParts) {
  for (const char* parts : {"micro_batches=1", "micro_batches=2"}) {
    RunConfig config = tiny_run("unused", GetParam().words);
    config = parse_config("", {parts}, config);
    const auto source = make_batches(config.data, config.seed);
    config = resolve_vocabulary(config, *source);
    const auto run = [&](int64_t threads, bool probed) {
      config.threads = threads;
      Trainer trainer(config, *source, {.cache = default_object_cache()}, probed);
      trainer.initialise();
      for (int64_t step = 0; step < 8; ++step) {
        Tensors values;
        const StepResult done = probed ? trainer.measured_step(step, values) : trainer.step(step);
        EXPECT_TRUE(std::isfinite(done.loss));
      }
      return bytes_of(trainer.weights()) + bytes_of(trainer.optimizer_state());
    };
    const std::string one = run(1, false);
    EXPECT_TRUE(one == run(2, false)) << parts;
    EXPECT_TRUE(one == run(2, true)) << parts;
  }
}

TEST_P(EachIntervention, GoesOnWhereItWasCut) {
  test::TemporaryFolder folder;
  const std::vector<std::string>& words = GetParam().words;
  train(tiny_run(folder / "whole", words), quietly());
  TrainOptions cut = quietly();
  cut.on_step = [](const std::string&, int64_t done) {
    if (done == 3) raise(SIGINT);
  };
  EXPECT_EQ(train(tiny_run(folder / "cut", words), cut).signal, SIGINT);
  TrainOptions resume = quietly();
  resume.resume = true;
  EXPECT_EQ(train(config_of_run(folder / "cut"), resume).signal, 0);
  for (const char* file : {"model.safetensors", "optimizer.safetensors"})
    EXPECT_TRUE(read_all(folder / ("whole/run/checkpoints/step000006/" + std::string(file))) ==
                read_all(folder / ("cut/run/checkpoints/step000006/" + std::string(file))))
        << file;
  EXPECT_EQ(read_all(folder / "whole/run/metrics.jsonl"),
            read_all(folder / "cut/run/metrics.jsonl"));
}

// The checkpoint alone is measured as the run measured itself at its end.
TEST_P(EachIntervention, TravelsWithTheCheckpoint) {
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "run", GetParam().words);
  train(config, quietly());
  const std::string path = folder / "run/run/checkpoints/step000006";
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(path));
  const auto source = make_batches(config.data, config.seed);
  TokenBatch batch{config.batch, config.length, {}, {}};
  batch.tokens.resize(static_cast<size_t>(config.batch * config.length));
  batch.targets.resize(batch.tokens.size());
  source->fill(config.steps * config.batch, config.batch, config.length, batch.tokens.data(),
               batch.targets.data());
  MeasureTask task;
  task.options.rewrites = trained_rewrites(*checkpoint);
  task.run.cache = default_object_cache();
  const ModelSource model = checkpoint_source(checkpoint);
  Measurer measurer(model, batch, task);
  auto measured = nlohmann::json::parse(measurer.measure().record);
  const std::string lines = read_all(folder / "run/run/metrics.jsonl");
  auto own = nlohmann::json::parse(lines.substr(lines.rfind('\n', lines.size() - 2) + 1));
  EXPECT_NEAR(measured.at("loss").get<double>(), own.at("loss").get<double>(), 1e-6);
  EXPECT_EQ(measured.at("settings"), own.at("settings"));
  EXPECT_EQ(measured.at("model").at("parameters"), own.at("model").at("parameters"));
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto ratio = [&](const nlohmann::json& record) {
      return record.at("layers").at(layer).at("gradient_sink_ratio").get<double>();
    };
    EXPECT_NEAR(ratio(measured), ratio(own), 1e-3 * ratio(own));
  }
  // And trains on from there with the same keys.
  const RunConfig base = with_model_of(path, RunConfig());
  EXPECT_EQ(rewrite_settings(base), rewrite_settings(config));
  EXPECT_EQ(base.model.norm_place, config.model.norm_place);
  EXPECT_EQ(base.model.norm_gate, config.model.norm_gate);
  const std::vector<std::string> next = {
      "out=" + (folder / "next"), "init=" + path,    "batch=4", "length=12",
      "data.symbols=9",           "data.triggers=2", "steps=0"};
  train(parse_config("", next, base), quietly());
  EXPECT_TRUE(read_all(folder / "next/run/checkpoints/step000000/model.safetensors") ==
              read_all(path + "/model.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Training, EachIntervention, ::testing::ValuesIn(interventions()),
                         [](const auto& info) { return std::string(info.param.name); });

// Of Muon: a moment for matrices, two for what is left to AdamW.
TEST(Muon, MovesMatricesOfBlocksAlone) {
  RunConfig config = tiny_run("unused", {"optimizer.kind=muon", "value_gate.variant=head"});
  const auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  Trainer trainer(config, *source, {.cache = default_object_cache()}, false);
  std::set<std::string> moments;
  for (const StateArray& array : trainer.optimizer_state()) moments.insert(array.name);
  for (const char* matrix :
       {"self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "self_attn.value_gate"}) {
    const std::string name = std::string("model.layers.1.") + matrix + ".weight";
    EXPECT_TRUE(moments.contains("muon.m." + name)) << name;
    EXPECT_FALSE(moments.contains("adam.m." + name)) << name;
  }
  for (const char* other :
       {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight"}) {
    EXPECT_TRUE(moments.contains(std::string("adam.v.") + other)) << other;
    EXPECT_FALSE(moments.contains(std::string("muon.m.") + other)) << other;
  }
}

TEST(ValueGate, ACheckpointNeedsItsWeights) {
  test::TemporaryFolder folder;
  train(tiny_run(folder / "first", {"value_gate.variant=head"}), quietly());
  const std::string checkpoint = folder / "first/run/checkpoints/step000006";
  test::remove_weight(checkpoint, "model.layers.1.self_attn.value_gate.weight");
  EXPECT_THAT(error_of([&] { trained_rewrites(Checkpoint::open(checkpoint)); }),
              HasSubstr("says that it was trained with a value gate, but has no tensor "
                        "model.layers.1.self_attn.value_gate.weight f32[1,8]. Give the whole "
                        "checkpoint"));
}

// What is computed forward is the same before the first update, and only then.
TEST(SinkGradient, TheFirstLossIsThatOfTheBaseline) {
  const auto losses = [](const std::vector<std::string>& words) {
    RunConfig config = tiny_run("unused", words);
    const auto source = make_batches(config.data, config.seed);
    config = resolve_vocabulary(config, *source);
    Trainer trainer(config, *source, {.cache = default_object_cache()}, false);
    trainer.initialise();
    const double first = trainer.step(0).loss;
    return std::pair(first, trainer.step(1).loss);
  };
  const auto plain = losses({});
  for (const char* word : {"sink_gradient.gain=0", "norm_jacobian.variant=without-rms"}) {
    const auto changed = losses({word});
    EXPECT_EQ(plain.first, changed.first) << word;
    EXPECT_NE(plain.second, changed.second) << word;
  }
  EXPECT_EQ(plain, losses({"sink_gradient.gain=1", "sink_gradient.token=2"}));
}

}  // namespace
}  // namespace weir
