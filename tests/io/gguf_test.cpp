#include "io/gguf.h"

#include <gmock/gmock.h>

#include <cmath>

#include "gguf_test_util.h"
#include "io/dtype.h"
#include "io/npy.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;

GgufFile file_of(const std::string& bytes) {
  return GgufFile(MappedFile::from_memory("x", std::as_bytes(std::span(bytes))));
}
GgufFile file_of(const GgufBuilder& builder) { return file_of(builder.build()); }

/// The message of opening these bytes, without "[gguf] x: ".
std::string open_error(const std::string& bytes) {
  std::string text = error_text([&] { file_of(bytes); });
  return text.starts_with("[gguf] x: ") ? text.substr(10) : text;
}
std::string open_error(const GgufBuilder& builder) { return open_error(builder.build()); }

std::string half(float value) { return raw(f32_to_f16(value)); }

std::vector<float> one(uint32_t type, uint64_t elements, const std::string& bytes) {
  return file_of(GgufBuilder().stored("w", {elements}, type, bytes)).to_f32("w");
}

TEST(Gguf, EveryTypeAsThePackageOfTheFormat) {
  GgufFile file(WEIR_TEST_DATA "/io/quantised.gguf");
  auto arrays = read_npz(WEIR_TEST_DATA "/io/quantised.npz");
  ASSERT_EQ(file.entries().size(), 18U);
  ASSERT_EQ(arrays.size(), 18U);
  for (const auto& [name, array] : arrays) {
    const GgufEntry& entry = file.tensor(name);
    EXPECT_EQ(ggml_name(entry.type), name);
    EXPECT_EQ(entry.shape, array.shape) << name;
    std::vector<float> values = file.to_f32(name);
    ASSERT_EQ(values.size(), array.as<float>().size());
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(values[i], array.as<float>()[i]) << name << " element " << i;
  }
}

TEST(Gguf, MetadataOfEveryKind) {
  GgufFile file(WEIR_TEST_DATA "/io/quantised.gguf");
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.at("general.architecture").text(), "reference");
  EXPECT_EQ(file.at("general.alignment").whole(), 64);
  EXPECT_EQ(file.at("reference.u8").whole(), 200);
  EXPECT_EQ(file.at("reference.i8").whole(), -100);
  EXPECT_EQ(file.at("reference.u16").whole(), 60000);
  EXPECT_EQ(file.at("reference.i16").whole(), -30000);
  EXPECT_EQ(file.at("reference.u32").whole(), 4000000000);
  EXPECT_EQ(file.at("reference.i32").whole(), -2000000000);
  EXPECT_EQ(file.at("reference.u64").whole(), int64_t{1} << 62);
  EXPECT_EQ(file.at("reference.i64").whole(), -(int64_t{1} << 62));
  EXPECT_EQ(file.at("reference.f32").number(), static_cast<double>(0.1F));
  EXPECT_EQ(file.at("reference.f64").number(), 0.1);
  EXPECT_EQ(file.at("reference.u8").number(), 200.0);
  EXPECT_TRUE(file.at("reference.yes").flag());
  EXPECT_EQ(file.at("reference.text").text(), "w\xc3\xa9ir");
  EXPECT_EQ(file.at("reference.texts").texts(), (std::vector<std::string_view>{"a", "",
                                                                               "\xc4\xa0"
                                                                               "b"}));
  EXPECT_EQ(file.at("reference.wholes").wholes(), (std::vector<int64_t>{3, 1, -4}));
  EXPECT_EQ(file.at("reference.u8").wholes(), (std::vector<int64_t>{200}));
  EXPECT_EQ(file.at("reference.numbers").numbers(), (std::vector<double>{0.5, -1.25}));
  EXPECT_EQ(file.find("reference.none"), nullptr);
}

