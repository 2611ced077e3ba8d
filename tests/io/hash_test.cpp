#include "io/hash.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "io_test_util.h"
#include "support/error.h"

namespace weir {
namespace {

TEST(HashOfFile, IsThatOfItsBytesHoweverManyThereAre) {
  const TemporaryFolder folder;
  const auto file = std::filesystem::path(folder.path()) / "bytes";
  for (const size_t size : {size_t{0}, size_t{1}, size_t{5000}, (size_t{8} << 20) + 17}) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
    std::ofstream(file, std::ios::binary) << bytes;
    Hasher hasher;
    hasher.add(bytes);
    EXPECT_EQ(hash_of_file(file.string()), hasher.hex_128()) << size;
  }
  // What `xxhsum -H128` prints of "abc".
  std::ofstream(file, std::ios::binary) << "abc";
  EXPECT_EQ(hash_of_file(file.string()), "06b05ab6733a618578af5f94892f3950");
  std::filesystem::remove(file);
  EXPECT_THROW(hash_of_file(file.string()), UserError);
}

}  // namespace
}  // namespace weir
