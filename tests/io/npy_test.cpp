#include "io/npy.h"

#include <gmock/gmock.h>

#include <cstring>

#include "io/file.h"
#include "io/zip.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string file_of(const std::string& dict, const std::string& data, char version = 1) {
  std::string text("\x93NUMPY");
  text += version;
  text += '\0';
  for (size_t i = 0; i < (version == 1 ? 2U : 4U); ++i)
    text += static_cast<char>(dict.size() >> (8 * i) & 0xFF);
  return text + dict + data;
}

const std::string kDict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
const std::string kData(8, '\1');

TEST(Npy, RoundTripOfEveryTypeAndRank) {
  TemporaryFolder folder;
  for (FileDtype dtype : {FileDtype::f64, FileDtype::f32, FileDtype::f16, FileDtype::i64,
                          FileDtype::i32, FileDtype::i16, FileDtype::i8, FileDtype::u64,
                          FileDtype::u32, FileDtype::u16, FileDtype::u8, FileDtype::boolean})
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{}, {1}, {5}, {0}, {3, 0, 2}, {2, 3}, {1, 2, 3, 4, 5}}) {
      std::vector<std::byte> data(*array_bytes(dtype, shape));
      for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37);
      write_npy(folder / "x.npy", {dtype, shape, data});
      NpyArray read = read_npy(folder / "x.npy");
      EXPECT_EQ(read.dtype, dtype);
      EXPECT_EQ(read.shape, shape);
      EXPECT_EQ(read.data, data);
      std::string bytes = get_file(folder / "x.npy");
      EXPECT_EQ((bytes.size() - data.size()) % 64, 0U);
    }
}

TEST(Npy, WritesTheBytesThatNumPyWrites) {
  TemporaryFolder folder;
  std::vector<float> values = {1.0F, 2.0F};
  write_npy(folder / "x.npy", std::vector<int64_t>{2}, values);
  // numpy.save of numpy.array([1, 2], "<f4"), version 1.24.
  std::string expected("\x93NUMPY\x01\x00v\x00", 10);
  expected += "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  expected += std::string(128 - expected.size() - 1, ' ') + "\n";
  expected += std::string("\x00\x00\x80\x3f\x00\x00\x00\x40", 8);
  EXPECT_EQ(get_file(folder / "x.npy"), expected);
  EXPECT_EQ(read_npy(folder / "x.npy").as<float>()[1], 2.0F);
}

TEST(Npy, ReadsOtherSpellings) {
  TemporaryFolder folder;
  for (const std::string& dict :
       {std::string("{\"shape\":(2,1),\"fortran_order\":False,\"descr\":\"<f4\"}"),
        std::string("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L)}   \n")}) {
    put_file(folder / "x.npy", file_of(dict, kData));
    EXPECT_EQ(read_npy(folder / "x.npy").shape, (std::vector<int64_t>{2, 1}));
  }
  put_file(folder / "v2.npy", file_of(kDict, kData, 2));
  EXPECT_EQ(read_npy(folder / "v2.npy").shape, (std::vector<int64_t>{2, 1}));
}

TEST(Npy, LongHeaderTakesVersionTwo) {
  TemporaryFolder folder;
  std::vector<int64_t> shape(30000, 1);
  write_npy(folder / "x.npy", shape, std::vector<float>{7.0F});
  EXPECT_EQ(get_file(folder / "x.npy")[6], 2);
  EXPECT_EQ(read_npy(folder / "x.npy").shape, shape);
}

std::string read_error(const TemporaryFolder& folder, const std::string& content) {
  put_file(folder / "x.npy", content);
  std::string text = error_text([&] { read_npy(folder / "x.npy"); });
  std::string prefix = "[npy] " + (folder / "x.npy");
  EXPECT_THAT(text, StartsWith(prefix));
  return text.substr(std::min(text.size(), prefix.size()));
}

