// The exact identities of attention's gradients (arXiv 2603.17771, section on gradient sinks), on a
// random and on a trained model, by the interpreter in f64. Errors are measured against the
// forward-error scale, the sum of the magnitudes that an identity adds up.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "interpret/interpret.h"
#include "models/llama.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/v_scale.h"
#include "runtime/random.h"

namespace weir {
namespace {

constexpr int64_t kB = 2, kT = 11, kLayers = 2, kH = 4, kG = 2, kD = 6, kWidth = 20;
constexpr double kTolerance = 1e-10;

struct Fixture {
  Model model;
  GraphPtr graph;  ///< with gradients
  Tensors inputs;
  AttentionNormalizer normalizer;
};

Fixture random_model(AttentionNormalizer normalizer) {
  ModelConfig config;
  config.layers = kLayers;
  config.d_model = kWidth;
  config.heads = kH;
  config.kv_heads = kG;
  config.d_head = kD;
  config.d_ff = 28;
  config.vocabulary = 17;
  Fixture f{build_llama(config, kB, kT), nullptr, {}, normalizer};
  const GraphPtr rewritten = apply_attention_normalizer(f.model.graph, normalizer);
  for (const AddedState& state : added_states(*f.model.graph, *rewritten))
    f.model.parameters.push_back({state.name, state.type});
  DifferentiateOptions options;
  for (const Parameter& p : f.model.parameters) options.wrt.push_back(p.name);
  f.graph = differentiate(rewritten, options);
  uint64_t stream = 0;
  for (const Parameter& p : f.model.parameters) {
    Random random(21, stream++);
    HostTensor& weight = f.inputs[p.name] = zeros(p.type);
    for (double& x : weight.data)
      x = p.initial == Initial::ones ? 1 + 0.2 * random.normal() : 0.4 * random.normal();
  }
  Random random(22, 0);
  for (const char* name : {"tokens", "targets"})
    for (double& x : (f.inputs[name] = zeros(i32({kB, kT}))).data)
      x = static_cast<double>(random.below(17));
  f.inputs["loss_scale"] = scalar(1.0 / (kB * kT));
  return f;
}

// Plain gradient descent on the one batch, far enough for the loss to fall well.
Fixture trained_model(AttentionNormalizer normalizer) {
  Fixture f = random_model(normalizer);
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    Tensors outputs = interpret(*f.graph, f.inputs);
    last = outputs.at("loss").data[0];
    if (step == 0) first = last;
    for (const Parameter& p : f.model.parameters) {
      const HostTensor& gradient = outputs.at(gradient_output(p.name));
      for (size_t i = 0; i < gradient.data.size(); ++i)
        f.inputs[p.name].data[i] -= 0.2 * gradient.data[i];
    }
  }
  EXPECT_LT(last, 0.7 * first);
  return f;
}

// Whether the gradient of a score is a[t,s] beta[t,s]: that of exponentials over a sum.
bool has_softmax_gradient(AttentionNormalizer normalizer) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
    case AttentionNormalizer::softmax_1:
    case AttentionNormalizer::sink_logit:
    case AttentionNormalizer::kv_bias:
      return true;
    case AttentionNormalizer::softpick:
    case AttentionNormalizer::relu:
    case AttentionNormalizer::sigmoid:
    case AttentionNormalizer::bayes_softmax:  // it has a further term, which `weir check` knows
      return false;
  }
  return false;
}

struct Layer {
  HostTensor a, q, k, v, y, g, dq, dk, dv, x, gain, dn, dx;
  HostTensor learned_key = {};  ///< of kv-bias [G,d]
};

