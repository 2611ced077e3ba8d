// What the rotary embedding refuses: shapes, and attributes of its scalings that do not fit
// together.
#include <gmock/gmock.h>

#include <limits>

#include "ir/infer.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

std::string error_with(const Type& type, const Attrs& attrs) {
  return test::error_of([&] { infer_types(Op::rope, {&type}, attrs); });
}

// Attributes beside a base.
std::string error_of(std::initializer_list<std::pair<const char*, AttrValue>> more) {
  Attrs attrs{{"base", 1e4}};
  for (const auto& [name, value] : more) attrs.set(name, value);
  return error_with(f32({2, 5, 3, 8}), attrs);
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const int64_t kContext = 64;

TEST(InferRope, TakesEveryScaling) {
  const Type type = f32({2, 5, 3, 8});
  EXPECT_EQ(infer_types(Op::rope, {&type}, {{"base", 1e4}}), std::vector<Type>{type});
  EXPECT_EQ(error_of({{"factor", 2.0}}), "no error");
  EXPECT_EQ(error_of({{"factor", 2.0}, {"low", 1.0}, {"high", 4.0}, {"context", kContext}}),
            "no error");
  EXPECT_EQ(error_of({{"factor", 2.0}, {"begin", 1.0}, {"end", 2.0}, {"amplitude", 1.1}}),
            "no error");
}

TEST(InferRope, NamesTheShapeThatIsNeeded) {
  EXPECT_EQ(error_with(f32({2, 5, 24}), {{"base", 1e4}}),
            "[rope] operand 0 is f32[2,5,24], but [B,T,H,d] is needed.");
  EXPECT_EQ(error_with(f32({2, 5, 3, 7}), {{"base", 1e4}}),
            "[rope] operand f32[2,5,3,7] has 7 features a head, but an even number is needed.");
  EXPECT_THAT(error_with(i32({2, 5, 3, 8}), {{"base", 1e4}}),
              HasSubstr("but a floating-point type is needed."));
}

TEST(InferRope, NamesAttributesThatAreNoNumbersOfTheirKind) {
  for (double base : {0.0, -1e4, kInfinity, kNaN})
    EXPECT_EQ(error_with(f32({2, 5, 3, 8}), {{"base", base}}),
              fmt::format("[rope] base {}: a positive number is needed.", base));
  for (double factor : {0.0, -2.0, kInfinity, kNaN})
    EXPECT_EQ(error_of({{"factor", factor}}),
              fmt::format("[rope] factor {}: a positive number is needed.", factor));
  for (double amplitude : {kInfinity, kNaN})
    EXPECT_EQ(error_of({{"amplitude", amplitude}}),
              fmt::format("[rope] amplitude {} is no number.", amplitude));
}

TEST(InferRope, NamesAttributesThatLackOthers) {
  const std::string factor = "[rope] the attributes low, high, context, begin and end need factor.";
  EXPECT_EQ(error_of({{"low", 1.0}, {"high", 4.0}, {"context", kContext}}), factor);
  EXPECT_EQ(error_of({{"begin", 1.0}, {"end", 4.0}}), factor);
  EXPECT_EQ(error_of({{"end", 4.0}}), factor);
  const std::string turns = "[rope] the attributes low, high and context are needed together.";
  EXPECT_EQ(error_of({{"factor", 2.0}, {"low", 1.0}}), turns);
  EXPECT_EQ(error_of({{"factor", 2.0}, {"low", 1.0}, {"high", 4.0}}), turns);
  EXPECT_EQ(error_of({{"factor", 2.0}, {"context", kContext}, {"high", 4.0}}), turns);
  const std::string ramp = "[rope] the attributes begin and end are needed together.";
  EXPECT_EQ(error_of({{"factor", 2.0}, {"begin", 1.0}}), ramp);
  EXPECT_EQ(error_of({{"factor", 2.0}, {"end", 1.0}}), ramp);
  EXPECT_EQ(error_of({{"factor", 2.0},
                      {"low", 1.0},
                      {"high", 4.0},
                      {"context", kContext},
                      {"begin", 1.0},
                      {"end", 2.0}}),
            "[rope] low, high and context are of another scaling than begin and end: give one of "
            "them.");
}

TEST(InferRope, NamesBoundsThatAreNone) {
  EXPECT_EQ(error_of({{"factor", 2.0}, {"begin", 3.0}, {"end", 3.0}}),
            "[rope] begin 3 and end 3: two different numbers are needed.");
  EXPECT_THAT(error_of({{"factor", 2.0}, {"begin", kNaN}, {"end", 3.0}}),
              HasSubstr("two different numbers are needed."));
  struct Bounds {
    double low, high;
    int64_t context;
  };
  for (const Bounds& b : {Bounds{0, 4, 64}, Bounds{-1, 4, 64}, Bounds{4, 4, 64}, Bounds{4, 1, 64},
                          Bounds{1, 4, 0}, Bounds{1, 4, -8}, Bounds{kNaN, 4, 64}})
    EXPECT_EQ(error_of({{"factor", 8.0}, {"low", b.low}, {"high", b.high}, {"context", b.context}}),
              fmt::format("[rope] factor 8, low {}, high {} and context {}: positive numbers with "
                          "low < high are needed.",
                          b.low, b.high, b.context));
}

}  // namespace
}  // namespace weir
