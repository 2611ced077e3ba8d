#include "codegen/matmul/prefetch.h"

#include <algorithm>
#include <bit>

#include "codegen/matmul/epilogue.h"
#include "support/align.h"

namespace weir {
namespace {

using llvm::Value;

constexpr int64_t line_bytes = 64;

/// An address that is only prefetched, so it may lie outside of its array.
Value* address_near(Emitter& e, Value* base, Value* bytes) {
  return e.ir().CreateGEP(e.ir().getInt8Ty(), base, bytes);
}

/// Rows of an untransposed A that a micro-kernel prefetches.
int64_t rows_per_prefetch(const MatmulContext& context) {
  return ceil_div(context.mr(), context.b_panels());
}

/// Cache lines of one stored row of a block of B, rounded up so that divisions are shifts.
int64_t lines_per_b_row(const MatmulContext& context) {
  const MatmulSpec& spec = context.spec();
  const int64_t elements = spec.b.transposed ? std::min(context.tiles().kc, spec.k)
                                             : std::min(context.tiles().nc, spec.n);
  const int64_t bytes = std::max<int64_t>(spec.b.bytes(elements), 1);
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(ceil_div(bytes, line_bytes))));
}

/// Of such lines, how many each micro-kernel of a tile prefetches.
int64_t b_lines_per_prefetch(const MatmulContext& context) {
  const MatmulSpec& spec = context.spec();
  const MatmulTiles& tiles = context.tiles();
  const int64_t rows = spec.b.transposed ? std::min(tiles.nc, spec.n) : std::min(tiles.kc, spec.k);
  const int64_t a_panels = std::max<int64_t>(std::min(tiles.mc, spec.m) / tiles.mr, 1);
  return ceil_div(rows * lines_per_b_row(context), a_panels * context.b_panels());
}

/// Lines of one step of k of a block of a transposed A, rounded up so that divisions are shifts.
int64_t lines_per_a_step(const MatmulContext& context) {
  const auto bytes =
      static_cast<uint64_t>(context.spec().a.bytes(context.mr() * context.panels_per_block()));
  return static_cast<int64_t>(std::bit_ceil(bytes / line_bytes + 1));
}

/// The share of the next block of A: some of its rows, or, where A is transposed, some of its steps
/// of k.
Value* next_a(const MatmulContext& context, const CTile& tile, const KBlock& block,
              const PrefetchSite& site) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  const int64_t b_panels = context.b_panels();
  Value* ends = e.ir().CreateICmpSGE(site.block_last, tile.a_panels);
  Value* next = e.add(tile.row_begin, e.mul(site.block_last, context.mr()));
  Value* row = e.select(ends, tile.row_begin, next);
  Value* step = e.select(ends, e.add(block.begin, block.depth), block.begin);
  Value* i = e.add(e.mul(e.sub(site.a_panel, site.block_first), b_panels), site.b_panel);
  Value* part = spec.a.transposed
                    ? e.div(e.mul(i, context.tiles().kc), context.panels_per_block() * b_panels)
                    : e.mul(i, rows_per_prefetch(context));
  Value* at = e.add(context.a_offset(tile, row, step), e.mul(part, spec.a.row_stride));
  return address_near(e, context.buffer(MatmulBuffers::a), e.mul(at, spec.a.bytes(1)));
}

/// The block of B that is used next: the next steps of k, else the first ones of the tile that
/// follows.
Value* next_b(const MatmulContext& context, const CTile& tile, const KBlock& block) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  Value* step = e.select(block.is_last, e.index(0), e.add(block.begin, block.depth));
  Value* predicted_next_tile =
      e.select(tile.is_last_row, e.add(tile.column_begin, context.tiles().nc), tile.column_begin);
  Value* column = e.select(block.is_last, predicted_next_tile, tile.column_begin);
  if (spec.b.transposed) std::swap(step, column);
  Value* at = e.add(context.batch_offset(spec.b, tile.batch),
                    e.add(e.mul(step, spec.b.row_stride), column));
  return address_near(e, context.buffer(MatmulBuffers::b), e.mul(at, spec.b.bytes(1)));
}

/// The accumulators of the next micro-kernel in memory, and the epilogue's operands.
std::vector<PrefetchPlan::NextC> next_c(const MatmulContext& context, const CTile& tile,
                                        const KBlock& block, const PrefetchSite& site) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  Value* ends = site.columns < context.nr()
                    ? e.ir().getTrue()
                    : e.ir().CreateICmpEQ(e.add(site.b_panel, 1), tile.b_panels);
  const MatrixRun next = {tile.batch, e.select(ends, e.add(site.row, context.mr()), site.row),
                          e.select(ends, tile.column_begin, e.add(site.column, context.nr())),
                          context.lanes(), nullptr};
  std::vector<PrefetchPlan::NextC> tiles;
  if (!context.fusion().store || spec.k > context.tiles().kc) {
    const SpillPlace spill = spill_place(context, tile, next);
    const int64_t bytes = storage_bytes(context.accumulator_type());
    tiles.push_back({address_near(e, spill.base, e.mul(spill.offset, bytes)), spill.row_stride,
                     bytes, e.ir().getTrue()});
  }
  for (const int position : context.fusion().epilogue_operands) {
    const int64_t bytes = spec.c.bytes(1);
    tiles.push_back(
        {address_near(e, context.buffer(position), e.mul(context.c_offset(next), bytes)),
         spec.c.row_stride, bytes, block.is_last});
  }
  return tiles;
}

