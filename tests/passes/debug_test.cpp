#include "passes/debug.h"

#include <gmock/gmock.h>

#include "passes/pass_test_util.h"

namespace weir {
namespace {

const std::vector<std::string> kPasses = {"simplify", "decompose", "lower"};

TEST(Debug, ReadsEveryWord) {
  DebugOptions options =
      parse_debug_options("dump=simplify, dump=lower,verify,time,stop=2,dir=/tmp/x", kPasses);
  EXPECT_FALSE(options.dump_all);
  EXPECT_TRUE(options.dumps("simplify"));
  EXPECT_TRUE(options.dumps("lower"));
  EXPECT_FALSE(options.dumps("decompose"));
  EXPECT_TRUE(options.verify);
  EXPECT_TRUE(options.time);
  EXPECT_EQ(options.stop, 2);
  EXPECT_EQ(options.folder, "/tmp/x");
  EXPECT_TRUE(parse_debug_options("dump", kPasses).dumps("decompose"));
  EXPECT_FALSE(parse_debug_options("", kPasses).stop.has_value());
}

TEST(Debug, OneMessageSaysAllThatIsWrong) {
  std::string text = user_error_of(
      [] { parse_debug_options("dumps,dump=simplfy,stop=many,dir=,time=3", kPasses); });
  EXPECT_THAT(text, testing::HasSubstr("[WEIR_DEBUG] 5 problems:"));
  EXPECT_THAT(text, testing::HasSubstr("'dumps' is not understood. Did you mean dump?"));
  EXPECT_THAT(text, testing::HasSubstr("as in WEIR_DEBUG=dump=simplify,time"));
  EXPECT_THAT(text, testing::HasSubstr("dump=simplfy names no pass. Did you mean simplify? The "
                                       "passes are simplify, decompose, lower."));
  EXPECT_THAT(text, testing::HasSubstr("stop=many needs a number of passes, such as stop=3."));
  EXPECT_THAT(text, testing::HasSubstr("dir needs a folder, such as dir=/tmp/weir."));
  EXPECT_THAT(text, testing::HasSubstr("'time=3' is not understood."));
}

TEST(Debug, EveryWordIsGivenOnce) {
  std::string text = user_error_of([] {
    parse_debug_options(
        "stop=1,stop=99,dir=a,dir=b,dump,dump,dump=lower,dump=lower,verify,verify,time,time",
        kPasses);
  });
  EXPECT_THAT(text, testing::HasSubstr("[WEIR_DEBUG] 6 problems:"));
  for (const char* word : {"stop", "dir", "dump", "dump=lower", "verify", "time"})
    EXPECT_THAT(text,
                testing::HasSubstr(fmt::format("\n  - {} is given twice. Give it once.", word)));
}

}  // namespace
}  // namespace weir
