#include "io/text_source.h"

#include <gmock/gmock.h>

#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;

std::vector<std::string> documents(const std::vector<std::string>& inputs) {
  TextSource source(inputs);
  DocumentReader reader(source);
  std::vector<std::string> out;
  std::string text;
  while (reader.next(text)) out.push_back(text);
  return out;
}

TEST(TextSource, ReadsEveryKind) {
  TemporaryFolder folder;
  put_file(folder / "a.txt", "one\r\ntwo\n");
  put_gzip(folder / "b.txt.gz", "three\n");
  put_gzip(folder / "c.json.gz",
           "{\"text\":\"four\\n\\u00e9\",\"url\":\"x\"}\n\n  \n{\"timestamp\":1,\"text\":\"\"}\n");
  put_file(folder / "d.jsonl", "{\"text\":\"five\"}");
  put_file(folder / "notes.md", "six");
  std::vector<std::string> expected = {"one\r\ntwo\n", "three\n", "four\n\xC3\xA9", "", "five"};
  EXPECT_EQ(documents({folder.path()}), expected);
  EXPECT_EQ(documents({folder / "*.{txt,txt.gz,json.gz,jsonl}"}), expected);
  EXPECT_EQ(documents({folder / "d.jsonl", folder / "notes.md"}),
            (std::vector<std::string>{"five", "six"}));
}

TEST(TextSource, FingerprintIsOfContentAndOrder) {
  TemporaryFolder folder;
  put_file(folder / "a.txt", "one");
  put_file(folder / "b.txt", "two");
  put_file(folder / "c.txt", "one");
  put_file(folder / "c.json", "one");
  auto print = [&](const std::vector<std::string>& names) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(folder / name);
    return TextSource(paths).fingerprint();
  };
  EXPECT_EQ(print({"a.txt", "b.txt"}), print({"c.txt", "b.txt"}));
  EXPECT_NE(print({"a.txt", "b.txt"}), print({"b.txt", "a.txt"}));
  EXPECT_NE(print({"a.txt"}), print({"c.json"}));
  std::string before = print({"a.txt"});
  put_file(folder / "a.txt", "One");
  EXPECT_NE(print({"a.txt"}), before);
}

TEST(TextSource, MalformedLinesAreNamed) {
  TemporaryFolder folder;
  std::string path = folder / "x.jsonl";
  auto error = [&](const std::string& line) {
    put_file(path, "{\"text\":\"fine\"}\n\n" + line + "\n");
    return error_text([&] { documents({path}); });
  };
  std::string where = "[text] " + path + ", line 3: ";
  std::string needed = "; a JSON object with a string \"text\" is needed on every line.";
  EXPECT_EQ(error("[1]"), where + "a JSON array" + needed +
                              " Where the file is one JSON array, write it as lines: jq -c '.[]' "
                              "FILE > text.jsonl");
  EXPECT_EQ(error("{\"id\":1}"), where + "no member \"text\"" + needed);
  EXPECT_EQ(error("{\"body\":\"x\",\"title\":\"y\",\"id\":1}"),
            where + "no member \"text\"" + needed +
                " Strings of the line are body, title: choose one as the text key (--text-key, "
                "data.text_key).");
  EXPECT_EQ(error("{\"text\":null}"), where + "\"text\" is a JSON null" + needed);
  EXPECT_THAT(error("{\"text\":\"x"), HasSubstr(where + "not valid JSON: parse error at line 1"));
  EXPECT_EQ(error("{\"text\":\"x\",\"id\":1,\"text\":\"y\"}"),
            where + "the key \"text\" is given twice. Remove one of them.");
  EXPECT_EQ(error(std::string(1'000'000, '[')), where + "nested too deeply for a document.");
  EXPECT_THAT(error("{\"text\":\"\xFF\"}"), HasSubstr("ill-formed UTF-8"));
}

TEST(TextSource, OneJsonArrayOverSeveralLinesIsExplained) {
  TemporaryFolder folder;
  put_file(folder / "x.json", "[\n {\"text\": \"a\"}\n]\n");
  EXPECT_THAT(error_text([&] { documents({folder / "x.json"}); }),
              HasSubstr("Where the file is one JSON array, write it as lines: jq -c '.[]' FILE"));
}

