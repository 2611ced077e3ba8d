#include "io/tokenizer.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "io/bpe.h"
#include "io/merge_table.h"
#include "io/split_pattern.h"
#include "io/text_source.h"
#include "io/utf8.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;

const std::string kData = std::string(WEIR_TEST_DATA) + "/tokenizer/";

std::string unhex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

/// Cases made by tests/reference/tokenizer_reference.py with Hugging Face's tokenizers.
void expect_reference_ids(const Tokenizer& tokenizer, const std::string& cases_name) {
  auto cases = nlohmann::json::parse(std::ifstream(kData + "cases.json")).at(cases_name);
  ASSERT_GT(cases.size(), 300U);
  for (const auto& example : cases) {
    bool valid = example.contains("text");
    std::string text =
        valid ? example["text"].get<std::string>() : unhex(example["hex"].get<std::string>());
    auto expected = example["ids"].get<std::vector<int32_t>>();
    // Twice: the second time words come from the cache.
    EXPECT_EQ(tokenizer.encode(text), expected) << text;
    EXPECT_EQ(tokenizer.encode(text), expected) << text;
    std::string storage;
    bool adds_or_drops = cases_name == "prefix_space" || cases_name == "removed";
    if (!adds_or_drops) {
      EXPECT_EQ(tokenizer.decode(expected), valid_utf8(text, storage));
    }
  }
}

TEST(Tokenizer, SameIdsAsReferenceGpt2) {
  expect_reference_ids(*load_tokenizer(kData + "gpt2.json"), "gpt2");
}
TEST(Tokenizer, SameIdsAsReferencePrefixSpace) {
  expect_reference_ids(*load_tokenizer(kData + "prefix_space.json"), "prefix_space");
}
TEST(Tokenizer, SameIdsAsReferenceLlama3Split) {
  expect_reference_ids(*load_tokenizer(kData + "llama3.json"), "llama3");
}
TEST(Tokenizer, SameIdsAsReferenceDigits) {
  expect_reference_ids(*load_tokenizer(kData + "digits.json"), "digits");
}
TEST(Tokenizer, SameIdsAsReferenceRemovedDelimiter) {
  expect_reference_ids(*load_tokenizer(kData + "removed.json"), "removed");
}

TEST(Tokenizer, VocabAndMergesEqualTokenizerJson) {
  // The folder holds vocab.json and merges.txt but no tokenizer.json.
  auto pair = load_tokenizer(kData);
  auto json = load_tokenizer(kData + "gpt2.json");
  EXPECT_EQ(pair->vocabulary_size(), 857);
  EXPECT_EQ(json->vocabulary_size(), 859);  // two further added tokens
  EXPECT_EQ(pair->end_of_text(), 856);
  EXPECT_EQ(pair->description(), "BPE, 857 entries, 600 merges");
  EXPECT_NE(pair->fingerprint(), json->fingerprint());
  EXPECT_EQ(pair->fingerprint(), load_tokenizer(kData + "vocab.json")->fingerprint());
  auto cases = nlohmann::json::parse(std::ifstream(kData + "cases.json")).at("gpt2");
  size_t compared = 0;
  for (const auto& example : cases) {
    if (!example.contains("text")) continue;
    auto text = example["text"].get<std::string>();
    if (text.find("<|") != text.npos) continue;
    EXPECT_EQ(pair->encode(text), example["ids"].get<std::vector<int32_t>>());
    ++compared;
  }
  EXPECT_GT(compared, 200U);
  EXPECT_EQ(pair->encode("a<|endoftext|>b"),
            (std::vector<int32_t>{*pair->token_id("a"), 856, *pair->token_id("b")}));
}