Layer layer_values(const Fixture& f, int64_t l) {
  std::string block = "blocks." + std::to_string(l) + ".";
  std::vector<std::string> names = {
      "attn.hook_pattern", "attn.hook_rot_q",  "attn.hook_rot_k",          "attn.hook_v",
      "attn.hook_z",       "attn.hook_z.grad", "attn.hook_rot_q.grad",     "attn.hook_rot_k.grad",
      "attn.hook_v.grad",  "ln1.hook_in",      "ln1.hook_normalized.grad", "ln1.hook_in.grad"};
  for (std::string& name : names) name = block + name;
  Tensors values = interpret_all(*f.graph, f.inputs, names).values;
  auto at = [&](size_t i) { return values.at(names[i]); };
  std::string gain = "model.layers." + std::to_string(l) + ".input_layernorm.weight";
  Layer layer{
      at(0),  at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9), f.inputs.at(gain),
      at(10), at(11)};
  if (f.normalizer == AttentionNormalizer::kv_bias) {
    // Values and outputs as the attention node has them: relative to the learned value.
    const std::string prefix = "model.layers." + std::to_string(l) + ".self_attn.kv_bias.";
    const HostTensor& learned = f.inputs.at(prefix + "value");
    layer.learned_key = f.inputs.at(prefix + "key");
    for (HostTensor* x : {&layer.v, &layer.y}) {
      const int64_t heads = x->shape()[2], group = heads / kG;
      for (size_t i = 0; i < x->data.size(); ++i) {
        const auto at_head = static_cast<int64_t>(i) / kD % heads;
        x->data[i] -= learned.at({at_head / group, static_cast<int64_t>(i) % kD});
      }
    }
  }
  return layer;
}

// One query head of one sequence; keys and values are those of its group.
struct Head {
  const Layer& layer;
  int64_t b, h;

  double a(int64_t t, int64_t s) const { return layer.a.at({b, h, t, s}); }
  double row(const HostTensor& x, int64_t t, int64_t i) const {
    return x.at({b, t, x.shape()[2] == kH ? h : h / (kH / kG), i});
  }
  double dot(const HostTensor& x, int64_t t, const HostTensor& y, int64_t s) const {
    double sum = 0;
    for (int64_t i = 0; i < kD; ++i) sum += row(x, t, i) * row(y, s, i);
    return sum;
  }
  double norm(const HostTensor& x, int64_t t) const { return std::sqrt(dot(x, t, x, t)); }
  /// beta[t,s] = <g_t, v_s - y_t>
  double beta(int64_t t, int64_t s) const {
    return dot(layer.g, t, layer.v, s) - dot(layer.g, t, layer.y, t);
  }
  double scale(int64_t t, int64_t s) const {
    return norm(layer.g, t) * (norm(layer.v, s) + norm(layer.y, t));
  }
};

void check_values_and_keys(const Layer& layer, int64_t b, int64_t group, bool keys) {
  for (int64_t s = 0; s < kT; ++s) {
    double bound = 0;
    for (int64_t i = 0; i < kD; ++i) {
      double dv = 0, dv_scale = 0, dk = 0, dk_scale = 0;
      for (int64_t h = group * (kH / kG); h < (group + 1) * (kH / kG); ++h) {
        Head head{layer, b, h};
        for (int64_t t = s; t < kT; ++t) {
          double a = head.a(t, s), q = head.row(layer.q, t, i);
          dv += a * head.row(layer.g, t, i);
          dv_scale += a * std::abs(head.row(layer.g, t, i));
          dk += a * head.beta(t, s) * q / std::sqrt(kD);
          dk_scale += a * head.scale(t, s) * head.norm(layer.q, t) / std::sqrt(kD);
          if (i == 0) bound += a * head.norm(layer.g, t);
        }
      }
      EXPECT_NEAR(layer.dv.at({b, s, group, i}), dv, kTolerance * dv_scale + 1e-300);
      if (!keys) continue;
      EXPECT_NEAR(layer.dk.at({b, s, group, i}), dk, kTolerance * dk_scale + 1e-300);
    }
    double norm = 0;
    for (int64_t i = 0; i < kD; ++i) norm += std::pow(layer.dv.at({b, s, group, i}), 2);
    EXPECT_LE(std::sqrt(norm), bound * (1 + kTolerance)) << "the mass bounds the value's gradient";
  }
}

