// Tile choice, grid and sizes. What is emitted is in matmul_emit.cpp.
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

/// Cycles of one step of k on a machine with two FMA and two load ports, an FMA latency of four and
/// 32 bytes a cycle from the second-level cache, which feeds both packed strips; the last term
/// prefers less of that traffic among equals.
double step_cycles(const Target& target, int64_t rows, int64_t vectors) {
  if (rows == 0 || vectors == 0) return 0;
  const double multiply = static_cast<double>(rows * vectors) / 2;
  const double load = static_cast<double>(rows + vectors) / 2;
  const double bytes = static_cast<double>(4 * rows + target.vector_bytes * vectors);
  return std::max({multiply, load, bytes / 32, 4.0}) + 0.001 * bytes;
}

/// Chooses the register block with the least cycles for all of C, its ragged edges included.
void choose_micro_tile(const Target& target, const MatmulSpec& spec, MatmulTiles& tiles) {
  const int64_t all_vectors = ceil_div(spec.n, target.lanes());
  double best = std::numeric_limits<double>::infinity();
  for (const int vectors : {1, 2, 3, 4, 6, 8}) {
    // One register for each accumulator, each vector of B, and the broadcast element of A.
    const int most_rows = std::min((target.vector_registers - vectors - 1) / vectors, 28);
    for (int rows = 1; rows <= std::min<int64_t>(most_rows, spec.m); ++rows) {
      const int64_t full_rows = spec.m / rows, rest_rows = spec.m % rows;
      const int64_t full_columns = all_vectors / vectors, rest_vectors = all_vectors % vectors;
      const auto row_cycles = [&](int64_t v) {
        return static_cast<double>(full_rows) * step_cycles(target, rows, v) +
               step_cycles(target, rest_rows, v);
      };
      const double cycles =
          static_cast<double>(full_columns) * row_cycles(vectors) + row_cycles(rest_vectors);
      if (cycles >= best) continue;
      best = cycles;
      tiles.micro_rows = rows;
      tiles.micro_vectors = vectors;
    }
  }
}

/// Steps of k: a strip of A stays in the first-level cache, where the columns of B pass by it.
/// Fewer where other operands of a tile want much of the second-level cache.
int64_t depth_block(const Target& target, const MatmulSpec& spec, int64_t rows) {
  const int64_t most = spec.a.transposed ? 256 : 512;
  const int64_t fits = target.l1_bytes / 8 * 7 / 4 / rows / target.lanes() * target.lanes();
  const int64_t depth = std::clamp<int64_t>(fits, target.lanes(), most);
  return spec.k <= depth ? std::max<int64_t>(spec.k, 1) : even_block(spec.k, depth, target.lanes());
}

/// Whether the lines of rows of a matrix, `columns` elements of each, crowd in few sets of the
/// first-level cache, which has as many sets as a page has lines.
bool collides(const Target& target, const MatmulOperand& matrix, int64_t rows, int64_t columns) {
  constexpr int64_t line = 64, sets = 4096 / line;
  const int64_t ways = target.l1_bytes / line / sets;
  std::array<int64_t, sets> lines = {};
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = 4 * row * matrix.row_stride;
    for (int64_t i = begin / line; i <= (begin + 4 * columns - 1) / line; ++i) ++lines[i % sets];
  }
  return *std::max_element(lines.begin(), lines.end()) > ways;
}

std::vector<std::string> problems_of(const Target& target, const MatmulSpec& spec,
                                     const MatmulTiles& tiles) {
  std::vector<std::string> problems;
  const auto positive = [&](const char* what, int64_t value) {
    if (value < 1) problems.push_back(fmt::format("{} is {}, needed is at least 1", what, value));
  };
  positive("micro_rows", tiles.micro_rows);
  positive("micro_vectors", tiles.micro_vectors);
  positive("row_block", tiles.row_block);
  positive("column_block", tiles.column_block);
  positive("depth_block", tiles.depth_block);
  positive("panel_strips", tiles.panel_strips);
  if (!problems.empty()) return problems;
  const int64_t micro_columns = tiles.micro_vectors * target.lanes();
  if (tiles.row_block % tiles.micro_rows != 0)
    problems.push_back(fmt::format("row_block {} is not a multiple of micro_rows {}",
                                   tiles.row_block, tiles.micro_rows));
  if (tiles.column_block % micro_columns != 0)
    problems.push_back(
        fmt::format("column_block {} is not a multiple of micro_vectors * lanes = {}",
                    tiles.column_block, micro_columns));
  if (tiles.depth_block < spec.k && tiles.depth_block % target.lanes() != 0)
    problems.push_back(fmt::format("depth_block {} is below k = {} and not a multiple of {} lanes",
                                   tiles.depth_block, spec.k, target.lanes()));
  if (tiles.b == BPlace::raw && spec.b.transposed)
    problems.push_back("B is transposed, so it cannot be read where it lies");
  return problems;
}

