#include "passes/loss_head.h"

#include "passes/pass_test_util.h"

namespace weir {
namespace {

struct Head {
  Builder b{"g"};
  Tensor x = b.input("x", f32({2, 3, 5}));
  Tensor w = b.state("w", f32({4, 5}));
  Tensor targets = b.input("targets", i32({6}));
  Tensor scale = b.input("scale", f32({}));
};

TEST(LossHead, TakesTheProductIn) {
  Head h;
  Tensor logits = linear(reshape(h.x, {6, 5}), h.w).named("hook_logits");
  h.b.output("loss", cross_entropy(logits, h.targets, h.scale));
  GraphPtr before = h.b.finish(), after = fuse_loss_head(before);
  EXPECT_EQ(body_of(*after),
            "  A = reshape x {shape=[6,5]} : f32[6,5]\n"
            "  B = matmul A, w {transpose_b=true} : f32[6,4]\n"
            "  C = linear_cross_entropy A, w, targets, scale : f32[]\n"
            "  return loss = C\n");
  EXPECT_EQ(after->node(*after->find("hook_logits")).op, Op::matmul);
  expect_same_results(*before, *after);
  EXPECT_EQ(fuse_loss_head(after), after);
}

TEST(LossHead, LooksThroughReshapeAndIdentity) {
  Head h;
  Tensor logits = reshape(identity(linear(h.x, h.w)), {6, 4});
  h.b.output("loss", cross_entropy(logits, h.targets, h.scale));
  GraphPtr before = h.b.finish(), after = fuse_loss_head(before);
  EXPECT_EQ(count_ops(*after, Op::linear_cross_entropy), 1);
  expect_same_results(*before, *after);
}

TEST(LossHead, KeepsTheCap) {
  Head h;
  Tensor logits = linear(reshape(h.x, {6, 5}), h.w);
  h.b.output("loss", cross_entropy(logits, h.targets, h.scale, 0.5));
  GraphPtr before = h.b.finish(), after = fuse_loss_head(before);
  EXPECT_NE(body_of(*after).find("linear_cross_entropy A, w, targets, scale {cap=0.5}"),
            std::string::npos);
  expect_same_results(*before, *after);
}

TEST(LossHead, LeavesLogitsThatSomethingElseNeeds) {
  Head h;
  Tensor logits = linear(reshape(h.x, {6, 5}), h.w);
  h.b.output("loss", cross_entropy(logits, h.targets, h.scale));
  h.b.output("logits", logits);
  GraphPtr before = h.b.finish();
  EXPECT_EQ(fuse_loss_head(before), before);
}

TEST(LossHead, NamedCodeOnLogitsDoesNotCount) {
  Head h;
  Tensor logits = linear(reshape(h.x, {6, 5}), h.w);
  softmax(logits).named("hook_probabilities");
  h.b.output("loss", cross_entropy(logits, h.targets, h.scale));
  GraphPtr after = fuse_loss_head(h.b.finish());
  EXPECT_EQ(count_ops(*after, Op::linear_cross_entropy), 1);
  EXPECT_TRUE(after->find("hook_probabilities"));
}

TEST(LossHead, OneNodeServesLossAndGradient) {
  GraphEditor editor("g", Stage::differentiated);
  Value x = editor.input("x", f32({6, 5})), w = editor.input("w", f32({4, 5}), true);
  Value targets = editor.input("targets", i32({6})), scale = editor.input("scale", f32({}));
  Value loss = editor.add(Op::linear_cross_entropy, {x, w, targets, scale});
  editor.name(loss, "hook_loss");
  auto gradient = editor.add_node(Op::linear_cross_entropy_grad, {x, w, targets, scale});
  editor.output("loss", loss);
  editor.output("x.grad", gradient[1]);
  editor.output("w.grad", gradient[2]);
  GraphPtr before = editor.finish(), after = share_loss_head(before);
  EXPECT_EQ(body_of(*after),
            "  A, B, C = linear_cross_entropy_grad x, w, targets, scale : f32[], f32[6,5], "
            "f32[4,5]\n"
            "  return loss = A, x.grad = B, w.grad = C\n");
  EXPECT_TRUE(after->find("hook_loss"));
  expect_same_results(*before, *after);
  EXPECT_EQ(share_loss_head(after), after);
}

}  // namespace
}  // namespace weir
