#include "codegen/embedding.h"

#include <gmock/gmock.h>

#include <cmath>

#include "codegen/kernel_test.h"
#include "codegen/phases_test_util.h"
#include "support/error.h"
#include "testing/random_tensor.h"
#include "testing/run_op.h"

namespace weir::test {
namespace {

struct Sizes {
  int64_t vocabulary, width;
  Shape ids;
  DType dtype;
};

std::vector<Sizes> awkward_sizes() {
  return {{1, 1, {1}, DType::i32},       {1, 6, {3, 1}, DType::u8},   {67, 6, {2, 5}, DType::i8},
          {101, 16, {40}, DType::i32},   {13, 37, {3, 7}, DType::u8}, {5, 131, {97}, DType::i32},
          {256, 64, {2, 33}, DType::u8}, {300, 100, {}, DType::i32}};
}

Shape rows_shape(const Sizes& s) {
  Shape shape = s.ids;
  shape.push_back(s.width);
  return shape;
}

HostTensor random_ids(const Sizes& s, uint64_t seed) {
  const double most = static_cast<double>(std::min<int64_t>(s.vocabulary - 1, 127));
  return random_tensor({s.dtype, s.ids}, 0, most, seed);
}

TEST(Embedding, CopiesRows) {
  for (const Target& target : runnable_targets())
    for (const Sizes& s : awkward_sizes()) {
      const Type table = f32({s.vocabulary, s.width});
      const GraphPtr region = op_graph(Op::embedding, {table, {s.dtype, s.ids}});
      const Tensors inputs = {{"in0", random_tensor(table, -2, 2, 1)}, {"in1", random_ids(s, 2)}};
      const PhasesRunner run(region, make_embedding_kernel(region, target), target);
      for (int threads : {1, 2})
        EXPECT_TRUE(close(run(inputs, threads), interpret(*region, inputs), {.relative = 0}))
            << target.name << " " << to_string(table) << " " << to_string(s.ids);
    }
}

TEST(Embedding, AnIdOutsideTheTableGivesNaNAndReadsNothing) {
  for (const Target& target : runnable_targets()) {
    const GraphPtr region = op_graph(Op::embedding, {f32({3, 19}), i32({5})});
    const HostTensor ids = {i32({5}), {2, -1, 3, 0, -2147483648.0}};
    const HostTensor table = random_tensor(f32({3, 19}), -2, 2, 1);
    const PhasesRunner run(region, make_embedding_kernel(region, target), target);
    const HostTensor rows = run({{"in0", table}, {"in1", ids}}).at("out0");
    for (int64_t i = 0; i < 5; ++i)
      for (int64_t j = 0; j < 19; ++j) {
        if (i == 0 || i == 3)
          EXPECT_EQ(rows.at({i, j}), table.at({static_cast<int64_t>(ids.data[i]), j}));
        else
          EXPECT_TRUE(std::isnan(rows.at({i, j}))) << i << " " << j;
      }
  }
}

/// The sums in f32, in the order that is promised.
HostTensor chains(const HostTensor& ids, const HostTensor& dy, int64_t vocabulary) {
  const int64_t width = dy.shape().back();
  HostTensor result = zeros(f32({vocabulary, width}));
  for (size_t i = 0; i < ids.data.size(); ++i) {
    if (ids.data[i] < 0 || ids.data[i] >= static_cast<double>(vocabulary)) continue;
    for (int64_t j = 0; j < width; ++j) {
      double& sum = result.data[static_cast<int64_t>(ids.data[i]) * width + j];
      sum = static_cast<float>(sum) +
            static_cast<float>(dy.data[static_cast<int64_t>(i) * width + j]);
    }
  }
  return result;
}

TEST(EmbeddingGrad, SumsRowsInOrder) {
  for (const Target& target : runnable_targets())
    for (const Sizes& s : awkward_sizes()) {
      const Type dy = f32(rows_shape(s));
      const GraphPtr region =
          op_graph(Op::embedding_grad, {{s.dtype, s.ids}, dy}, {{"vocabulary", s.vocabulary}});
      const Tensors inputs = {{"in0", random_ids(s, 3)}, {"in1", random_tensor(dy, -2, 2, 4)}};
      const PhasesRunner run(region, make_embedding_grad_kernel(region, target), target);
      const HostTensor expected = chains(inputs.at("in0"), inputs.at("in1"), s.vocabulary);
      EXPECT_TRUE(close(expected, interpret(*region, inputs).at("out0"),
                        {.relative = 1e-6, .absolute = 1e-5}));
      for (int threads : {1, 2, 3})
        EXPECT_TRUE(close(run(inputs, threads).at("out0"), expected, {.relative = 0}))
            << target.name << " " << to_string(dy) << " " << threads;
    }
}

TEST(EmbeddingGrad, AnIdOutsideTheVocabularyIsLeftOut) {
  for (const Target& target : runnable_targets()) {
    const GraphPtr region =
        op_graph(Op::embedding_grad, {i32({6}), f32({6, 17})}, {{"vocabulary", int64_t{4}}});
    const HostTensor ids = {i32({6}), {3, 4, -1, 3, 2147483647, 0}};
    const Tensors inputs = {{"in0", ids}, {"in1", random_tensor(f32({6, 17}), -2, 2, 1)}};
    const PhasesRunner run(region, make_embedding_grad_kernel(region, target), target);
    EXPECT_TRUE(close(run(inputs).at("out0"), chains(ids, inputs.at("in1"), 4), {.relative = 0}));
  }
}

TEST(Embedding, TypesThatCompiledCodeDoesNotTakeAreNamed) {
  const GraphPtr wide = op_graph(Op::embedding, {{DType::f64, {3, 2}}, i32({5})});
  const GraphPtr narrow =
      op_graph(Op::embedding_grad, {i32({5}), {DType::bf16, {5, 2}}}, {{"vocabulary", int64_t{3}}});
  const Target target = parse_target("x86-64-v3");
  const auto text = [](const auto& make) -> std::string {
    try {
      make();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(text([&] { make_embedding_kernel(wide, target); }),
              testing::HasSubstr("the table is f64[3,2], but compiled code takes f32"));
  EXPECT_THAT(text([&] { make_embedding_grad_kernel(narrow, target); }),
              testing::HasSubstr("the gradient is bf16[5,2], but compiled code sums f32"));
}

}  // namespace
}  // namespace weir::test
