#include "passes/compose/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/loss_head.h"
#include "passes/pipeline.h"
#include "passes/v_scale.h"
#include "support/error.h"
#include "testing/expect_close.h"
#include "testing/random_tensor.h"
#include "testing/reference_data.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using test::close;
using test::random_inputs;
using ::testing::HasSubstr;

constexpr int64_t kTokens = 5;

GraphPtr model(int64_t batch) {
  ModelConfig config = test::tiny_model();
  config.tied = true;
  return fuse_loss_head(build_llama(config, batch, kTokens).graph);
}

std::vector<std::string> weights_of(const Graph& graph) {
  std::vector<std::string> names;
  for (int32_t id : graph.inputs())
    if (graph.node(id).attrs.get_bool("state")) names.push_back(graph.input_name(id));
  return names;
}

TrainingPrograms programs(const GraphPtr& built, TrainingOptions options,
                          const std::vector<std::string>& probes = {}) {
  options.probes = resolve_probes(built, parse_probe_requests(probes));
  GraphPtr graph = differentiate(
      built, {.wrt = weights_of(*built), .named = probed_gradients(built, options.probes)});
  return make_training_programs(graph, options);
}

// The state of a training run: what one program returns, the next one reads.
class Session {
 public:
  explicit Session(Tensors state) : state_(std::move(state)) {}

  Interpretation operator()(const Graph& graph, const Tensors& inputs = {}) {
    Tensors given = inputs;
    for (int32_t id : graph.inputs())
      if (graph.node(id).attrs.get_bool("state")) {
        const std::string& name = graph.input_name(id);
        auto found = state_.find(name);
        given[name] = found == state_.end() ? zeros(graph.node(id).types[0]) : found->second;
      }
    Interpretation result = interpret_all(graph, given);
    for (const auto& [name, value] : result.outputs)
      if (graph.find_input(name)) state_[name] = value;
    return result;
  }
  const Tensors& state() const { return state_; }

 private:
  Tensors state_;
};

const Tensors kScalars = {
    {"rate", scalar(0.01)}, {"bias1", scalar(10)}, {"bias2", scalar(1 / (1 - 0.95))}};

Tensors with_scalars(Tensors inputs) {
  inputs.insert(kScalars.begin(), kScalars.end());
  return inputs;
}

// Rows `first` .. `first + count` of a batch tensor.
HostTensor rows(const HostTensor& x, int64_t first, int64_t count) {
  HostTensor part = x;
  part.type.shape[0] = count;
  int64_t size = x.type.elements() / x.type.shape[0];
  part.data.assign(x.data.begin() + first * size, x.data.begin() + (first + count) * size);
  return part;
}

struct Batch {
  Tensors weights, inputs;
};

Batch random_batch(const GraphPtr& graph) {
  Batch batch{{}, random_inputs(*graph, 3, -1, 1)};
  for (const std::string& name : weights_of(*graph)) {
    batch.weights[name] = batch.inputs.at(name);
    batch.inputs.erase(name);
  }
  batch.inputs["loss_scale"] = scalar(0.05);
  return batch;
}

TEST(TrainingStep, MicroBatchesEqualTheWholeBatch) {
  const std::vector<std::string> requests = {
      "blocks.0.attn.hook_v.grad : batch_sum, norm(feature), mean(head)",
      "blocks.*.hook_resid_post : square, mean(batch,token), max(feature)",
      "blocks.1.hook_resid_mid : abs, max(batch), sum(feature)",
      "blocks.1.hook_resid_mid : min(batch)",
      "blocks.1.hook_resid_mid : norm(batch,feature)",
      "blocks.0.attn.hook_pattern : column_mass, mean(batch)",
      "model.norm.weight.grad : norm(axis0)",
      "model.norm.weight : norm(axis0)"};
  GraphPtr all = model(6);
  Batch batch = random_batch(all);
  TrainingPrograms whole = programs(all, {}, requests);
  TrainingPrograms split = programs(model(2), {.micro_batches = 3}, requests);
  EXPECT_EQ(split.step, nullptr);

  Session a(batch.weights), b(batch.weights);
  for (int step = 0; step < 2; ++step) {
    Interpretation expected = a(*whole.step, with_scalars(batch.inputs));
    b(*split.prepare);
    Interpretation last;
    for (int64_t i = 0; i < 3; ++i)
      last = b(*split.micro, {{"tokens", rows(batch.inputs.at("tokens"), 2 * i, 2)},
                              {"targets", rows(batch.inputs.at("targets"), 2 * i, 2)},
                              {"loss_scale", batch.inputs.at("loss_scale")}});
    EXPECT_TRUE(last.probes.empty());
    EXPECT_TRUE(close(last.outputs.at("loss"), expected.outputs.at("loss"), {1e-12}));
    Interpretation finished = b(*split.finish, kScalars);
    EXPECT_TRUE(close(finished.outputs.at("grad_norm"), expected.outputs.at("grad_norm"), {1e-12}));
    EXPECT_TRUE(close(finished.probes, expected.probes, {1e-12, 1e-15}));
    EXPECT_EQ(finished.probes.size(), 9u);
    for (const auto& [name, value] : a.state())
      EXPECT_TRUE(close(b.state().at(name), value, {1e-10, 1e-13})) << name;
  }
}

