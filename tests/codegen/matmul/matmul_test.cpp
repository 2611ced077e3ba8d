#include "codegen/matmul/matmul.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "codegen/kernel_test.h"
#include "codegen/matmul/tile_table.h"
#include "runtime/threads.h"
#include "support/error.h"

namespace weir {
namespace {

using llvm::Value;

/// A matrix product with its memory, and two ways to compute it.
struct Product {
  MatmulSpec spec;
  std::vector<float> a, b, c, accumulator;

  /// Lays out operands contiguously with `padding` more elements a row, and fills them.
  static Product make(MatmulSpec spec, int64_t padding, unsigned seed) {
    Product p;
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> values(-1, 1);
    const auto place = [&](MatmulOperand& operand, int64_t rows, int64_t columns) {
      if (operand.transposed) std::swap(rows, columns);
      operand.row_stride = columns + padding;
      const bool repeated = operand.batch_stride == 0;
      if (!repeated) operand.batch_stride = rows * operand.row_stride;
      // The last row ends with its last column, so that a guard page sees the first element beyond.
      const int64_t matrices = repeated ? 1 : spec.batch;
      std::vector<float> data(matrices * rows * operand.row_stride - padding);
      for (float& x : data) x = values(random);
      return data;
    };
    p.a = place(spec.a, spec.m, spec.k);
    p.b = place(spec.b, spec.k, spec.n);
    spec.c.batch_stride = 1;
    p.c = place(spec.c, spec.m, spec.n);
    p.accumulator = p.c;
    for (float& x : p.accumulator) x = values(random);
    p.spec = spec;
    return p;
  }

  template <typename F>
  void for_elements(F f) const {
    const auto at = [](const MatmulOperand& o, int64_t matrix, int64_t row, int64_t column) {
      return matrix * o.batch_stride +
             (o.transposed ? column * o.row_stride + row : row * o.row_stride + column);
    };
    for (int64_t x = 0; x < spec.batch; ++x)
      for (int64_t i = 0; i < spec.m; ++i)
        for (int64_t j = 0; j < spec.n; ++j)
          f(at(spec.c, x, i, j),
            [&](int64_t k) { return std::pair(a[at(spec.a, x, i, k)], b[at(spec.b, x, k, j)]); });
  }

  float start(int64_t element) const {
    switch (spec.accumulate) {
      case Accumulate::none:
        return 0;
      case Accumulate::in_place:
        return c[element];
      case Accumulate::operand:
        return accumulator[element];
    }
    return 0;
  }

