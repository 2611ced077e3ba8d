// Products of bytes, u8 by i8 summed as i32, against the interpreter: every bit.
#include <gtest/gtest.h>

#include "engine/run.h"
#include "ir/edit.h"
#include "runtime/random.h"
#include "testing/error_of.h"
#include "testing/runnable_targets.h"

namespace weir {
namespace {

// The targets without instructions for bytes, and this machine with those it has.
std::vector<Target> targets() {
  std::vector<Target> all = runnable_targets();
  all.push_back(host_target());
  return all;
}

HostTensor random_bytes(const Type& type, double low, double high, uint64_t seed) {
  Random random(seed, 0);
  HostTensor bytes = zeros(type);
  for (double& value : bytes.data)
    value = low + static_cast<double>(random.below(static_cast<uint64_t>(high - low) + 1));
  return bytes;
}

GraphPtr product(Shape a, Shape b, bool with_epilogue) {
  GraphEditor editor("bytes");
  const Value x = editor.input("a", {DType::u8, std::move(a)});
  const int64_t columns = b[0];
  const Value w = editor.input("b", {DType::i8, std::move(b)});
  const Value scale = with_epilogue ? editor.input("scale", f32({columns})) : Value{};
  Value y = editor.add(Op::matmul, {x, w}, {{"transpose_b", true}});
  if (with_epilogue)
    y = editor.add(Op::mul, {editor.add(Op::convert, {y}, {{"to", DType::f32}}), scale});
  editor.output("y", y);
  return editor.finish();
}

void expect_equal(const GraphPtr& graph, const Target& target, const Tensors& inputs,
                  const std::string& what) {
  const Tensors want = interpret(*graph, inputs);
  for (const int threads : {1, 2}) {
    const Executables programs = compile(graph, {.target = target}, {.target = target});
    Session session(programs, threads);
    const HostTensor got = run(session, inputs).outputs.at("y");
    ASSERT_EQ(got.shape(), want.at("y").shape());
    for (size_t i = 0; i < got.data.size(); ++i)
      ASSERT_EQ(got.data[i], round_to(got.type.dtype, want.at("y").data[i]))
          << what << ", element " << i;
  }
}

TEST(ByteProducts, AreExactOnEveryTarget) {
  for (const Target& target : targets())
    for (const auto& [m, k, n] : std::vector<std::array<int64_t, 3>>{
             {1, 4, 1}, {5, 8, 3}, {33, 36, 17}, {64, 576, 48}, {70, 1536, 100}, {3, 4096, 31}}) {
      const Tensors inputs = {{"a", random_bytes({DType::u8, {m, k}}, 0, 255, 3)},
                              {"b", random_bytes({DType::i8, {n, k}}, -128, 127, 4)}};
      expect_equal(product({m, k}, {n, k}, false), target, inputs,
                   fmt::format("{} {} x {} x {}", print(target), m, k, n));
    }
}

TEST(ByteProducts, TheLargestSumsAndABatchOfRows) {
  for (const Target& target : targets())
    for (const double b : {-128.0, 127.0}) {
      Tensors inputs = {{"a", filled({DType::u8, {2, 7, 2048}}, 255)},
                        {"b", filled({DType::i8, {19, 2048}}, b)},
                        {"scale", filled(f32({19}), 0.5)}};
      expect_equal(product({2, 7, 2048}, {19, 2048}, true), target, inputs, print(target));
    }
}

TEST(ByteProducts, SayWhatIsNotCompiled) {
  EXPECT_EQ(test::error_of([] { compile(product({3, 6}, {2, 6}, false)); }),
            "[matmul] a product of bytes over k = 6 with lhs and rhs transposed is asked for, but "
            "compiled ones need a multiple of 4, an lhs that is not transposed and an rhs that is. "
            "Pad with zeros, or transpose.");
}

}  // namespace
}  // namespace weir
