// Tuned tiles: kept, read back, checked, and without influence on a bit.
#include "codegen/matmul/tile_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/run.h"
#include "engine/tune.h"
#include "ir/builder.h"
#include "passes/pipeline.h"
#include "support/error.h"

namespace weir {
namespace {

class TileTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "weir-tiles-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    target_ = parse_target("x86-64-v3");
    spec_.m = 70, spec_.n = 50, spec_.k = 90;
    spec_.a.row_stride = 90, spec_.b.row_stride = spec_.c.row_stride = 50;
    tiles_ = {3, 2, 12, 32, 24, BPacking::prepacked, false};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  TileTable saved() const {
    TileTable table;
    table.set(spec_, tiles_);
    table.save(folder_, target_);
    return TileTable::load(folder_, target_);
  }
  std::string folder_;
  Target target_;
  MatmulSpec spec_;
  MatmulTiles tiles_;
};

TEST_F(TileTableTest, IsReadBack) {
  TileTable table = saved();
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.find(target_, spec_), tiles_);
  MatmulSpec other = spec_;
  other.accumulate = Accumulate::in_place;
  EXPECT_EQ(table.find(target_, other), std::nullopt);
  EXPECT_EQ(TileTable::load(folder_, parse_target("x86-64-v4")).size(), 0u);
  EXPECT_EQ(TileTable::load("", target_).size(), 0u);
  table.erase(spec_);
  EXPECT_EQ(table.size(), 0u);
}

// A change of this text would lose the tables that users have.
TEST_F(TileTableTest, KeepsItsTextOnDisk) {
  spec_.batch = 4;
  spec_.a.batch_stride = 6300;
  spec_.b.transposed = true;
  saved();
  std::ifstream file(TileTable::file(folder_, target_));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "weir tiles 2");
  EXPECT_EQ(lines[2], "70 50 90 1 4 90 0 6300 0 50 0 0 1 50 0 0 0 0: 3 2 12 32 24 0 0 1");
}

TEST_F(TileTableTest, DamageIsNotUsed) {
  saved();
  const std::string file = TileTable::file(folder_, target_);
  std::ofstream(file, std::ios::app) << "70 50: 3 2 twelve\n";
  EXPECT_EQ(TileTable::load(folder_, target_).size(), 0u);
  std::ofstream(file) << "something else\n";
  EXPECT_EQ(TileTable::load(folder_, target_).size(), 0u);
  std::filesystem::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  EXPECT_EQ(TileTable::load(folder_, target_).size(), 0u);
}

TEST_F(TileTableTest, EntriesThatBreakARuleAreNotUsed) {
  for (const MatmulTiles& bad :
       {MatmulTiles{3, 2, 13, 32, 24}, MatmulTiles{3, 2, 12, 30, 24}, MatmulTiles{0, 2, 12, 32, 24},
        MatmulTiles{3, 2, 12, 32, 23}, MatmulTiles{3, 2, 3 << 20, 32, 24},
        MatmulTiles{40, 2, 40, 32, 24}}) {
    tiles_ = bad;
    EXPECT_EQ(saved().find(target_, spec_), std::nullopt) << print(bad);
  }
  tiles_ = {3, 2, 12, 32, 24, BPacking::none, true};
  EXPECT_EQ(saved().find(target_, spec_), tiles_);
  spec_.b.transposed = true;
  EXPECT_EQ(saved().find(target_, spec_), std::nullopt) << "only B as it is can be read as it lies";
}

TEST_F(TileTableTest, AFolderThatCannotBeIsAUserError) {
  TileTable table;
  EXPECT_THROW(table.save("/proc/none", target_), UserError);
}

TEST(Tune, GivesTilesThatKeepTheRules) {
  MatmulSpec spec;
  spec.m = 61, spec.n = 45, spec.k = 130;
  spec.a.row_stride = 64, spec.b.row_stride = spec.c.row_stride = 48;
  spec.a.transposed = true;
  const TunedProduct tuned = tune_product(host_target(), spec, {.threads = 1, .rounds = 1});
  EXPECT_TRUE(are_valid(host_target(), spec, tuned.tiles)) << print(tuned.tiles);
  EXPECT_EQ(tuned.usual, default_tiles(host_target(), spec));
  EXPECT_GE(tuned.gain, 1);
  EXPECT_EQ(tuned.gain > 1, !(tuned.tiles == tuned.usual));
  EXPECT_GT(tuned.seconds, 0);
  EXPECT_GT(tuned.tried, 10);
}

TEST_F(TileTableTest, AProgramTakesItsTilesAndKeepsItsBits) {
  target_ = host_target();
  Builder b("products");
  Tensor x = b.input("x", f32({70, 90})), w = b.input("w", f32({50, 90}));
  b.output("y", gelu(linear(x, w)));
  const GraphPtr planned = run_pipeline(b.finish(), {.target = target_}).graph;
  const std::vector<MatmulSpec> products = products_of({planned}, target_);
  ASSERT_EQ(products.size(), 1u);
  const Tensors inputs = {{"x", random_normal(f32({70, 90}), 1, 1)},
                          {"w", random_normal(f32({50, 90}), 1, 2)}};
  const auto result = [&](const std::string& cache) {
    const Executables programs({planned}, {.target = target_, .cache = cache});
    Session session(programs, 1);
    return std::pair(run(session, inputs).outputs.at("y").data, programs[0].code.kernels[0].tiles);
  };
  const auto usual = result("");
  TileTable table;
  table.set(products[0], {1, 1, 1, target_.lanes(), target_.lanes(), BPacking::packed, true, 2});
  table.save(folder_, target_);
  const auto tuned = result(folder_);
  EXPECT_EQ(tuned.first, usual.first);
  EXPECT_EQ(tuned.second, 70 * ((50 + target_.lanes() - 1) / target_.lanes()));
  EXPECT_NE(tuned.second, usual.second);
}

}  // namespace
}  // namespace weir
