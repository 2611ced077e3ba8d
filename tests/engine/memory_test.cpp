#include "engine/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "io/file.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// Control groups as the system shows them, in a folder of the test.
class ControlGroups : public ::testing::Test {
 protected:
  void put(const std::string& file, const std::string& text) {
    const std::filesystem::path path = folder_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    write_file(path.string(), text);
  }
  int64_t left() const { return free_of_control_groups(folder_ / "self", folder_ / "mount"); }

  test::TemporaryFolder folder_;
};

TEST_F(ControlGroups, TheLeastUpToTheRootCounts) {
  put("self", "0::/user/job/step\n");
  EXPECT_EQ(left(), kUnlimited);
  put("mount/user/memory.max", "1000\n");
  put("mount/user/memory.current", "600\n");
  put("mount/user/memory.stat", "anon 300\ninactive_file 250\n");
  EXPECT_EQ(left(), 650) << "cached files give way";
  put("mount/user/job/memory.max", "max\n");
  put("mount/user/job/memory.current", "100\n");
  EXPECT_EQ(left(), 650);
  put("mount/user/job/step/memory.max", "300\n");
  put("mount/user/job/step/memory.current", "100\n");
  EXPECT_EQ(left(), 200);
  put("mount/user/job/step/memory.high", "150\n");
  EXPECT_EQ(left(), 50) << "above which the group is slowed down";
  put("mount/user/job/step/memory.current", "900\n");
  EXPECT_EQ(left(), 0);
}

TEST_F(ControlGroups, AContainerSeesItsOwnGroupAsTheRoot) {
  put("self", "0::/path/of/the/host\n");
  put("mount/memory.max", "1000\n");
  put("mount/memory.current", "400\n");
  EXPECT_EQ(left(), 600);
}

TEST_F(ControlGroups, Version1HasAMountOfItsOwn) {
  put("self", "9:name=systemd:/\n4:cpu,memory:/outer/inner\n0::/\n");
  put("mount/memory/outer/memory.limit_in_bytes", "1000\n");
  put("mount/memory/outer/memory.usage_in_bytes", "900\n");
  put("mount/memory/outer/memory.stat", "cache 500\ntotal_inactive_file 400\n");
  put("mount/memory/outer/inner/memory.limit_in_bytes", "9223372036854771712\n");
  put("mount/memory/outer/inner/memory.usage_in_bytes", "800\n");
  EXPECT_EQ(left(), 500);
}

TEST(FreeMemory, IsWhatThisMachineHas) {
  EXPECT_GT(free_memory(), 0);
  EXPECT_LE(free_memory(), int64_t{1} << 50);
}

TEST(MemoryPeak, IsTheLargestOfRunningAndCompiling) {
  MemoryPeak peak{.weights = 1 << 20, .arena = 2 << 20, .kept = 3 << 20, .process = 4 << 20};
  EXPECT_EQ(peak.needed(), 10 << 20);
  EXPECT_EQ(to_string(peak),
            "10.0 MiB = weights 1.0 MiB + other state 0 B + arena 2.0 MiB + inputs 0 B + kept "
            "values 3.0 MiB + program and files 4.0 MiB");
  peak.compiler = 12 << 20;
  EXPECT_EQ(peak.needed(), 12 << 20);
  EXPECT_THAT(to_string(peak), HasSubstr("12.0 MiB while compiling, then 10.0 MiB = "));
  peak.earlier = 14 << 20;
  EXPECT_EQ(peak.needed(), 12 << 20) << "what was before is no need of this run";
  EXPECT_EQ(peak.total(), 14 << 20);
  EXPECT_THAT(to_string(peak), HasSubstr("14.0 MiB before, then 10.0 MiB = "));
}

}  // namespace
}  // namespace weir
