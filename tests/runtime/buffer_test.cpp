#include "runtime/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

namespace weir {
namespace {

bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % WEIR_BUFFER_ALIGNMENT == 0;
}

TEST(Buffer, AlignedZeroedAndMoved) {
  for (size_t bytes : {size_t{1}, size_t{100}, size_t{3} << 20}) {
    Buffer buffer(bytes);
    EXPECT_TRUE(is_aligned(buffer.data()));
    for (unsigned char c : buffer.as<unsigned char>()) ASSERT_EQ(c, 0);
    void* data = buffer.data();
    Buffer other = std::move(buffer);
    EXPECT_EQ(other.data(), data);
    EXPECT_EQ(other.bytes(), bytes);
    EXPECT_EQ(buffer.data(), nullptr);  // NOLINT(bugprone-use-after-move): promised to be empty
  }
  EXPECT_EQ(Buffer(0).data(), nullptr);
}

TEST(GuardedBuffer, SeesWritesBeyondItsEnd) {
  GuardedBuffer buffer(100);
  EXPECT_TRUE(is_aligned(buffer.data()));
  for (float& x : buffer.as<float>()) x = 1;
  EXPECT_FALSE(buffer.overrun());
  static_cast<unsigned char*>(buffer.data())[100] = 0;
  EXPECT_TRUE(buffer.overrun());
}

TEST(GuardedBufferDeathTest, FaultsAtThePage) {
  GuardedBuffer aligned(128), exact(4, false);
  volatile char* past = static_cast<char*>(aligned.data()) + 128;
  EXPECT_DEATH(*past = 1, "");
  volatile char* behind = static_cast<char*>(exact.data()) + 4;
  EXPECT_DEATH(*behind = 1, "");
}

}  // namespace
}  // namespace weir