TEST(Tokenizer, Bytes) {
  auto bytes = load_tokenizer("bytes");
  EXPECT_EQ(bytes->encode(std::string("a\0\xFF", 3)), (std::vector<int32_t>{97, 0, 255}));
  EXPECT_EQ(bytes->decode(std::vector<int32_t>{104, 105, 255}), "hi\xFF");
  EXPECT_EQ(bytes->vocabulary_size(), 256);
  EXPECT_EQ(bytes->end_of_text(), 0);
  EXPECT_EQ(bytes->token_id("a"), 97);
  EXPECT_EQ(bytes->token_id("ab"), std::nullopt);
  EXPECT_EQ(error_text([&] { bytes->decode(std::vector<int32_t>{256}); }),
            "[tokenizer] id 256 is outside the byte vocabulary 0..255.");
}

TEST(Tokenizer, DecodeGivesHalfCharactersBack) {
  auto tokenizer = load_tokenizer(kData);
  std::vector<int32_t> ids = tokenizer->encode("\xF0\x9F\xA6\x89");  // not in the training text
  ASSERT_GT(ids.size(), 1U);
  std::string joined;
  for (int32_t id : ids) joined += tokenizer->decode(std::vector<int32_t>{id});
  EXPECT_EQ(joined, "\xF0\x9F\xA6\x89");
  EXPECT_EQ(error_text([&] { tokenizer->decode(std::vector<int32_t>{3, 857}); }),
            "[tokenizer] " + kData + "vocab.json: there is no token with id 857 among 857.");
  EXPECT_THAT(error_text([&] { tokenizer->decode(std::vector<int32_t>{-1}); }),
              HasSubstr("there is no token with id -1"));
}

TEST(Tokenizer, SeveralThreadsAgree) {
  auto tokenizer = load_tokenizer(kData);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "the water " + std::to_string(i * i) + " tells the flow, ";
  std::vector<int32_t> expected = load_tokenizer(kData)->encode(text);
  std::vector<std::vector<int32_t>> ids(4);
  std::vector<std::thread> threads;
  for (auto& mine : ids) threads.emplace_back([&] { mine = tokenizer->encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : ids) EXPECT_EQ(mine, expected);
}

/// A model over all bytes (ids 0..255 in byte order) with the given merges of plain ASCII.
BpeModel small_model(const std::vector<std::pair<std::string, std::string>>& merges) {
  BpeModel model;
  model.source = "test";
  for (int i = 0; i < 256; ++i) {
    char byte = static_cast<char>(i);
    model.tokens.push_back(to_byte_level({&byte, 1}));
  }
  for (const auto& [left, right] : merges) model.tokens.push_back(left + right);
  model.merges = merges;
  return model;
}

/// The definition: again and again, of the pairs with the least rank merge the leftmost.
std::vector<std::string> merge_by_definition(
    const std::string& word, const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::string> parts;
  for (char byte : word) parts.emplace_back(1, byte);
  while (true) {
    size_t best = merges.size();
    size_t place = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      for (size_t rank = 0; rank < best; ++rank)
        if (merges[rank] == std::pair(parts[i], parts[i + 1])) {
          best = rank;
          place = i;
        }
    if (best == merges.size()) return parts;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(place) + 1);
  }
}

TEST(Bpe, MergesByItsDefinition) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 200; ++trial) {
    // Random merges of a growing vocabulary over three letters, in random order of preference.
    std::vector<std::string> known = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    while (merges.size() < 12) {
      const std::string& left = known[random() % known.size()];
      const std::string& right = known[random() % known.size()];
      std::string joined = left + right;
      if (std::find(known.begin(), known.end(), joined) != known.end()) continue;
      merges.emplace_back(left, right);
      known.push_back(joined);
    }
    BpeModel model = small_model(merges);
    std::shuffle(model.merges.begin(), model.merges.end(), random);
    auto tokenizer = make_bpe_tokenizer(model);
    std::string word;
    for (size_t length = 1 + random() % 90; word.size() < length;)
      word += static_cast<char>('a' + random() % 3);
    std::vector<std::string> got;
    for (int32_t id : tokenizer->encode(word)) got.push_back(tokenizer->decode({&id, 1}));
    EXPECT_EQ(got, merge_by_definition(word, model.merges)) << word;
  }
}

