#include "io/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>

#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string file_of(const std::string& header, const std::string& data) {
  std::string text;
  for (size_t i = 0; i < 8; ++i) text += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return text + header + data;
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

/// The message of reading a file with this content, without "[safetensors] PATH: ".
std::string read_error(const TemporaryFolder& folder, const std::string& content) {
  put_file(folder / "x", content);
  std::string text = error_text([&] { SafetensorsFile file(folder / "x"); });
  std::string prefix = "[safetensors] " + (folder / "x") + ": ";
  if (!text.starts_with(prefix)) return text;
  return text.substr(prefix.size());
}

TEST(Safetensors, RoundTripOfEveryType) {
  TemporaryFolder folder;
  std::vector<std::byte> data(48);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 5);
  std::vector<SafetensorsItem> items;
  for (FileDtype dtype :
       {FileDtype::u8, FileDtype::f64, FileDtype::f32, FileDtype::f16, FileDtype::bf16,
        FileDtype::i64, FileDtype::i32, FileDtype::i8, FileDtype::boolean}) {
    auto columns = static_cast<int64_t>(48 / 3 / dtype_bytes(dtype));
    items.push_back({"t." + std::string(safetensors_name(dtype)), dtype, {3, columns}, data});
  }
  items.push_back({"scalar", FileDtype::f32, {}, std::span(data).first(4)});
  items.push_back({"empty \"\xc3\xa9\"", FileDtype::f32, {0, 7}, {}});
  items.push_back({"odd", FileDtype::u8, {3}, std::span(data).first(3)});
  std::map<std::string, std::string> metadata = {{"format", "pt"}, {"step", "12"}};
  write_safetensors(folder / "x", items, metadata);
  SafetensorsFile file(folder / "x");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.entries().size(), items.size());
  for (const SafetensorsItem& item : items) {
    const SafetensorsEntry& entry = file.at(item.name);
    EXPECT_EQ(entry.dtype, item.dtype);
    EXPECT_EQ(entry.shape, item.shape);
    std::span<const std::byte> read = file.bytes(entry);
    EXPECT_TRUE(std::equal(read.begin(), read.end(), item.data.begin(), item.data.end()));
  }
  EXPECT_EQ(file.entries().front().name, "t.U8");
  EXPECT_EQ(static_cast<unsigned char>(get_file(folder / "x")[0]) % 8, 0);
  EXPECT_EQ(file.to_f32("odd"), (std::vector<float>{0, 5, 10}));
}

TEST(Safetensors, WritesTheBytesOfTheFormat) {
  TemporaryFolder folder;
  float value = 1.0F;
  write_safetensors(folder / "x", {{"w", FileDtype::f32, {1}, std::as_bytes(std::span(&value, 1))}},
                    {{"format", "pt"}});
  std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(get_file(folder / "x"), file_of(header, std::string("\0\0\x80\x3f", 4)));
}

TEST(Safetensors, MetadataMayBeAbsentOrEmpty) {
  TemporaryFolder folder;
  put_file(folder / "x", file_of("{}", ""));
  EXPECT_TRUE(SafetensorsFile(folder / "x").entries().empty());
  put_file(folder / "x", file_of(R"({"__metadata__":null})", ""));
  EXPECT_TRUE(SafetensorsFile(folder / "x").metadata().empty());
  put_file(folder / "x", file_of(R"({"__metadata__":{}}   )", ""));
  EXPECT_TRUE(SafetensorsFile(folder / "x").metadata().empty());
  write_safetensors(folder / "x", {});
  EXPECT_EQ(get_file(folder / "x"), file_of("{}      ", ""));
}

TEST(Safetensors, AlignmentPaddingIsAllowed) {
  TemporaryFolder folder;
  std::string header = R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                       R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                       R"("z":{"dtype":"U8","shape":[0],"data_offsets":[3,3]}})";
  std::string data = std::string("abc\0\0\0\0\0", 8) + std::string("\0\0\x80\x3f", 4);
  put_file(folder / "x", file_of(header, data + std::string(4, '\0')));
  SafetensorsFile file(folder / "x");
  EXPECT_EQ(file.to_f32("b")[0], 1.0F);
  EXPECT_EQ(file.entries()[0].name, "a");
  std::string bad = data;
  bad[5] = 'x';
  EXPECT_EQ(read_error(folder, file_of(header, bad)),
            "5 bytes before tensor \"b\" (bytes 3 to 8) belong to no tensor; only alignment by "
            "fewer than 64 zero bytes is allowed.");
  EXPECT_EQ(read_error(folder, file_of(header, data + std::string(64, '\0'))),
            "64 bytes after the last tensor (bytes 12 to 76) belong to no tensor; only alignment "
            "by fewer than 64 zero bytes is allowed.");
}

