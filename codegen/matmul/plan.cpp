// Tile choice, grid and sizes. What is emitted is in matmul.cpp.
#include "codegen/matmul/plan.h"

#include <algorithm>
#include <array>
#include <limits>

#include "codegen/llvm/emitter.h"
#include "runtime/abi.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

/// The products that there are micro-kernels for. Operands are widened when they are loaded
/// (Emitter::load), so a row for narrower ones in memory needs no other code; one with another
/// accumulator needs its multiply-add in micro_kernel.cpp.
struct ProductTypes {
  DType a, b, c, accumulator;
};
constexpr std::array<ProductTypes, 2> product_types = {{
    {DType::f32, DType::f32, DType::f32, DType::f32},
    {DType::i32, DType::i32, DType::i32, DType::i32},  // of four bytes each, u8 and i8
}};

/// Cycles of one step of k on a machine with two FMA and two load ports, an FMA latency of four and
/// 32 bytes a cycle from the second-level cache, which feeds both micro-panels; the last term
/// prefers less of that traffic among equals.
double step_cycles(const Target& target, const MatmulSpec& spec, int64_t rows, int64_t vectors) {
  if (rows == 0 || vectors == 0) return 0;
  const double multiply = static_cast<double>(rows * vectors) / 2;
  const double load = static_cast<double>(rows + vectors) / 2;
  const double bytes =
      static_cast<double>(spec.a.bytes(rows) + spec.b.bytes(vectors * target.lanes()));
  return std::max({multiply, load, bytes / 32, 4.0}) + 0.001 * bytes;
}

/// Chooses the micro-kernel with the least cycles for all of C, its ragged edges included.
void choose_micro_kernel(const Target& target, const MatmulSpec& spec, MatmulTiles& tiles) {
  const int64_t all_vectors = ceil_div(spec.n, target.lanes());
  double best = std::numeric_limits<double>::infinity();
  for (const int vectors : {1, 2, 3, 4, 6, 8}) {
    // One register for each accumulator, each vector of B, and the broadcast element of A.
    const int most_rows = std::min((target.vector_registers - vectors - 1) / vectors, 28);
    for (int rows = 1; rows <= std::min<int64_t>(most_rows, spec.m); ++rows) {
      const int64_t full_rows = spec.m / rows, rest_rows = spec.m % rows;
      const int64_t full_columns = all_vectors / vectors, rest_vectors = all_vectors % vectors;
      const auto row_cycles = [&](int64_t v) {
        return static_cast<double>(full_rows) * step_cycles(target, spec, rows, v) +
               step_cycles(target, spec, rest_rows, v);
      };
      const double cycles =
          static_cast<double>(full_columns) * row_cycles(vectors) + row_cycles(rest_vectors);
      if (cycles >= best) continue;
      best = cycles;
      tiles.mr = rows;
      tiles.nr_vectors = vectors;
    }
  }
}

/// kc: a micro-panel of A stays in the first-level cache, where the columns of B pass by it. Fewer
/// steps where other operands of a tile want much of the second-level cache.
int64_t choose_kc(const Target& target, const MatmulSpec& spec, int64_t rows) {
  const int64_t most = spec.a.transposed ? 256 : 512;
  const int64_t fits =
      target.l1_bytes / 8 * 7 / spec.a.bytes(1) / rows / target.lanes() * target.lanes();
  const int64_t depth = std::clamp<int64_t>(fits, target.lanes(), most);
  return spec.k <= depth ? std::max<int64_t>(spec.k, 1) : even_block(spec.k, depth, target.lanes());
}

/// Whether `columns` elements of each of some rows of a matrix have set conflicts in the
/// first-level cache, which has as many sets as a page has lines.
bool has_set_conflicts(const Target& target, const MatmulOperand& matrix, int64_t rows,
                       int64_t columns) {
  constexpr int64_t line = 64, sets = 4096 / line;
  const int64_t ways = target.l1_bytes / line / sets;
  std::array<int64_t, sets> lines = {};
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = matrix.bytes(row * matrix.row_stride);
    for (int64_t i = begin / line; i <= (begin + matrix.bytes(columns) - 1) / line; ++i)
      ++lines[i % sets];
  }
  return *std::max_element(lines.begin(), lines.end()) > ways;
}

