#include "passes/plan_memory.h"

#include <gmock/gmock.h>

#include "ir/parse.h"
#include "ir/verify.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"

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
  EXPECT_EQ(update.attrs.get_ints(kPlace), (std::vector<int64_t>{-2}));
  EXPECT_EQ(to_string(memory_need(*plan)),
            "arena 32.0 KiB + state 16.0 KiB + inputs 16.0 KiB = 64.0 KiB");
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
  EXPECT_EQ(error_with("place=[16384]", "place=[16384]"), "no user error");
  std::string overlap = error_with("place=[16384]", "place=[64]");
  EXPECT_THAT(overlap,
              testing::HasSubstr("[plan] plan.weir: the places of graph g do not keep results"));
  EXPECT_THAT(overlap, testing::HasSubstr(" overlaps result 0 of node "));
  EXPECT_THAT(overlap, testing::HasSubstr("schedule=\"matmul\""));
  std::string early = error_with("place=[0]", "place=[-2]");
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
  EXPECT_GE(update.attrs.get_ints(kPlace)[0], 0);
}

}  // namespace
}  // namespace weir