TEST(Safetensors, MissingTensorNamesTheNearest) {
  TemporaryFolder folder;
  put_file(folder / "x", file_of(one("U8", "[1]", "[0,1]"), "a"));
  SafetensorsFile file(folder / "x");
  EXPECT_EQ(file.find("v"), nullptr);
  EXPECT_EQ(
      error_text([&] { file.at("lm_head.weight"); }),
      "[safetensors] " + (folder / "x") + ": there is no tensor \"lm_head.weight\" among its 1.");
  std::string header = R"({"model.norm.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  put_file(folder / "y", file_of(header, "a"));
  EXPECT_THAT(error_text([&] { SafetensorsFile(folder / "y").at("model.norm.weigth"); }),
              HasSubstr("Did you mean model.norm.weight?"));
}

TEST(Safetensors, BadHeadersAreReported) {
  TemporaryFolder folder;
  auto error = [&](const std::string& content) { return read_error(folder, content); };
  EXPECT_EQ(error("abc"),
            "the file has 3 bytes; at least 8 are needed for the length of the header.");
  EXPECT_EQ(error("PK\3\4PK\3\4{}"),
            "the header claims 289157608118635344 bytes, at most 100000000 are allowed; this is "
            "not a safetensors file, or its first bytes are damaged.");
  EXPECT_EQ(error(file_of(one("F32", "[1]", "[0,4]"), "").substr(0, 30)),
            "truncated: the header needs 54 bytes, the file has 22: 32 bytes are missing before "
            "the first tensor. Download or copy it again.");
  EXPECT_EQ(error(file_of("[1]", "")),
            "the header does not start with '{'; this is not a safetensors file.");
  EXPECT_THAT(error(file_of("{\"w\":}", "")),
              StartsWith("the header is not valid JSON (parse error at line 1, column 6"));
  EXPECT_THAT(error(file_of("{\"\xff\":1}", "")), HasSubstr("invalid string: ill-formed UTF-8"));
  EXPECT_EQ(error(file_of("{\"w\":" + std::string(20, '[') + std::string(20, ']') + "}", "")),
            "the header is nested too deeply; it is damaged.");
  EXPECT_EQ(error(file_of(R"({"__metadata__":7})", "")),
            "__metadata__ is a JSON number; an object of strings is needed.");
  EXPECT_EQ(error(file_of(R"({"__metadata__":{"step":12}})", "")),
            "__metadata__ \"step\" is a JSON number; a string is needed.");
}

TEST(Safetensors, BadTensorsAreReported) {
  TemporaryFolder folder;
  std::string four = "abcd";
  auto error = [&](const std::string& header) { return read_error(folder, file_of(header, four)); };
  EXPECT_EQ(error(R"({"w":3})"),
            "tensor \"w\" is a JSON number; an object with dtype, shape and data_offsets is "
            "needed.");
  EXPECT_EQ(error(one("F8_E4M3", "[4]", "[0,4]")),
            "tensor \"w\" has dtype \"F8_E4M3\"; one of F64, F32, F16, BF16, I64, I32, I16, I8, "
            "U64, U32, U16, U8, "
            "BOOL is needed.");
  EXPECT_EQ(error(R"({"w":{"shape":[4],"data_offsets":[0,4]}})"),
            "tensor \"w\" has no dtype; one of F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, "
            "U16, U8, BOOL is "
            "needed.");
  for (const char* shape : {"4", "[-4]", "[4.0]", "[\"4\"]", "[99999999999999999999]", "null"})
    EXPECT_EQ(error(one("U8", shape, "[0,4]")),
              "tensor \"w\" has no valid shape; a list of sizes is needed.");
  for (const char* offsets : {"4", "[4]", "[0,4,8]", "[-1,3]", "[0,4.5]"})
    EXPECT_EQ(error(one("U8", "[4]", offsets)),
              "tensor \"w\" has no valid data_offsets; a list of two numbers is needed.");
  EXPECT_EQ(error(one("U8", "[4]", "[4,0]")),
            "tensor \"w\" has data_offsets [4,0]; the first must not exceed the second.");
  EXPECT_EQ(error(one("F32", "[2]", "[0,4]")),
            "tensor \"w\" is F32 [2] and needs 8 bytes, its data_offsets [0,4] hold 4.");
  EXPECT_EQ(error(one("F32", "[4611686018427387904,2]", "[0,4]")),
            "tensor \"w\" has shape [4611686018427387904,2]; its size in bytes overflows 63 bits.");
  EXPECT_EQ(error(one("F32", "[4294967296,4294967296]", "[0,0]")),
            "tensor \"w\" has shape [4294967296,4294967296]; its size in bytes overflows 63 bits.");
  EXPECT_EQ(
      error(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"extra":1}})"),
      "tensor \"w\" has an unknown key \"extra\"; dtype, shape and data_offsets are allowed.");
  std::string entry = R"("w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  EXPECT_EQ(error("{" + entry + "," + entry + "}"),
            "\"w\" is given twice in the header; every name is needed once.");
  EXPECT_EQ(error("{" + entry + R"(,"v":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})"),
            "tensors \"w\" (bytes 0 to 4) and \"v\" (bytes 1 to 3) overlap.");
}

