// The whole model against PyTorch in f64 (tests/reference/llama_reference.py): logits, loss and
// every gradient by the interpreter, through autodiff and the passes before kernels, at 1e-9.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "interpret/interpret.h"
#include "models/llama.h"
#include "passes/attention_gate.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/decompose.h"
#include "passes/qk_norm.h"
#include "passes/simplify.h"
#include "passes/v_scale.h"
#include "testing/expect_close.h"
#include "testing/reference_data.h"
#include "testing/small_model.h"

namespace weir {
namespace {

struct Case {
  std::string file;
  VScaleVariant variant = VScaleVariant::none;
  AttentionNormalizer attention = AttentionNormalizer::softmax;
  AttentionGate gate = AttentionGate::none;
  bool qk_norm = false;
};
// The name of a test ends with it.
void PrintTo(const Case& c, std::ostream* out) { *out << c.file; }

class LlamaReference : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    reference_ = test::read_reference(GetParam().file);
    nlohmann::json json = test::read_reference_metadata(GetParam().file).at("config");
    const HostTensor& ids = reference_.at("tokens");
    batch_ = ids.shape()[0];
    tokens_ = ids.shape()[1] - 1;
    Model model = build_llama(test::reference_config(json), batch_, tokens_);
    graph_ = apply_v_scale(model.graph, {.variant = GetParam().variant,
                                         .sigma = json.at("v_scale_sigma").get<double>()});
    if (GetParam().qk_norm) graph_ = apply_qk_norm(graph_);
    graph_ = apply_attention_gate(graph_, GetParam().gate);
    graph_ = apply_attention_normalizer(graph_, GetParam().attention);
    HostTensor input = zeros(i32({batch_, tokens_})), target = input;
    for (int64_t b = 0; b < batch_; ++b)
      for (int64_t t = 0; t < tokens_; ++t) {
        input.data[b * tokens_ + t] = ids.at({b, t});
        target.data[b * tokens_ + t] = ids.at({b, t + 1});
      }
    inputs_ = {{"tokens", input},
               {"targets", target},
               {"loss_scale", scalar(1.0 / static_cast<double>(batch_ * tokens_))}};
    for (int32_t id : graph_->inputs()) {
      const std::string& name = graph_->input_name(id);
      if (inputs_.count(name)) continue;
      weights_.push_back(name);
      inputs_[name] = reference_.at(name);
    }
  }

  HostTensor expected(const std::string& name, Shape shape) const {
    HostTensor tensor = reference_.at(name);
    tensor.type.shape = std::move(shape);
    return tensor;
  }

  GraphPtr differentiated() const { return differentiate(graph_, {.wrt = weights_}); }

  void expect_loss_and_gradients(const GraphPtr& graph) const {
    Tensors outputs = interpret(*graph, inputs_);
    EXPECT_TRUE(test::close(outputs.at("loss"), expected("expected.loss", {})));
    int compared = 0;
    for (const std::string& name : weights_) {
      EXPECT_TRUE(test::close(outputs.at(gradient_output(name)), reference_.at("grad." + name),
                              {.relative = 1e-9, .absolute = 1e-15}))
          << name;
      ++compared;
    }
    EXPECT_GT(compared, 9);
  }

  Tensors reference_, inputs_;
  GraphPtr graph_;
  std::vector<std::string> weights_;
  int64_t batch_ = 0, tokens_ = 0;
};

TEST_P(LlamaReference, Logits) {
  Interpretation run = interpret_all(*graph_, inputs_, {"hook_logits"});
  const HostTensor& logits = run.values.at("hook_logits");
  EXPECT_TRUE(test::close(logits, expected("expected.logits", logits.shape())));
}

TEST_P(LlamaReference, LossAndGradients) { expect_loss_and_gradients(differentiated()); }

TEST_P(LlamaReference, LossAndGradientsFromPrimitivesAlone) {
  GraphPtr primitives = decompose(differentiated(), DecomposeMode::all);
  expect_loss_and_gradients(simplify(primitives));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LlamaReference,
    ::testing::Values(Case{"llama_base"}, Case{"llama_long"}, Case{"llama_massive"},
                      Case{"llama_odd"}, Case{"llama_single"},
                      Case{"llama_v_scale_full", VScaleVariant::full},
                      Case{"llama_v_scale_learned", VScaleVariant::learned},
                      Case{"llama_v_scale_backward_only", VScaleVariant::backward},
                      Case{"llama_v_scale_forward_only", VScaleVariant::forward},
                      Case{"llama_softmax_1", VScaleVariant::none, AttentionNormalizer::softmax_1},
                      Case{"llama_softpick", VScaleVariant::none, AttentionNormalizer::softpick,
                           AttentionGate::head},
                      Case{"llama_relu", VScaleVariant::none, AttentionNormalizer::relu,
                           AttentionGate::none, true},
                      Case{"llama_sigmoid", VScaleVariant::none, AttentionNormalizer::sigmoid,
                           AttentionGate::element},
                      Case{"llama_sink_logit", VScaleVariant::none, AttentionNormalizer::sink_logit,
                           AttentionGate::head, true},
                      Case{"llama_bayes_softmax", VScaleVariant::none,
                           AttentionNormalizer::bayes_softmax, AttentionGate::head, true},
                      Case{"llama_kv_bias", VScaleVariant::full, AttentionNormalizer::kv_bias,
                           AttentionGate::element, true}),
    [](const auto& info) { return info.param.file.substr(6); });

}  // namespace
}  // namespace weir
