// The loops of a product around its micro-kernel, from outside in: tiles of mc x nc elements of C;
// blocks of kc steps of k, for which the tile's columns of B are packed unless B is prepacked or
// read where it lies; blocks of micro-panels of A, packed unless A is read where it lies; their
// micro-panels; micro-panels of B. So a micro-panel of A stays in the first-level cache and those
// of B stream from the second, while what comes next is prefetched.
#include "codegen/matmul/matmul.h"

#include "codegen/matmul/micro_kernel.h"
#include "codegen/matmul/pack.h"

namespace weir {
namespace {

using llvm::Value;

class MatmulEmitter {
 public:
  explicit MatmulEmitter(const MatmulContext& context) : context_(context), e_(context.e()) {}

  void tile(Value* index) const {
    const MatmulSpec& spec = context_.spec();
    const MatmulTiles& tiles = context_.tiles();
    const MatmulPlan& plan = context_.plan();
    Value* row_tile = e_.rem(index, plan.row_tiles);
    Value* rest = e_.div(index, plan.row_tiles);
    Value* column_tile = e_.rem(rest, plan.column_tiles);
    CTile tile;
    tile.batch = e_.div(rest, plan.column_tiles);
    tile.row_begin = e_.mul(row_tile, tiles.mc);
    tile.column_begin = e_.mul(column_tile, tiles.nc);
    const auto whole_panels = [&](Value* begin, int64_t total, int64_t block, int64_t width) {
      Value* end = e_.min_index(e_.index(total), e_.add(begin, block));
      return e_.div(e_.sub(end, begin), width);
    };
    tile.a_panels = whole_panels(tile.row_begin, spec.m, tiles.mc, context_.mr());
    tile.b_panels = whole_panels(tile.column_begin, spec.n, tiles.nc, context_.nr());
    tile.is_last_row = e_.ir().CreateICmpEQ(row_tile, e_.index(plan.row_tiles - 1));
    tile.is_last_column = e_.ir().CreateICmpEQ(column_tile, e_.index(plan.column_tiles - 1));
    context_.for_k_blocks([&](const KBlock& block) { k_block(tile, block); });
  }

 private:
  void k_block(const CTile& tile, const KBlock& block) const {
    if (context_.tiles().b == BPacking::packed) pack_b_block(context_, tile, block);
    const int64_t panels = context_.panels_per_block();
    e_.for_loop(e_.index(0), tile.a_panels, panels, [&](Value* first) {
      a_block(tile, block, first, e_.min_index(tile.a_panels, e_.add(first, panels)),
              context_.mr());
    });
    if (context_.ragged_rows() > 0)
      e_.if_then(tile.is_last_row, [&] {
        a_block(tile, block, tile.a_panels, e_.add(tile.a_panels, 1), context_.ragged_rows());
      });
  }

  /// Multiplies micro-panels [first, last) of A, of `rows` rows each, with the tile's columns of B.
  void a_block(const CTile& tile, const KBlock& block, Value* first, Value* last,
               int64_t rows) const {
    const bool packs_a = context_.tiles().pack_a;
    if (packs_a) pack_a_block(context_, tile, block, first, last, rows);
    e_.for_loop(first, last, 1, [&](Value* a_panel) {
      Value* row = e_.add(tile.row_begin, e_.mul(a_panel, context_.mr()));
      Value* a = packs_a ? context_.packed_a_panel(e_.sub(a_panel, first))
                         : e_.address(context_.a_type(), context_.buffer(MatmulBuffers::a),
                                      context_.a_offset(tile, row, block.begin));
      context_.for_b_panels(tile, [&](Value* b_panel, int64_t columns) {
        Value* column = e_.add(tile.column_begin, e_.mul(b_panel, context_.nr()));
        const PrefetchPlan prefetch = plan_prefetch(
            context_, tile, block, {first, last, a_panel, b_panel, row, column, columns});
        emit_micro_kernel(context_, tile, block, {row, rows, column, columns}, a,
                          context_.b_panel(tile, b_panel, block), prefetch);
      });
    });
  }

  const MatmulContext& context_;
  Emitter& e_;
};

}  // namespace

void emit_matmul(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                 const MatmulFusion& fusion) {
  std::vector<BufferUse> uses = {{}, {}, {.written = true}};
  if (plan.spec.accumulate == Accumulate::operand) uses.push_back({});
  uses.insert(uses.end(), fusion.buffers.begin(), fusion.buffers.end());
  const MatmulContext context(e, plan, fusion, e.begin_kernel(symbol, uses));
  const MatmulEmitter emitter(context);
  e.for_loop(context.frame().first_tile, context.frame().last_tile, 1,
             [&](Value* tile) { emitter.tile(tile); });
  e.end_kernel();
}

void emit_matmul_pack(Emitter& e, const std::string& symbol, const MatmulPlan& plan) {
  const MatmulFusion none;
  const MatmulContext context(e, plan, none, e.begin_kernel(symbol, {{}, {.written = true}}));
  e.for_loop(context.frame().first_tile, context.frame().last_tile, 1,
             [&](Value* tile) { prepack_b(context, tile); });
  e.end_kernel();
}

}  // namespace weir