TEST(TrainingStep, ProbesLeaveEveryOutputExactlyEqual) {
  GraphPtr graph = model(2);
  Batch batch = random_batch(graph);
  std::vector<std::string> requests = {"blocks.*", "blocks.*.attn.hook_*.grad",
                                       "blocks.*.attn.hook_pattern : entropy", "model.* : abs"};
  TrainingPrograms plain = programs(graph, {}), probed = programs(graph, {}, requests);
  Session a(batch.weights), b(batch.weights);
  for (int step = 0; step < 2; ++step) {
    Interpretation x = a(*plain.step, with_scalars(batch.inputs));
    Interpretation y = b(*probed.step, with_scalars(batch.inputs));
    EXPECT_EQ(x.outputs, y.outputs);
    EXPECT_TRUE(x.probes.empty());
    EXPECT_GT(y.probes.size(), 40u);
  }
  EXPECT_NE(a.state(), batch.weights);
}

// A probe that keeps the batch runs once a micro-batch; one that reduces it, in `finish`.
TEST(TrainingStep, ProbesRunInTheirProgram) {
  TrainingPrograms p = programs(
      model(2), {.micro_batches = 2},
      {"hook_embed : norm(feature)", "hook_embed : norm(batch)", "hook_embed : select(batch=0)"});
  auto ids = [](const Graph& graph) {
    std::vector<std::string> found;
    for (const Node& node : graph.nodes())
      if (node.op == Op::probe) found.push_back(node.attrs.get_string("id"));
    return found;
  };
  EXPECT_EQ(ids(*p.micro),
            (std::vector<std::string>{"hook_embed:norm(feature)", "hook_embed:slice(batch,0,1)"}));
  EXPECT_EQ(ids(*p.finish), (std::vector<std::string>{"hook_embed:norm(batch)"}));
  EXPECT_TRUE(p.prepare->find_output("probe.hook_embed:norm(batch)"));
}

// Every program goes through the pipeline to planned kernels and computes the same.
TEST(TrainingStep, ProgramsPassThroughThePipeline) {
  const std::vector<std::string> requests = {"blocks.0.attn.hook_v.grad : batch_sum, norm(feature)",
                                             "model.norm.weight : norm(axis0)"};
  auto planned = [](const GraphPtr& graph) { return run_pipeline(graph, {}).graph; };
  GraphPtr built = model(2);
  Batch batch = random_batch(built);
  TrainingPrograms whole = programs(built, {}, requests);
  Session plain(batch.weights), compiled(batch.weights);
  Interpretation x = plain(*whole.step, with_scalars(batch.inputs));
  Interpretation y = compiled(*planned(whole.step), with_scalars(batch.inputs));
  EXPECT_TRUE(close(y.outputs, x.outputs, {1e-9, 1e-12}));
  EXPECT_TRUE(close(y.probes, x.probes, {1e-10}));
  EXPECT_EQ(y.probes.size(), 2u);
  TrainingPrograms split = programs(built, {.micro_batches = 2}, requests);
  Session parts(batch.weights);
  parts(*planned(split.prepare));
  GraphPtr micro = planned(split.micro);
  batch.inputs["loss_scale"].data[0] /= 2;
  for (int i = 0; i < 2; ++i) parts(*micro, batch.inputs);
  Interpretation z = parts(*planned(split.finish), kScalars);
  EXPECT_TRUE(close(z.outputs.at("grad_norm"), x.outputs.at("grad_norm"), {1e-10}));
  EXPECT_TRUE(close(z.probes, x.probes, {1e-10}));
}

