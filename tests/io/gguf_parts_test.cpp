// Models that are cut into several GGUF files.
#include "io/gguf_parts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "io/file.h"
#include "io/gguf_test_util.h"
#include "io_test_util.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

class GgufPartsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) write(i, 3, i, 3, "t" + std::to_string(i));
  }

  std::string path(int number) const {
    return (folder_ / ("m-0000" + std::to_string(number) + "-of-00003.gguf")).string();
  }
  // The file whose name says part i, with what it says itself.
  void write(int i, uint16_t count, int number, int tensors, const std::string& tensor) {
    GgufBuilder b;
    b.text("general.architecture", i == 0 ? "llama" : "");
    b.value("split.count", 2, raw(count));
    b.value("split.no", 2, raw(static_cast<uint16_t>(number)));
    b.value("split.tensors.count", kI32, raw<int32_t>(tensors));
    b.stored(tensor, {2}, 0, raw(static_cast<float>(i)) + raw(5.0F));
    write_file(path(i + 1), b.build());
  }
  std::string error(int number = 1) const {
    std::string text = "no error";
    try {
      GgufParts::open(path(number));
    } catch (const UserError& error) {
      text = error.what();
    }
    for (size_t at; (at = text.find(folder_.string())) != std::string::npos;)
      text.replace(at, folder_.string().size(), "DIR");
    return text;
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

TEST_F(GgufPartsTest, AreOpenedTogetherByAnyOfThem) {
  for (int i = 1; i <= 3; ++i) {
    const GgufParts parts = GgufParts::open(path(i));
    EXPECT_EQ(parts.files().size(), 3U);
    EXPECT_EQ(parts.metadata().at("general.architecture").text(), "llama");
    ASSERT_NE(parts.file_of("t2"), nullptr);
    EXPECT_EQ(parts.file_of("t2")->to_f32("t2"), (std::vector<float>{2, 5}));
    EXPECT_EQ(parts.file_of("t3"), nullptr);
  }
  write_file((folder_ / "other.gguf").string(), GgufBuilder().build());
  EXPECT_EQ(gguf_models_in(folder_.string()),
            (std::vector<std::string>{path(1), (folder_ / "other.gguf").string()}));
}

TEST_F(GgufPartsTest, NamesAllThatAreMissing) {
  fs::remove(path(1));
  fs::remove(path(3));
  EXPECT_EQ(error(2),
            "[gguf] the model is cut into 3 files, of which 2 are missing: "
            "DIR/m-00001-of-00003.gguf, DIR/m-00003-of-00003.gguf. Download or copy them.");
}

TEST_F(GgufPartsTest, HaveToBelongTogether) {
  write(1, 4, 2, 3, "t1");
  write(2, 3, 2, 3, "t0");
  EXPECT_EQ(error(),
            "[gguf] 3 problems:\n"
            "  - DIR/m-00002-of-00003.gguf: split.count is 4, but its name says 3 files.\n"
            "  - DIR/m-00002-of-00003.gguf: split.no is 2, but its name makes it 1.\n"
            "  - DIR/m-00003-of-00003.gguf: tensor t0 is in DIR/m-00001-of-00003.gguf, too.");
  write(0, 3, 0, 4, "t0");
  write(1, 3, 1, 3, "t1");
  write(2, 3, 2, 3, "t2");
  EXPECT_EQ(error(),
            "[gguf] DIR/m-00001-of-00003.gguf: split.tensors.count is 4, but the files have 3 "
            "tensors.");
}

TEST_F(GgufPartsTest, NeedNamesByWhichTheyAreFound) {
  const std::string renamed = (folder_ / "part.gguf").string();
  fs::rename(path(2), renamed);
  try {
    GgufParts::open(renamed);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[gguf] " + renamed +
                  " is one of 3 files of a model, but the others are found by names like "
                  "NAME-00001-of-00003.gguf. Rename the files.");
  }
}

}  // namespace
}  // namespace weir
