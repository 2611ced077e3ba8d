#include "codegen/matmul/context.h"

#include <algorithm>

#include "codegen/llvm/elementwise.h"
#include "support/align.h"

namespace weir {

using llvm::Value;

MatmulContext::MatmulContext(Emitter& e, const MatmulPlan& plan, const MatmulFusion& fusion,
                             KernelFrame frame)
    : e_(e),
      plan_(plan),
      fusion_(fusion),
      frame_(std::move(frame)),
      scratch_(matmul_scratch(e.target(), plan)) {}

int64_t MatmulContext::packed_columns(int64_t present) const {
  return round_up(present, int64_t{lanes()});
}

int64_t MatmulContext::b_panels() const { return ceil_div(std::min(tiles().nc, spec().n), nr()); }

Storage MatmulContext::a_type() const { return storage_of(spec().a.dtype); }
Storage MatmulContext::b_type() const { return storage_of(spec().b.dtype); }
Storage MatmulContext::c_type() const { return storage_of(spec().c.dtype); }
Storage MatmulContext::accumulator_type() const { return storage_of(plan_.accumulator); }

Value* MatmulContext::prepacked_offset(Value* batch, Value* panel, const KBlock& block) const {
  Value* matrix = spec().b.batch_stride != 0 ? e_.rem(batch, spec().batch) : e_.index(0);
  const int64_t columns = packed_columns(spec().n);
  return e_.add(e_.add(e_.mul(matrix, columns * spec().k), e_.mul(block.begin, columns)),
                e_.mul(e_.mul(panel, nr()), block.depth));
}

Value* MatmulContext::a_offset(const CTile& tile, Value* row, Value* step) const {
  if (spec().a.transposed) std::swap(row, step);
  return e_.add(batch_offset(spec().a, tile.batch), e_.add(e_.mul(row, spec().a.row_stride), step));
}

Value* MatmulContext::c_offset(const MatrixRun& run) const {
  return e_.add(e_.add(batch_offset(spec().c, run.batch), e_.mul(run.row, spec().c.row_stride)),
                run.column);
}

Value* MatmulContext::packed_a_panel(Value* i) const {
  return e_.address(a_type(), frame_.scratch, e_.mul(i, mr() * tiles().kc + lanes()));
}

Value* MatmulContext::b_panel(const CTile& tile, Value* panel, const KBlock& block) const {
  switch (tiles().b) {
    case BPacking::none: {
      Value* column = e_.add(tile.column_begin, e_.mul(panel, nr()));
      Value* row = e_.mul(block.begin, spec().b.row_stride);
      return e_.address(b_type(), buffer(MatmulBuffers::b),
                        e_.add(batch_offset(spec().b, tile.batch), e_.add(row, column)));
    }
    case BPacking::packed:
      return e_.address(b_type(), e_.byte_address(frame_.scratch, scratch_.b_offset),
                        e_.mul(e_.mul(panel, nr()), block.depth));
    case BPacking::prepacked: {
      Value* first = e_.div(tile.column_begin, nr());
      Value* at = prepacked_offset(tile.batch, e_.add(first, panel), block);
      return e_.address(b_type(), buffer(MatmulBuffers::b), at);
    }
  }
  return nullptr;
}

KBlock MatmulContext::k_block(Value* begin) const {
  const int64_t depth = std::max<int64_t>(spec().k, 1), kc = tiles().kc;
  // A product over no k still stores its zeros or accumulator.
  if (depth <= kc) return {e_.index(0), e_.index(spec().k), e_.ir().getTrue(), e_.ir().getTrue()};
  Value* left = e_.sub(e_.index(depth), begin);
  return {begin, e_.min_index(e_.index(kc), left), e_.ir().CreateICmpEQ(begin, e_.index(0)),
          e_.ir().CreateICmpSLE(left, e_.index(kc))};
}

void MatmulContext::for_k_blocks(const std::function<void(const KBlock&)>& body) const {
  if (spec().k <= tiles().kc) return body(k_block(e_.index(0)));
  e_.for_loop(e_.index(0), e_.index(spec().k), tiles().kc,
              [&](Value* begin) { body(k_block(begin)); });
}

void MatmulContext::for_b_panels(const CTile& tile,
                                 const std::function<void(Value*, int64_t)>& body) const {
  e_.for_loop(e_.index(0), tile.b_panels, 1, [&](Value* panel) { body(panel, nr()); });
  if (ragged_columns() > 0)
    e_.if_then(tile.is_last_column, [&] { body(tile.b_panels, ragged_columns()); });
}

}  // namespace weir