// A state is donated: once its new value is made, the old one is gone.
TEST(TrainingStep, EveryReadOfAStateComesBeforeItsWrite) {
  const std::vector<std::string> requests = {"model.*", "model.*.grad : abs", "blocks.*",
                                             "blocks.*.hook_resid_* : mean(batch)"};
  TrainingPrograms whole = programs(model(2), {}, requests);
  TrainingPrograms split = programs(model(2), {.micro_batches = 2}, requests);
  for (const GraphPtr& program : {whole.step, split.prepare, split.micro, split.finish})
    for (const GraphPtr& graph : {program, run_pipeline(program, {}).graph}) {
      int64_t updated = 0;
      for (const Output& output : graph->outputs()) {
        auto state = graph->find_input(output.name);
        if (!state) continue;
        ++updated;
        for (int32_t id = output.value.node + 1; id < graph->size(); ++id)
          for (Value operand : graph->node(id).inputs)
            EXPECT_NE(operand, *state) << graph->name() << " reads " << output.name << " late";
      }
      EXPECT_GT(updated, 10);
    }
}

TEST(TrainingStep, AccumulatesProductsInPlace) {
  TrainingPrograms p = programs(model(2), {.micro_batches = 2});
  const Graph& micro = *p.micro;
  const Node& node = micro.node(*micro.find_output("grad.model.layers.0.self_attn.q_proj.weight"));
  EXPECT_EQ(node.op, Op::matmul);
  ASSERT_EQ(node.inputs.size(), 3u);
  EXPECT_EQ(node.inputs[2], *micro.find_input("grad.model.layers.0.self_attn.q_proj.weight"));
}

// loss = sum(w * x): the gradient of w is x.
GraphPtr linear_loss() {
  Builder b("linear");
  Tensor x = b.input("x", f32({2})), w = b.state("w", f32({2}));
  b.output("loss", reshape(reduce_sum(w * x, {0}), {}));
  return differentiate(b.finish(), {.wrt = {"w"}});
}

TEST(TrainingStep, OneStepOfAdamWByHand) {
  TrainingOptions options{.optimizer = {.decay = {"w"}}};
  Session run({{"w", {f32({2}), {1, -2}}}});
  GraphPtr step = make_training_programs(linear_loss(), options).step;
  Interpretation result = run(*step, with_scalars({{"x", {f32({2}), {3, 4}}}}));
  EXPECT_DOUBLE_EQ(result.outputs.at("loss").data[0], -5);
  EXPECT_DOUBLE_EQ(result.outputs.at("grad_norm").data[0], 5);
  double factor = 1 / (5 + 1e-6);
  for (int i : {0, 1}) {
    double w = i ? -2 : 1, g = (i ? 4 : 3) * factor;
    double m = 0.1 * g, v = 0.05 * g * g;
    double update = m * 10 / (std::sqrt(v / (1 - 0.95)) + 1e-8);
    EXPECT_NEAR(run.state().at("w").data[i], w - 0.01 * 0.1 * w - 0.01 * update, 1e-14);
    EXPECT_NEAR(run.state().at("adam.m.w").data[i], m, 1e-15);
    EXPECT_NEAR(run.state().at("adam.v.w").data[i], v, 1e-15);
  }
}

TEST(TrainingStep, SgdWithMomentumAndWithoutClipping) {
  TrainingOptions options{.optimizer = {.kind = OptimizerKind::sgd, .momentum = 0.5, .clip = 0}};
  Session run({{"w", {f32({2}), {1, -2}}}});
  GraphPtr step = make_training_programs(linear_loss(), options).step;
  for (int i = 0; i < 2; ++i)
    run(*step, {{"x", {f32({2}), {3, 40}}}, {"rate", scalar(0.1, DType::f32)}});
  EXPECT_NEAR(run.state().at("w").data[0], 1 - 0.1 * 3 - 0.1 * 4.5, 1e-8);
  EXPECT_NEAR(run.state().at("w").data[1], -2 - 0.1 * 40 - 0.1 * 60, 1e-8);
}

