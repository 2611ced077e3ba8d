#include "passes/quantize.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "models/transformer.h"
#include "passes/pass_test_util.h"
#include "testing/error_of.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kBatch = 2, kLength = 5;

GraphPtr small_llama() { return build_model(test::small_model(), kBatch, kLength).graph; }

// y = x w^T for tokens [2,3], K 5 and N 4; w [K,N] if `joint`.
GraphPtr one_product(bool joint = false) {
  Builder b("one");
  b.input("tokens", i32({2, 3}));
  const Tensor x = b.input("x", f32({2, 3, 5}));
  const Tensor w = b.state("blocks.7.fc.weight", joint ? f32({5, 4}) : f32({4, 5}));
  b.output("y", joint ? matmul(x, w) : matmul(x, w, {.transpose_b = true}));
  return b.finish();
}

HostTensor whole(double value) { return filled(i32({}), value); }

Tensors settings(double limit, double sink, std::vector<double> smooth) {
  const auto features = static_cast<int64_t>(smooth.size());
  return {{kQuantizeLimit, filled(f32({}), limit)},
          {kQuantizeSink, whole(sink)},
          {smooth_input(0), {f32({features}), std::move(smooth)}}};
}

HostTensor run(const GraphPtr& graph, Tensors inputs, const Tensors& more) {
  inputs.insert(more.begin(), more.end());
  for (int32_t id : graph->inputs()) {
    const std::string& name = graph->input_name(id);
    if (name == "tokens") inputs[name] = zeros(graph->node(id).types[0]);
  }
  for (auto at = inputs.begin(); at != inputs.end();)
    at = graph->find_input(at->first) ? std::next(at) : inputs.erase(at);
  return interpret(*graph, inputs).at("y");
}

double level(double x, double scale, double limit) {
  if (scale == 0) return 0;
  return std::clamp(std::nearbyint(x / scale), -limit - 1, limit);
}