TEST(TextSource, ContentDecidesWhereTheNameDoesNot) {
  TemporaryFolder folder;
  put_file(folder / "a.txt", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
  put_file(folder / "b.data", "{\"content\":\"three\"}\n");
  EXPECT_EQ(documents({folder / "a.txt"}), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(documents({folder / "b.data"}),
            (std::vector<std::string>{"{\"content\":\"three\"}\n"}));
  TextSource source({folder / "b.data"}, "content");
  DocumentReader reader(source);
  std::string text;
  ASSERT_TRUE(reader.next(text));
  EXPECT_EQ(text, "three");
  EXPECT_NE(source.fingerprint(), TextSource({folder / "b.data"}).fingerprint());
}

TEST(TextSource, EverythingThatIsNoTextIsListedAtOnce) {
  TemporaryFolder folder;
  put_file(folder / "a.parquet", "PAR1\x15\x04");
  put_file(folder / "b.txt", "\xFF\xFEx");
  put_file(folder / "c.txt", "fine");
  put_file(folder / "empty.txt", "");
  const std::string text =
      error_text([&] { TextSource({folder / "*.*", folder / "empty.txt", folder / "no"}); });
  EXPECT_THAT(text, testing::StartsWith("[text] 4 problems:\n  - " + (folder / "a.parquet") +
                                        " is a Parquet file. "));
  EXPECT_THAT(text, HasSubstr("\n  - " + (folder / "b.txt") + " is UTF-16, but UTF-8 is needed. "));
  EXPECT_THAT(text, HasSubstr("\n  - " + (folder / "empty.txt") + " is empty."));
  EXPECT_THAT(text, HasSubstr("\n  - cannot open " + (folder / "no") + ": No such file"));
  EXPECT_EQ(documents({folder / "{c,empty}.txt"}), (std::vector<std::string>{"fine", ""}));
}

TEST(TextSource, AFileNamedWithACommaWins) {
  TemporaryFolder folder;
  put_file(folder / "a,b.txt", "one");
  using Inputs = std::vector<std::string>;
  EXPECT_EQ(split_inputs(folder / "a,b.txt"), Inputs{folder / "a,b.txt"});
  EXPECT_EQ(split_inputs("x.txt, y.txt,"), (Inputs{"x.txt", "y.txt"}));
  EXPECT_EQ(split_inputs("x,1.txt;y.txt;"), (Inputs{"x,1.txt", "y.txt"}));
  EXPECT_EQ(split_inputs("c4/{a,b}.gz,z"), (Inputs{"c4/{a,b}.gz", "z"}));
}

TEST(TextSource, LeavesOutWhatIsHeldOut) {
  TemporaryFolder folder;
  put_file(folder / "a.txt", "one");
  put_file(folder / "validation.txt", "two");
  std::filesystem::create_symlink(folder / "validation.txt", folder / "link.txt");
  const TextSource held_out({folder / "validation.txt"});
  TextSource source({folder.path()});
  EXPECT_EQ(source.leave_out(held_out),
            (std::vector<std::string>{folder / "link.txt", folder / "validation.txt"}));
  ASSERT_EQ(source.files().size(), 1U);
  EXPECT_EQ(source.files()[0].path, folder / "a.txt");
  TextSource both({folder / "a.txt", folder / "validation.txt"});
  EXPECT_EQ(error_text([&] { both.leave_out(held_out); }),
            "[text] " + (folder / "validation.txt") + " is in both. Name it in one.");
  TextSource same({folder / "l*.txt"});
  EXPECT_EQ(error_text([&] { same.leave_out(held_out); }),
            "[text] all files of the one (" + (folder / "link.txt") + ") are in the other, too.");
}

TEST(TextSource, MissingInputsAreListedAtOnce) {
  TemporaryFolder folder;
  EXPECT_EQ(
      error_text([&] { TextSource({folder.path(), folder / "*.txt"}); }),
      "[text] 2 problems:\n  - the folder " + folder.path() +
          " holds no text: files ending in .txt, .json, .jsonl or .ndjson, or these with .gz or "
          ".zst, are needed.\n  - the pattern " +
          (folder / "*.txt") + " matches no file.");
  EXPECT_EQ(error_text([&] { TextSource({folder / "a.txt"}); }),
            "[text] cannot open " + (folder / "a.txt") + ": No such file or directory.");
  EXPECT_EQ(error_text([] { TextSource(std::vector<std::string>{}); }),
            "[text] no input is given; a file, folder or glob is needed.");
}

}  // namespace
}  // namespace weir
