#include "io/tokenizer_json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "io/split_pattern.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

Json small_json() {
  return Json::parse(R"({
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "added_tokens": [{"id": 3, "content": "<s>", "normalized": false}],
    "normalizer": null, "decoder": {"type": "Fuse"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})");
}

/// The message of loading, without "[tokenizer] PATH: ".
std::string error_of(const Json& json) {
  TemporaryFolder folder;
  put_file(folder / "tokenizer.json", json.dump());
  std::string text = error_text([&] { load_tokenizer(folder.path()); });
  std::string prefix = "[tokenizer] " + (folder / "tokenizer.json") + ": ";
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

TEST(TokenizerJson, BothSpellingsOfMerges) {
  TemporaryFolder folder;
  Json json = small_json();
  put_file(folder / "tokenizer.json", json.dump());
  std::string print = load_tokenizer(folder.path())->fingerprint();
  EXPECT_EQ(load_tokenizer(folder.path())->encode("ab<s>a"), (std::vector<int32_t>{2, 3, 0}));
  json["model"]["merges"] = Json::parse(R"([["a","b"]])");
  put_file(folder / "tokenizer.json", json.dump());
  EXPECT_EQ(load_tokenizer(folder.path())->fingerprint(), print);
}

TEST(TokenizerJson, PreTokenizersBecomeSteps) {
  TemporaryFolder folder;
  Json json = small_json();
  json["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"String": "a.b"}, "behavior": "Removed", "invert": true},
    {"type": "Digits", "individual_digits": false},
    {"type": "ByteLevel", "add_prefix_space": true, "use_regex": false}]})");
  put_file(folder / "t.json", json.dump());
  BpeModel model = load_tokenizer_json(folder / "t.json");
  ASSERT_EQ(model.steps.size(), 3U);
  EXPECT_EQ(model.steps[0].kind, SplitStep::Kind::keep_matches);
  EXPECT_EQ(model.steps[0].pattern, "a\\.b");
  EXPECT_EQ(model.steps[1].pattern, digit_pattern() + "+");
  EXPECT_EQ(model.steps[2].kind, SplitStep::Kind::prefix_space);
}

TEST(TokenizerJson, EveryUnsupportedPartIsNamed) {
  auto with = [](const char* pointer, const char* value) {
    Json json = small_json();
    json[Json::json_pointer(pointer)] = Json::parse(value);
    return error_of(json);
  };
  EXPECT_EQ(with("/model/type", "\"WordPiece\""),
            "the model is of type \"WordPiece\"; BPE is needed. Give token ids instead.");
  EXPECT_EQ(with("/model/vocab", "[]"),
            "the vocabulary is a JSON empty array; an object of token to id is needed.");
  EXPECT_EQ(with("/model/vocab/b", "-1"),
            "token \"b\" has id -1; a number from 0 to 4159 is needed.");
  EXPECT_EQ(with("/model/vocab/b", "16777215"),
            "token \"b\" has id 16777215; a number from 0 to 4159 is needed.");
  EXPECT_EQ(with("/model/vocab/b", "0"), "id 0 has two tokens, \"a\" and \"b\".");
  EXPECT_EQ(with("/model/merges", "{}"), "model.merges is a JSON object; a list is needed.");
  EXPECT_EQ(with("/model/merges", "[\"a b\", \"a b c\"]"),
            "merge 2 is \"a b c\"; two tokens are needed.");
  EXPECT_EQ(with("/model/dropout", "0.1"),
            "model.dropout is 0.1; null is needed, as ids must be the same every time.");
  EXPECT_EQ(with("/model/end_of_word_suffix", "\"</w>\""),
            "model.end_of_word_suffix is \"</w>\"; null is needed.");
  EXPECT_EQ(
      with("/added_tokens/0/id", "\"x\""),
      "added token {\"content\":\"<s>\",\"id\":\"x\",\"normalized\":false} has no valid id and "
      "content.");
  EXPECT_EQ(
      with("/normalizer", "{\"type\":\"Lowercase\"}"),
      "the normalizer \"Lowercase\" is not implemented; NFC, Prepend, Replace (without $ in its "
      "content), a Sequence of them or null is needed.");
  EXPECT_THAT(
      with("/normalizer", R"x({"type":"Replace","pattern":{"Regex":"(a)"},"content":"$1"})x"),
      HasSubstr("the normalizer \"Replace\" is not implemented"));
  EXPECT_EQ(
      with("/pre_tokenizer/type", "\"Punctuation\""),
      "the pre-tokenizer has \"Punctuation\" at its end; ByteLevel at the end, Split, Digits, "
      "Metaspace, Whitespace, WhitespaceSplit, or a Sequence of them is needed.");
  EXPECT_EQ(with("/pre_tokenizer", R"({"type":"Metaspace","replacement":"_"})"),
            "a Metaspace has the replacement \"_\"; \"\u2581\" is needed.");
  std::string split = R"({"type":"Sequence","pretokenizers":[{"type":"Split",)";
  std::string end = R"(},{"type":"ByteLevel","add_prefix_space":false}]})";
  EXPECT_EQ(with("/pre_tokenizer",
                 (split + R"("pattern":{"Regex":"a"},"behavior":"Merged")" + end).c_str()),
            "a Split has the behavior \"Merged\"; Isolated, Removed, MergedWithPrevious, "
            "MergedWithNext or Contiguous is needed.");
  EXPECT_EQ(with("/pre_tokenizer", (split + R"("pattern":{},"behavior":"Isolated")" + end).c_str()),
            "a Split has the pattern {}; {\"Regex\": text} or {\"String\": text} is needed.");
}

