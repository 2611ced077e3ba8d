#include <algorithm>

#include "codegen/attention/attention.h"
#include "codegen/attention/memory.h"
#include "codegen/attention/plan.h"
#include "codegen/attention/scores.h"
#include "ir/print.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

Emitted* start_of(Emitter& e, const MapCells& cells, Emitted* cell) {
  Emitted* later = e.add(e.mul(e.add(cell, -cells.single), cells.width), cells.single);
  later = e.min_index(later, e.index(cells.length));
  return e.select(e.ir().CreateICmpSLT(cell, e.index(cells.single)), cell, later);
}
Emitted* cell_of(Emitter& e, const MapCells& cells, Emitted* token) {
  Emitted* single = e.ir().CreateICmpSLT(token, e.index(cells.single));
  Emitted* behind = e.select(single, e.index(0), e.add(token, -cells.single));
  return e.select(single, token, e.add(e.div(behind, cells.width), cells.single));
}

// A tile is a row of cells of one head: the queries of a group against all keys that they see. The
// weights of a block of queries and a block of keys lie in scratch memory as [query][key]; no array
// of [queries, keys] exists.
class MapTile {
 public:
  /// `cells`: where the row of cells starts in the result.
  MapTile(const KernelMemory& memory, const MapPlan& plan, Emitted* b, Emitted* h, Emitted* cells)
      : e_(memory.e), memory_(memory), p_(plan), b_(b), h_(h), cells_(cells) {}

  /// The cells of queries begin .. end-1.
  void emit(Emitted* begin, Emitted* end) const {
    e_.for_loop(e_.index(0), e_.index(p_.column_cells.count()), 1,
                [&](Emitted* cell) { memory_.store(e_.f32(0), p_.use.map, e_.add(cells_, cell)); });
    Emitted* limit = p_.causal() ? e_.min_index(end, e_.index(p_.S)) : e_.index(p_.S);
    e_.for_loop(e_.index(0), limit, p_.key_block, [&](Emitted* j0) {
      Emitted* count = e_.min_index(e_.index(p_.key_block), e_.sub(limit, j0));
      add_keys(begin, end, j0, count);
    });
    e_.for_loop(e_.index(0), e_.index(p_.column_cells.count()), 1,
                [&](Emitted* cell) { divide(begin, end, cell); });
  }

 private:
  // Adds the weights of a block of keys to its cells.
  void add_keys(Emitted* begin, Emitted* end, Emitted* j0, Emitted* count) const {
    emit_block_transpose(
        e_, count, p_.padded_keys, p_.d,
        head_rows(e_, memory_.buffer(p_.use.k), b_, e_.div(h_, p_.group()), j0, p_.S, p_.G, p_.d),
        memory_.scratch(p_.keys), p_.transform.keys_scale);
    for (int64_t c = 0; c < p_.padded_keys; c += p_.lanes)
      memory_.store_scratch(e_.f32(0, p_.lanes), p_.sums, e_.index(c));
    e_.for_loop(begin, end, p_.query_block, [&](Emitted* t0) {
      emit_pair(t0, e_.min_index(e_.index(p_.query_block), e_.sub(end, t0)), j0, count);
    });
    e_.for_loop(e_.index(0), count, 1, [&](Emitted* key) {
      Emitted* at = e_.add(cells_, cell_of(e_, p_.column_cells, e_.add(j0, key)));
      Emitted* sum = memory_.load(p_.use.map, at, 1);
      sum = e_.ir().CreateFAdd(sum, memory_.load_scratch(p_.sums, key, 1));
      memory_.store(sum, p_.use.map, at);
    });
  }

  // A cell's sum to its mean.
  void divide(Emitted* begin, Emitted* end, Emitted* cell) const {
    Emitted* at = e_.add(cells_, cell);
    Emitted* pairs = pairs_of(begin, end, start_of(e_, p_.column_cells, cell),
                              start_of(e_, p_.column_cells, e_.add(cell, 1)));
    Emitted* mean = e_.ir().CreateFDiv(memory_.load(p_.use.map, at, 1),
                                       e_.ir().CreateSIToFP(pairs, e_.f32_type()));
    memory_.store(mean, p_.use.map, at);
  }

