#include <cmath>

#include "codegen/loop/loop_test_util.h"
#include "ir/builder.h"
#include "runtime/buffer.h"
#include "runtime/threads.h"
#include "support/error.h"

namespace weir::test {
namespace {

/// Sums of up to 1e5 elements by lanes: the error grows with the elements a lane holds.
constexpr Tolerance kSum = {.relative = 2e-5, .absolute = 2e-5};

const std::vector<int64_t> kRows = {1, 6, 16, 17, 63, 64, 65, 128, 130, 768, 1009};

GraphPtr norm_region(Op op, const Shape& shape, int64_t lanes = 16) {
  Builder b(op_name(op));
  Tensor x = b.input("x", f32(shape));
  std::vector<Tensor> inputs = {x};
  Attrs attrs;
  if (op != Op::softmax) {
    inputs.push_back(b.input("gamma", f32({shape.back()})));
    attrs.set("eps", 1e-5);
  }
  if (op == Op::layer_norm) inputs.push_back(b.input("beta", f32({shape.back()})));
  b.output("y", b.add(op, inputs, attrs, Where::current())[0]);
  return lowered(b.finish(), lanes);
}

TEST(LoopRow, NormsAndSoftmaxOfEveryLength) {
  for (int64_t length : kRows)
    for (Op op : {Op::rms_norm, Op::layer_norm, Op::softmax})
      check_region(norm_region(op, {3, 2, length}), "row", kSum, -4, 4);
}

TEST(LoopRow, LongRows) {
  for (Op op : {Op::softmax, Op::rms_norm, Op::layer_norm})
    check_region(norm_region(op, {2, 50257}), "row", {.relative = 1e-4, .absolute = 1e-6}, -4, 4);
}

TEST(LoopRow, LanesOfAnyWidth) {
  for (int64_t lanes : {1, 2, 4, 8, 16, 32})
    for (int64_t length : {6, 65, 1009})
      check_region(norm_region(Op::layer_norm, {4, length}, lanes), "row", kSum);
}

/// The gradient of rms_norm with respect to x, by hand: a second reduction that needs the first.
GraphPtr rms_norm_grad(int64_t length) {
  Builder b("rms_norm_grad");
  Tensor x = b.input("x", f32({2, 3, length})), dy = b.input("dy", f32({2, 3, length}));
  Tensor gamma = b.input("gamma", f32({length}));
  Tensor add_to = b.input("residual", f32({2, 3, length}));
  Tensor scale = b.add(Op::rsqrt, {reduce_mean(x * x, {2}) + 1e-5}, {}, Where::current())[0];
  Tensor weighted = dy * gamma;
  Tensor dot = reduce_mean(weighted * x, {2});
  b.output("dx", add_to + scale * (weighted - x * (dot * scale * scale)));
  b.output("scale", scale);
  b.output("largest", reduce_max(abs(x), {2}));
  b.output("smallest", reduce_min(dy, {2}));
  return lowered(b.finish());
}

TEST(LoopRow, GradientWithSideOutputs) {
  for (int64_t length : kRows) check_region(rms_norm_grad(length), "row", kSum);
  GraphPtr region = rms_norm_grad(64);
  const auto make = [&](InPlace pair) {
    make_loop_kernel(region, Schedule::row, host_target(), {pair});
  };
  EXPECT_NO_THROW(make({3, 0}));
  EXPECT_NO_THROW(make({1, 0}));
  EXPECT_THROW(make({2, 0}), InternalError) << "another shape";
}

TEST(LoopRow, InPlaceIsTheSame) {
  for (int64_t length : {17, 64, 1009}) {
    GraphPtr region = rms_norm_grad(length);
    const Tensors inputs = random_inputs(*region, 9);
    for (const Target& target : loop_targets()) {
      const Tensors apart = LoopRunner(region, "row", target)(inputs);
      EXPECT_EQ(apart, LoopRunner(region, "row", target, {.in_place = {{1, 0}}})(inputs));
      EXPECT_EQ(apart, LoopRunner(region, "row", target, {.in_place = {{3, 0}}})(inputs));
    }
  }
}

TEST(LoopRow, SoftmaxGradient) {
  for (int64_t length : {1, 33, 200, 3000}) {
    Builder b("softmax_grad");
    Tensor x = b.input("x", f32({5, length})), dy = b.input("dy", f32({5, length}));
    Tensor y = softmax(x);
    b.output("dx", y * (dy - reduce_sum(y * dy, {1})));
    GraphPtr region = lowered(b.finish());
    check_region(region, "row", kSum, -4, 4);
    const KernelCode code = make_loop_kernel(region, Schedule::row, loop_targets()[0]);
    EXPECT_EQ(code.scratch_bytes > 0, length >= 33) << "exp is kept, not computed again";
  }
}

TEST(LoopRow, VScaleInEveryVariant) {
  for (int64_t features : {6, 64, 128})
    for (const char* variant : {"full", "backward", "forward"}) {
      Builder b("v_scale");
      Tensor v = b.input("v", f32({2, 5, 3, features}));
      b.output("y", v_scale(v, 0.5, variant));
      check_region(lowered(b.finish()), "row", kSum);
    }
}

TEST(LoopRow, MovementAboveReductions) {
  for (int64_t length : {10, 64, 200}) {
    Builder b("movement");
    Tensor x = b.input("x", f32({3, 2, length})), y = b.input("y", f32({2, 3, length}));
    Tensor tail = b.input("tail", f32({3, 2, 7}));
    Tensor moved = transpose(y, {1, 0, 2});
    Tensor joined = concat({slice(x, {0, 0, 3}, {3, 2, length}), tail}, 2);
    Tensor padded = slice(pad(moved, {0, 1, 2}, {0, 0, 2}), {0, 0, 0}, {3, 2, length + 4});
    b.output("a", joined - reduce_max(joined, {2}));
    b.output("b", padded * reduce_sum(padded * padded, {2}));
    check_region(lowered(b.finish()), "row", kSum);
  }
}

TEST(LoopRow, NarrowStorage) {
  Builder b("bf16");
  Tensor x = b.input("x", {DType::bf16, {4, 100}});
  Tensor wide = convert(x, DType::f32);
  Tensor scale = reduce_max(abs(wide), {1});
  b.output("q", convert(wide / scale * 127.0, DType::i8));
  b.output("scale", scale);
  b.output("half", convert(wide * 0.5, DType::f16));
  check_region(lowered(b.finish()), "row", {.relative = 1e-3, .absolute = 1.01});
}

TEST(LoopRow, Integers) {
  Builder b("count");
  Tensor x = b.input("x", i32({4, 37}));
  Tensor hit = select(gt(x, b.constant(0, i32({}))), x, b.constant(0, i32({})));
  b.output("sum", reduce_sum(hit, {1}));
  b.output("max", reduce_max(x, {1}));
  b.output("min", reduce_min(x, {1}));
  check_region(lowered(b.finish()), "row", {.relative = 0}, -50, 50);
}

TEST(LoopRow, NanInfinityAndSignedZero) {
  Builder b("special");
  Tensor x = b.input("x", f32({6, 21}));
  b.output("sum", reduce_sum(x, {1}));
  b.output("max", reduce_max(x, {1}));
  b.output("min", reduce_min(x, {1}));
  GraphPtr region = lowered(b.finish());
  Tensors inputs = random_inputs(*region, 2);
  HostTensor& x_values = inputs.at("x");
  x_values.data[3] = NAN;
  x_values.data[21 + 20] = NAN;  // in the tail
  x_values.data[42 + 7] = INFINITY;
  x_values.data[63 + 7] = -INFINITY;
  for (int i = 84; i < 105; ++i) x_values.data[i] = -0.0;
  const Tensors expected = interpret(*region, inputs);
  for (const Target& target : loop_targets()) {
    const Tensors actual = LoopRunner(region, "row", target)(inputs);
    EXPECT_TRUE(close(actual, expected, kSum));
    // The identity of a sum is -0, so that lanes beyond the row keep the sign.
    EXPECT_TRUE(std::signbit(actual.at("sum").data[4]));
  }
}

/// The contract, written out: element i to lane i mod lanes in order, then lanes pairwise.
float lane_sum(const std::vector<float>& row, size_t lanes) {
  std::vector<float> sums(lanes, -0.0f);
  for (size_t i = 0; i < row.size(); ++i) sums[i % lanes] += row[i];
  for (size_t half = lanes / 2; half >= 1; half /= 2)
    for (size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

TEST(LoopRow, SumsInTheOrderOfTheContract) {
  for (int64_t lanes : {1, 4, 16, 64})
    for (int64_t length : {5, 64, 100, 1009}) {
      GraphEditor editor("sum");
      Value x = editor.input("x", f32({3, length}));
      Value sum =
          editor.add(Op::reduce_sum, {x}, {{"axes", std::vector<int64_t>{1}}, {"lanes", lanes}});
      editor.output("sum", sum);
      GraphPtr region = editor.finish();
      const Tensors inputs = random_inputs(*region, lanes + length);
      for (const Target& target : loop_targets()) {
        const Tensors actual = LoopRunner(region, "row", target)(inputs);
        for (int64_t r = 0; r < 3; ++r) {
          const auto& data = inputs.at("x").data;
          std::vector<float> row(data.begin() + r * length, data.begin() + (r + 1) * length);
          EXPECT_EQ(actual.at("sum").data[r], lane_sum(row, lanes)) << lanes << " " << length;
        }
      }
    }
}

TEST(LoopRow, BitsDoNotDependOnFusionOrTiles) {
  for (int64_t length : {64, 1009}) {
    Builder b("fused");
    Tensor x = b.input("x", f32({40, length})), y = b.input("y", f32({40, length}));
    Tensor e = exp(x - reduce_max(x, {1}));
    b.output("sum", reduce_sum(e * y, {1}));
    GraphPtr alone = lowered(b.finish());
    Builder c("more");
    x = c.input("x", f32({40, length})), y = c.input("y", f32({40, length}));
    e = exp(x - reduce_max(x, {1}));
    c.output("other", e / reduce_sum(e, {1}));
    c.output("sum", reduce_sum(e * y, {1}));
    c.output("norm", reduce_sum(slice(x, {0, 3}, {40, length}), {1}));
    GraphPtr fused = lowered(c.finish());
    const Tensors inputs = random_inputs(*alone, 6);
    std::vector<Tensors> results;
    for (const Target& target : loop_targets())
      for (const GraphPtr& region : {alone, fused})
        for (int64_t split : {0, 1, 3})
          results.push_back(LoopRunner(region, "row", target, {.split = split})(inputs));
    for (const Tensors& result : results) EXPECT_EQ(result.at("sum"), results[0].at("sum"));
  }
}

TEST(LoopRow, BitsDoNotDependOnThreads) {
  GraphPtr region = norm_region(Op::layer_norm, {1000, 65});
  const KernelCode code = make_loop_kernel(region, Schedule::row, loop_targets()[0]);
  EXPECT_GT(code.tiles, 4);
  Jit jit(loop_targets()[0], {.threads = 1});
  jit.add({{"k", "", [&](Emitter& e) { code.emit(e, "k"); }}});
  Buffer x(65000 * 4), gamma(65 * 4), beta(65 * 4);
  Random random(1);
  for (Buffer* buffer : {&x, &gamma, &beta})
    for (float& value : buffer->as<float>()) value = static_cast<float>(random.uniform(-2, 2));
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3}) {
    Buffer y(65000 * 4);
    void* buffers[] = {x.data(), gamma.data(), beta.data(), y.data()};
    Workers workers(threads);
    std::vector<Buffer> scratch;
    for (int i = 0; i < threads; ++i) scratch.emplace_back(code.scratch_bytes + 64);
    workers.parallel_tiles(code.tiles, [&](int64_t first, int64_t last, int worker) {
      jit.kernel("k")(buffers, first, last, scratch[worker].data());
    });
    results.emplace_back(y.as<float>().begin(), y.as<float>().end());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(LoopColumn, EveryShape) {
  struct Case {
    Shape shape;
    std::vector<int64_t> axes;
  };
  for (const Case& c : std::vector<Case>{{{1, 1}, {0}},
                                         {{37, 1}, {0}},
                                         {{50, 6}, {0}},
                                         {{33, 130}, {0}},
                                         {{20, 1009}, {0}},
                                         {{5, 7, 65}, {0, 1}},
                                         {{5, 7, 65}, {1}},
                                         {{5, 7, 65}, {0}},
                                         {{5, 17, 1}, {0}},
                                         {{5, 17, 1}, {1}},
                                         {{5, 17, 1}, {0, 1}},
                                         {{3, 4, 5, 40}, {0, 2}},
                                         {{2, 3, 4, 5, 6}, {1, 3}}}) {
    Builder b("column");
    Shape reduced = c.shape;
    for (int64_t axis : c.axes) reduced[axis] = 1;
    Tensor x = b.input("x", f32(c.shape)), y = b.input("y", f32({c.shape.back()}));
    Tensor before = b.input("before", f32(reduced));
    Tensor sum = reduce_sum(x * y, c.axes);
    b.output("sum", sum);
    b.output("scaled", sum * 0.5 + before);
    b.output("max", reduce_max(x, c.axes));
    b.output("min", reduce_min(x - y, c.axes));
    GraphPtr region = lowered(b.finish());
    check_region(region, "column", kSum);
    const Tensors inputs = random_inputs(*region, 8);
    for (const Target& target : loop_targets())
      EXPECT_EQ(LoopRunner(region, "column", target)(inputs),
                LoopRunner(region, "column", target, {.in_place = {{2, 1}}, .split = 1})(inputs));
  }
}

TEST(LoopColumn, OneAscendingChainWhateverTheTarget) {
  Builder b("chain");
  Tensor x = b.input("x", f32({3, 50, 70}));
  b.output("sum", reduce_sum(x, {0, 1}));
  b.output("bf16", convert(reduce_sum(x, {0, 1}), DType::bf16));
  GraphPtr region = b.finish();
  const Tensors inputs = random_inputs(*region, 8);
  std::vector<float> sums(70, -0.0f);
  for (int i = 0; i < 150; ++i)
    for (int j = 0; j < 70; ++j) sums[j] += static_cast<float>(inputs.at("x").data[i * 70 + j]);
  for (const Target& target : loop_targets()) {
    const Tensors actual = LoopRunner(region, "column", target)(inputs);
    for (int j = 0; j < 70; ++j) {
      EXPECT_EQ(actual.at("sum").data[j], sums[j]);
      EXPECT_EQ(actual.at("bf16").data[j], round_to(DType::bf16, sums[j]));
    }
  }
}

TEST(LoopColumn, MovementInThePrologue) {
  Builder b("movement");
  Tensor x = b.input("x", f32({40, 30, 9})), tail = b.input("tail", f32({9, 2, 40}));
  Tensor moved = concat({transpose(x, {2, 1, 0}), tail}, 1);
  b.output("sum", reduce_sum(moved, {0}));
  b.output("other",
           reduce_sum(pad(slice(moved, {0, 0, 1}, {9, 31, 40}), {0, 0, 1}, {0, 1, 0}), {0}));
  check_region(lowered(b.finish()), "column", kSum);
}

}  // namespace
}  // namespace weir::test
