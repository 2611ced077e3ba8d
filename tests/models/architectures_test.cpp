// Every architecture as `transformers` computes it in f64
// (tests/reference/transformers_reference.py), read from a folder as Hugging Face publishes models:
// logits, loss and gradients at hooks by the interpreter at 1e-9.
#include <gtest/gtest.h>

#include "interpret/interpret.h"
#include "models/checkpoint.h"
#include "passes/autodiff.h"
#include "passes/decompose.h"
#include "passes/simplify.h"
#include "testing/expect_close.h"
#include "testing/reference_data.h"

namespace weir {
namespace {

std::string folder_of(const std::string& name) {
  return std::string(WEIR_TEST_DATA) + "/models/" + name;
}

class Architectures : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string& name = GetParam();
    reference_ = test::read_reference("../models/" + name + "/reference");
    Checkpoint checkpoint = Checkpoint::open(folder_of(name));
    EXPECT_EQ(checkpoint.name(), name);
    const HostTensor& ids = reference_.at("tokens");
    const int64_t B = ids.shape()[0], T = ids.shape()[1] - 1;
    model_ = checkpoint.build(B, T);
    HostTensor input = zeros(i32({B, T})), target = input;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t t = 0; t < T; ++t) {
        input.data[b * T + t] = ids.at({b, t});
        target.data[b * T + t] = ids.at({b, t + 1});
      }
    inputs_ = {{"tokens", input},
               {"targets", target},
               {"loss_scale", scalar(1.0 / static_cast<double>(B * T))}};
    for (const Parameter& parameter : model_.parameters) {
      std::vector<float> values(static_cast<size_t>(parameter.type.elements()));
      checkpoint.read(parameter, values.data());
      inputs_[parameter.name] = {parameter.type, {values.begin(), values.end()}};
    }
  }

  HostTensor expected(const std::string& name, const HostTensor& like) const {
    HostTensor tensor = reference_.at(name);
    tensor.type.shape = like.type.shape;
    return tensor;
  }

  // Every hook of the file: gradients of the loss, and the scores before softmax.
  void expect_hooks(const GraphPtr& graph) const {
    std::vector<std::string> hooks;
    for (const auto& [name, tensor] : reference_)
      if (name.starts_with("blocks.")) hooks.push_back(name);
    EXPECT_GE(hooks.size(), 20U);
    Interpretation run = interpret_all(*graph, inputs_, hooks);
    const HostTensor& loss = run.outputs.at("loss");
    EXPECT_TRUE(test::close(loss, expected("loss", loss)));
    for (const std::string& name : hooks)
      EXPECT_TRUE(test::close(run.values.at(name), reference_.at(name),
                              {.relative = 1e-9, .absolute = 1e-15}))
          << name;
  }

  GraphPtr differentiated() const {
    DifferentiateOptions options;
    for (const auto& [name, tensor] : reference_)
      if (name.ends_with(".grad")) options.named.push_back(name.substr(0, name.size() - 5));
    return differentiate(model_.graph, options);
  }

  Tensors reference_, inputs_;
  Model model_;
};

TEST_P(Architectures, Logits) {
  Interpretation run = interpret_all(*model_.graph, inputs_, {"hook_logits"});
  const HostTensor& logits = run.values.at("hook_logits");
  EXPECT_TRUE(test::close(logits, expected("logits", logits)));
}

TEST_P(Architectures, LossAndGradientsOfHooks) { expect_hooks(differentiated()); }

TEST_P(Architectures, LossAndGradientsFromPrimitivesAlone) {
  expect_hooks(simplify(decompose(differentiated(), DecomposeMode::all)));
}

INSTANTIATE_TEST_SUITE_P(Cases, Architectures,
                         ::testing::ValuesIn(test::model_cases("config.json")),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace weir
