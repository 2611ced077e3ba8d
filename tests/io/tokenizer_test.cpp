#include "io/tokenizer.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "io/bpe.h"
#include "io/file.h"
#include "io/merge_table.h"
#include "io/split_pattern.h"
#include "io/tokenizer_files.h"
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

/// A text and its ids, made by tests/reference/tokenizer_reference.py with Hugging Face's
/// tokenizers.
struct Case {
  std::string text;
  bool is_utf8;
  std::vector<int32_t> ids;
  std::optional<std::string> decoded;  ///< of Hugging Face, where it was asked
};
std::vector<Case> reference_cases(const std::string& name) {
  auto json = nlohmann::json::parse(std::ifstream(kData + "cases.json"));
  const auto& inputs = json.at("inputs");
  const auto& ids = json.at("ids").at(name);
  const bool decoded = json.at("decoded").contains(name);
  std::vector<Case> cases;
  for (size_t i = 0; i < inputs.size(); ++i) {
    bool valid = inputs[i].contains("text");
    cases.push_back(
        {valid ? inputs[i]["text"].get<std::string>() : unhex(inputs[i]["hex"].get<std::string>()),
         valid, ids.at(i).get<std::vector<int32_t>>(),
         decoded ? std::optional(json["decoded"][name][i].get<std::string>()) : std::nullopt});
  }
  return cases;
}