  /// What the bits must be: one chain of fused multiply-adds over ascending k.
  std::vector<float> chains() const {
    std::vector<float> result = c;
    for_elements([&](int64_t to, auto factors) {
      float sum = start(to);
      for (int64_t k = 0; k < spec.k; ++k) {
        const auto [x, y] = factors(k);
        sum = std::fma(x, y, sum);
      }
      result[to] = sum;
    });
    return result;
  }
};

/// A guarded copy of `values` whose end is that of its memory up to the alignment of the ABI.
std::unique_ptr<GuardedBuffer> guarded(const std::vector<float>& values) {
  auto buffer = std::make_unique<GuardedBuffer>(4 * values.size());
  std::ranges::copy(values, static_cast<float*>(buffer->data()));
  return buffer;
}

std::vector<float> run(const Target& target, const Product& p, const MatmulPlan& plan, int threads,
                       const MatmulFusion& fusion = {}, std::vector<void*> extra = {}) {
  Jit jit(target, {.threads = 1});
  std::vector<KernelSource> kernels = {
      {"product", "", [&](Emitter& e) { emit_matmul(e, "product", plan, fusion); }}};
  if (plan.pack_grid)
    kernels.push_back({"pack", "", [&](Emitter& e) { emit_matmul_pack(e, "pack", plan); }});
  jit.add(kernels);

  const auto a = guarded(p.a), b = guarded(p.b), c = guarded(p.c), start = guarded(p.accumulator);
  GuardedBuffer packed(static_cast<size_t>(plan.packed_bytes));
  std::vector<std::unique_ptr<GuardedBuffer>> scratch;
  for (int i = 0; i < threads; ++i)
    scratch.push_back(std::make_unique<GuardedBuffer>(static_cast<size_t>(plan.scratch_bytes)));
  std::vector<void*> buffers = {a->data(), plan.pack_grid ? packed.data() : b->data(), c->data()};
  if (plan.spec.accumulate == Accumulate::operand) buffers.push_back(start->data());
  buffers.insert(buffers.end(), extra.begin(), extra.end());
  void* pack_buffers[] = {b->data(), packed.data()};

  const Workers workers(threads);
  workers.parallel_tiles(plan.pack_grid, [&](int64_t first, int64_t last, int) {
    jit.kernel("pack")(pack_buffers, first, last, nullptr);
  });
  workers.parallel_tiles(plan.grid, [&](int64_t first, int64_t last, int worker) {
    jit.kernel("product")(buffers.data(), first, last, scratch[worker]->data());
  });
  for (const auto* buffer : {a.get(), b.get(), c.get(), &packed}) EXPECT_FALSE(buffer->overrun());
  for (const auto& buffer : scratch) EXPECT_FALSE(buffer->overrun());
  return {c->as<float>().begin(), c->as<float>().end()};
}

std::string describe(const MatmulSpec& s, const MatmulTiles& t) {
  return fmt::format("m {} n {} k {} batch {} a {} b {} accumulate {}; tiles {}", s.m, s.n, s.k,
                     s.batch, s.a.transposed ? "T" : "N", s.b.transposed ? "T" : "N",
                     static_cast<int>(s.accumulate), print(t));
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& expected,
                      const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << "; element " << i << " is " << got[i] << ", expected " << expected[i];
}

MatmulTiles random_tiles(std::mt19937& random, const Target& target, const MatmulSpec& spec) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  MatmulTiles t;
  t.mr = pick(1, 6);
  t.nr_vectors = pick(1, 3);
  t.mc = t.mr * pick(1, 5);
  t.nc = t.nr_vectors * target.lanes() * pick(1, 3);
  t.kc = pick(0, 2) ? target.lanes() * pick(1, 3) : spec.k;
  t.b = static_cast<BPacking>(pick(0, spec.b.transposed ? 1 : 2));
  t.pack_a = pick(0, 1);
  t.panels_per_block = pick(1, 3);
  return t;
}

TEST(Matmul, OneChainAnElementForAnyShapeLayoutTilesAndThreads) {
  const std::vector<int> sizes = {1, 2, 5, 7, 8, 13, 16, 17, 31, 33, 47, 64, 67};
  for (const Target& target : runnable_targets()) {
    std::mt19937 random(7);
    const auto pick = [&](int n) { return static_cast<int>(random() % n); };
    for (int round = 0; round < 48; ++round) {
      MatmulSpec spec;
      spec.m = sizes[pick(13)];
      spec.n = sizes[pick(13)];
      spec.k = sizes[pick(13)] + 16 * pick(4);
      spec.batch = 1 + pick(3);
      spec.a.transposed = round & 1;
      spec.b.transposed = round & 2;
      spec.a.batch_stride = pick(4) ? 1 : 0;
      spec.b.batch_stride = pick(3) ? 1 : 0;
      spec.accumulate = static_cast<Accumulate>(pick(3));
      const Product p = Product::make(spec, pick(3), round);
      const MatmulTiles tiles = random_tiles(random, target, spec);
      const std::string what = describe(spec, tiles);
      expect_same_bits(run(target, p, plan_matmul(target, p.spec, tiles), 1 + round % 2),
                       p.chains(), what);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Matmul, DefaultTilesOnTypicalShapes) {
  struct Shape {
    int64_t m, n, k, batch;
    bool a, b;
  };
  const std::vector<Shape> shapes = {{512, 176, 64, 1, false, true}, {96, 88, 1030, 1, true, false},
                                     {1, 300, 77, 1, false, true},   {300, 1, 77, 1, false, false},
                                     {64, 64, 32, 6, false, true},   {37, 1025, 19, 1, false, true},
                                     {250, 250, 530, 1, true, true}};
  for (const Target& target : runnable_targets())
    for (const Shape& s : shapes) {
      MatmulSpec spec;
      spec.m = s.m, spec.n = s.n, spec.k = s.k, spec.batch = s.batch;
      spec.a.transposed = s.a, spec.b.transposed = s.b;
      spec.a.batch_stride = spec.b.batch_stride = s.batch > 1;
      const Product p = Product::make(spec, 0, 3);
      const MatmulPlan plan = plan_matmul(target, p.spec);
      const std::string what = describe(p.spec, plan.tiles);
      expect_same_bits(run(target, p, plan, 2), p.chains(), what);
      // The chains themselves against a product in double.
      const std::vector<float> chains = p.chains();
      double worst = 0;
      p.for_elements([&](int64_t to, auto factors) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < spec.k; ++k) {
          const auto [x, y] = factors(k);
          sum += double{x} * y;
          size += std::fabs(double{x} * y);
        }
        worst = std::max(worst, std::fabs(chains[to] - sum) / size);
      });
      EXPECT_LT(worst, 1e-6) << what;
    }
}

TEST(Matmul, BIsReadWhereItLiesUnlessItsRowsHaveSetConflicts) {
  const Target target = parse_target("x86-64-v4");
  MatmulSpec spec;
  spec.m = 512, spec.n = 1408, spec.k = 512;
  spec.a.row_stride = 512, spec.b.row_stride = spec.c.row_stride = 1408;
  EXPECT_EQ(default_tiles(target, spec).b, BPacking::none);
  spec.n = spec.b.row_stride = spec.c.row_stride = 2048;
  EXPECT_NE(default_tiles(target, spec).b, BPacking::none) << "all rows would share two cache sets";
  spec.n = 1408;
  spec.b = {512, 0, true};
  EXPECT_NE(default_tiles(target, spec).b, BPacking::none) << "transposed";
}

TEST(Matmul, LargeProductsHaveSeveralTilesACore) {
  Target target = parse_target("x86-64-v4");
  target.cores = 2;
  const auto plan_of = [&](int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b) {
    MatmulSpec spec;
    spec.m = m, spec.n = n, spec.k = k;
    spec.a = {transpose_a ? m : k, 0, transpose_a};
    spec.b = {transpose_b ? k : n, 0, transpose_b};
    spec.c.row_stride = n;
    return plan_matmul(target, spec);
  };
  const MatmulPlan forward = plan_of(1024, 1536, 576, false, true);
  EXPECT_GE(forward.grid, 8);
  EXPECT_EQ(forward.tiles.b, BPacking::packed);
  EXPECT_EQ(forward.row_tiles, 1) << "each tile packs columns of its own";
  const MatmulPlan gradient = plan_of(1408, 512, 4096, true, false);
  EXPECT_GE(gradient.grid, 8);
  EXPECT_EQ(gradient.column_tiles, 1) << "each tile packs rows of its own";
  const MatmulPlan narrow = plan_of(1024, 576, 1536, false, true);
  EXPECT_EQ(narrow.tiles.nc * narrow.column_tiles, 576) << "none is smaller than others";
  EXPECT_EQ(narrow.grid % 2, 0);
  EXPECT_LE(plan_of(512, 512, 128, false, false).grid, 2) << "not worth more";
  const MatmulPlan long_b = plan_of(1024, 512, 50257, false, false);
  EXPECT_GE(long_b.tiles.mc, 256) << "every tile brings all of B into the caches";
  EXPECT_GE(long_b.grid, 2);
}

TEST(Matmul, NoDepthGivesZeroOrTheAccumulator) {
  for (const Target& target : runnable_targets())
    for (const Accumulate accumulate : {Accumulate::none, Accumulate::operand}) {
      MatmulSpec spec;
      spec.m = 3, spec.n = 5, spec.k = 0;
      spec.accumulate = accumulate;
      const Product p = Product::make(spec, 0, 1);
      expect_same_bits(run(target, p, plan_matmul(target, p.spec), 1),
                       accumulate == Accumulate::none ? std::vector<float>(15) : p.accumulator,
                       "k = 0");
    }
}

TEST(Matmul, NaNAndInfinityStayInTheirRowAndColumn) {
  for (const Target& target : runnable_targets()) {
    MatmulSpec spec;
    spec.m = 9, spec.n = 21, spec.k = 13;
    Product p = Product::make(spec, 0, 2);
    p.a[4 * 13 + 12] = std::numeric_limits<float>::quiet_NaN();
    p.b[12 * 21 + 20] = std::numeric_limits<float>::infinity();
    const std::vector<float> c = run(target, p, plan_matmul(target, p.spec), 1);
    for (int i = 0; i < 9; ++i)
      for (int j = 0; j < 21; ++j) {
        EXPECT_EQ(std::isnan(c[i * 21 + j]), i == 4) << i << " " << j;
        if (i != 4) {
          EXPECT_EQ(std::isinf(c[i * 21 + j]), j == 20) << i << " " << j;
        }
      }
  }
}

/// A bias by column is added, C is stored as bf16, and f32 goes to a side buffer; in a loop over
/// rows or unrolled. Partial sums are spilled to scratch or to the side buffer.
TEST(Matmul, AnEpilogueTakesTheFinishedElements) {
  for (const Target& target : runnable_targets())
    for (int choice = 0; choice < 8; ++choice) {
      const bool prepacked = choice & 1, rolled = choice & 2, spills_aside = choice & 4;
      MatmulSpec spec;
      spec.m = 23, spec.n = 45, spec.k = 50;
      spec.b.transposed = true;
      const Product p = Product::make(spec, 0, 5);
      MatmulTiles tiles = {.mr = 3,
                           .nr_vectors = 2,
                           .mc = 9,
                           .nc = 2 * target.lanes(),
                           .kc = 16,
                           .b = prepacked ? BPacking::prepacked : BPacking::packed};
      const MatmulPlan plan = plan_matmul(target, p.spec, tiles);
      Buffer bias(4 * 45), side(4 * 23 * 45);
      for (int j = 0; j < 45; ++j) bias.as<float>()[j] = 3.0f * j;
      MatmulFusion fusion;
      fusion.buffers = {{}, {.written = true}};
      if (spills_aside) fusion.spill_buffer = 4;
      fusion.rolled_epilogue = rolled;
      fusion.epilogue_operands = {4};
      fusion.store = [&](Emitter& e, const KernelFrame& f, const MatrixRun& at, Value* sum) {
        Value* shift = e.load(Storage::f32, f.buffers[3], at.column, at.lanes, at.mask);
        Value* index = e.add(e.mul(at.row, 45), at.column);
        Value* value = e.ir().CreateFAdd(sum, shift);
        e.store(Storage::bf16, value, f.buffers[2], index, at.mask);
        e.store(Storage::f32, value, f.buffers[4], index, at.mask);
      };
      std::vector<float> expected = p.chains();
      for (int i = 0; i < 23; ++i)
        for (int j = 0; j < 45; ++j) expected[i * 45 + j] += bias.as<float>()[j];

      const std::vector<float> c = run(target, p, plan, 2, fusion, {bias.data(), side.data()});
      const std::vector<float> got(side.as<float>().begin(), side.as<float>().end());
      expect_same_bits(got, expected, "side store");
      std::vector<uint16_t> stored(23 * 45);
      std::memcpy(stored.data(), c.data(), 2 * stored.size());
      for (size_t i = 0; i < stored.size(); ++i) {
        const uint32_t word = uint32_t{stored[i]} << 16;
        float value;
        std::memcpy(&value, &word, 4);
        EXPECT_NEAR(value, expected[i], std::fabs(expected[i]) / 256);
      }
    }
}

TEST(Matmul, WrongTilesAreAllNamed) {
  MatmulSpec spec;
  spec.m = spec.n = spec.k = 100;
  try {
    plan_matmul(parse_target("x86-64-v4"), spec,
                MatmulTiles{.mr = 4, .nr_vectors = 2, .mc = 6, .nc = 48, .kc = 20});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("mc 6 is not a multiple of mr 4"));
    EXPECT_THAT(error.what(), testing::HasSubstr("nc 48 is not a multiple of nr = "
                                                 "nr_vectors * lanes = 32"));
    EXPECT_THAT(error.what(), testing::HasSubstr("kc 20 is below k = 100"));
  }
}

TEST(Matmul, ElementTypesThatNoMicroKernelMultipliesAreAUserError) {
  MatmulSpec spec;
  spec.m = spec.n = spec.k = 8;
  spec.b.dtype = DType::bf16;
  try {
    plan_matmul(parse_target("x86-64-v4"), spec);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("a product of f32 x bf16 to f32 is asked for, but "
                                                 "compiled products are f32 x f32 to f32"));
  }
}

}  // namespace
}  // namespace weir