/// Issues the prefetches of one micro-kernel at step k.
class PrefetchIssue {
 public:
  PrefetchIssue(const MatmulContext& context, Value* k)
      : context_(context), e_(context.e()), k_(k), interval_(prefetch_interval(context.spec())) {}

  void c(const PrefetchPlan::NextC& tile) const {
    const int64_t vectors = context_.tiles().nr_vectors;
    e_.if_then(tile.wanted, [&] {
      share(context_.mr() * vectors, [&](Value* line) {
        prefetch_line(tile.at, line, vectors, tile.element_bytes * tile.row_stride,
                      tile.element_bytes * context_.lanes(), CacheLevel::first);
      });
    });
  }

  void b(Value* at, Value* first_line) const {
    share(b_lines_per_prefetch(context_), [&](Value* line) {
      prefetch_line(at, e_.add(first_line, line), lines_per_b_row(context_),
                    context_.spec().b.bytes(context_.spec().b.row_stride), line_bytes,
                    CacheLevel::second);
    });
  }

  void transposed_a(Value* at) const {
    const MatmulOperand& a = context_.spec().a;
    const int64_t lines = lines_per_a_step(context_);
    const int64_t micro_kernels = context_.panels_per_block() * context_.b_panels();
    share(ceil_div(context_.tiles().kc * lines, micro_kernels), [&](Value* line) {
      prefetch_line(at, line, lines, a.bytes(a.row_stride), line_bytes, CacheLevel::second);
    });
  }

  void a(Value* at) const {
    const MatmulOperand& a = context_.spec().a;
    for (int64_t row = 0; row < rows_per_prefetch(context_); ++row)
      emit_prefetch(e_, at, e_.mul(e_.add(k_, row * a.row_stride), a.bytes(1)), CacheLevel::second);
  }

 private:
  /// Calls `prefetch` with those of a micro-kernel's `lines` lines that are due at step k.
  void share(int64_t lines, const std::function<void(Value*)>& prefetch) const {
    const int64_t count = ceil_div(lines, std::max<int64_t>(context_.tiles().kc / interval_, 1));
    Value* first = e_.mul(e_.div(k_, interval_), count);
    for (int64_t i = 0; i < count; ++i) prefetch(e_.add(first, i));
  }

  /// Line `line` of rows of `lines` lines each.
  void prefetch_line(Value* base, Value* line, int64_t lines, int64_t row_bytes,
                     int64_t bytes_per_line, CacheLevel level) const {
    emit_prefetch(
        e_, base,
        e_.add(e_.mul(e_.div(line, lines), row_bytes), e_.mul(e_.rem(line, lines), bytes_per_line)),
        level);
  }

  const MatmulContext& context_;
  Emitter& e_;
  Value* k_;
  int64_t interval_;
};

}  // namespace

void emit_prefetch(Emitter& e, Value* base, Value* bytes, CacheLevel level) {
  e.prefetch(address_near(e, base, bytes), /*for_write=*/false, static_cast<int>(level));
}

int64_t prefetch_interval(const MatmulSpec& spec) { return line_bytes / spec.a.bytes(1); }

PrefetchPlan plan_prefetch(const MatmulContext& context, const CTile& tile, const KBlock& block,
                           const PrefetchSite& site) {
  Emitter& e = context.e();
  PrefetchPlan plan;
  plan.a = next_a(context, tile, block, site);
  plan.c = next_c(context, tile, block, site);
  if (context.tiles().b == BPacking::prepacked) return plan;
  plan.b = next_b(context, tile, block);
  Value* number = e.add(e.mul(site.a_panel, context.b_panels()), site.b_panel);
  plan.b_first_line = e.mul(number, b_lines_per_prefetch(context));
  return plan;
}

void issue_prefetches(const MatmulContext& context, const PrefetchPlan& plan, Value* k) {
  const PrefetchIssue issue(context, k);
  for (const PrefetchPlan::NextC& tile : plan.c) issue.c(tile);
  if (plan.b) issue.b(plan.b, plan.b_first_line);
  if (context.spec().a.transposed)
    issue.transposed_a(plan.a);
  else
    issue.a(plan.a);
}

}  // namespace weir