TEST(Gguf, ValuesOfAnotherKindAreRefused) {
  GgufBuilder builder;
  builder.text("name", "weir").value("count", kU64, raw(~uint64_t{0}));
  builder.texts("words", {"a", "b"});
  GgufFile file = file_of(builder);
  EXPECT_EQ(error_text([&] { (void)file.at("name").whole(); }),
            "[gguf] x: \"name\" is a text; a whole number is needed.");
  EXPECT_EQ(error_text([&] { (void)file.at("count").text(); }),
            "[gguf] x: \"count\" is a u64; a text is needed.");
  EXPECT_EQ(error_text([&] { (void)file.at("words").numbers(); }),
            "[gguf] x: \"words\" is a list of 2 text; a number is needed.");
  EXPECT_EQ(error_text([&] { (void)file.at("name").flag(); }),
            "[gguf] x: \"name\" is a text; a boolean is needed.");
  EXPECT_EQ(error_text([&] { (void)file.at("count").whole(); }),
            "[gguf] x: \"count\" has the value 18446744073709551615; at most 63 bits are needed.");
  EXPECT_EQ(error_text([&] { file.at("nam"); }),
            "[gguf] x: the metadata has no \"nam\". Did you mean name?");
  EXPECT_EQ(error_text([&] { file.tensor("w"); }),
            "[gguf] x: there is no tensor \"w\" among its 0.");
}

// Blocks of 32 by hand. Low halves of the 16 bytes are elements 0..15, high halves 16..31.
TEST(Gguf, BlocksOfThirtyTwoByHand) {
  std::string nibbles;
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | (15 - i) << 4);
  const std::string high = raw<uint32_t>(0x80000001U);  // elements 0 and 31 have the fifth bit
  auto q = [](size_t i) { return static_cast<float>(i < 16 ? i : 31 - i); };
  auto fifth = [](size_t i) { return i == 0 || i == 31 ? 16.0F : 0.0F; };
  std::vector<float> q4_0 = one(2, 32, half(0.5F) + nibbles);
  std::vector<float> q4_1 = one(3, 32, half(0.5F) + half(3.0F) + nibbles);
  std::vector<float> q5_0 = one(6, 32, half(-2.0F) + high + nibbles);
  std::vector<float> q5_1 = one(7, 32, half(-2.0F) + half(1.0F) + high + nibbles);
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += static_cast<char>(i * 8 - 128);
  std::vector<float> q8_0 = one(8, 32, half(0.25F) + bytes);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(q4_0[i], 0.5F * (q(i) - 8.0F));
    EXPECT_EQ(q4_1[i], 0.5F * q(i) + 3.0F);
    EXPECT_EQ(q5_0[i], -2.0F * (q(i) + fifth(i) - 16.0F));
    EXPECT_EQ(q5_1[i], -2.0F * (q(i) + fifth(i)) + 1.0F);
    EXPECT_EQ(q8_0[i], 0.25F * (static_cast<float>(i) * 8.0F - 128.0F));
  }
}

// Blocks of 256 by hand: part p of 32 has scale p + 1 and minimum 2 p; parts 4 to 7 take the top
// bits of their scales from the first bytes.
TEST(Gguf, BlocksOfTwoHundredFiftySixByHand) {
  std::vector<int> scale = {1, 2, 3, 4, 5, 22, 39, 56};
  std::vector<int> minimum = {0, 2, 4, 6, 8, 26, 44, 62};
  std::string packed(12, '\0');
  for (size_t p = 0; p < 4; ++p) {
    packed[p] = static_cast<char>(scale[p] | (scale[p + 4] >> 4) << 6);
    packed[p + 4] = static_cast<char>(minimum[p] | (minimum[p + 4] >> 4) << 6);
    packed[p + 8] = static_cast<char>((scale[p + 4] & 15) | (minimum[p + 4] & 15) << 4);
  }
  std::string low;
  for (int i = 0; i < 128; ++i) low += static_cast<char>(i / 32 | (i % 16) << 4);
  const std::string high(32, '\x81');  // the fifth bit of parts 0 and 7
  std::vector<float> q4_k = one(12, 256, half(0.5F) + half(2.0F) + packed + low);
  std::vector<float> q5_k = one(13, 256, half(0.5F) + half(2.0F) + packed + high + low);
  for (size_t i = 0; i < 256; ++i) {
    size_t p = i / 32;
    float q = static_cast<float>(p % 2 == 0 ? p / 2 : i % 16);
    float fifth = p == 0 || p == 7 ? 16.0F : 0.0F;
    auto s = static_cast<float>(scale[p]);
    auto m = static_cast<float>(minimum[p]);
    EXPECT_EQ(q4_k[i], 0.5F * s * q - 2.0F * m) << i;
    EXPECT_EQ(q5_k[i], 0.5F * s * (q + fifth) - 2.0F * m) << i;
  }
  // Q6_K: all low bits 5, all high bits 2 (37 - 32 = 5), the scales of 16 elements -8 .. 7.
  std::string scales;
  for (int i = 0; i < 16; ++i) scales += static_cast<char>(i - 8);
  std::vector<float> q6_k =
      one(14, 256, std::string(128, '\x55') + std::string(64, '\xaa') + scales + half(0.5F));
  for (size_t i = 0; i < 256; ++i)
    EXPECT_EQ(q6_k[i], 0.5F * static_cast<float>(static_cast<int>(i / 16) - 8) * 5.0F) << i;
}

