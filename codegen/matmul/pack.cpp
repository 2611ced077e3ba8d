#include "codegen/matmul/pack.h"

#include <algorithm>

#include "codegen/llvm/elementwise.h"
#include "codegen/matmul/prefetch.h"
#include "support/align.h"

namespace weir {
namespace {

using llvm::Value;
using Values = Emitter::Values;

/// Steps of k packed at a time where the elements of a step lie side by side, so that rows are read
/// from end to end.
constexpr int64_t row_pack_steps = 8;

/// A matrix of the batch, as stored.
struct PackSource {
  const MatmulOperand& operand;
  Value* base;
  Value* offset;  ///< of the matrix, in elements
};

/// A micro-panel of `width` neighbouring rows of A (or columns of B), `present` of which exist.
struct MicroPanel {
  bool depth_contiguous;  ///< k runs along stored rows (A as it is, B transposed)
  int64_t width;          ///< elements a step of k takes in the packed micro-panel
  int64_t present;        ///< of them in the matrix; the others are packed as zeros
  Value* begin;           ///< index of the first row of A or column of B
  Value* depth_begin;
  Value* depth;             ///< steps of k to pack
  int64_t depth_remainder;  ///< depth modulo lanes where `ragged` holds, else depth is a multiple
  Value* ragged;            ///< i1
  /// Whether up to a vector behind the micro-panel may be overwritten, which lets one narrower than
  /// a vector be stored without masks.
  bool may_overrun = false;
};

class PanelPacker {
 public:
  PanelPacker(Emitter& e, const PackSource& source, const MicroPanel& panel, Value* to)
      : e_(e),
        source_(source),
        panel_(panel),
        type_(storage_of(source.operand.dtype)),
        to_(to),
        lanes_(e.lanes()) {}

  void pack() const {
    if (panel_.depth_contiguous) {
      // Square blocks of lanes x lanes, transposed in registers.
      Value* whole = e_.mul(e_.div(panel_.depth, lanes_), lanes_);
      e_.for_loop(e_.index(0), whole, lanes_, [&](Value* k) { block(k, lanes_); });
      if (panel_.depth_remainder > 0)
        e_.if_then(panel_.ragged, [&] { block(whole, panel_.depth_remainder); });
    } else {
      e_.for_loop(e_.index(0), panel_.depth, 1, [&](Value* k) { row(k); });
    }
  }

 private:
  /// `steps` steps of k from k on.
  void block(Value* k, int64_t steps) const {
    Value* column = e_.add(panel_.depth_begin, k);
    Value* mask = e_.mask_below(e_.index(steps), static_cast<int>(lanes_));
    for (int64_t first = 0; first < panel_.width; first += lanes_) {
      Values rows;
      for (int64_t i = 0; i < lanes_; ++i)
        rows.push_back(first + i < panel_.present
                           ? load(e_.add(panel_.begin, first + i), column, mask)
                           : e_.zero(type_, static_cast<int>(lanes_)));
      rows = e_.transpose(rows);
      for (int64_t j = 0; j < steps; ++j) put(e_.add(k, j), first, rows[j]);
    }
  }

  void row(Value* k) const {
    prefetch(e_.add(k, row_pack_steps));
    for (int64_t first = 0; first < panel_.width; first += lanes_) {
      Value* mask = e_.mask_below(e_.index(panel_.present - first), static_cast<int>(lanes_));
      put(k, first, load(e_.add(panel_.depth_begin, k), e_.add(panel_.begin, first), mask));
    }
  }

  /// Prefetches step k of the matrix and of the packed micro-panel.
  void prefetch(Value* k) const {
    for (int64_t first = 0; first < panel_.width; first += lanes_) {
      // The last element's line: that of the first is the same or belongs to the panel before.
      const int64_t last = std::min(first + lanes_, panel_.width) - 1;
      const int64_t bytes = storage_bytes(type_);
      emit_prefetch(e_, source_.base,
                    e_.mul(at(e_.add(panel_.depth_begin, k), e_.add(panel_.begin, last)), bytes),
                    CacheLevel::first);
      Value* packed = e_.mul(e_.add(e_.mul(k, panel_.width), last), bytes);
      e_.prefetch(e_.ir().CreateGEP(e_.ir().getInt8Ty(), to_, packed), /*for_write=*/true);
    }
  }

  /// Element offset of (stored row, stored column).
  Value* at(Value* row, Value* column) const {
    return e_.add(e_.add(source_.offset, e_.mul(row, source_.operand.row_stride)), column);
  }
  /// A vector from there on; lanes outside the mask are 0.
  Value* load(Value* row, Value* column, Value* mask) const {
    return e_.load(type_, source_.base, at(row, column), static_cast<int>(lanes_), mask);
  }

  /// Stores the elements from `first` on of step k. Where a narrow micro-panel may be overrun, this
  /// writes into step k + 1, which is written next; any other ragged end is masked.
  void put(Value* k, int64_t first, Value* vector) const {
    Value* at = e_.add(e_.mul(k, panel_.width), first);
    const int64_t left = panel_.width - first;
    Value* mask = panel_.may_overrun && panel_.width < lanes_
                      ? nullptr
                      : e_.mask_below(e_.index(left), static_cast<int>(lanes_));
    e_.store(type_, vector, to_, at, mask);
  }

