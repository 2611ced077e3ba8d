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
  EXPECT_EQ(error("[1]"), where + "a JSON array" + needed);
  EXPECT_EQ(error("{\"body\":\"x\"}"), where + "no member \"text\"" + needed);
  EXPECT_EQ(error("{\"text\":null}"), where + "\"text\" is a JSON null" + needed);
  EXPECT_THAT(error("{\"text\":\"x"), HasSubstr(where + "not valid JSON: parse error at line 1"));
  EXPECT_EQ(error(std::string(1'000'000, '[')), where + "nested too deeply for a document.");
  EXPECT_THAT(error("{\"text\":\"\xFF\"}"), HasSubstr("ill-formed UTF-8"));
}

TEST(TextSource, MissingInputsAreListedAtOnce) {
  TemporaryFolder folder;
  EXPECT_EQ(error_text([&] { TextSource({folder.path(), folder / "*.txt"}); }),
            "[text] 2 problems:\n  - the folder " + folder.path() +
                " holds no text: files ending in .txt, .json, .jsonl or these with .gz are needed."
                "\n  - the pattern " +
                (folder / "*.txt") + " matches no file.");
  EXPECT_EQ(error_text([&] { TextSource({folder / "a.txt"}); }),
            "[text] cannot open " + (folder / "a.txt") + ": No such file or directory.");
  EXPECT_EQ(error_text([] { TextSource(std::vector<std::string>{}); }),
            "[text] no input is given; a file, folder or glob is needed.");
}

}  // namespace
}  // namespace weir
