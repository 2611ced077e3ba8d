#include "support/target.h"

#include <gmock/gmock.h>

#include "support/error.h"

namespace weir {
namespace {

TEST(Target, LevelsDifferInVectors) {
  const Target v3 = parse_target("x86-64-v3"), v4 = parse_target("x86-64-v4");
  EXPECT_EQ(v3.lanes(), 8);
  EXPECT_EQ(v3.vector_registers, 16);
  EXPECT_EQ(v4.lanes(), 16);
  EXPECT_EQ(v4.vector_registers, 32);
  EXPECT_EQ(v3.isa(), "x86-64-v3");
}

TEST(Target, HostRunsItselfAndItsFeaturesAreSorted) {
  const Target& host = host_target();
  EXPECT_TRUE(runs_here(host));
  EXPECT_TRUE(runs_here(parse_target("x86-64-v3")));
  EXPECT_EQ(runs_here(parse_target("x86-64-v4")), host.vector_bytes == 64);
  EXPECT_TRUE(std::is_sorted(host.features.begin(), host.features.end()));
  EXPECT_EQ(parse_target(""), host);
  EXPECT_GE(host.cores, 1);
  EXPECT_GE(host.l1_bytes, 8 << 10);
  EXPECT_GT(host.l2_bytes, host.l1_bytes);
}

TEST(Target, ForeignFeatureDoesNotRunHere) {
  Target target = parse_target("x86-64-v3");
  target.features = {"no-such-extension"};
  EXPECT_FALSE(runs_here(target));
  EXPECT_EQ(target.isa(), "x86-64-v3+no-such-extension");
  EXPECT_TRUE(target.has("no-such-extension"));
  target.cpu = "pentium";
  EXPECT_FALSE(runs_here(target));
}

TEST(Target, UnknownNameListsTheLegalOnes) {
  try {
    parse_target("x86-64-v5");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'x86-64-v5' is not a target; use host, "
                                                 "x86-64-v3 or x86-64-v4."));
  }
}

TEST(Target, PrintNamesEverything) {
  Target target = parse_target("x86-64-v4");
  target.cores = 1;
  EXPECT_EQ(print(target),
            "x86-64-v4: x86-64-v4, 32 vector registers of 64 bytes, L1 32.0 KiB, L2 1.0 MiB, "
            "L3 16.0 MiB, 1 core");
}

}  // namespace
}  // namespace weir
