#include <fmt/format.h>

#include <algorithm>

#include "codegen/attention/attention.h"
#include "codegen/attention/normalizer.h"
#include "codegen/attention/shape.h"
#include "ir/map_cells.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Positions among the kernel's buffers.
struct MapBuffers {
  int q, k, rows, map;
};

// A tile is a row of cells of one head: the queries of a group against all keys that they see. The
// weights of a block of queries and a block of keys lie in scratch memory as [query][key]; no array
// of [queries, keys] exists.
class AttentionMap {
 public:
  AttentionMap(const AttentionShape& shape, int64_t side, const MapBuffers& buffers,
               const Target& target)
      : s_(shape),
        use_(buffers),
        rows_(map_cells(shape.T, side)),
        columns_(map_cells(shape.S, side)),
        lanes_(target.lanes()),
        packed_(whole_vectors(shape.key_block, lanes_)),
        query_block_(std::min<int64_t>(32, shape.T)),
        tile_(block_tile(target, query_block_, packed_, 4)),
        stride_(scratch_stride(shape.d, lanes_)),
        normalizer_(make_normalizer_code(shape.normalizer, shape.transform.difference_scale)) {
    keys_ = parts_.add(packed_ * s_.d);
    queries_ = parts_.add(tile_.padded(query_block_) * stride_);
    weights_ = parts_.add(tile_.padded(query_block_) * packed_);
    sums_ = parts_.add(packed_);
  }

  int64_t tiles() const { return s_.B * s_.H * rows_.count(); }
  int64_t scratch_bytes() const { return parts_.bytes(); }