TEST(Gguf, SpecialValuesOfPlainTypesAreKept) {
  EXPECT_EQ(one(0, 2, raw(1.5F) + raw(-INFINITY)), (std::vector<float>{1.5F, -INFINITY}));
  EXPECT_EQ(one(1, 2, raw<uint16_t>(0x7C00) + raw<uint16_t>(0x0001)),
            (std::vector<float>{INFINITY, 0x1p-24F}));
  EXPECT_TRUE(std::isnan(one(30, 1, raw<uint16_t>(0x7FC0))[0]));
}

TEST(Gguf, ShapesAreRowMajorAndFilesMayBeEmpty) {
  GgufBuilder builder;
  builder.version = 2;
  std::string data;
  for (int i = 0; i < 6; ++i) data += raw(static_cast<float>(i));
  builder.stored("w", {3, 2}, 0, data).stored("scalar", {}, 0, raw(7.0F));
  builder.stored("none", {0, 5}, 0, "");
  GgufFile file = file_of(builder);
  EXPECT_EQ(file.version(), 2U);
  EXPECT_EQ(file.tensor("w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.to_f32("w"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file.to_f32("scalar"), (std::vector<float>{7}));
  EXPECT_TRUE(file.to_f32("none").empty());
  EXPECT_TRUE(file_of(GgufBuilder()).entries().empty());
}

TEST(Gguf, FilesOfAnotherKindAreNamed) {
  EXPECT_EQ(open_error("GGU"), "the file does not start with \"GGUF\"; this is not a GGUF file.");
  EXPECT_EQ(open_error("GGUF" + raw<uint32_t>(1) + std::string(16, '\0')),
            "the file has format version 1; 2 or 3 is needed. Convert the model again.");
  EXPECT_EQ(open_error("GGUF" + raw<uint32_t>(0x03000000) + std::string(16, '\0')),
            "the file is big-endian (version 3); a little-endian one is needed.");
  EXPECT_EQ(open_error("GGUF\3"),
            "truncated or damaged: the version needs 4 bytes at byte 4, the file has 1 more. "
            "Download or copy it again.");
}

TEST(Gguf, LyingCountsAndLengthsAreRefusedBeforeAnyAllocation) {
  auto begin = [](uint64_t tensors, uint64_t values) {
    return "GGUF" + raw<uint32_t>(3) + raw(tensors) + raw(values);
  };
  EXPECT_EQ(open_error(begin(0, ~uint64_t{0})),
            "the header claims 18446744073709551615 metadata entries, which need at least 13 bytes "
            "each, but only 0 bytes follow; the file is truncated or damaged.");
  EXPECT_THAT(open_error(begin(uint64_t{1} << 40, 0)), HasSubstr("claims 1099511627776 tensors"));
  EXPECT_THAT(open_error(begin(0, 1) + raw(~uint64_t{0}) + std::string(8, 'k')),
              HasSubstr("a key at byte 24 claims 18446744073709551615 bytes; at most 65535"));
  GgufBuilder list;
  list.value("k", kList, raw<uint32_t>(kText) + raw(uint64_t{1} << 61));
  EXPECT_THAT(open_error(list),
              HasSubstr("\"k\" claims 2305843009213693952 elements of kind text"));
  GgufBuilder text;
  text.value("k", kText, raw(~uint64_t{0}) + "abc");
  EXPECT_THAT(open_error(text), HasSubstr("k needs 18446744073709551615 bytes"));
  EXPECT_THAT(open_error(GgufBuilder().value("k", 13, "")),
              HasSubstr("\"k\" is of kind 13; 0 to 12"));
  std::string nested;
  for (int i = 0; i < 7; ++i) nested += raw<uint32_t>(kList) + raw<uint64_t>(1);
  EXPECT_THAT(open_error(GgufBuilder().value("k", kList, nested + std::string(64, '\0'))),
              HasSubstr("\"k\" is nested too deeply"));
}

TEST(Gguf, AllProblemsAreListedAtOnce) {
  GgufBuilder builder;
  builder.text("name", "a").text("name", "b").value("flag", kBoolean, "\2");
  builder.value("general.alignment", kU32, raw<uint32_t>(48));
  builder.tensor("w", {4}, 0, 0).tensor("w", {4}, 0, 32).tensor("odd", {4}, 0, 7);
  builder.tensor("iq", {256}, 17, 64).tensor("new", {256}, 1000, 64).tensor("row", {33, 2}, 2, 64);
  builder.tensor("huge", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 64);
  builder.tensor("negative", {~uint64_t{0}}, 0, 64).tensor("far", {4}, 0, uint64_t{1} << 63);
  builder.data = std::string(128, '\0');
  std::string text = open_error(builder);
  for (const char* part :
       {"the key \"name\" is given twice", "\"flag\" has a boolean that is neither 0 nor 1",
        "\"general.alignment\" is 48; a power of two of kind u32 is needed",
        "tensor \"w\" is given twice",
        "tensor \"odd\" begins at byte 7, which is no multiple of the alignment 32",
        "tensor \"iq\" is of type IQ2_XS, which is not read; one of F32, F16, BF16, Q4_0",
        "tensor \"new\" is of type number 1000, which is not read",
        "tensor \"row\" is Q4_0 [2,33]; its rows are no multiple of 32",
        "tensor \"huge\" has shape [1099511627776,1099511627776] at byte 64; that is beyond",
        "tensor \"negative\" has shape [-1]", "tensor \"far\" has shape [4] at byte 92233720"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(Gguf, TensorsMustLieInTheFileAndApart) {
  GgufBuilder builder;
  builder.tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 32).tensor("c", {8}, 0, 64);
  builder.data = std::string(64, '\0');
  EXPECT_EQ(open_error(builder),
            "truncated: the tensors need 96 bytes of data, the file has 64: 32 bytes are missing. "
            "Tensor \"c\" (F32 [8], bytes 64 to 96) reaches beyond the end. Download or copy it "
            "again.");
  builder.data.resize(96);
  EXPECT_NO_THROW(file_of(builder));
  builder.tensor("d", {16}, 0, 0);
  EXPECT_THAT(open_error(builder), HasSubstr("overlap."));
  EXPECT_THAT(open_error(GgufBuilder().tensor("r", {1, 1, 1, 1, 1}, 0, 0)),
              HasSubstr("tensor \"r\" has rank 5; at most 4"));
}

TEST(Gguf, TruncationAnywhereIsAnError) {
  std::string bytes = get_file(WEIR_TEST_DATA "/io/quantised.gguf");
  GgufFile whole = file_of(bytes);
  uint64_t last = 0;
  for (const GgufEntry& entry : whole.entries())
    last = std::max<uint64_t>(
        last, static_cast<uint64_t>(whole.bytes(entry).data() + whole.bytes(entry).size() -
                                    whole.bytes(whole.entries()[0]).data()));
  size_t data_begin = bytes.size() - (last + 63) / 64 * 64;
  for (size_t size = 0; size < data_begin; size += 7)
    EXPECT_THROW(file_of(bytes.substr(0, size)), UserError) << size;
  for (size_t size : {data_begin, data_begin + 100, data_begin + last - 1})
    EXPECT_THROW(file_of(bytes.substr(0, size)), UserError) << size;
}

TEST(Gguf, DamagedFilesAreReadOrRefused) {
  std::string bytes = get_file(WEIR_TEST_DATA "/io/quantised.gguf");
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    try {
      GgufFile file = file_of(mutate(bytes, 1500, random));
      for (const GgufEntry& entry : file.entries())
        EXPECT_EQ(file.to_f32(entry.name).size(), entry.size());
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("[gguf] "));
    }
  }
}

}  // namespace
}  // namespace weir