TEST(TokenizerJson, DecodersOfCharactersAreNeeded) {
  Json json = small_json();
  json["pre_tokenizer"] = nullptr;
  json.erase("decoder");
  EXPECT_EQ(
      error_of(json),
      "the decoder has null; Replace (\"\u2581\" by a space), ByteFallback, Fuse, Strip (spaces "
      "at the begin), Metaspace or a Sequence of them is needed.");
  json["decoder"] = Json::parse(R"({"type": "Strip", "content": "x", "start": 1, "stop": 0})");
  EXPECT_THAT(error_of(json), HasSubstr("the decoder has {\"content\":\"x\","));
}

TEST(TokenizerJson, AllProblemsAreListedAtOnce) {
  Json json = small_json();
  json["normalizer"] = {{"type", "NFKC"}};
  json["model"]["dropout"] = 0.5;
  EXPECT_THAT(error_of(json), HasSubstr("[tokenizer] 2 problems:"));
}

TEST(TokenizerJson, FirstPieceNeedsTextThatIsNotMoved) {
  Json json = small_json();
  json["normalizer"] = {{"type", "Prepend"}, {"prepend", "x"}};
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}};
  EXPECT_EQ(error_of(json),
            "the normalizer adds or removes text and a Metaspace has the prepend_scheme \"first\"; "
            "one of both is needed.");
}

TEST(TokenizerJson, BadFilesAreReported) {
  TemporaryFolder folder;
  put_file(folder / "tokenizer.json", "{\"a\":");
  EXPECT_THAT(error_text([&] { load_tokenizer(folder / "tokenizer.json"); }),
              HasSubstr(" is not valid JSON: parse error at line 1, column 6"));
  put_file(folder / "tokenizer.json", "{\"added_tokens\":" + std::string(1'000'000, '['));
  EXPECT_EQ(error_text([&] { load_tokenizer(folder / "tokenizer.json"); }),
            "[tokenizer] " + (folder / "tokenizer.json") +
                " has arrays and objects that nest more than 64 deep; it is damaged.");
  TemporaryFolder empty;
  EXPECT_EQ(error_text([&] { load_tokenizer(empty.path()); }),
            "[tokenizer] the folder " + empty.path() +
                " holds no tokenizer: tokenizer.json, or vocab.json and merges.txt, or "
                "tokenizer.model, or a single .gguf file is needed (or say bytes).");
  put_file(empty / "vocab.json", R"({"a":0,"b":1,"ab":2})");
  put_file(empty / "merges.txt", "#version: 0.2\na b\nab\n");
  EXPECT_EQ(error_text([&] { load_tokenizer(empty.path()); }),
            "[tokenizer] " + (empty / "merges.txt") +
                ", line 3: \"ab\" is no merge; two tokens and one space between them are needed.");
  put_file(empty / "merges.txt", "#version: 0.2\na b\n\n");
  put_file(empty / "tokenizer_config.json", R"({"tokenizer_class": "GPT2TokenizerFast"})");
  EXPECT_EQ(load_tokenizer(empty.path())->encode("ab"), (std::vector<int32_t>{2}));
}

TEST(TokenizerJson, MutatedFilesNeverCrash) {
  TemporaryFolder folder;
  std::mt19937 random(11);
  std::string good = small_json().dump();
  size_t refused = 0;
  for (int i = 0; i < 400; ++i) {
    put_file(folder / "t.json", mutate(good, good.size(), random));
    try {
      load_tokenizer(folder / "t.json")->encode("ab<s> a");
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 150U);
}

}  // namespace
}  // namespace weir