TEST(Npy, EveryErrorSaysWhatIsNeeded) {
  TemporaryFolder folder;
  auto error = [&](const std::string& content) { return read_error(folder, content); };
  EXPECT_EQ(error("PK\3\4xxxxxxxxxx"), " is not a .npy file: it does not start with \\x93NUMPY.");
  EXPECT_EQ(error(file_of(kDict, kData, 3)), " has format version 3.0; 1 or 2 is needed.");
  EXPECT_EQ(error(file_of(kDict, "").substr(0, 20)),
            " is truncated: its header needs 70 bytes, the file has 20 in all.");
  EXPECT_EQ(error(file_of("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", kData)),
            " has element type '>f4'; <f8, <f4, <f2, <i8, <i4, <i2, |i1, <u8, <u4, <u2, |u1 or |b1 "
            "is needed. Convert "
            "it with numpy.astype first.");
  EXPECT_EQ(
      error(file_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", kData)),
      ": structured element types are not read; save one array a field.");
  EXPECT_EQ(error(file_of("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1)}", kData)),
            " is in Fortran order; C order is needed. Convert it with numpy.ascontiguousarray "
            "first.");
  EXPECT_EQ(error(file_of(kDict, kData.substr(1))),
            ": '<f4' of shape [2,1] needs 8 bytes of data, the file has 7: 1 bytes are missing.");
  EXPECT_EQ(error(file_of(kDict, kData + "zz")),
            ": '<f4' of shape [2,1] needs 8 bytes of data, the file has 10: 2 bytes are too many.");
  EXPECT_EQ(error(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': "
                          "(4611686018427387904,)}",
                          kData)),
            ": shape [4611686018427387904] is beyond what a file can hold.");
  EXPECT_EQ(
      error(file_of("{'descr': '<f4', 'shape': (2,)}", kData)),
      ": the header is damaged at its byte 31: one of the keys descr, fortran_order, shape is "
      "missing. Save the array again.");
  EXPECT_THAT(error(file_of("{'descr': '<f4', 'descr': '<f4'}", kData)),
              HasSubstr("key 'descr' is unknown or given twice"));
  EXPECT_THAT(error(file_of("{'shape': (-2,)}", kData)), HasSubstr("a size (a number of at most"));
  EXPECT_THAT(error(file_of("{'shape': (2", kData)), HasSubstr("',' or ')' is needed"));
  EXPECT_THAT(error(file_of("{'shape': (2,) 'descr'", kData)), HasSubstr("',' or '}' is needed"));
  EXPECT_THAT(error(file_of("{'fortran_order': 0}", kData)), HasSubstr("True or False is needed"));
  EXPECT_THAT(error(file_of("{'descr': '<f4}", kData)), HasSubstr("a quoted text does not end"));
  EXPECT_THAT(error(file_of("{descr: 1}", kData)), HasSubstr("a quoted text is needed"));
  EXPECT_THAT(error(file_of("[1]", kData)), HasSubstr("'{' is needed"));
  EXPECT_THAT(error(file_of(kDict + "x", kData)), HasSubstr("text after the closing '}'"));
  uint16_t one = 0x3F80;
  EXPECT_EQ(error_text([&] {
              write_npy(folder / "b.npy", {FileDtype::bf16, std::vector<int64_t>{1},
                                           std::as_bytes(std::span(&one, 1))});
            }),
            "[npy] " + (folder / "b.npy") +
                ": NumPy has no element type BF16; widen the array to f32 first.");
}