TEST(TrainingStep, SmallGradientsAreNotClipped) {
  Session run({{"w", {f32({2}), {1, -2}}}});
  GraphPtr step = make_training_programs(linear_loss(), {}).step;
  run(*step, with_scalars({{"x", {f32({2}), {0.25, 0.5}}}}));
  EXPECT_NEAR(run.state().at("adam.m.w").data[0], 0.1 * 0.25, 1e-16);
}

// Two steps on one batch, clipped, with learned V-scale, against PyTorch in f64.
TEST(TrainingStep, TwoStepsEqualTheReference) {
  Tensors reference = test::read_reference("llama_v_scale_learned");
  nlohmann::json json = test::read_reference_metadata("llama_v_scale_learned");
  nlohmann::json config = json.at("config"), adamw = json.at("adamw");
  const HostTensor& ids = reference.at("tokens");
  int64_t B = ids.shape()[0], T = ids.shape()[1] - 1;
  Model model = build_llama(test::reference_config(config), B, T);
  GraphPtr graph = fuse_loss_head(apply_v_scale(
      model.graph,
      {.variant = VScaleVariant::learned, .sigma = config.at("v_scale_sigma").get<double>()}));
  TrainingOptions options{.optimizer = {.beta1 = adamw.at("beta1"),
                                        .beta2 = adamw.at("beta2"),
                                        .eps = adamw.at("eps"),
                                        .weight_decay = adamw.at("weight_decay"),
                                        .clip = adamw.at("clip"),
                                        .clip_epsilon = 0}};
  for (const Parameter& parameter : model.parameters)
    if (parameter.decay) options.optimizer.decay.push_back(parameter.name);
  GraphPtr step = programs(graph, options).step;
  Tensors weights, inputs = {{"tokens", zeros(i32({B, T}))}, {"targets", zeros(i32({B, T}))}};
  for (const std::string& name : weights_of(*graph)) weights[name] = reference.at(name);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t) {
      inputs["tokens"].data[b * T + t] = ids.at({b, t});
      inputs["targets"].data[b * T + t] = ids.at({b, t + 1});
    }
  inputs["loss_scale"] = {f32({}), {1.0 / static_cast<double>(B * T)}};
  Session run(weights);
  for (int i : {1, 2}) {
    auto exact = [](double value) { return HostTensor{f32({}), {value}}; };
    inputs["rate"] = exact(adamw.at("learning_rates").at(i - 1));
    inputs["bias1"] = exact(1 / (1 - std::pow(options.optimizer.beta1, i)));
    inputs["bias2"] = exact(1 / (1 - std::pow(options.optimizer.beta2, i)));
    Interpretation result = run(*step, inputs);
    EXPECT_NEAR(result.outputs.at("loss").data[0], reference.at("adamw.loss").data[i - 1], 1e-10);
    EXPECT_NEAR(result.outputs.at("grad_norm").data[0], reference.at("adamw.grad_norm").data[i - 1],
                1e-9);
    for (const std::string& name : weights_of(*graph)) {
      const HostTensor& expected = reference.at("adamw.step" + std::to_string(i) + "." + name);
      EXPECT_TRUE(close(run.state().at(name), expected, {1e-9})) << name << " after step " << i;
    }
  }
}

TEST(TrainingStep, ListsEverythingThatIsWrong) {
  Builder b("g");
  Tensor x = b.input("x", f32({2})), w = b.state("weight", f32({2}));
  b.output("loss", reshape(reduce_sum(w * x, {0}), {}));
  GraphPtr graph = differentiate(b.finish(), {.wrt = {"weight", "x"}});
  try {
    make_training_programs(
        graph,
        {.optimizer = {.beta1 = 1, .eps = 0, .decay = {"wieght"}, .clip = -1}, .micro_batches = 0});
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[training] 6 problems:\n"
              "  - grad.x is returned, but x is no state of the graph, so it cannot be updated. "
              "Declare it with Builder::state, or leave it out of the gradients.\n"
              "  - decay is asked of wieght, which is not trained. Did you mean weight?\n"
              "  - clip is -1, but a number >= 0 (0: no clipping) is needed.\n"
              "  - beta1 is 1, but a number in [0, 1) is needed.\n"
              "  - eps is 0, but a number > 0 (a moment may be 0) is needed.\n"
              "  - micro_batches is 0, but a number >= 1 is needed.");
  }
}

}  // namespace
}  // namespace weir