std::vector<std::string> problems_of(const Target& target, const MatmulSpec& spec,
                                     const MatmulTiles& tiles) {
  std::vector<std::string> problems;
  const auto positive = [&](const char* what, int64_t value) {
    if (value < 1) problems.push_back(fmt::format("{} is {}, needed is at least 1", what, value));
  };
  positive("mr", tiles.mr);
  positive("nr_vectors", tiles.nr_vectors);
  positive("mc", tiles.mc);
  positive("nc", tiles.nc);
  positive("kc", tiles.kc);
  positive("panels_per_block", tiles.panels_per_block);
  if (!problems.empty()) return problems;
  const int64_t nr = tiles.nr_vectors * target.lanes();
  if (tiles.mc % tiles.mr != 0)
    problems.push_back(fmt::format("mc {} is not a multiple of mr {}", tiles.mc, tiles.mr));
  if (tiles.nc % nr != 0)
    problems.push_back(
        fmt::format("nc {} is not a multiple of nr = nr_vectors * lanes = {}", tiles.nc, nr));
  if (tiles.kc < spec.k && tiles.kc % target.lanes() != 0)
    problems.push_back(fmt::format("kc {} is below k = {} and not a multiple of {} lanes", tiles.kc,
                                   spec.k, target.lanes()));
  if (tiles.b == BPacking::none && spec.b.transposed)
    problems.push_back("B is transposed, so it cannot be read where it lies");
  return problems;
}

void check_tiles(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles) {
  Problems problems("matmul tiles");
  for (const std::string& problem : problems_of(target, spec, tiles)) problems.add(problem);
  problems.raise();
}

/// Micro-panels of a transposed A that are packed together: enough to read runs of its rows, few
/// enough to be in the cache still when they are multiplied; and so that no block is much smaller
/// than others.
int64_t choose_panels_per_block(const Target& target, const MatmulSpec& spec,
                                const MatmulTiles& tiles) {
  const int64_t panel_bytes = spec.a.bytes(tiles.mr * tiles.kc);
  const int64_t most = std::max<int64_t>(target.l1_bytes * 3 / 2 / panel_bytes, 1);
  const int64_t panels = ceil_div(tiles.mc, tiles.mr);
  return ceil_div(panels, ceil_div(panels, most));
}

/// The most units of work that one core gets when `units` are cut into tiles of `block`, the last
/// one ragged, and cores take them in order.
int64_t busiest_core(int64_t units, int64_t block, int64_t cores) {
  const int64_t tiles = ceil_div(units, block), rounds = tiles / cores;
  const int64_t ragged = units - (tiles - 1) * block;
  const int64_t last = tiles % cores == 0 ? 0 : tiles % cores == 1 ? ragged : block;
  return rounds * block + last;
}

/// About half of a tile's units, or somewhat fewer where that is better balanced.
int64_t half_block(int64_t units, int64_t block, int64_t cores) {
  int64_t best = ceil_div(block, 2);
  for (int64_t half = best - 1; half >= std::max<int64_t>(block / 3, 1); --half)
    if (busiest_core(units, half, cores) < busiest_core(units, best, cores)) best = half;
  return best;
}