void check_tiles(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles) {
  Problems problems("matmul tiles");
  for (const std::string& problem : problems_of(target, spec, tiles)) problems.add(problem);
  problems.raise();
}

/// Strips of a transposed A that are packed together: enough to read runs of its rows, few enough
/// to be near still when they are multiplied; and so that no panel is much smaller than others.
int64_t panel_strips(const Target& target, const MatmulTiles& tiles) {
  const int64_t strip_bytes = 4 * tiles.micro_rows * tiles.depth_block;
  const int64_t most = std::max<int64_t>(target.l1_bytes * 3 / 2 / strip_bytes, 1);
  const int64_t strips = ceil_div(tiles.row_block, tiles.micro_rows);
  return ceil_div(strips, ceil_div(strips, most));
}

/// The most units of work that one core gets when `units` are cut into tiles of `block`, the last
/// one ragged, and cores take them in order.
int64_t busiest_core(int64_t units, int64_t block, int64_t cores) {
  const int64_t tiles = ceil_div(units, block), rounds = tiles / cores;
  const int64_t ragged = units - (tiles - 1) * block;
  const int64_t last = tiles % cores == 0 ? 0 : tiles % cores == 1 ? ragged : block;
  return rounds * block + last;
}

/// About half of a tile's units, or somewhat fewer where that shares out better.
int64_t half_block(int64_t units, int64_t block, int64_t cores) {
  int64_t best = ceil_div(block, 2);
  for (int64_t half = best - 1; half >= std::max<int64_t>(block / 3, 1); --half)
    if (busiest_core(units, half, cores) < busiest_core(units, best, cores)) best = half;
  return best;
}

/// Halves tiles until there are several a core, so that one that is held up does not hold up the
/// rest, as long as starting a tile and bringing its operands near is little beside it. Tiles that
/// pack B for themselves become narrower, so that nothing is packed twice; others shorter, as their
/// packed or distant rows of A are not to be read more often, but not as short where every tile
/// brings all of a long B near again. Enough: about a millisecond of a core.
void share_out(const Target& target, const MatmulSpec& spec, MatmulTiles& tiles) {
  constexpr double enough = 2e8;
  constexpr int64_t several = 4, least = 128, least_area = 1 << 17;
  const int64_t rows = tiles.micro_rows, columns = tiles.micro_vectors * target.lanes();
  const auto large = [&] {
    const int64_t row_tiles = ceil_div(spec.m, tiles.row_block);
    const int64_t column_tiles = ceil_div(spec.n, tiles.column_block);
    const int64_t grid = spec.batch * row_tiles * column_tiles;
    const double operations = 2.0 * static_cast<double>(spec.k) *
                              static_cast<double>(std::min(tiles.row_block, spec.m)) *
                              static_cast<double>(std::min(tiles.column_block, spec.n));
    return grid < several * target.cores && operations > enough;
  };
  const bool narrower = tiles.b == BPlace::packed;
  const bool long_b = 4 * spec.k * tiles.column_block > 8 * target.l2_bytes;
  const int64_t least_rows = long_b ? std::max(least, least_area / tiles.column_block) : least;
  while (target.cores > 1 && large()) {
    if (narrower ? tiles.column_block < 8 * columns : tiles.row_block < 2 * least_rows) return;
    if (narrower)
      tiles.column_block = columns * half_block(ceil_div(spec.n, columns),
                                                tiles.column_block / columns, target.cores);
    else
      tiles.row_block = even_block(spec.m, tiles.row_block / 2, rows);
  }
}

}  // namespace

