#include "io/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace weir {
namespace {

TEST(JsonDepth, CountsWhatNests) {
  EXPECT_TRUE(json_is_shallow(""));
  EXPECT_TRUE(json_is_shallow(std::string(64, '[') + std::string(64, ']')));
  EXPECT_FALSE(json_is_shallow(std::string(65, '[') + std::string(65, ']')));
  EXPECT_FALSE(json_is_shallow(std::string(33, '[') + std::string(32, '{')));
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "{\"a\":[]},";
  EXPECT_TRUE(json_is_shallow(wide));
}

TEST(JsonDepth, TextsDoNotCount) {
  EXPECT_TRUE(json_is_shallow("[\"" + std::string(1000, '[') + "\"]"));
  EXPECT_TRUE(json_is_shallow("[\"\\\"" + std::string(1000, '{') + "\"]"));
  EXPECT_FALSE(json_is_shallow("[\"\\\\\"," + std::string(1000, '{')));
}

}  // namespace
}  // namespace weir