/// Halves tiles until there are several a core, so that one that is held up does not hold up the
/// rest, as long as starting a tile and bringing its operands into the caches costs little in
/// comparison. Tiles that pack B for themselves become narrower, so that nothing is packed twice;
/// others shorter, as their packed or distant rows of A are not to be read more often, but not as
/// short where every tile brings all of a long B into the caches again. Enough: about a millisecond
/// of a core.
void balance_tiles(const Target& target, const MatmulSpec& spec, MatmulTiles& tiles) {
  constexpr double enough = 2e8;
  constexpr int64_t several = 4, least = 128, least_area = 1 << 17;
  const int64_t rows = tiles.mr, columns = tiles.nr_vectors * target.lanes();
  const auto large = [&] {
    const int64_t row_tiles = ceil_div(spec.m, tiles.mc);
    const int64_t column_tiles = ceil_div(spec.n, tiles.nc);
    const int64_t grid = spec.batch * row_tiles * column_tiles;
    const double operations = 2.0 * static_cast<double>(spec.k) *
                              static_cast<double>(std::min(tiles.mc, spec.m)) *
                              static_cast<double>(std::min(tiles.nc, spec.n));
    return grid < several * target.cores && operations > enough;
  };
  const bool narrower = tiles.b == BPacking::packed;
  const bool long_b = spec.b.bytes(spec.k * tiles.nc) > 8 * target.l2_bytes;
  const int64_t least_rows = long_b ? std::max(least, least_area / tiles.nc) : least;
  while (target.cores > 1 && large()) {
    if (narrower ? tiles.nc < 8 * columns : tiles.mc < 2 * least_rows) return;
    if (narrower)
      tiles.nc = columns * half_block(ceil_div(spec.n, columns), tiles.nc / columns, target.cores);
    else
      tiles.mc = even_block(spec.m, tiles.mc / 2, rows);
  }
}

}  // namespace

DType accumulator_of(const MatmulSpec& spec) {
  std::vector<std::string> compiled;
  for (const ProductTypes& row : product_types) {
    if (row.a == spec.a.dtype && row.b == spec.b.dtype && row.c == spec.c.dtype)
      return row.accumulator;
    compiled.push_back(
        fmt::format("{} x {} to {}", dtype_name(row.a), dtype_name(row.b), dtype_name(row.c)));
  }
  user_error("matmul",
             "a product of {} x {} to {} is asked for, but compiled products are {}. "
             "Convert the operands.",
             dtype_name(spec.a.dtype), dtype_name(spec.b.dtype), dtype_name(spec.c.dtype),
             fmt::join(compiled, ", "));
}

MatmulTiles default_tiles(const Target& target, const MatmulSpec& spec) {
  MatmulTiles tiles;
  choose_micro_kernel(target, spec, tiles);
  const int64_t rows = tiles.mr, columns = tiles.nr_vectors * target.lanes();
  tiles.kc = choose_kc(target, spec, rows);
  tiles.pack_a = spec.a.transposed || has_set_conflicts(target, spec.a, rows, tiles.kc);
  // The packed columns of B stay in half of the second-level cache while the rows stream by.
  const int64_t l2_columns = target.l2_bytes / spec.b.bytes(1) / tiles.kc;
  tiles.nc = even_block(spec.n, l2_columns / 2, columns);
  // Tall tiles, so that B is packed seldom.
  constexpr int64_t tall = 1024;
  tiles.mc = even_block(spec.m, spec.m <= 2 * tall ? spec.m : tall, rows);
  // Enough tiles to load the cores evenly: shorter ones first, then narrower ones.
  const auto uneven = [&] {
    const int64_t grid = spec.batch * ceil_div(spec.m, tiles.mc) * ceil_div(spec.n, tiles.nc);
    return grid % target.cores != 0 && grid < 4 * target.cores;
  };
  while (uneven() && tiles.mc > 3 * rows) tiles.mc = even_block(spec.m, tiles.mc - rows, rows);
  while (uneven() && tiles.nc > 4 * columns) tiles.nc = even_block(spec.n, tiles.nc / 2, columns);
  // Prepacking writes B to memory and reads it again; it pays when many tiles use it.
  constexpr int64_t many = 4;
  const bool shared_b = spec.batch > 1 && spec.b.batch_stride == 0;
  // Rows of an unpacked B that are prefetched into the first-level cache stay in it together.
  constexpr int64_t rows_in_flight = 16;
  if (!spec.b.transposed && !has_set_conflicts(target, spec.b, rows_in_flight, columns))
    tiles.b = BPacking::none;
  else if (shared_b || ceil_div(spec.m, tiles.mc) >= many)
    tiles.b = BPacking::prepacked;
  balance_tiles(target, spec, tiles);
  if (spec.a.transposed) tiles.panels_per_block = choose_panels_per_block(target, spec, tiles);
  return tiles;
}

