// Every composite against PyTorch in f64 (tests/reference/ops_reference.py), at 1e-9.
#include <gtest/gtest.h>

#include <cmath>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "testing/expect_close.h"
#include "testing/reference_data.h"
#include "testing/run_op.h"

namespace weir {
namespace {

using test::read_cases;
using test::ReferenceCase;
using test::run_op;

// A single number in a file is a tensor of one element; losses have rank 0.
HostTensor shaped(HostTensor tensor, Shape shape) {
  tensor.type.shape = std::move(shape);
  return tensor;
}

TEST(Reference, RmsNorm) {
  for (const auto& [name, c] : read_cases("rms_norm"))
    EXPECT_TRUE(test::close(run_op(Op::rms_norm, {c.in.at("x"), c.in.at("gamma")},
                                   {{"eps", c.attributes.at("eps").get<double>()}})[0],
                            c.out.at("y")))
        << name;
}

TEST(Reference, LayerNorm) {
  for (const auto& [name, c] : read_cases("layer_norm")) {
    std::vector<HostTensor> operands = {c.in.at("x"), c.in.at("gamma")};
    if (c.in.count("beta")) operands.push_back(c.in.at("beta"));
    EXPECT_TRUE(test::close(
        run_op(Op::layer_norm, operands, {{"eps", c.attributes.at("eps").get<double>()}})[0],
        c.out.at("y")))
        << name;
  }
}

TEST(Reference, Activations) {
  auto cases = read_cases("activations");
  auto expect = [&](const char* name, Op op, std::vector<const char*> operands, Attrs attrs) {
    std::vector<HostTensor> values;
    for (const char* operand : operands) values.push_back(cases.at(name).in.at(operand));
    EXPECT_TRUE(test::close(run_op(op, values, attrs)[0], cases.at(name).out.at("y"))) << name;
  };
  expect("gelu_tanh", Op::gelu, {"x"}, {});
  expect("gelu_erf", Op::gelu, {"x"}, {{"exact", true}});
  expect("silu", Op::silu, {"x"}, {});
  expect("swiglu", Op::swiglu, {"gate", "up"}, {});
}

TEST(Reference, Rope) {
  for (const auto& [name, c] : read_cases("rope"))
    EXPECT_TRUE(test::close(run_op(Op::rope, {c.in.at("x")},
                                   {{"base", c.attributes.at("base").get<double>()},
                                    {"inverse", c.attributes.at("inverse").get<bool>()}})[0],
                            c.out.at("y")))
        << name;
}

TEST(Reference, Softmax) {
  ReferenceCase c = read_cases("softmax").at("softmax");
  EXPECT_TRUE(test::close(run_op(Op::softmax, {c.in.at("x")})[0], c.out.at("y")));
}

TEST(Reference, CrossEntropyAndItsFusedFormWithGradient) {
  for (const auto& [name, c] : read_cases("cross_entropy")) {
    const HostTensor &logits = c.in.at("logits"), &targets = c.in.at("targets");
    HostTensor loss = shaped(c.out.at("loss"), {});
    HostTensor scale = scalar(1 / c.attributes.at("valid").get<double>());
    EXPECT_TRUE(test::close(run_op(Op::cross_entropy, {logits, targets, scale})[0], loss)) << name;

    // With w the unit matrix the logits are x, and dx is the gradient of the logits.
    int64_t vocabulary = logits.shape()[1];
    HostTensor unit = zeros(f32({vocabulary, vocabulary}));
    for (int64_t i = 0; i < vocabulary; ++i) unit.data[i * vocabulary + i] = 1;
    EXPECT_TRUE(
        test::close(run_op(Op::linear_cross_entropy, {logits, unit, targets, scale})[0], loss));
    scale.data[0] *= c.upstream.at("loss").data[0];
    auto fused = run_op(Op::linear_cross_entropy_grad, {logits, unit, targets, scale});
    const HostTensor& gradient = c.grad.at("logits");
    EXPECT_TRUE(test::close(fused[1], gradient)) << name;
    HostTensor dw = run_op(Op::matmul, {gradient, logits}, {{"transpose_a", true}})[0];
    EXPECT_TRUE(test::close(fused[2], dw)) << name;
  }
}

TEST(Reference, AttentionItsGradientAndStatistics) {
  int checked = 0;
  std::map<std::string, ReferenceCase> cases = read_cases("attention");
  cases.merge(read_cases("attention_normalisers"));
  for (const auto& [name, c] : cases) {
    Attrs attrs{{"causal", c.attributes.at("causal").get<bool>()},
                {"scale", c.attributes.at("scale").get<double>()}};
    set_normalizer(attrs, parse_normalizer(c.attributes.at("normaliser")));
    const HostTensor &q = c.in.at("q"), &k = c.in.at("k"), &v = c.in.at("v");
    std::vector<HostTensor> operands = {q, k, v};
    if (c.in.contains("other")) operands.push_back(c.in.at("other"));
    auto forward = run_op(Op::attention, operands, attrs);
    EXPECT_TRUE(test::close(forward[0], c.out.at("out"))) << name;
    Attrs of_lse = attrs;
    of_lse.erase("causal");
    EXPECT_TRUE(test::close(run_op(Op::attention_lse, {forward[1]}, of_lse)[0], c.out.at("lse")))
        << name;

    auto gradient =
        run_op(Op::attention_grad, {q, k, v, forward[0], forward[1], c.upstream.at("out")}, attrs);
    // dq of a query that sees one key is zero but for rounding, in PyTorch too.
    test::Tolerance tolerance{.relative = 1e-9, .absolute = 1e-13};
    EXPECT_TRUE(test::close(gradient[0], c.grad.at("q"), tolerance)) << name;
    EXPECT_TRUE(test::close(gradient[1], c.grad.at("k"), tolerance)) << name;
    EXPECT_TRUE(test::close(gradient[2], c.grad.at("v"), tolerance)) << name;

    Attrs with_sink = attrs;
    with_sink.set("sink", c.attributes.at("sink").get<int64_t>());
    auto stats = run_op(Op::attention_stats, {q, k, forward[1]}, with_sink);
    const char* names[] = {"column_sum",  "column_square", "entropy",
                           "sink_column", "row_max",       "row_sum"};
    for (size_t i = 0; i < 6; ++i)
      EXPECT_TRUE(test::close(stats[i], c.out.at(names[i]), tolerance)) << name << " " << names[i];

    HostTensor pattern = run_op(Op::attention_pattern, {q, k, forward[1]}, attrs)[0];
    EXPECT_TRUE(test::close(pattern, c.out.at("pattern"), tolerance)) << name;
    ++checked;
  }
  EXPECT_EQ(checked, 8 + 16);
}

TEST(Reference, VScale) {
  for (const auto& [name, c] : read_cases("v_scale")) {
    std::vector<HostTensor> operands = {c.in.at("v")};
    if (c.in.count("theta")) operands.push_back(c.in.at("theta"));
    EXPECT_TRUE(test::close(run_op(Op::v_scale, operands,
                                   {{"c", c.attributes.at("c").get<double>()},
                                    {"variant", c.attributes.at("variant").get<std::string>()}})[0],
                            c.out.at("y")))
        << name;
  }
}

TEST(Reference, EmbeddingAndItsGradient) {
  ReferenceCase c = read_cases("embedding").at("repeated");
  const HostTensor &table = c.in.at("table"), &ids = c.in.at("ids");
  EXPECT_TRUE(test::close(run_op(Op::embedding, {table, ids})[0], c.out.at("y")));
  EXPECT_TRUE(test::close(
      run_op(Op::embedding_grad, {ids, c.upstream.at("y")}, {{"vocabulary", table.shape()[0]}})[0],
      c.grad.at("table")));
}

TEST(Reference, AdamW) {
  for (const auto& [name, c] : read_cases("adamw")) {
    auto number = [&](const char* key) { return c.attributes.at(key).get<double>(); };
    Attrs attrs;
    for (const char* key : {"beta1", "beta2", "eps", "weight_decay"}) attrs.set(key, number(key));
    auto updated = run_op(
        Op::adamw,
        {c.in.at("p"), c.in.at("g"), c.in.at("m"), c.in.at("v"), scalar(number("rate")),
         scalar(1 / (1 - std::pow(number("beta1"), number("step")))),
         scalar(1 / (1 - std::pow(number("beta2"), number("step")))), scalar(number("factor"))},
        attrs);
    EXPECT_TRUE(test::close(updated[0], c.out.at("p"))) << name;
    EXPECT_TRUE(test::close(updated[1], c.out.at("m"))) << name;
    EXPECT_TRUE(test::close(updated[2], c.out.at("v"))) << name;
  }
}

TEST(Reference, Muon) {
  for (const auto& [name, c] : read_cases("muon")) {
    auto number = [&](const char* key) { return c.attributes.at(key).get<double>(); };
    Attrs attrs;
    for (const char* key : {"momentum", "weight_decay", "scale"}) attrs.set(key, number(key));
    const std::vector<HostTensor> operands = {c.in.at("p"), c.in.at("g"), c.in.at("m"),
                                              scalar(number("rate")), scalar(number("factor"))};
    const auto updated = run_op(Op::muon, operands, attrs);
    EXPECT_TRUE(test::close(updated[0], c.out.at("p"))) << name;
    EXPECT_TRUE(test::close(updated[1], c.out.at("m"))) << name;
  }
}

}  // namespace
}  // namespace weir
