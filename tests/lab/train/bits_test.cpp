// The contract of bits: loss, gradients and updated weights are the same with every probe of the
// metric record and with none, for any number of threads and whatever the block sizes, over 20
// training steps. One of the two layers has V-scale, so that its probes are among them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/executable.h"
#include "ir/rewrite_state.h"
#include "lab/measure/metrics.h"
#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/compose/train.h"
#include "passes/loss_head.h"
#include "passes/pipeline.h"
#include "passes/rewrites.h"
#include "passes/v_scale.h"
#include "runtime/random.h"

namespace weir {
namespace {

constexpr int64_t kB = 6, kT = 37;
constexpr int kSteps = 20;

Model model() {
  ModelConfig config;
  config.layers = 2;
  config.d_model = 40;
  config.heads = 4;
  config.kv_heads = 2;
  config.d_head = 10;
  config.d_ff = 56;
  config.vocabulary = 53;
  Model model = build_llama(config, kB, kT);
  model.graph = apply_v_scale(model.graph, {.variant = VScaleVariant::full, .layers = {1}});
  return model;
}

// The same with other attention, whose weights of its own are among the parameters.
Model changed_model(const Rewrites& rewrites) {
  Model changed = model();
  const GraphPtr before = changed.graph;
  changed.graph = apply_rewrites(before, rewrites);
  for (const AddedState& state : added_states(*before, *changed.graph)) {
    const bool one = first_value_of(state.name) == 1;
    changed.parameters.push_back({state.name, state.type, one ? Initial::ones : Initial::zeros});
  }
  return changed;
}

AttentionNormalizer normalizer_in(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (node.op == Op::attention_head_gate) return AttentionNormalizer::bayes_softmax;
  for (const Node& node : graph.nodes())
    if (node.op == Op::attention) return normalizer_of(node.attrs);
  return AttentionNormalizer::softmax;
}

struct Variant {
  std::string name;
  bool probes = false;
  int threads = 1;
  Target target = host_target();
};

GraphPtr training_step(const Model& model, bool with_probes, int64_t memory = 0) {
  DifferentiateOptions differentiation;
  TrainingOptions training;
  for (const Parameter& parameter : model.parameters) {
    differentiation.wrt.push_back(parameter.name);
    if (parameter.decay) training.optimizer.decay.push_back(parameter.name);
  }
  GraphPtr graph = fuse_loss_head(model.graph);
  if (with_probes) {
    std::vector<ProbeRequest> requests;
    MetricSettings metrics;
    metrics.v_scale = VScaleVariant::full;
    metrics.attention = normalizer_in(*model.graph);
    for (const std::string& text : metric_requests(metrics, kT))
      requests.push_back(parse_probe_request(text));
    requests.push_back(parse_probe_request("blocks.*.attn.hook_{q,k,v,z,result} : norm(feature)"));
    requests.push_back(parse_probe_request("*hook_{embed,logits,mlp_out,pattern}"));
    requests.push_back(parse_probe_request("model.*.weight.grad"));
    requests.push_back(parse_probe_request("blocks.*.attn.hook_{attn_scores,pattern}.grad"));
    training.probes = resolve_probes(graph, requests);
    differentiation.named = probed_gradients(graph, training.probes);
  }
  graph = make_training_programs(differentiate(graph, differentiation), training).step;
  CompileOptions options;
  options.target = host_target();
  options.memory = memory;
  return run_pipeline(graph, options).graph;
}

bool has_nonzero(const void* data, int64_t bytes) {
  const char* begin = static_cast<const char*>(data);
  return std::any_of(begin, begin + bytes, [](char byte) { return byte != 0; });
}

// Everything that a run leaves: losses, and all states at the end, gradients' moments among them.
// Each of its probes has to arrive at every step, and not as zeros.
std::map<std::string, std::vector<char>> train(const Model& model, const GraphPtr& step,
                                               const Variant& variant) {
  CompileSettings settings;
  settings.target = variant.target;
  Executables programs({step}, settings);
  Session session(programs, variant.threads);
  uint64_t stream = 0;
  for (const Parameter& parameter : model.parameters) {
    Random random(11, stream++);
    float* data = static_cast<float*>(session.data(parameter.name));
    for (int64_t i = 0; i < parameter.type.elements(); ++i)
      data[i] =
          parameter.initial == Initial::ones ? 1.0f : static_cast<float>(0.3 * random.normal());
  }
  std::map<std::string, std::vector<char>> results;
  auto keep = [&](const std::string& name, const void* data, int64_t bytes) {
    std::vector<char>& all = results[name];
    const char* begin = static_cast<const char*>(data);
    all.insert(all.end(), begin, begin + bytes);
  };
  for (int i = 1; i <= kSteps; ++i) {
    Random random(12, static_cast<uint64_t>(i));
    for (const char* name : {"tokens", "targets"})
      for (int64_t t = 0; t < kB * kT; ++t)
        static_cast<int32_t*>(session.data(name))[t] = static_cast<int32_t>(random.below(53));
    auto scalar = [&](const char* name, double value) {
      *static_cast<float*>(session.data(name)) = static_cast<float>(value);
    };
    scalar("loss_scale", 1.0 / (kB * kT));
    scalar("rate", 1e-2);
    scalar("bias1", 1 / (1 - std::pow(0.9, i)));
    scalar("bias2", 1 / (1 - std::pow(0.95, i)));
    const std::vector<ProbeResult>& probes = programs[0].probes;
    std::vector<int> arrived(probes.size());
    session.run(0, [&](int32_t probe, const void* data) {
      arrived.at(probe) += has_nonzero(data, probes.at(probe).type.bytes());
    });
    for (size_t probe = 0; probe < probes.size(); ++probe)
      EXPECT_EQ(arrived[probe], 1) << variant.name << ": " << probes[probe].id;
    EXPECT_EQ(probes.empty(), !variant.probes) << variant.name;
    keep("loss", session.output(0, "loss"), 4);
    keep("grad_norm", session.output(0, "grad_norm"), 4);
  }
  for (const Argument& input : programs[0].inputs)
    if (input.state) keep(input.name, session.data(input.name), input.type.bytes());
  return results;
}

int64_t kernels(const Graph& graph) {
  return std::count_if(graph.nodes().begin(), graph.nodes().end(),
                       [](const Node& node) { return node.op == Op::kernel; });
}

// With a limit that nothing meets, whatever can be computed again is.
TEST(Bits, AreTheSameWhenValuesAreComputedAgain) {
  Model the_model = model();
  GraphPtr plain = training_step(the_model, false);
  auto want = train(the_model, plain, {"kept", false, 2});
  for (bool probes : {false, true}) {
    GraphPtr again = training_step(the_model, probes, 1);
    if (!probes) {
      EXPECT_GT(kernels(*again), kernels(*plain) + 8);
    }
    auto got = train(the_model, again, {"again", probes, 2});
    for (const auto& [name, bits] : want)
      EXPECT_TRUE(got.at(name) == bits) << (probes ? "probed: " : "plain: ") << name;
  }
}

TEST(Bits, AreTheSameWithProbesThreadsAndBlockSizes) {
  Model the_model = model();
  GraphPtr plain = training_step(the_model, false), probed = training_step(the_model, true);
  std::vector<Variant> variants = {{"plain, 2 threads", false, 2},
                                   {"probed, 1 thread", true, 1},
                                   {"probed, 2 threads", true, 2}};
  // Block sizes follow from the target's caches, registers and cores.
  Random random(2026, 0);
  for (int i = 0; i < 3; ++i) {
    Variant variant{"blocks " + std::to_string(i), i % 2 == 0, 1 + i % 2};
    variant.target.l1_bytes = int64_t{4096} << random.below(5);
    variant.target.l2_bytes = int64_t{32768} << random.below(7);
    variant.target.cores = 1 + static_cast<int>(random.below(8));
    variant.target.vector_registers = 16;
    variants.push_back(variant);
  }
  // What is compared are different programs.
  const std::string code = dump_llvm(*plain, host_target());
  for (const Variant& variant : variants) {
    if (!variant.name.starts_with("blocks")) continue;
    EXPECT_TRUE(dump_llvm(*plain, variant.target) != code) << variant.name;
  }

  auto want = train(the_model, plain, {"plain, 1 thread"});
  float first = 0, last = 0;
  std::memcpy(&first, want["loss"].data(), 4);
  std::memcpy(&last, want["loss"].data() + 4 * (kSteps - 1), 4);
  EXPECT_NE(first, last);
  for (const Variant& variant : variants) {
    auto got = train(the_model, variant.probes ? probed : plain, variant);
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [name, bits] : want)
      EXPECT_TRUE(got.at(name) == bits) << variant.name << ": " << name;
  }
}

class BitsOfAttention : public testing::TestWithParam<AttentionNormalizer> {};

TEST_P(BitsOfAttention, AreTheSameWithProbesAndThreads) {
  Rewrites rewrites;
  rewrites.attention = GetParam();
  const bool odd = static_cast<int>(GetParam()) % 2 == 1;
  rewrites.attention_gate = odd ? AttentionGate::head : AttentionGate::element;
  rewrites.qk_norm = odd;
  const Model the_model = changed_model(rewrites);
  const GraphPtr plain = training_step(the_model, false), probed = training_step(the_model, true);
  const auto want = train(the_model, plain, {"plain, 1 thread"});
  for (const Variant& variant : {Variant{"plain, 2 threads", false, 2}, {"probed", true, 2}}) {
    const auto got = train(the_model, variant.probes ? probed : plain, variant);
    for (const auto& [name, bits] : want)
      EXPECT_TRUE(got.at(name) == bits) << variant.name << ": " << name;
  }
  // Every weight of its own has moved.
  for (const Parameter& parameter : the_model.parameters) {
    if (!find_rewrite_state(parameter.name)) continue;
    EXPECT_TRUE(has_nonzero(want.at("adam.m." + parameter.name).data(), parameter.type.bytes()))
        << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Normalizers, BitsOfAttention, testing::ValuesIn(all_normalizers()),
                         [](const auto& p) {
                           std::string name = normalizer_name(p.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace weir