void check_queries(const Layer& layer, int64_t b, int64_t h) {
  Head head{layer, b, h};
  for (int64_t t = 0; t < kT; ++t) {
    double row_sum = 0, row_scale = 0, weight = 0;
    for (int64_t s = 0; s <= t; ++s) {
      weight += head.a(t, s);
      row_sum += head.a(t, s) * head.beta(t, s);
      row_scale += head.a(t, s) * head.scale(t, s);
    }
    // Zero under softmax.
    EXPECT_NEAR(row_sum, (1 - weight) * head.dot(layer.g, t, layer.y, t), kTolerance * row_scale)
        << "the sum of a row of score gradients";
    for (int64_t i = 0; i < kD; ++i) {
      double dq = 0, dq_scale = 0;
      for (int64_t s = 0; s <= t; ++s) {
        dq += head.a(t, s) * head.beta(t, s) * head.row(layer.k, s, i) / std::sqrt(kD);
        dq_scale += head.a(t, s) * head.scale(t, s) * head.norm(layer.k, s) / std::sqrt(kD);
      }
      if (!layer.learned_key.data.empty()) {
        // The weight that is left is on the learned key, whose value is zero here.
        const double key = layer.learned_key.at({h / (kH / kG), i}) / std::sqrt(kD);
        const double beta = -head.dot(layer.g, t, layer.y, t);
        dq += (1 - weight) * beta * key;
        dq_scale += head.norm(layer.g, t) * head.norm(layer.y, t) * std::abs(key);
      }
      EXPECT_NEAR(layer.dq.at({b, t, h, i}), dq, kTolerance * dq_scale + 1e-300);
    }
  }
}

// The norm's Jacobian is at most max |gain| / rms, for every sequence and token.
void check_norm(const Layer& layer) {
  double gain = 0;
  for (double x : layer.gain.data) gain = std::max(gain, std::abs(x));
  for (int64_t b = 0; b < kB; ++b)
    for (int64_t t = 0; t < kT; ++t) {
      double square = 0, dn = 0, dx = 0;
      for (int64_t i = 0; i < kWidth; ++i) {
        square += std::pow(layer.x.at({b, t, i}), 2);
        dn += std::pow(layer.dn.at({b, t, i}), 2);
        dx += std::pow(layer.dx.at({b, t, i}), 2);
      }
      double rms = std::sqrt(square / kWidth + 1e-5);
      EXPECT_LE(std::sqrt(dx), gain / rms * std::sqrt(dn) * (1 + kTolerance));
    }
}

void check_identities(const Fixture& f) {
  for (int64_t l = 0; l < kLayers; ++l) {
    Layer layer = layer_values(f, l);
    double largest = 0;
    for (double x : layer.dv.data) largest = std::max(largest, std::abs(x));
    EXPECT_GT(largest, 0) << "an identity of zeros says nothing";
    for (int64_t b = 0; b < kB; ++b) {
      const bool keys = has_softmax_gradient(f.normalizer);
      for (int64_t group = 0; group < kG; ++group) check_values_and_keys(layer, b, group, keys);
      for (int64_t h = 0; h < kH && keys; ++h) {
        check_queries(layer, b, h);
        // A first query sees one key, so its gradient under softmax is zero but for rounding.
        double first = 0;
        for (int64_t i = 0; i < kD; ++i)
          first = std::max(first, std::abs(layer.dq.at({b, 0, h, i})));
        if (info(f.normalizer).rows_sum_to_one)
          EXPECT_LE(first, 1e-15);
        else
          EXPECT_GT(first, 1e-9);
      }
    }
    check_norm(layer);
  }
}

class Identities : public testing::TestWithParam<AttentionNormalizer> {};

TEST_P(Identities, HoldOnARandomModel) { check_identities(random_model(GetParam())); }

TEST_P(Identities, HoldOnATrainedModel) { check_identities(trained_model(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Normalizers, Identities, testing::ValuesIn(all_normalizers()),
                         [](const auto& test) {
                           std::string name = normalizer_name(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace weir