TEST(Safetensors, TruncationSaysHowMuchIsMissing) {
  TemporaryFolder folder;
  std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
                       R"("c":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})";
  EXPECT_EQ(read_error(folder, file_of(header, std::string(15, 'x'))),
            "truncated: the tensors need 16 bytes of data, the file has 15: 1 bytes are missing. "
            "Tensor \"c\" (F32 [1], bytes 12 to 16) reaches beyond the end. Download or copy it "
            "again.");
  EXPECT_EQ(read_error(folder, file_of(header, std::string(5, 'x'))),
            "truncated: the tensors need 16 bytes of data, the file has 5: 11 bytes are missing. "
            "Tensor \"b\" (F32 [2], bytes 4 to 12) and 1 more reach beyond the end. Download or "
            "copy it again.");
}

TEST(Safetensors, AllProblemsAreListedAtOnce) {
  TemporaryFolder folder;
  std::string header = R"({"a":{"dtype":"Q4","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,9]},)"
                       R"("c":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})";
  put_file(folder / "x", file_of(header, std::string(15, 'x')));
  std::string text = error_text([&] { SafetensorsFile file(folder / "x"); });
  EXPECT_THAT(text,
              StartsWith("[safetensors] 3 problems:\n  - " + (folder / "x") + ": tensor \"a\""));
  EXPECT_THAT(text, HasSubstr("tensor \"b\" is F32 [2] and needs 8 bytes"));
  EXPECT_THAT(text, HasSubstr("1 bytes are missing"));
  std::string many = "{";
  for (int i = 0; i < 50; ++i) many += (i > 0 ? "," : "") + fmt::format("\"t{}\":{}", i, i);
  EXPECT_THAT(read_error(folder, file_of(many + "}", "")),
              HasSubstr("\n  - and 30 further problems"));
}

TEST(Safetensors, WriterRefusesBadNames) {
  TemporaryFolder folder;
  std::string path = folder / "x";
  SafetensorsItem item{"w", FileDtype::u8, {0}, {}};
  SafetensorsItem reserved = item;
  reserved.name = "__metadata__";
  EXPECT_EQ(error_text([&] { write_safetensors(path, {item, item, reserved}); }),
            "[safetensors] 2 problems:\n  - " + path +
                ": two tensors are named \"w\"; every name is needed once.\n  - " + path +
                ": a tensor cannot be named __metadata__.");
  item.name = "\xff";
  EXPECT_EQ(error_text([&] { write_safetensors(path, {item}); }),
            "[safetensors] " + path + ": a tensor's name or the metadata are not valid UTF-8.");
  EXPECT_EQ(folder.file_count(), 0U);
}

TEST(Safetensors, MutatedFilesNeverCrash) {
  TemporaryFolder folder;
  std::mt19937 random(99);
  std::string header =
      R"({"__metadata__":{"a":"b"},"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},)"
      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  std::string good = file_of(header, std::string(12, 'x'));
  size_t refused = 0;
  for (int i = 0; i < 500; ++i) {
    put_file(folder / "x", mutate(good, 8 + header.size(), random));
    try {
      SafetensorsFile file(folder / "x");
      for (const SafetensorsEntry& entry : file.entries())
        EXPECT_EQ(file.to_f32(entry.name).size(), *element_count(entry.shape));
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 300U);
}

}  // namespace
}  // namespace weir