bool are_valid(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles) {
  if (!problems_of(target, spec, tiles).empty()) return false;
  constexpr int most_accumulators = 64;  // more than any machine's registers hold
  constexpr int64_t most_scratch = int64_t{1} << 30;
  const auto within = [](int64_t value, int64_t most) {
    return value <= 2 * std::max(most, int64_t{64});
  };
  return tiles.mr * tiles.nr_vectors <= most_accumulators && within(tiles.mc, spec.m) &&
         within(tiles.nc, spec.n) && within(tiles.kc, spec.k) &&
         within(tiles.panels_per_block, spec.m) &&
         plan_matmul(target, spec, tiles).scratch_bytes <= most_scratch;
}

MatmulPlan plan_matmul(const Target& target, const MatmulSpec& spec,
                       std::optional<MatmulTiles> tiles) {
  WEIR_CHECK(spec.m >= 1 && spec.n >= 1 && spec.k >= 0 && spec.batch >= 1,
             "matmul of m {} n {} k {}", spec.m, spec.n, spec.k);
  WEIR_CHECK(!spec.c.transposed, "C is stored row by row");
  MatmulPlan plan;
  plan.spec = spec;
  plan.accumulator = accumulator_of(spec);
  plan.tiles = tiles ? *tiles : default_tiles(target, spec);
  check_tiles(target, spec, plan.tiles);
  MatmulTiles& t = plan.tiles;
  t.kc = std::min(t.kc, std::max<int64_t>(spec.k, 1));
  const int64_t lanes = target.lanes(), columns = t.nr_vectors * lanes;
  plan.row_tiles = ceil_div(spec.m, t.mc);
  plan.column_tiles = ceil_div(spec.n, t.nc);
  plan.grid = spec.batch * plan.row_tiles * plan.column_tiles;
  if (t.b == BPacking::prepacked) {
    const int64_t matrices = spec.b.batch_stride ? spec.batch : 1;
    plan.pack_grid =
        matrices * (spec.b.transposed ? ceil_div(spec.n, columns)
                                      : ceil_div(spec.k, t.kc) * ceil_div(t.kc, matmul_pack_steps));
    plan.packed_bytes = spec.b.bytes(matrices * round_up(spec.n, lanes) * spec.k);
  }
  const MatmulScratch scratch = matmul_scratch(target, plan);
  plan.scratch_bytes = scratch.bytes;
  return plan;
}

MatmulScratch matmul_scratch(const Target& target, const MatmulPlan& plan) {
  const MatmulTiles& t = plan.tiles;
  const int64_t lanes = target.lanes(), columns = t.nr_vectors * lanes;
  const auto aligned_bytes = [](DType dtype, int64_t count) {
    return round_up(dtype_size(dtype) * count, WEIR_BUFFER_ALIGNMENT);
  };
  const MatmulSpec& spec = plan.spec;
  MatmulScratch scratch;
  const int64_t rows = std::min(t.mc, round_up(spec.m, t.mr));
  const int64_t tile_columns = std::min(t.nc, round_up(spec.n, columns));
  // Packing writes whole vectors, so one more behind a micro-panel of A.
  scratch.b_offset = aligned_bytes(spec.a.dtype, t.panels_per_block * (t.mr * t.kc + lanes));
  scratch.c_offset =
      scratch.b_offset +
      (t.b == BPacking::packed ? aligned_bytes(spec.b.dtype, tile_columns * t.kc) : 0);
  scratch.c_row_stride = tile_columns;
  scratch.micro_tile_offset =
      scratch.c_offset + aligned_bytes(plan.accumulator, rows * tile_columns);
  scratch.bytes = scratch.micro_tile_offset + aligned_bytes(plan.accumulator, t.mr * columns);
  return scratch;
}

}  // namespace weir