  // How many pairs of queries begin .. end-1 and keys first .. last-1 the mask leaves; at least 1.
  Emitted* pairs_of(Emitted* begin, Emitted* end, Emitted* first, Emitted* last) const {
    Emitted* width = e_.sub(last, first);
    if (!p_.causal()) return e_.mul(e_.sub(end, begin), width);
    const Emitter::Values pairs =
        e_.for_loop(begin, end, 1, {e_.index(0)}, [&](Emitted* t, const Emitter::Values& carried) {
          Emitted* seen = e_.min_index(e_.sub(e_.add(t, 1), first), width);
          seen = e_.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, seen, e_.index(0));
          return Emitter::Values{e_.add(carried[0], seen)};
        });
    return e_.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, pairs[0], e_.index(1));
  }

  // Adds the weights of a block of queries on a block of keys to the keys' sums.
  void emit_pair(Emitted* t0, Emitted* rows, Emitted* j0, Emitted* count) const {
    emit_block_copy(
        e_, {rows, p_.d, head_rows(e_, memory_.buffer(p_.use.q), b_, h_, t0, p_.T, p_.H, p_.d),
             memory_.scratch_matrix(p_.queries, p_.stride), nullptr, nullptr});
    BlockProduct product;
    product.tile = p_.tile;
    product.a = memory_.scratch_matrix(p_.queries, p_.stride);
    product.b = memory_.scratch_matrix(p_.keys, p_.padded_keys);
    product.c = memory_.scratch_matrix(p_.weights, p_.padded_keys);
    product.rows = rows;
    product.columns = p_.padded_keys;
    product.depth = [&](Emitted*) { return BlockProduct::Range{e_.index(0), e_.index(p_.d)}; };
    emit_block_product(e_, product);
    // References of rows lie in [B,H,2 or more,T], their other numbers T behind each other.
    Emitted* head = e_.add(e_.mul(b_, p_.H), h_);
    Emitted* first = e_.add(e_.mul(head, p_.row_numbers * p_.T), t0);
    e_.for_loop(e_.index(0), rows, 1, [&](Emitted* row) {
      Emitted* seen = keys_seen(e_, p_.transform, count, j0, e_.add(t0, row));
      add_row(row, e_.add(first, row), seen);
    });
  }

  // One row of products, whose statistics lie at `at_row`; of its keys the first `seen` count.
  void add_row(Emitted* row, Emitted* at_row, Emitted* seen) const {
    const RowState state = p_.row_state([&](int i) {
      return memory_.load_broadcast(p_.use.rows, e_.add(at_row, i * p_.T), p_.lanes);
    });
    Emitted* factor = e_.ir().CreateFDiv(e_.f32(1, p_.lanes), p_.normalizer->divisor(e_, state));
    for (int64_t c = 0; c < p_.padded_keys; c += p_.lanes) {
      Emitted* at = e_.add(e_.mul(row, p_.padded_keys), c);
      Emitted* product = memory_.load_scratch(p_.weights, at, p_.lanes);
      Emitted* score = emit_score(e_, p_.transform, product);
      Emitted* weight =
          e_.ir().CreateFMul(p_.normalizer->parts(e_, score, state.reference).numerator, factor);
      weight = e_.select(e_.mask_below(e_.sub(seen, e_.index(c)), p_.lanes), weight,
                         e_.f32(0, p_.lanes));
      Emitted* sum = memory_.load_scratch(p_.sums, e_.index(c), p_.lanes);
      memory_.store_scratch(e_.ir().CreateFAdd(sum, weight), p_.sums, e_.index(c));
    }
  }

  Emitter& e_;
  const KernelMemory& memory_;
  const MapPlan& p_;
  Emitted *b_, *h_, *cells_;
};

void emit_map(Emitter& e, const KernelFrame& frame, const MapPlan& p) {
  const KernelMemory memory{e, frame, p.elements};
  const int64_t heads = p.B * p.H;
  e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
    // Long tiles first: with a causal mask the last queries see the most keys.
    Emitted* row = e.sub(e.index(p.row_cells.count() - 1), e.div(tile, heads));
    Emitted* head = e.rem(tile, heads);
    Emitted *b = e.div(head, p.H), *h = e.rem(head, p.H);
    Emitted* cells = e.mul(e.add(e.mul(head, p.row_cells.count()), row), p.column_cells.count());
    MapTile(memory, p, b, h, cells)
        .emit(start_of(e, p.row_cells, row), start_of(e, p.row_cells, e.add(row, 1)));
  });
}

}  // namespace

KernelCode attention_map_kernel(const Graph& region, const Target& target) {
  const MapPlan plan = plan_attention_map(region, target);
  const size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {plan.tiles, plan.scratch_bytes, "attention map " + structural_key(region),
          [plan, inputs, buffers](Emitter& e, const std::string& symbol) {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            emit_map(e, e.begin_kernel(symbol, uses), plan);
            e.end_kernel();
          }};
}

}  // namespace weir
