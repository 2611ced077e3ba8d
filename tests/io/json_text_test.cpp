// JSON from outside.
#include "io/json_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/error.h"

namespace weir {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_json<nlohmann::json>(text, "topic", "f.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(JsonText, IsParsed) {
  const auto value = parse_json<nlohmann::ordered_json>(
      R"({"b": [1, {"b": 2}, {"b": 3}], "a": "\"a\": {", "c": {"a": {}, "\\": [], "": null}})", "t",
      "f");
  EXPECT_EQ(value.dump(),
            R"({"b":[1,{"b":2},{"b":3}],"a":"\"a\": {","c":{"a":{},"\\":[],"":null}})");
}

TEST(JsonText, HasEveryKeyOnce) {
  EXPECT_EQ(error_of("{\"a\": [{\"x\": 1,\n   \"x\": 1}], \"b\": {},\n\"a\": 2}"),
            "[topic] 2 problems:\n"
            "  - f.json: line 2, column 4: the key \"x\" is given twice in one object. Remove one "
            "of them.\n"
            "  - f.json: line 3, column 1: the key \"a\" is given twice in one object. Remove one "
            "of them.");
  EXPECT_EQ(error_of(R"({"a": 1, "\u0061": 1})"),
            "[topic] f.json: line 1, column 10: the key \"a\" is given twice in one object. Remove "
            "one of them.");
}

TEST(JsonText, RepeatedKeysOfATextThatIsParsedElsewhere) {
  EXPECT_EQ(repeated_keys(R"({"a": 1, "b": {"a": 2, "c": "\"a\":"}})"), std::vector<std::string>{});
  EXPECT_EQ(repeated_keys(R"({"a": 1, "b": {"c": 2, "c": 3}, "a": {}})"),
            (std::vector<std::string>{"c", "a"}));
}

TEST(JsonText, SaysWhereItIsWrong) {
  EXPECT_EQ(error_of("{\n  \"a\": no\n}"),
            "[topic] f.json is not valid JSON: parse error at line 2, column 9: syntax error while "
            "parsing value - invalid literal; last read: '\"a\": no'.");
  EXPECT_EQ(error_of(std::string(65, '[')),
            "[topic] f.json has arrays and objects that nest more than 64 deep; it is damaged.");
  EXPECT_EQ(error_of("1e999"),
            "[topic] f.json is not valid JSON: number overflow parsing '1e999'.");
}

}  // namespace
}  // namespace weir
