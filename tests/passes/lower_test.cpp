#include "passes/lower.h"

#include "passes/pass_test_util.h"

namespace weir {
namespace {

TEST(Lower, LanesAreVectorsByRounds) {
  Target avx2 = parse_target("x86-64-v3"), avx512 = parse_target("x86-64-v4");
  EXPECT_EQ(reduction_lanes(1, avx2), 8);
  EXPECT_EQ(reduction_lanes(31, avx2), 8);
  EXPECT_EQ(reduction_lanes(32, avx2), 16);
  EXPECT_EQ(reduction_lanes(63, avx2), 16);
  EXPECT_EQ(reduction_lanes(64, avx2), 32);
  EXPECT_EQ(reduction_lanes(50257, avx2), 32);
  EXPECT_EQ(reduction_lanes(127, avx512), 32);
  EXPECT_EQ(reduction_lanes(128, avx512), 64);
}

TEST(Lower, KeyBlocksFitTheSecondCache) {
  Target target = parse_target("x86-64-v4");
  target.l2_bytes = 1 << 20;
  EXPECT_EQ(attention_key_block(1024, 64, target), 64);
  EXPECT_EQ(attention_key_block(1024, 512, target), 32);
  EXPECT_EQ(attention_key_block(1024, 4096, target), 16);
  EXPECT_EQ(attention_key_block(5, 64, target), 16);
  EXPECT_EQ(attention_key_block(33, 64, target), 48);
  target.l2_bytes = 256 << 10;
  EXPECT_EQ(attention_key_block(1024, 128, target), 32);
}

TEST(Lower, SplitsMixedReductionsAndStampsLanes) {
  Builder b("g");
  Tensor x = b.input("x", f32({3, 4, 70}));
  b.output("all", reduce_sum(x, {0, 2}));
  b.output("last", reduce_max(x, {2}));
  b.output("first", reduce_min(x, {0, 1}));
  GraphPtr before = with_stage(b.finish(), Stage::instrumented);
  GraphPtr after = lower(before, parse_target("x86-64-v3"));
  EXPECT_EQ(body_of(*after),
            "  A = reduce_sum x {axes=[2], lanes=32} : f32[3,4,1]\n"
            "  B = reduce_sum A {axes=[0]} : f32[1,4,1]\n"
            "  C = reduce_max x {axes=[2], lanes=32} : f32[3,4,1]\n"
            "  D = reduce_min x {axes=[0,1]} : f32[1,1,70]\n"
            "  return all = B, last = C, first = D\n");
  expect_same_results(*before, *after);
  EXPECT_EQ(lower(after, parse_target("x86-64-v3")), after);
  // Stamps stay: a graph lowered for one machine means the same on another.
  EXPECT_EQ(lower(after, parse_target("x86-64-v4")), after);
}

TEST(Lower, StampsAttentionAndDropsNamedOnlyCode) {
  Builder b("g");
  Tensor q = b.input("q", f32({1, 64, 2, 32})), k = b.input("k", f32({1, 64, 2, 32}));
  auto [out, rows] = attention(q, k, k, true, 0.2);
  exp(q).named("blocks.0.attn.hook_unused");
  b.output("out", out.named("blocks.0.attn.hook_z"));
  GraphPtr after = lower(with_stage(b.finish(), Stage::instrumented), parse_target("x86-64-v3"));
  EXPECT_EQ(body_of(*after),
            "  A, B = attention q, k, k {causal=true, key_block=64, scale=0.2} : f32[1,64,2,32], "
            "f32[1,2,2,64]\n"
            "  return out = A\n");
  EXPECT_EQ(after->stage(), Stage::lowered);
  EXPECT_TRUE(after->find("blocks.0.attn.hook_z"));
  EXPECT_FALSE(after->find("blocks.0.attn.hook_unused"));
}

}  // namespace
}  // namespace weir