  Emitter& e_;
  const PackSource& source_;
  const MicroPanel& panel_;
  const Storage type_;
  Value* const to_;
  const int64_t lanes_;
};

/// The micro-panel of B from `column` on, for a block of k.
void pack_b_panel(const MatmulContext& context, Value* base, Value* batch, Value* column,
                  int64_t present, const KBlock& block, Value* to) {
  const MatmulSpec& spec = context.spec();
  const PackSource source = {spec.b, base, context.batch_offset(spec.b, batch)};
  const MicroPanel panel = {.depth_contiguous = spec.b.transposed,
                            .width = context.packed_columns(present),
                            .present = present,
                            .begin = column,
                            .depth_begin = block.begin,
                            .depth = block.depth,
                            .depth_remainder = spec.k % context.lanes(),
                            .ragged = block.is_last};
  PanelPacker(context.e(), source, panel, to).pack();
}

/// Calls `pack` with the first of some steps of k in the block, and how many they are: all where
/// those of a row or column lie side by side, else a few at a time.
void for_steps(Emitter& e, const KBlock& block, bool depth_contiguous,
               const std::function<void(Value*, Value*)>& pack) {
  if (depth_contiguous) return pack(e.index(0), block.depth);
  e.for_loop(e.index(0), block.depth, row_pack_steps, [&](Value* step) {
    pack(step, e.min_index(e.index(row_pack_steps), e.sub(block.depth, step)));
  });
}

/// One micro-panel of a transposed B, whose rows in memory run along k.
void prepack_b_panel(const MatmulContext& context, Value* tile) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  const int64_t nr = context.nr(), panels = ceil_div(spec.n, nr);
  Value* panel = e.rem(tile, panels);
  Value* batch = e.div(tile, panels);
  const auto pack = [&](int64_t present) {
    context.for_k_blocks([&](const KBlock& block) {
      pack_b_panel(context, context.buffer(0), batch, e.mul(panel, nr), present, block,
                   e.address(context.b_type(), context.buffer(1),
                             context.prepacked_offset(batch, panel, block)));
    });
    return Values{};
  };
  e.if_else(
      e.ir().CreateICmpSLT(panel, e.index(spec.n / nr)), [&] { return pack(nr); },
      [&] { return context.ragged_columns() ? pack(context.ragged_columns()) : Values{}; });
}

/// A few steps of a block of k of all micro-panels of an untransposed B.
void prepack_b_steps(const MatmulContext& context, Value* tile) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  if (spec.k == 0) return;
  const int64_t kc = context.tiles().kc, nr = context.nr();
  const int64_t block_tiles = ceil_div(kc, matmul_pack_steps);
  const int64_t blocks = ceil_div(spec.k, kc);
  Value* batch = e.div(tile, blocks * block_tiles);
  Value* block_begin = e.mul(e.rem(e.div(tile, block_tiles), blocks), kc);
  const KBlock block = context.k_block(block_begin);
  Value* first = e.mul(e.rem(tile, block_tiles), matmul_pack_steps);
  Value* depth = e.min_index(e.index(matmul_pack_steps), e.sub(block.depth, first));
  const KBlock steps = {e.add(block_begin, first), depth, e.ir().getTrue(), e.ir().getTrue()};
  const auto pack = [&](Value* panel, int64_t present) {
    Value* at = e.add(context.prepacked_offset(batch, panel, block),
                      e.mul(first, context.packed_columns(present)));
    pack_b_panel(context, context.buffer(0), batch, e.mul(panel, nr), present, steps,
                 e.address(context.b_type(), context.buffer(1), at));
  };
  const int64_t full = spec.n / nr;
  e.for_loop(e.index(0), e.index(full), 1, [&](Value* panel) { pack(panel, nr); });
  if (context.ragged_columns() > 0) pack(e.index(full), context.ragged_columns());
}

}  // namespace

void pack_a_block(const MatmulContext& context, const CTile& tile, const KBlock& block,
                  Value* first, Value* last, int64_t rows) {
  Emitter& e = context.e();
  const MatmulSpec& spec = context.spec();
  for_steps(e, block, !spec.a.transposed, [&](Value* step, Value* depth) {
    e.for_loop(first, last, 1, [&](Value* i) {
      const MicroPanel panel = {.depth_contiguous = !spec.a.transposed,
                                .width = rows,
                                .present = rows,
                                .begin = e.add(tile.row_begin, e.mul(i, context.mr())),
                                .depth_begin = e.add(block.begin, step),
                                .depth = depth,
                                .depth_remainder = spec.k % context.lanes(),
                                .ragged = block.is_last,
                                .may_overrun = true};
      Value* to =
          e.address(context.a_type(), context.packed_a_panel(e.sub(i, first)), e.mul(step, rows));
      const PackSource source = {spec.a, context.buffer(MatmulBuffers::a),
                                 context.batch_offset(spec.a, tile.batch)};
      PanelPacker(e, source, panel, to).pack();
    });
  });
}

void pack_b_block(const MatmulContext& context, const CTile& tile, const KBlock& block) {
  Emitter& e = context.e();
  for_steps(e, block, context.spec().b.transposed, [&](Value* step, Value* depth) {
    const KBlock steps = {e.add(block.begin, step), depth, block.is_first, block.is_last};
    context.for_b_panels(tile, [&](Value* panel, int64_t columns) {
      Value* column = e.add(tile.column_begin, e.mul(panel, context.nr()));
      Value* to = e.address(context.b_type(), context.b_panel(tile, panel, block),
                            e.mul(step, context.packed_columns(columns)));
      pack_b_panel(context, context.buffer(MatmulBuffers::b), tile.batch, column, columns, steps,
                   to);
    });
  });
}

void prepack_b(const MatmulContext& context, Value* tile) {
  if (context.spec().b.transposed)
    prepack_b_panel(context, tile);
  else
    prepack_b_steps(context, tile);
}

}  // namespace weir