  void emit(Emitter& e, const KernelFrame& frame) {
    e_ = &e;
    frame_ = &frame;
    e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
      // Long tiles first: with a causal mask the last queries see the most keys.
      const int64_t heads = s_.B * s_.H;
      Emitted* row = e.sub(e.index(rows_.count() - 1), e.div(tile, heads));
      Emitted* head = e.rem(tile, heads);
      b_ = e.div(head, s_.H);
      h_ = e.rem(head, s_.H);
      cells_ = e.mul(e.add(e.mul(head, rows_.count()), row), columns_.count());
      emit_row(start_of(rows_, row), start_of(rows_, e.add(row, 1)));
    });
  }

 private:
  Emitted* scratch(int64_t floats) { return e_->byte_address(frame_->scratch, 4 * floats); }
  BlockMatrix matrix(int64_t floats, int64_t row_stride) {
    return {scratch(floats), e_->index(0), row_stride, 1};
  }

  Emitted* start_of(const MapCells& cells, Emitted* cell) {
    Emitter& e = *e_;
    Emitted* later = e.add(e.mul(e.add(cell, -cells.single), cells.width), cells.single);
    later = e.min_index(later, e.index(cells.length));
    return e.select(e.ir().CreateICmpSLT(cell, e.index(cells.single)), cell, later);
  }
  Emitted* cell_of(const MapCells& cells, Emitted* token) {
    Emitter& e = *e_;
    Emitted* single = e.ir().CreateICmpSLT(token, e.index(cells.single));
    Emitted* behind = e.select(single, e.index(0), e.add(token, -cells.single));
    return e.select(single, token, e.add(e.div(behind, cells.width), cells.single));
  }

  // The cells of queries begin .. end-1.
  void emit_row(Emitted* begin, Emitted* end) {
    Emitter& e = *e_;
    e.for_loop(e.index(0), e.index(columns_.count()), 1, [&](Emitted* cell) {
      e.store(Storage::f32, e.f32(0), frame_->buffers[use_.map], e.add(cells_, cell));
    });
    Emitted* limit = s_.transform.causal ? e.min_index(end, e.index(s_.S)) : e.index(s_.S);
    e.for_loop(e.index(0), limit, s_.key_block, [&](Emitted* j0) {
      Emitted* count = e.min_index(e.index(s_.key_block), e.sub(limit, j0));
      emit_block_transpose(
          e, count, packed_, s_.d,
          head_rows(e, frame_->buffers[use_.k], b_, e.div(h_, s_.group()), j0, s_.S, s_.G, s_.d),
          scratch(keys_), s_.transform.keys_scale);
      for (int64_t c = 0; c < packed_; c += lanes_)
        e.store(Storage::f32, e.f32(0, lanes_), scratch(sums_), e.index(c));
      e.for_loop(begin, end, query_block_, [&](Emitted* t0) {
        emit_pair(t0, e.min_index(e.index(query_block_), e.sub(end, t0)), j0, count);
      });
      e.for_loop(e.index(0), count, 1, [&](Emitted* key) {
        Emitted* at = e.add(cells_, cell_of(columns_, e.add(j0, key)));
        Emitted* sum = e.load(Storage::f32, frame_->buffers[use_.map], at, 1);
        sum = e.ir().CreateFAdd(sum, e.load(Storage::f32, scratch(sums_), key, 1));
        e.store(Storage::f32, sum, frame_->buffers[use_.map], at);
      });
    });
    e.for_loop(e.index(0), e.index(columns_.count()), 1, [&](Emitted* cell) {
      Emitted* at = e.add(cells_, cell);
      Emitted* pairs =
          pairs_of(begin, end, start_of(columns_, cell), start_of(columns_, e.add(cell, 1)));
      Emitted* mean = e.ir().CreateFDiv(e.load(Storage::f32, frame_->buffers[use_.map], at, 1),
                                        e.ir().CreateSIToFP(pairs, e.f32_type()));
      e.store(Storage::f32, mean, frame_->buffers[use_.map], at);
    });
  }

  // How many pairs of queries begin .. end-1 and keys first .. last-1 the mask leaves; at least 1.
  Emitted* pairs_of(Emitted* begin, Emitted* end, Emitted* first, Emitted* last) {
    Emitter& e = *e_;
    Emitted* width = e.sub(last, first);
    if (!s_.transform.causal) return e.mul(e.sub(end, begin), width);
    const Emitter::Values pairs =
        e.for_loop(begin, end, 1, {e.index(0)}, [&](Emitted* t, const Emitter::Values& carried) {
          Emitted* seen = e.min_index(e.sub(e.add(t, 1), first), width);
          seen = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, seen, e.index(0));
          return Emitter::Values{e.add(carried[0], seen)};
        });
    return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, pairs[0], e.index(1));
  }

  // Adds the weights of a block of queries on a block of keys to the keys' sums.
  void emit_pair(Emitted* t0, Emitted* rows, Emitted* j0, Emitted* count) {
    Emitter& e = *e_;
    emit_block_copy(
        e, {rows, s_.d, head_rows(e, frame_->buffers[use_.q], b_, h_, t0, s_.T, s_.H, s_.d),
            matrix(queries_, stride_), nullptr, nullptr});
    BlockProduct product;
    product.tile = tile_;
    product.a = matrix(queries_, stride_);
    product.b = matrix(keys_, packed_);
    product.c = matrix(weights_, packed_);
    product.rows = rows;
    product.columns = packed_;
    product.depth = [&](Emitted*) { return BlockProduct::Range{e.index(0), e.index(s_.d)}; };
    emit_block_product(e, product);
    // References of rows lie in [B,H,2,T], their sums T behind.
    Emitted* first = e.add(e.mul(e.add(e.mul(b_, s_.H), h_), 2 * s_.T), t0);
    e.for_loop(e.index(0), rows, 1, [&](Emitted* row) {
      Emitted* seen = count;
      if (s_.transform.causal) seen = e.min_index(seen, e.add(e.sub(e.add(t0, row), j0), 1));
      Emitted* at_row = e.add(first, row);
      const auto of_row = [&](Emitted* at) {
        return e.load_broadcast(Storage::f32, frame_->buffers[use_.rows], at, lanes_);
      };
      const RowState state{of_row(at_row), of_row(e.add(at_row, s_.T))};
      Emitted* factor = e.ir().CreateFDiv(e.f32(1, lanes_), normalizer_->divisor(e, state));
      for (int64_t c = 0; c < packed_; c += lanes_) {
        Emitted* at = e.add(e.mul(row, packed_), c);
        Emitted* score = e.load(Storage::f32, scratch(weights_), at, lanes_);
        Emitted* weight =
            e.ir().CreateFMul(normalizer_->relative_weight(e, score, state.reference), factor);
        weight = e.select(e.mask_below(e.sub(seen, e.index(c)), lanes_), weight, e.f32(0, lanes_));
        Emitted* sum = e.load(Storage::f32, scratch(sums_), e.index(c), lanes_);
        e.store(Storage::f32, e.ir().CreateFAdd(sum, weight), scratch(sums_), e.index(c));
      }
    });
  }

  AttentionShape s_;
  MapBuffers use_;
  MapCells rows_, columns_;
  int lanes_;
  int64_t packed_;       ///< keys of a block in whole vectors
  int64_t query_block_;  ///< no influence on the result
  BlockTile tile_;
  int64_t stride_;  ///< of rows of features in scratch memory
  std::shared_ptr<const NormalizerCode> normalizer_;
  ScratchParts parts_;
  int64_t keys_, queries_, weights_, sums_;  ///< places in the scratch memory
  Emitter* e_ = nullptr;
  const KernelFrame* frame_ = nullptr;
  Emitted *b_ = nullptr, *h_ = nullptr, *cells_ = nullptr;
};

}  // namespace

KernelCode attention_map_kernel(const Graph& region, const Target& target) {
  const Node* node = nullptr;
  for (const Node& candidate : region.nodes())
    if (candidate.op == Op::attention_map) node = &candidate;
  WEIR_CHECK(node, "no map of attention in {}", print_graph(region));
  const size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  const MapBuffers use{attention_operand(region, node->inputs[0]),
                       attention_operand(region, node->inputs[1]),
                       attention_operand(region, node->inputs[2]), static_cast<int>(inputs)};
  AttentionMap kernel(attention_shape(region, *node), node->attrs.get_int("side"), use, target);
  return {kernel.tiles(), kernel.scratch_bytes(), "attention map " + structural_key(region),
          [kernel, inputs, buffers](Emitter& e, const std::string& symbol) mutable {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            KernelFrame frame = e.begin_kernel(symbol, uses);
            kernel.emit(e, frame);
            e.end_kernel();
          }};
}

}  // namespace weir
