#include "ir/hook_name.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(HookName, TellsTheBlock) {
  EXPECT_EQ(block_of("blocks.3.attn.hook_v"), 3);
  EXPECT_EQ(block_of("blocks.12"), 12);
  for (const char* name : {"", "blocks.", "blocks.x.hook_v", "blocks.3x.hook_v", "blocks.-1.hook_v",
                           "blocks.99999999999999999999.hook_v", "model.blocks.3.hook_v"})
    EXPECT_EQ(block_of(name), std::nullopt) << name;
}

TEST(HookName, NamesFurtherValues) {
  EXPECT_EQ(value_hook("blocks.0.attn.hook_v_scaled", "gated"), "blocks.0.attn.hook_v_gated");
  EXPECT_EQ(value_hook("hook_v", "gate"), "hook_v_gate");
  for (const char* name : {"", "blocks.0.attn.hook_k", "blocks.0.hook_v.out"})
    EXPECT_EQ(value_hook(name, "gated"), std::nullopt) << name;
}

}  // namespace
}  // namespace weir