TEST(Bpe, LongWords) {
  BpeModel model = small_model({{"a", "a"}, {"aa", "aa"}});
  auto tokenizer = make_bpe_tokenizer(model);
  std::vector<int32_t> ids = tokenizer->encode(std::string(1'000'003, 'a'));
  EXPECT_EQ(ids.size(), 250'002U);
  EXPECT_EQ(ids[0], 257);
  EXPECT_EQ(ids[250'000], 256);
  EXPECT_EQ(ids[250'001], 'a');
  EXPECT_TRUE(tokenizer->encode("").empty());
}

TEST(Bpe, UnknownBytes) {
  BpeModel model = small_model({{"a", "b"}});
  model.tokens['z'] = "";
  auto strict = make_bpe_tokenizer(model);
  EXPECT_EQ(strict->encode("ab").size(), 1U);
  EXPECT_EQ(error_text([&] { strict->encode("az"); }),
            "[tokenizer] test: the vocabulary has no token for byte 0x7a and no unknown token; a "
            "byte-level vocabulary needs all 256 bytes that occur in the text.");
  model.tokens.emplace_back("<unk>");
  model.unknown = "<unk>";
  EXPECT_EQ(make_bpe_tokenizer(model)->encode("zzab"), (std::vector<int32_t>{257, 257, 256}));
  model.fuse_unknown = true;
  EXPECT_EQ(make_bpe_tokenizer(model)->encode("zzab"), (std::vector<int32_t>{257, 256}));
}

TEST(Bpe, BadModelsAreReportedWhole) {
  BpeModel model = small_model({{"a", "b"}});
  model.merges.emplace_back("ab", "c");
  model.merges.emplace_back("x?", "c");
  model.tokens.emplace_back("ab");
  model.added.push_back({5, "<s>", false});
  model.added.push_back({900, "ab", false});
  model.unknown = "<unk>";
  EXPECT_EQ(error_text([&] { make_bpe_tokenizer(model); }),
            "[tokenizer] 6 problems:"
            "\n  - test: token \"ab\" has two ids, 256 and 257."
            "\n  - test: merge 2 \"ab c\" needs the token \"abc\", which the vocabulary lacks. Are "
            "vocabulary and merges of one model?"
            "\n  - test: merge 3 \"x? c\" needs the token \"x?\", which the vocabulary lacks. Are "
            "vocabulary and merges of one model?"
            "\n  - test: added token \"<s>\" has id 5, but the vocabulary has \"" +
                model.tokens[5] +
                "\" there."
                "\n  - test: added token \"ab\" has id 900, but the vocabulary has it at 256."
                "\n  - test: the unknown token \"<unk>\" is not in the vocabulary.");
}

TEST(Bpe, FingerprintDependsOnEverything) {
  BpeModel base = small_model({{"a", "b"}, {"b", "c"}});
  std::vector<BpeModel> models(8, base);
  models[1].tokens.emplace_back("more");
  std::swap(models[2].merges[0], models[2].merges[1]);
  models[3].added.push_back({300, "<s>", false});
  models[4].added.push_back({300, "<s>", true});
  models[5].steps.push_back({SplitStep::Kind::keep_all, kGpt2Pattern});
  models[6].steps.push_back({SplitStep::Kind::keep_gaps, kGpt2Pattern});
  models[7].ignore_merges = true;
  std::set<std::string> prints;
  for (const BpeModel& model : models) prints.insert(make_bpe_tokenizer(model)->fingerprint());
  EXPECT_EQ(prints.size(), models.size());
  base.source = "elsewhere";
  EXPECT_TRUE(prints.contains(make_bpe_tokenizer(base)->fingerprint()));
}

TEST(MergeTable, HoldsWhatIsSet) {
  MergeTable table;
  EXPECT_EQ(table.find(0, 0), nullptr);
  table.reserve(1000);
  for (int i = 0; i < 1000; ++i) table.set(i % 37, i, {i, 2 * i});
  table.set(0, 0, {7, 8});
  for (int i = 1; i < 1000; ++i) {
    ASSERT_NE(table.find(i % 37, i), nullptr);
    EXPECT_EQ(table.find(i % 37, i)->id, 2 * i);
    EXPECT_EQ(table.find(37, i), nullptr);
  }
  EXPECT_EQ(table.find(0, 0)->rank, 7);
}

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  std::vector<std::string> out;
  SplitPattern(pattern).split(text, [&](std::string_view piece, bool match) {
    out.push_back((match ? "+" : "-") + std::string(piece));
  });
  return out;
}

TEST(SplitPattern, MatchesAndGaps) {
  EXPECT_EQ(pieces("b+", "abbcb"), (std::vector<std::string>{"-a", "+bb", "-c", "+b"}));
  EXPECT_EQ(pieces("x*", "a\xC3\xA9x"), (std::vector<std::string>{"-a\xC3\xA9", "+x"}));
  EXPECT_TRUE(pieces("b", "").empty());
  EXPECT_EQ(pieces(kGpt2Pattern, "it's  12,x "),
            (std::vector<std::string>{"+it", "+'s", "+ ", "+ 12", "+,", "+x", "+ "}));
  // White space is the Unicode property: U+0085 is, U+180E and U+200B are not.
  EXPECT_EQ(pieces("\\s+", "\xC2\x85 \xE1\xA0\x8E"),
            (std::vector<std::string>{"+\xC2\x85 ", "-\xE1\xA0\x8E"}));
  EXPECT_EQ(pieces("[^\\s]", "\xE1\xA0\x8E "), (std::vector<std::string>{"+\xE1\xA0\x8E", "- "}));
  EXPECT_EQ(pieces("\\\\s", "\\s s"), (std::vector<std::string>{"+\\s", "- s"}));
  EXPECT_EQ(
      error_text([] { SplitPattern("a(b"); }),
      "[tokenizer] the split pattern a(b does not compile: missing closing parenthesis at its "
      "byte 3 (as a(b).");
  // Nested repetition over a long text needs more stack than machine code has.
  EXPECT_EQ(pieces("(?:a|b)*c", std::string(200'000, 'a') + "c").size(), 1U);
}

// The path to data beside the source tree, which this repository does not hold.
const std::string kShared = std::string(WEIR_TEST_DATA) + "/../../../shared/data";

TEST(Tokenizer, Gpt2FilesGiveKnownIds) {
  if (!std::filesystem::exists(kShared + "/gpt2/vocab.json"))
    GTEST_SKIP() << "GPT-2's vocab.json and merges.txt are not in " << kShared << "/gpt2";
  auto pair = load_tokenizer(kShared + "/gpt2/vocab.json");
  auto json = load_tokenizer(kShared + "/gpt2/tokenizer.json");
  EXPECT_EQ(pair->vocabulary_size(), 50257);
  EXPECT_EQ(pair->end_of_text(), 50256);
  EXPECT_EQ(json->encode("Hello world! It's 2024.<|endoftext|>\n\n  tokens"),
            (std::vector<int32_t>{15496, 995, 0, 632, 338, 48609, 13, 50256, 628, 220, 16326}));
  TextSource source({kShared + "/text"});
  for (const std::string& file : source.files()) {
    DocumentReader reader(TextSource({file}));
    std::string text;
    for (int i = 0; i < 20 && reader.next(text); ++i) {
      text.resize(std::min<size_t>(text.size(), 20'000));
      std::vector<int32_t> ids = pair->encode(text);
      EXPECT_EQ(json->encode(text), ids);
      std::string storage;
      EXPECT_EQ(pair->decode(ids), valid_utf8(text, storage));
    }
  }
}

}  // namespace
}  // namespace weir
