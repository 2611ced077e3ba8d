#include "passes/plan_memory.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "ir/parse.h"
#include "ir/verify.h"
#include "models/llama.h"
#include "passes/lifetimes.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "support/align.h"

namespace weir {
namespace {

GraphPtr planned(const GraphPtr& graph) { return run_pipeline(graph, CompileOptions{}).graph; }

TEST(PlanMemory, ReusesTheArenaAndUpdatesStateInPlace) {
  Builder b("g");
  Tensor x = b.input("x", f32({64, 64}));
  Tensor w = b.state("w", f32({64, 64}));
  Tensor y = matmul(matmul(matmul(x, w), x), x);
  b.output("w", w - 0.1 * y);
  GraphPtr plan = planned(b.finish());
  check_plan(*plan);
  EXPECT_EQ(memory_need(*plan).arena, 2 * 64 * 64 * 4);
  const Node& update = plan->node(*plan->find_output("w"));
  EXPECT_EQ(update.attrs.get_ints(kOffset), (std::vector<int64_t>{-2}));
  EXPECT_EQ(to_string(memory_need(*plan)),
            "arena 32.0 KiB + state 16.0 KiB + inputs 16.0 KiB = 64.0 KiB");
}

// The offsets that a search through all earlier allocations finds: largest first, each at
// the lowest offset that is free for all of its lifetime.
std::map<Value, int64_t> simple_offsets(const Graph& graph) {
  struct Placed {
    int64_t begin, end;
    Lifetime life;
  };
  const std::map<Value, Lifetime> live = lifetimes(graph);
  std::vector<Value> values;
  for (const auto& [value, life] : live)
    if (graph.node(value).op == Op::kernel &&
        graph.node(value).attrs.get_ints(kOffset).at(static_cast<size_t>(value.result)) >= 0)
      values.push_back(value);
  const auto size = [&](Value value) { return aligned(graph.type(value).bytes()); };
  std::stable_sort(values.begin(), values.end(),
                   [&](Value a, Value b) { return size(a) > size(b); });
  std::map<Value, int64_t> offsets;
  std::vector<Placed> placed;
  for (Value value : values) {
    const Lifetime& life = live.at(value);
    std::sort(placed.begin(), placed.end(),
              [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    int64_t offset = 0;
    for (const Placed& other : placed) {
      if (offset + size(value) <= other.begin) break;
      if (other.life.first <= life.last && life.first <= other.life.last)
        offset = std::max(offset, other.end);
    }
    placed.push_back({offset, offset + size(value), life});
    offsets[value] = offset;
  }
  return offsets;
}

TEST(PlanMemory, PlacesAreThoseOfASimpleSearch) {
  const Model model = build_llama({.name = "deep",
                                   .layers = 40,
                                   .d_model = 16,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .d_head = 8,
                                   .d_ff = 24,
                                   .vocabulary = 11},
                                  2, 7);
  CompileOptions options{.gradients = {"*"}};
  options.probes = {"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
                    "blocks.*.hook_resid_mid"};
  const GraphPtr plan = run_pipeline(model.graph, options).graph;
  const std::map<Value, int64_t> offsets = simple_offsets(*plan);
  EXPECT_GT(offsets.size(), 1000u);
  for (const auto& [value, offset] : offsets)
    ASSERT_EQ(plan->node(value).attrs.get_ints(kOffset).at(static_cast<size_t>(value.result)),
              offset)
        << "node " << value.node;
}

// A plan is also written by hand.
TEST(PlanMemory, SaysWhereAHandWrittenPlanIsWrong) {
  Builder b("g");
  Tensor x = b.input("x", f32({64, 64}));
  Tensor w = b.state("w", f32({64, 64}));
  Tensor y = matmul(matmul(matmul(x, w), x), x);
  b.output("w", w - 0.1 * y);
  std::string text = print_graph(*planned(b.finish()));
  auto error_with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << text;
    changed.replace(at, from.size(), to);
    GraphPtr graph = parse_graph(changed, "plan.weir");
    verify_user(*graph, "plan.weir");
    return user_error_of([&] { check_plan_user(*graph, "plan.weir"); });
  };
  EXPECT_EQ(error_with("offset=[16384]", "offset=[16384]"), "no user error");
  std::string overlap = error_with("offset=[16384]", "offset=[64]");
  EXPECT_THAT(overlap,
              testing::HasSubstr("[plan] plan.weir: the offsets of graph g do not keep results"));
  EXPECT_THAT(overlap, testing::HasSubstr(" overlaps result 0 of node "));
  EXPECT_THAT(overlap, testing::HasSubstr("schedule=\"matmul\""));
  std::string early = error_with("offset=[0]", "offset=[-2]");
  EXPECT_THAT(early, testing::HasSubstr("overwrites the state w, which node "));
  EXPECT_THAT(early, testing::HasSubstr("both overwrite the state w"));
  EXPECT_THAT(early, testing::HasSubstr("of which its kernel reads other elements"));
}

TEST(PlanMemory, StateThatIsReadLaterIsNotOverwritten) {
  Builder b("g");
  Tensor x = b.input("x", f32({64, 64}));
  Tensor w = b.state("w", f32({64, 64}));
  Tensor next = w * 0.5;
  b.output("w", next);
  b.output("y", matmul(matmul(x, next), w));
  GraphPtr plan = planned(b.finish());
  const Node& update = plan->node(*plan->find_output("w"));
  EXPECT_GE(update.attrs.get_ints(kOffset)[0], 0);
}

}  // namespace
}  // namespace weir
