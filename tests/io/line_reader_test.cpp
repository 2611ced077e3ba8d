#include "io/line_reader.h"

#include <gmock/gmock.h>
#include <zstd.h>

#include "io_test_util.h"

namespace weir {
namespace {

std::string zstd(const std::string& content) {
  std::string packed(ZSTD_compressBound(content.size()), '\0');
  const size_t size =
      ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 3);
  EXPECT_EQ(ZSTD_isError(size), 0U);
  packed.resize(size);
  return packed;
}

std::vector<std::string> lines_of(const std::string& path) {
  LineReader reader(path);
  std::vector<std::string> lines;
  std::string line;
  while (reader.next(line)) {
    lines.push_back(line);
    EXPECT_EQ(reader.line_number(), lines.size());
  }
  return lines;
}

TEST(LineReader, PlainAndGzip) {
  TemporaryFolder folder;
  std::string long_line(700'000, 'x');  // longer than any buffer
  std::string content = "one\r\n\n" + long_line + "\nlast";
  std::vector<std::string> expected = {"one", "", long_line, "last"};
  put_file(folder / "x.txt", content);
  put_gzip(folder / "x.txt.gz", content);
  put_gzip(folder / "misnamed.txt", content);
  EXPECT_EQ(lines_of(folder / "x.txt"), expected);
  EXPECT_EQ(lines_of(folder / "x.txt.gz"), expected);
  EXPECT_EQ(lines_of(folder / "misnamed.txt"), expected);
  EXPECT_EQ(read_text(folder / "x.txt.gz"), content);
  // Members one after the other are one text, as gzip itself has it.
  put_file(folder / "two.gz", get_file(folder / "x.txt.gz") + get_file(folder / "x.txt.gz"));
  EXPECT_EQ(read_text(folder / "two.gz"), content + content);
  put_file(folder / "empty", "");
  EXPECT_TRUE(lines_of(folder / "empty").empty());
  put_gzip(folder / "empty.gz", "");
  EXPECT_TRUE(lines_of(folder / "empty.gz").empty());
}

TEST(LineReader, DamagedGzipIsReported) {
  TemporaryFolder folder;
  std::string content;
  std::mt19937 random(1);
  for (int i = 0; i < 50000; ++i) content += static_cast<char>('a' + random() % 26);
  put_gzip(folder / "x.gz", content);
  std::string packed = get_file(folder / "x.gz");
  for (size_t size : {size_t{12}, packed.size() / 2, packed.size() - 1}) {
    put_file(folder / "cut.gz", packed.substr(0, size));
    EXPECT_EQ(error_text([&] { read_text(folder / "cut.gz"); }),
              "[file] cannot read " + (folder / "cut.gz") +
                  ": the gzip stream ends early; the file is truncated. Copy or download it again.")
        << size;
  }
  std::string damaged = packed;
  damaged[packed.size() - 6] = static_cast<char>(damaged[packed.size() - 6] ^ 1);
  put_file(folder / "bad.gz", damaged);
  EXPECT_EQ(error_text([&] { read_text(folder / "bad.gz"); }),
            "[file] cannot read " + (folder / "bad.gz") +
                ": the gzip stream is damaged (incorrect data check). Copy or download it again.");
  put_file(folder / "plain.gz", "not gzip at all");
  EXPECT_EQ(error_text([&] { read_text(folder / "plain.gz"); }),
            "[file] cannot read " + (folder / "plain.gz") +
                ": its name ends in .gz but its content is not gzip. Rename it, or copy or "
                "download it again.");
}

TEST(LineReader, Zstandard) {
  TemporaryFolder folder;
  std::string content = "one\r\n\n" + std::string(700'000, 'x') + "\nlast";
  std::mt19937 random(1);
  for (int i = 0; i < 300000; ++i) content += static_cast<char>('a' + random() % 26);
  put_file(folder / "x.zst", zstd(content));
  put_file(folder / "misnamed.txt", zstd(content));
  EXPECT_EQ(read_text(folder / "x.zst"), content);
  EXPECT_EQ(read_text(folder / "misnamed.txt"), content);
  EXPECT_EQ(lines_of(folder / "x.zst")[0], "one");
  EXPECT_EQ(read_head(folder / "x.zst", 7), "one\r\n\nx");
  // Frames one after the other are one text, and a skippable frame is none.
  using namespace std::string_literals;
  const std::string skippable = "\x50\x2A\x4D\x18\x03\0\0\0abc"s;
  put_file(folder / "two.zst", skippable + zstd("a\n") + skippable + zstd("b"));
  EXPECT_EQ(read_text(folder / "two.zst"), "a\nb");
  put_file(folder / "empty.zst", zstd(""));
  EXPECT_TRUE(lines_of(folder / "empty.zst").empty());
  const std::string packed = zstd(content);
  for (size_t size : {size_t{12}, packed.size() / 2, packed.size() - 1}) {
    put_file(folder / "cut.zst", packed.substr(0, size));
    EXPECT_EQ(error_text([&] { read_text(folder / "cut.zst"); }),
              "[file] cannot read " + (folder / "cut.zst") +
                  ": the zstd stream ends early; the file is truncated. Copy or download it again.")
        << size;
  }
  std::string damaged = packed;
  damaged[5] = static_cast<char>(damaged[5] ^ 0xFF);
  put_file(folder / "bad.zst", damaged);
  EXPECT_THAT(error_text([&] { read_text(folder / "bad.zst"); }),
              testing::HasSubstr("[file] cannot read " + (folder / "bad.zst") +
                                 ": the zstd stream is damaged ("));
  put_file(folder / "plain.zst", "not zstd at all");
  EXPECT_EQ(error_text([&] { read_text(folder / "plain.zst"); }),
            "[file] cannot read " + (folder / "plain.zst") +
                ": its name ends in .zst but its content is not zstd. Rename it, or copy or "
                "download it again.");
}

}  // namespace
}  // namespace weir