MatmulTiles default_tiles(const Target& target, const MatmulSpec& spec) {
  MatmulTiles tiles;
  choose_micro_tile(target, spec, tiles);
  const int64_t rows = tiles.micro_rows, columns = tiles.micro_vectors * target.lanes();
  tiles.depth_block = depth_block(target, spec, rows);
  tiles.pack_a = spec.a.transposed || collides(target, spec.a, rows, tiles.depth_block);
  // The packed columns of B stay in half of the second-level cache while the rows stream by.
  const int64_t l2_floats = target.l2_bytes / 4 / tiles.depth_block;
  tiles.column_block = even_block(spec.n, l2_floats / 2, columns);
  // Tall tiles, so that B is packed seldom.
  constexpr int64_t tall = 1024;
  tiles.row_block = even_block(spec.m, spec.m <= 2 * tall ? spec.m : tall, rows);
  // Enough tiles to share out evenly: shorter ones first, then narrower ones.
  const auto uneven = [&] {
    const int64_t grid =
        spec.batch * ceil_div(spec.m, tiles.row_block) * ceil_div(spec.n, tiles.column_block);
    return grid % target.cores != 0 && grid < 4 * target.cores;
  };
  while (uneven() && tiles.row_block > 3 * rows)
    tiles.row_block = even_block(spec.m, tiles.row_block - rows, rows);
  while (uneven() && tiles.column_block > 4 * columns)
    tiles.column_block = even_block(spec.n, tiles.column_block / 2, columns);
  // Packing ahead writes B to memory and reads it again; it pays when many tiles use it.
  constexpr int64_t many = 4;
  const bool shared_b = spec.batch > 1 && spec.b.batch_stride == 0;
  // Of B where it lies, steps on their way to the first-level cache stay in it together.
  constexpr int64_t steps_under_way = 16;
  if (!spec.b.transposed && !collides(target, spec.b, steps_under_way, columns))
    tiles.b = BPlace::raw;
  else if (shared_b || ceil_div(spec.m, tiles.row_block) >= many)
    tiles.b = BPlace::packed_ahead;
  share_out(target, spec, tiles);
  if (spec.a.transposed) tiles.panel_strips = panel_strips(target, tiles);
  return tiles;
}

bool are_valid(const Target& target, const MatmulSpec& spec, const MatmulTiles& tiles) {
  if (!problems_of(target, spec, tiles).empty()) return false;
  constexpr int most_chains = 64;  // more than any machine's registers hold
  constexpr int64_t most_scratch = int64_t{1} << 30;
  const auto within = [](int64_t value, int64_t most) {
    return value <= 2 * std::max(most, int64_t{64});
  };
  return tiles.micro_rows * tiles.micro_vectors <= most_chains && within(tiles.row_block, spec.m) &&
         within(tiles.column_block, spec.n) && within(tiles.depth_block, spec.k) &&
         within(tiles.panel_strips, spec.m) &&
         plan_matmul(target, spec, tiles).scratch_bytes <= most_scratch;
}

MatmulPlan plan_matmul(const Target& target, const MatmulSpec& spec,
                       std::optional<MatmulTiles> tiles) {
  WEIR_CHECK(spec.m >= 1 && spec.n >= 1 && spec.k >= 0 && spec.batch >= 1,
             "matmul of m {} n {} k {}", spec.m, spec.n, spec.k);
  WEIR_CHECK(!spec.c.transposed, "C is stored row by row");
  MatmulPlan plan;
  plan.spec = spec;
  plan.tiles = tiles ? *tiles : default_tiles(target, spec);
  check_tiles(target, spec, plan.tiles);
  MatmulTiles& t = plan.tiles;
  t.depth_block = std::min(t.depth_block, std::max<int64_t>(spec.k, 1));
  const int64_t lanes = target.lanes(), columns = t.micro_vectors * lanes;
  plan.row_tiles = ceil_div(spec.m, t.row_block);
  plan.column_tiles = ceil_div(spec.n, t.column_block);
  plan.grid = spec.batch * plan.row_tiles * plan.column_tiles;
  if (t.b == BPlace::packed_ahead) {
    const int64_t matrices = spec.b.batch_stride ? spec.batch : 1;
    plan.pack_grid =
        matrices * (spec.b.transposed ? ceil_div(spec.n, columns)
                                      : ceil_div(spec.k, t.depth_block) *
                                            ceil_div(t.depth_block, matmul_pack_steps));
    plan.packed_bytes = 4 * matrices * round_up(spec.n, lanes) * spec.k;
  }
  const MatmulScratch scratch = matmul_scratch(target, plan);
  plan.scratch_bytes = scratch.bytes;
  return plan;
}

MatmulScratch matmul_scratch(const Target& target, const MatmulPlan& plan) {
  const MatmulTiles& t = plan.tiles;
  const int64_t lanes = target.lanes(), columns = t.micro_vectors * lanes;
  const auto floats = [](int64_t count) { return round_up(4 * count, WEIR_BUFFER_ALIGNMENT); };
  MatmulScratch scratch;
  const int64_t rows = std::min(t.row_block, round_up(plan.spec.m, t.micro_rows));
  const int64_t tile_columns = std::min(t.column_block, round_up(plan.spec.n, columns));
  // Packing writes whole vectors, so one more behind the strip of A.
  scratch.b_offset = floats(t.panel_strips * (t.micro_rows * t.depth_block + lanes));
  scratch.c_offset =
      scratch.b_offset + (t.b == BPlace::packed ? floats(tile_columns * t.depth_block) : 0);
  scratch.c_row_stride = tile_columns;
  scratch.block_offset = scratch.c_offset + floats(rows * tile_columns);
  scratch.bytes = scratch.block_offset + floats(t.micro_rows * columns);
  return scratch;
}

}  // namespace weir