TEST(Npy, MutatedHeadersNeverCrash) {
  TemporaryFolder folder;
  std::mt19937 random(20240607);
  std::string good = file_of(kDict, kData);
  size_t refused = 0;
  for (int i = 0; i < 500; ++i) {
    put_file(folder / "x.npy", mutate(good, 10 + kDict.size(), random));
    try {
      NpyArray array = read_npy(folder / "x.npy");
      EXPECT_EQ(array.data.size(), *array_bytes(array.dtype, array.shape));
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 250U);
}

TEST(Npz, RoundTrip) {
  TemporaryFolder folder;
  std::vector<float> a = {1, 2, 3};
  std::vector<int64_t> b = {4};
  std::vector<int64_t> shape_a = {3, 1};
  std::vector<int64_t> scalar;
  write_npz(folder / "x.npz",
            {{"first", {FileDtype::f32, shape_a, std::as_bytes(std::span(a))}},
             {"dir/second", {FileDtype::i64, scalar, std::as_bytes(std::span(b))}}});
  auto arrays = read_npz(folder / "x.npz");
  ASSERT_EQ(arrays.size(), 2U);
  EXPECT_EQ(arrays[0].first, "first");
  EXPECT_EQ(arrays[0].second.shape, shape_a);
  EXPECT_EQ(arrays[0].second.as<float>()[2], 3.0F);
  EXPECT_EQ(arrays[1].first, "dir/second");
  EXPECT_EQ(arrays[1].second.as<int64_t>()[0], 4);
  write_npz(folder / "none.npz", {});
  EXPECT_TRUE(read_npz(folder / "none.npz").empty());
}

TEST(Npz, ReadsDeflatedEntriesOfNumPy) {
  // Made by numpy.savez_compressed with arrays ones = ones((40, 5), "<f4"), two = arange(2, "<i4").
  auto arrays = read_npz(std::string(WEIR_TEST_DATA) + "/io/compressed.npz");
  ASSERT_EQ(arrays.size(), 2U);
  EXPECT_EQ(arrays[0].first, "ones");
  EXPECT_EQ(arrays[0].second.shape, (std::vector<int64_t>{40, 5}));
  for (float value : arrays[0].second.as<float>()) EXPECT_EQ(value, 1.0F);
  EXPECT_EQ(arrays[1].second.as<int32_t>()[1], 1);
}

TEST(Npz, EveryErrorSaysWhatIsNeeded) {
  TemporaryFolder folder;
  std::string path = folder / "x.npz";
  std::vector<float> values(16, 1.0F);
  std::vector<int64_t> shape = {16};
  NpyView view{FileDtype::f32, shape, std::as_bytes(std::span(values))};
  EXPECT_EQ(error_text([&] { write_npz(path, {{"a", view}, {"a", view}}); }),
            "[npz] " + path + ": two entries are named \"a.npy\"; every name is needed once.");
  EXPECT_EQ(folder.file_count(), 0U);
  write_npz(path, {{"a", view}});
  std::string good = get_file(path);
  auto error = [&](const std::string& content) {
    put_file(path, content);
    std::string text = error_text([&] { read_npz(path); });
    EXPECT_THAT(text, HasSubstr(path));
    return text;
  };
  auto with = [&](size_t at, const std::string& bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  size_t end = good.size() - 22;
  size_t central = end - 46 - 5;
  EXPECT_THAT(error(good.substr(0, good.size() - 1)), HasSubstr("no zip directory at its end"));
  EXPECT_THAT(error("short"), HasSubstr("no zip directory at its end"));
  EXPECT_THAT(error(with(200, "x")),
              HasSubstr("is damaged: the content of entry \"a.npy\" does not match its checksum"));
  EXPECT_THAT(error(with(end + 10, "\xff\xff")), HasSubstr("is a zip64 archive"));
  EXPECT_THAT(error(with(central + 24, "\xff\xff\xff\xff")), HasSubstr("needs zip64"));
  EXPECT_THAT(error(with(central + 8, "\1")), HasSubstr("is encrypted"));
  EXPECT_THAT(error(with(central + 10, "\x0c")),
              HasSubstr("uses compression method 12; stored (0) or deflated (8) is needed."));
  EXPECT_THAT(error(with(central + 10, "\x08").replace(35, 1, "\x07")),
              HasSubstr("deflated content of entry \"a.npy\""));
  EXPECT_THAT(error(with(central + 42, "\x07")), HasSubstr("has no header at byte 7"));
  EXPECT_THAT(error(with(central + 20, "\xff\xff")), HasSubstr("beyond the end of the file"));
  EXPECT_THAT(error(with(central, "x")), HasSubstr("directory entry 1 of 1 is cut off"));
  EXPECT_THAT(error(with(central + 28, "\xff")), HasSubstr("directory entry 1 of 1 is cut off."));
  // Further entries with the bytes of the first.
  std::string entry = good.substr(central, end - central);
  std::string shared = good.substr(0, end);
  for (char name : {'b', 'c', 'd'}) shared += std::string(entry).replace(46, 1, 1, name);
  EXPECT_THAT(error(shared + std::string(good.substr(end)).replace(10, 1, "\4")),
              HasSubstr("is damaged: its entries overlap."));
}

TEST(Npz, MutatedArchivesNeverCrash) {
  TemporaryFolder folder;
  std::mt19937 random(7);
  std::vector<float> values(4, 1.0F);
  std::vector<int64_t> shape = {4};
  write_npz(folder / "x.npz", {{"a", {FileDtype::f32, shape, std::as_bytes(std::span(values))}}});
  std::string good = get_file(folder / "x.npz");
  size_t refused = 0;
  for (int i = 0; i < 500; ++i) {
    put_file(folder / "x.npz", mutate(good, good.size(), random));
    try {
      read_npz(folder / "x.npz");
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 150U);
}

}  // namespace
}  // namespace weir
