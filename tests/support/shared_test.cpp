#include "support/shared.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(Shared, CopiesOfAListShareItsMemory) {
  const SharedList<int> list = {1, 2, 3};
  const SharedList<int> copy = list;
  EXPECT_EQ(&copy[0], &list[0]);
  EXPECT_EQ(copy.list(), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(copy, (SharedList<int>{1, 2, 3}));
  EXPECT_FALSE(copy == (SharedList<int>{1, 2}));
  EXPECT_THROW(copy.at(3), std::out_of_range);
}

TEST(Shared, AnEmptyListIsLikeNone) {
  const SharedList<int> none, empty = std::vector<int>();
  EXPECT_EQ(none, empty);
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.begin(), empty.end());
  EXPECT_THROW(none.at(0), std::out_of_range);
}

TEST(Shared, TextsAreComparedByWhatTheySay) {
  const SharedText text = "llama.cpp:41", copy = text, other = "llama.cpp:42";
  EXPECT_EQ(&copy.text(), &text.text());
  EXPECT_EQ(text, SharedText(std::string("llama.cpp:41")));
  EXPECT_FALSE(text == other);
  EXPECT_EQ(SharedText(), SharedText(""));
  EXPECT_TRUE(SharedText("").empty());
  EXPECT_EQ(SharedText().text(), "");
}

}  // namespace
}  // namespace weir
