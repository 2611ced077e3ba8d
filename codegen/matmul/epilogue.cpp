#include "codegen/matmul/epilogue.h"

#include <bit>

namespace weir {
namespace {

using llvm::Value;
using Values = Emitter::Values;

MatrixRun run_of(const MatmulContext& context, const CTile& tile, Value* row, Value* column,
                 int64_t vector, int64_t columns, int64_t vectors = 1) {
  Emitter& e = context.e();
  const int lanes = static_cast<int>(vectors * context.lanes());
  return {tile.batch, row, e.add(column, vector * context.lanes()), lanes,
          e.mask_below(e.index(columns - vector * context.lanes()), lanes)};
}

int64_t vectors_of(const MatmulContext& context, const MicroTile& micro) {
  return context.packed_columns(micro.columns) / context.lanes();
}

/// Position in the frame of the matrix into which partial sums are spilled; none: into scratch.
std::optional<int> spill_buffer(const MatmulContext& context) {
  if (context.fusion().store) return context.fusion().spill_buffer;
  if (context.c_type() != context.accumulator_type()) return std::nullopt;
  return MatmulBuffers::c;
}

Value* initial(const MatmulContext& context, const MatrixRun& run) {
  Emitter& e = context.e();
  const auto load = [&](int buffer) {
    return e.load(context.c_type(), context.buffer(buffer), context.c_offset(run), run.lanes,
                  run.mask);
  };
  switch (context.spec().accumulate) {
    case Accumulate::none:
      return e.zero(context.accumulator_type(), run.lanes);
    case Accumulate::in_place:
      return load(MatmulBuffers::c);
    case Accumulate::operand:
      return load(MatmulBuffers::accumulator);
  }
  return nullptr;
}

void store_finished(const MatmulContext& context, const MatrixRun& run, Value* value) {
  if (context.fusion().store) {
    context.fusion().store(context.e(), context.frame(), run, value);
  } else {
    context.e().store(context.c_type(), value, context.buffer(MatmulBuffers::c),
                      context.c_offset(run), run.mask);
  }
}

/// Emits the epilogue once, in a loop over the rows of the micro-tile, to which the accumulators go
/// through memory. The vectors of a row are one run where they are a power of two: their long
/// chains of operations are independent, so that one hides the latency of the other.
void rolled_epilogue(const MatmulContext& context, const CTile& tile, const MicroTile& micro,
                     const Values& accumulators) {
  Emitter& e = context.e();
  const Storage type = context.accumulator_type();
  const int64_t lanes = context.lanes(), vectors = vectors_of(context, micro);
  const int64_t together = std::has_single_bit(static_cast<uint64_t>(vectors)) ? vectors : 1;
  Value* memory = e.byte_address(context.frame().scratch, context.scratch().micro_tile_offset);
  for (int64_t i = 0; i < micro.rows * vectors; ++i)
    e.store(type, accumulators[i], memory, e.index(i * lanes));
  e.for_loop(e.index(0), e.index(micro.rows), 1, [&](Value* r) {
    for (int64_t v = 0; v < vectors; v += together) {
      const MatrixRun run =
          run_of(context, tile, e.add(micro.row, r), micro.column, v, micro.columns, together);
      Value* at = e.add(e.mul(r, vectors * lanes), v * lanes);
      store_finished(context, run, e.load(type, memory, at, run.lanes));
    }
  });
}

}  // namespace

SpillPlace spill_place(const MatmulContext& context, const CTile& tile, const MatrixRun& run) {
  if (const auto buffer = spill_buffer(context))
    return {context.buffer(*buffer), context.c_offset(run), context.spec().c.row_stride};
  Emitter& e = context.e();
  const MatmulScratch& scratch = context.scratch();
  Value* row = e.sub(run.row, tile.row_begin);
  Value* column = e.sub(run.column, tile.column_begin);
  return {e.byte_address(context.frame().scratch, scratch.c_offset),
          e.add(e.mul(row, scratch.c_row_stride), column), scratch.c_row_stride};
}

std::vector<MatrixRun> accumulator_runs(const MatmulContext& context, const CTile& tile,
                                        const MicroTile& micro) {
  std::vector<MatrixRun> runs;
  for (int64_t r = 0; r < micro.rows; ++r)
    for (int64_t v = 0; v < vectors_of(context, micro); ++v)
      runs.push_back(
          run_of(context, tile, context.e().add(micro.row, r), micro.column, v, micro.columns));
  return runs;
}

Values init_accumulators(const MatmulContext& context, const CTile& tile, const KBlock& block,
                         const std::vector<MatrixRun>& runs) {
  Emitter& e = context.e();
  return e.if_else(
      block.is_first,
      [&] {
        Values values;
        for (const MatrixRun& run : runs) values.push_back(initial(context, run));
        return values;
      },
      [&] {
        Values values;
        for (const MatrixRun& run : runs) {
          const SpillPlace spilled = spill_place(context, tile, run);
          values.push_back(e.load(context.accumulator_type(), spilled.base, spilled.offset,
                                  run.lanes, run.mask));
        }
        return values;
      });
}

void finish_accumulators(const MatmulContext& context, const CTile& tile, const KBlock& block,
                         const MicroTile& micro, const std::vector<MatrixRun>& runs,
                         const Values& accumulators) {
  Emitter& e = context.e();
  e.if_else(
      block.is_last,
      [&] {
        if (context.fusion().rolled_epilogue) {
          rolled_epilogue(context, tile, micro, accumulators);
        } else {
          for (size_t i = 0; i < runs.size(); ++i)
            store_finished(context, runs[i], accumulators[i]);
        }
        return Values{};
      },
      [&] {
        for (size_t i = 0; i < runs.size(); ++i) {
          const SpillPlace spill = spill_place(context, tile, runs[i]);
          e.store(context.accumulator_type(), accumulators[i], spill.base, spill.offset,
                  runs[i].mask);
        }
        return Values{};
      });
}

}  // namespace weir
