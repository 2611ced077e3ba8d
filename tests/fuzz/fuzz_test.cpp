// The fuzz targets on their seeds, on inputs that once failed, and on mutations with a fixed seed.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "fuzz/scratch.h"
#include "fuzz/targets.h"

namespace weir {

// The name of a test ends with it.
void PrintTo(const FuzzTarget& target, std::ostream* out) { *out << target.name; }

namespace {

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::string mutate(std::string bytes, const std::vector<std::string>& others) {
    for (size_t edits = 1 + below(5); edits > 0; --edits) edit(bytes, others);
    return bytes;
  }
  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

 private:
  void edit(std::string& bytes, const std::vector<std::string>& others) {
    using namespace std::string_literals;  // one of the bytes is zero
    static const std::string text = "0123456789[]{}(),:\"' \\-.eETFu\n\x00\xff#="s;
    const size_t at = below(bytes.size() + 1);
    switch (below(8)) {
      case 0:
        bytes.erase(at, 1 + below(4));
        break;
      case 1:
        bytes.insert(at, 1 + below(3), text[below(text.size())]);
        break;
      case 2:  // a number of some width, small, huge or around a power of two
        number(bytes, at);
        break;
      case 3:
        if (below(3) == 0) bytes.resize(at);
        break;
      case 4: {  // a part of another input
        const std::string& other = others[below(others.size())];
        bytes.insert(at, other.substr(below(other.size()), below(40)));
        break;
      }
      case 5:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(60)));
        break;
      default:
        if (at < bytes.size())
          bytes[at] = below(2) == 0 ? static_cast<char>(random_()) : text[below(text.size())];
    }
  }
  void number(std::string& bytes, size_t at) {
    const size_t width = size_t{1} << below(4);
    uint64_t value = uint64_t{1} << below(64);
    value += below(3);
    value -= 1;
    if (below(4) == 0) value = ~value;
    for (size_t i = 0; i < width && at + i < bytes.size(); ++i)
      bytes[at + i] = static_cast<char>(value >> (8 * i));
  }
  std::mt19937 random_;
};

class Fuzz : public testing::TestWithParam<FuzzTarget> {};

TEST_P(Fuzz, SeedsAndMutations) {
  const FuzzTarget& target = GetParam();
  std::vector<std::string> pool = target.seeds();
  ASSERT_FALSE(pool.empty());
  auto run = [&](const std::string& input) {
    try {
      return target.run(input);
    } catch (const std::exception& error) {
      const std::string path = testing::TempDir() + "weir-fuzz-" + target.name;
      std::ofstream(path, std::ios::binary) << input;
      ADD_FAILURE() << error.what() << "\nthe input is in " << path;
      return false;
    }
  };
  for (const std::string& seed : pool) EXPECT_TRUE(run(seed)) << seed;
  const std::filesystem::path corpus = std::filesystem::path(WEIR_FUZZ_CORPUS) / target.name;
  if (std::filesystem::is_directory(corpus))
    for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
      pool.push_back(Scratch::get(entry.path().string()));
      run(pool.back());
    }
  Mutator mutator(20240801);
  int accepted = 0, refused = 0;
  while (accepted + refused < 4000 && !HasFailure())
    ++(run(mutator.mutate(pool[mutator.below(pool.size())], pool)) ? accepted : refused);
  // Mutations must get past the first check, and some must be wrong.
  EXPECT_GT(accepted, 20);
  EXPECT_GT(refused, 1000);
}

INSTANTIATE_TEST_SUITE_P(, Fuzz, testing::ValuesIn(fuzz_targets()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace weir
