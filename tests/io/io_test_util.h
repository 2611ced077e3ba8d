#pragma once
// Helpers of the io tests: a folder that goes away, the text of an expected error, gzip, mutation.
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "support/error.h"

namespace weir {

/// A new empty folder, removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "weir-io-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  size_t file_count() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                             std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

/// The message of the UserError that `action` throws; fails the test when it throws none.
template <typename Action>
std::string error_text(Action action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected a UserError";
  return "";
}

/// Writes bytes without any of the library under test.
inline void put_file(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  ASSERT_TRUE(out.good()) << path;
}

inline std::string get_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void put_gzip(const std::string& path, const std::string& content) {
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, content.data(), static_cast<unsigned>(content.size())),
            static_cast<int>(content.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

/// A damaged copy: some bytes changed, removed, inserted or cut off within the first `span` bytes.
inline std::string mutate(std::string bytes, size_t span, std::mt19937& random) {
  auto below = [&](size_t limit) { return static_cast<size_t>(random()) % limit; };
  using namespace std::string_literals;  // one of the bytes is zero
  static const std::string interesting = "0123456789[]{}(),:\"' \\-.eETF\x00\xff"s;
  for (size_t edits = 1 + below(4); edits > 0 && !bytes.empty(); --edits) {
    size_t at = below(std::min(span, bytes.size()));
    char value =
        below(3) == 0 ? static_cast<char>(below(256)) : interesting[below(interesting.size())];
    switch (below(5)) {
      case 0:
        bytes.erase(at, 1 + below(3));
        break;
      case 1:
        bytes.insert(at, 1, value);
        break;
      case 2:
        if (below(4) == 0) bytes.resize(at);
        break;
      default:
        bytes[at] = value;
    }
  }
  return bytes;
}

}  // namespace weir