void expect_reference_ids(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<Case> cases = reference_cases(name);
  ASSERT_GT(cases.size(), 500U);
  for (const auto& [text, is_utf8, expected, decoded] : cases) {
    // Twice: the second time words come from the cache.
    EXPECT_EQ(tokenizer.encode(text), expected) << text;
    EXPECT_EQ(tokenizer.encode(text), expected) << text;
    std::string storage;
    std::set<std::string> adds_or_drops = {"prefix_space", "removed",   "qwen2",
                                           "partial",      "stripping", "spm_spaces"};
    if (decoded) {
      EXPECT_EQ(tokenizer.decode(expected), *decoded) << text;
    } else if (!adds_or_drops.contains(name)) {
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

TEST(Tokenizer, SameIdsAsReferenceQwen2) {
  expect_reference_ids(*load_tokenizer(kData + "qwen2.json"), "qwen2");
}
TEST(Tokenizer, SameIdsAsReferenceMissingBytes) {
  auto tokenizer = load_tokenizer(kData + "partial.json");
  EXPECT_THAT(tokenizer->description(), HasSubstr(", no token for 8 of the 256 bytes"));
  expect_reference_ids(*tokenizer, "partial");
}
TEST(Tokenizer, SameIdsAsReferenceStrippingTokens) {
  expect_reference_ids(*load_tokenizer(kData + "stripping.json"), "stripping");
}

TEST(Tokenizer, SameIdsAsReferenceLlama2) {
  expect_reference_ids(*load_tokenizer(kData + "llama2.json"), "llama2");
}
TEST(Tokenizer, SameIdsAsReferenceMistral) {
  expect_reference_ids(*load_tokenizer(kData + "mistral.json"), "mistral");
}
TEST(Tokenizer, SameIdsAsReferenceGemma) {
  expect_reference_ids(*load_tokenizer(kData + "gemma.json"), "gemma");
}
TEST(Tokenizer, SameIdsAsReferenceMetaspace) {
  expect_reference_ids(*load_tokenizer(kData + "metaspace.json"), "metaspace");
}
TEST(Tokenizer, SameIdsAsSentencePiece) {
  auto tokenizer = load_tokenizer(kData + "spm.model");
  EXPECT_EQ(tokenizer->description(), "SentencePiece BPE, 640 entries");
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  expect_reference_ids(*tokenizer, "spm");
}
TEST(Tokenizer, SameIdsAsSentencePieceWithoutSpaces) {
  expect_reference_ids(*load_tokenizer(kData + "spm_spaces.model"), "spm_spaces");
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
  size_t compared = 0;
  for (const auto& [text, is_utf8, ids, decoded] : reference_cases("gpt2")) {
    if (!is_utf8 || text.find("<|") != text.npos) continue;
    EXPECT_EQ(pair->encode(text), ids);
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
  // Left out, and its neighbours merge, as in Hugging Face's tokenizers.
  EXPECT_EQ(strict->encode("azbz"), (std::vector<int32_t>{256}));
  EXPECT_TRUE(strict->encode("z").empty());
  EXPECT_EQ(strict->description(), "BPE, 257 entries, 1 merges, no token for 1 of the 256 bytes");
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
            "\n  - test: the unknown token \"<unk>\" is not in the vocabulary."
            "\n  - test: merge 2 \"ab c\" needs the token \"abc\", which the vocabulary lacks. Are "
            "vocabulary and merges of one model?"
            "\n  - test: merge 3 \"x? c\" needs the token \"x?\", which the vocabulary lacks. Are "
            "vocabulary and merges of one model?"
            "\n  - test: added token \"<s>\" has id 5, but the vocabulary has \"" +
                model.tokens[5] +
                "\" there."
                "\n  - test: added token \"ab\" has id 900, but the vocabulary has it at 256.");
}

TEST(Bpe, FingerprintDependsOnEverything) {
  BpeModel base = small_model({{"a", "b"}, {"b", "c"}});
  std::vector<BpeModel> models(12, base);
  models[1].tokens.emplace_back("more");
  std::swap(models[2].merges[0], models[2].merges[1]);
  models[3].added.push_back({.id = 300, .content = "<s>"});
  models[4].added.push_back({.id = 300, .content = "<s>", .normalized = true});
  models[5].steps.push_back({SplitStep::Kind::keep_all, kGpt2Pattern});
  models[6].steps.push_back({SplitStep::Kind::keep_gaps, kGpt2Pattern});
  models[7].ignore_merges = true;
  models[8].normal_steps = {{NormalStep::Kind::form_c, "", ""}};
  for (size_t i = 9; i < 12; ++i) models[i].added.push_back({.id = 300, .content = "<s>"});
  models[9].added.back().single_word = true;
  models[10].added.back().strip_left = true;
  models[11].added.back().strip_right = true;
  std::set<std::string> prints;
  for (const BpeModel& model : models) prints.insert(make_bpe_tokenizer(model)->fingerprint());
  EXPECT_EQ(prints.size(), models.size());
  base.source = "elsewhere";
  EXPECT_TRUE(prints.contains(make_bpe_tokenizer(base)->fingerprint()));
}

// The ids are those of Hugging Face's tokenizers 0.23.3.
TEST(Bpe, AnAddedTokenOfNothingButTakenWhiteSpaceIsLeftOut) {
  BpeModel model = small_model({{"a", "b"}});
  const auto added = [&](int32_t id, const char* text, bool left, bool right) {
    model.added.push_back({.id = id, .content = text, .strip_left = left, .strip_right = right});
  };
  added(300, "   ", true, true);
  added(301, "<x>", false, true);
  added(302, "\n", true, false);
  added(303, "\t", false, false);
  const auto tokenizer = make_bpe_tokenizer(model);
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(tokenizer->encode("   "), (Ids{300}));
  EXPECT_EQ(tokenizer->encode("      "), (Ids{300})) << "the first took in the place of the second";
  EXPECT_EQ(tokenizer->encode("         b"), (Ids{300, 'b'}));
  EXPECT_EQ(tokenizer->encode("<x>\n"), (Ids{301}));
  EXPECT_EQ(tokenizer->encode("<x>b \n"), (Ids{301, 'b', 302}));
  EXPECT_EQ(tokenizer->encode("<x>\n b"), (Ids{301, 'b'})) << "there the library fails";
  EXPECT_EQ(tokenizer->encode("<x>\t"), (Ids{301, 303})) << "which takes in nothing before it";
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

TEST(TokenizerFiles, GiveTheSameIdsWhateverTheyCameFrom) {
  TemporaryFolder folder;
  int made = 0;
  for (const std::string& what :
       {std::string("bytes"), kData, kData + "gpt2.json", kData + "qwen2.json",
        kData + "llama2.json", kData + "gemma.json"}) {
    const std::string copy = folder / std::to_string(made++);
    std::filesystem::create_directories(copy);
    for (const auto& [name, text] : tokenizer_files(what))
      put_file(std::filesystem::path(copy) / name, text);
    EXPECT_TRUE(std::filesystem::exists(copy + "/tokenizer_config.json")) << what;
    const auto before = load_tokenizer(what), after = load_tokenizer(copy + "/tokenizer.json");
    EXPECT_EQ(after->vocabulary_size(), before->vocabulary_size());
    EXPECT_EQ(after->end_of_text(), before->end_of_text());
    const std::string text = "Hello  w\u00f6rld, it's 12345 <|endoftext|>\n x";
    EXPECT_EQ(after->encode(text), before->encode(text)) << what;
    EXPECT_EQ(after->decode(after->encode(text)), text) << what;
  }
  std::filesystem::create_directories(folder / "empty");
  EXPECT_TRUE(tokenizer_files(folder / "empty").empty());
}

// GPT-2's own files are larger than this repository should be.
TEST(Tokenizer, Gpt2FilesGiveKnownIds) {
  const char* given = std::getenv("WEIR_TEST_GPT2");
  if (!given)
    GTEST_SKIP() << "WEIR_TEST_GPT2 names no folder with vocab.json, merges.txt, tokenizer.json";
  const std::string folder = given;
  auto pair = load_tokenizer(folder + "/vocab.json");
  auto json = load_tokenizer(folder + "/tokenizer.json");
  EXPECT_EQ(pair->vocabulary_size(), 50257);
  EXPECT_EQ(pair->end_of_text(), 50256);
  EXPECT_EQ(json->encode("Hello world! It's 2024.<|endoftext|>\n\n  tokens"),
            (std::vector<int32_t>{15496, 995, 0, 632, 338, 48609, 13, 50256, 628, 220, 16326}));
  const std::string text =
      read_file(std::string(WEIR_TEST_DATA) + "/../../examples/persuasion.txt");
  const std::vector<int32_t> ids = pair->encode(text);
  EXPECT_EQ(json->encode(text), ids);
  EXPECT_EQ(pair->decode(ids), text);
}

}  // namespace
}  // namespace weir