TEST(QuantizeParts, AreTheLinearsOfTheBlocks) {
  const QuantizedParts parts = quantized_parts(*small_llama());
  ASSERT_EQ(parts.sites.size(), 8U);
  ASSERT_EQ(parts.weights.size(), 14U);
  std::vector<std::string> names;
  for (const QuantizedSite& site : parts.sites)
    if (site.layer == 1) names.push_back(site.part);
  EXPECT_THAT(names,
              ElementsAre("q_proj, k_proj, v_proj", "o_proj", "gate_proj, up_proj", "down_proj"));
  EXPECT_TRUE(parts.sites[3].mlp_down);
  EXPECT_FALSE(parts.sites[2].mlp_down);
  EXPECT_EQ(parts.sites[3].features, 24);
  EXPECT_EQ(parts.weights[1].name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(parts.weights[1].outputs, 8);
  EXPECT_EQ(parts.weights[1].inputs, 16);
}

TEST(QuantizeParts, OfJointProjectionsAndOfTheTiedHead) {
  ModelConfig config = test::small_model();
  config.tied = true;
  const QuantizedParts parts = quantized_parts(*build_model(config, 1, 3).graph);
  for (const QuantizedWeight& weight : parts.weights)
    EXPECT_THAT(weight.name, HasSubstr("layers."));
  const QuantizedParts joint = quantized_parts(*one_product(true));
  EXPECT_EQ(joint.weights[0].outputs, 4);
  EXPECT_EQ(joint.weights[0].layer, 7);
  EXPECT_EQ(joint.weights[0].part, "fc");
}

TEST(Quantize, WeightsByChannelAndGroup) {
  for (const bool joint : {false, true})
    for (const int64_t group : {int64_t{0}, int64_t{2}, int64_t{8}})
      for (const double limit : {127.0, 7.0}) {
        const GraphPtr before = one_product(joint);
        const GraphPtr after = apply_quantize(before, {{ActivationScale::none, group}});
        const Tensors inputs = test::random_inputs(*before, 3, -2, 2);
        const std::vector<double> s = {1, 0.5, 2, 4, 3};
        const HostTensor y = run(after, inputs, settings(limit, -1, s));
        const HostTensor &x = inputs.at("x"), &w = inputs.at("blocks.7.fc.weight");
        const auto weight = [&](int64_t n, int64_t k) {
          return w.data[static_cast<size_t>(joint ? k * 4 + n : n * 5 + k)];
        };
        for (int64_t row = 0; row < 6; ++row)
          for (int64_t n = 0; n < 4; ++n) {
            double sum = 0;
            for (int64_t k = 0; k < 5; ++k) {
              const int64_t size = group == 0 ? 5 : group, first = k / size * size;
              double most = 0;
              for (int64_t j = first; j < std::min<int64_t>(5, first + size); ++j)
                most = std::max(most, std::abs(weight(n, j) * s[static_cast<size_t>(j)]));
              const double scale = most / limit, smooth = s[static_cast<size_t>(k)];
              sum += x.data[static_cast<size_t>(row * 5 + k)] *
                     (level(weight(n, k) * smooth, scale, limit) * scale / smooth);
            }
            EXPECT_NEAR(y.data[static_cast<size_t>(row * 4 + n)], sum, 1e-12)
                << joint << group << limit;
          }
      }
}

// The scale of a row of x by its definition; of row r, whose token is r % 3.
double scale_of(ActivationScale kind, const HostTensor& x, int64_t row, int64_t sink,
                double given) {
  double most = 0;
  for (int64_t r = 0; r < 6; ++r) {
    if (kind == ActivationScale::token && r != row) continue;
    if (kind == ActivationScale::tensor && r % 3 == sink) continue;
    for (int64_t k = 0; k < 5; ++k)
      most = std::max(most, std::abs(x.data[static_cast<size_t>(r * 5 + k)]));
  }
  return kind == ActivationScale::given ? given : most / 127;
}

TEST(Quantize, ActivationsAndTheExactToken) {
  const GraphPtr before = one_product();
  for (const auto kind : {ActivationScale::token, ActivationScale::tensor, ActivationScale::given})
    for (const int64_t sink : {-1, 0, 2}) {
      const GraphPtr after = apply_quantize(before, {{kind}});
      Tensors inputs = test::random_inputs(*before, 4, -2, 2);
      HostTensor& x = inputs.at("x");
      x.data[0] = 300;  // token 0 of the first sequence
      for (int64_t k = 0; k < 5; ++k) x.data[5 + static_cast<size_t>(k)] = 0;  // token 1: no scale
      Tensors more = settings(127, static_cast<double>(sink), std::vector<double>(5, 1));
      const double given = 0.01;  // small: levels are clamped
      more[scale_input(0)] = filled(f32({}), given);
      const HostTensor y = run(after, inputs, more);
      const HostTensor& w = inputs.at("blocks.7.fc.weight");
      for (int64_t row = 0; row < 6; ++row)
        for (int64_t n = 0; n < 4; ++n) {
          double most = 0, sum = 0, exact = 0;
          for (int64_t k = 0; k < 5; ++k)
            most = std::max(most, std::abs(w.data[static_cast<size_t>(n * 5 + k)]));
          const double sx = scale_of(kind, x, row, sink, given), sw = most / 127;
          for (int64_t k = 0; k < 5; ++k) {
            const double q = level(w.data[static_cast<size_t>(n * 5 + k)], sw, 127);
            const double value = x.data[static_cast<size_t>(row * 5 + k)];
            sum += level(value, sx, 127) * q;
            exact += value * (q * sw);
          }
          EXPECT_NEAR(y.data[static_cast<size_t>(row * 4 + n)],
                      row % 3 == sink ? exact : sum * sx * sw, 1e-10)
              << static_cast<int>(kind) << sink << " " << row;
        }
    }
}

TEST(Quantize, SumsOfRowsTellWhatRoundingDid) {
  const GraphPtr before = one_product();
  const GraphPtr after = apply_quantize(before, {{ActivationScale::given}});
  Tensors inputs = test::random_inputs(*before, 4, -2, 2);
  inputs["tokens"] = zeros(i32({2, 3}));
  Tensors more = settings(127, -1, std::vector<double>(5, 1));
  more[scale_input(0)] = filled(f32({}), 1);
  inputs.insert(more.begin(), more.end());
  const QuantizeNames names = QuantizeNames::of_site(0);
  const Interpretation got = interpret_all(*after, inputs, {names.error, names.energy, names.lost});
  const HostTensor& x = inputs.at("x");
  for (int64_t row = 0; row < 6; ++row) {
    double error = 0, energy = 0, lost = 0;
    for (int64_t k = 0; k < 5; ++k) {
      const double value = x.data[static_cast<size_t>(row * 5 + k)];
      error += std::pow(value - level(value, 1, 127), 2);
      energy += value * value;
      lost += level(value, 1, 127) == 0 && value != 0;
    }
    const auto at = static_cast<size_t>(row);
    EXPECT_NEAR(got.values.at(names.error).data[at], error, 1e-12);
    EXPECT_NEAR(got.values.at(names.energy).data[at], energy, 1e-12);
    EXPECT_EQ(got.values.at(names.lost).data[at], lost);
  }
}

// Sums of more products than f32 holds exactly are whole numbers all the same.
TEST(Quantize, LongSumsAreExact) {
  constexpr int64_t K = 2500;
  Builder b("long");
  b.input("tokens", i32({1, 1}));
  const Tensor x = b.input("x", f32({1, 1, K}));
  b.output("y", matmul(x, b.state("l.0.w.weight", f32({1, K})), {.transpose_b = true}));
  const GraphPtr after = apply_quantize(b.finish(), {{ActivationScale::given}});
  EXPECT_EQ(count_ops(*after, Op::matmul), 3 + 1);  // three parts, and the exact token
  Tensors inputs = {{"x", filled(f32({1, 1, K}), 127)}, {"l.0.w.weight", filled(f32({1, K}), 127)}};
  Tensors more = settings(127, -1, std::vector<double>(K, 1));
  more[scale_input(0)] = filled(f32({}), 1);
  EXPECT_EQ(run(after, inputs, more).data[0], 127.0 * 127.0 * K);
}

TEST(Quantize, ProductsOfBytesAreTheSame) {
  Builder b("bytes");
  b.input("tokens", i32({2, 3}));
  const Tensor x = b.input("x", f32({2, 3, 8}));
  b.output("y", matmul(x, b.state("l.0.w.weight", f32({4, 8})), {.transpose_b = true}));
  const GraphPtr before = b.finish();
  const Tensors inputs = test::random_inputs(*before, 3, -2, 2);
  for (const auto kind : {ActivationScale::token, ActivationScale::given}) {
    Tensors more = settings(127, 1, {1, 2, 3, 4, 5, 6, 7, 8});
    more[scale_input(0)] = filled(f32({}), 0.004);  // clamped to -128 and 127
    const GraphPtr bytes = apply_quantize(before, {{kind, 0, true}});
    EXPECT_EQ(run(bytes, inputs, more), run(apply_quantize(before, {{kind}}), inputs, more));
    int64_t products = 0;
    for (const Node& node : bytes->nodes())
      products += node.op == Op::matmul && node.types[0].dtype == DType::i32;
    EXPECT_EQ(products, 1);
  }
}

TEST(Quantize, KeepsNamesAndLeavesTheRestOfTheModel) {
  const GraphPtr before = small_llama();
  const size_t sites = quantized_parts(*before).sites.size();
  const GraphPtr after =
      apply_quantize(before, std::vector<SiteQuantization>(sites, {ActivationScale::token}));
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  EXPECT_EQ(count_ops(*after, Op::attention), 2);
  EXPECT_EQ(name_sites(before)->find(activation_name(3)).has_value(), true);
}

TEST(Quantize, SaysWhatIsWrong) {
  const GraphPtr one = one_product();
  EXPECT_EQ(user_error_of([&] { apply_quantize(one, {}); }),
            "[quantize] 0 sites are described, but graph one has 1.");
  EXPECT_EQ(user_error_of([&] { apply_quantize(one, {{ActivationScale::token, 2}}); }),
            "[quantize] layer 7, fc: groups of 2 are asked for, but weights of quantised "
            "activations have one scale an output channel.");
  Builder b("none");
  b.input("tokens", i32({2, 3}));
  b.output("y", b.input("x", f32({2, 3, 5})) * 2);
  const GraphPtr none = b.finish();
  EXPECT_EQ(user_error_of([&] { quantized_parts(*none); }),
            "[quantize] graph none has no product of activations with a weight but that of the "
            "logits, so that there is nothing to quantise.");
  Builder c("rows");
  c.input("tokens", i32({2, 3}));
  c.output("y", matmul(c.input("x", f32({7, 5})), c.state("w.0.weight", f32({5, 4}))));
  const GraphPtr rows = c.finish();
  EXPECT_EQ(user_error_of([&] { quantized_parts(*rows); }),
            "[quantize] the product with w.0.weight reads f32[7,5], but [2, 3, features] is "
            "needed, so that rows are those of tokens.");
}

}  // namespace
}  // namespace weir
