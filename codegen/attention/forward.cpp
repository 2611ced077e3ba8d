#include <algorithm>

#include "codegen/attention/attention.h"
#include "codegen/attention/forward_rows.h"
#include "codegen/attention/prefetch.h"
#include "codegen/attention/scores.h"
#include "ir/print.h"
#include "support/align.h"

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = std::vector<Emitted*>;

// A sequence, a key head, and the first of a block of queries.
struct Tile {
  Emitted *b, *g, *t0;
};

Tile tile_of(Emitter& e, const ForwardPlan& p, Emitted* number) {
  // Long tiles first: with a causal mask the last block of queries sees the most keys.
  Emitted* block = e.sub(e.index(p.query_blocks() - 1), e.div(number, p.B * p.G));
  Emitted* rest = e.rem(number, p.B * p.G);
  return {e.div(rest, p.G), e.rem(rest, p.G), e.mul(block, p.query_block)};
}

// Counters of the rows of keys and values, and of queries, that are prefetched.
struct Counters {
  PrefetchCounter keys, queries;
};

// Everything lies with queries along the vectors: scores and weights as [key][query], output sums
// as [feature][query]. So keys and values are used as rows, element by element, and a row of
// weights is a lane: maximum, sum and rescaling need no operation across lanes. Only queries (once)
// and outputs (once) are transposed.
//
// A tile is a block of queries of all heads that share a key head. It is cut into slices of as many
// queries as a register block has; keys and values of a block are copied once for all slices.
class ForwardTile {
 public:
  ForwardTile(const KernelMemory& memory, const ForwardPlan& plan, const Counters& counters,
              const Tile& tile, const Tile& next)
      : e_(memory.e),
        memory_(memory),
        p_(plan),
        counters_(counters),
        tile_(tile),
        next_(next),
        query_prefetch_(prefetch_queries()) {}

  void emit() const {
    Emitted* rows = e_.min_index(e_.index(p_.query_block), e_.sub(e_.index(p_.T), tile_.t0));
    Emitted* count = e_.div(e_.add(rows, p_.slice_width - 1), p_.slice_width);
    for_each_slice(count, [&](const QuerySlice& slice) { emit_start(slice); });
    Emitted* limit =
        p_.causal() ? e_.min_index(e_.index(p_.S), e_.add(tile_.t0, rows)) : e_.index(p_.S);
    e_.for_loop(e_.index(0), limit, p_.key_block, [&](Emitted* j0) {
      Emitted* keys = e_.min_index(e_.index(p_.key_block), e_.sub(limit, j0));
      emit_copies(j0, keys);
      const Prefetcher key_prefetch = prefetch_keys(j0, limit);
      for_each_slice(count, [&](const QuerySlice& slice) {
        if (!p_.causal()) return emit_key_block(slice, j0, keys, key_prefetch);
        Emitted* seen = e_.min_index(keys, e_.sub(e_.add(slice.first, p_.slice_width), j0));
        e_.if_then(e_.ir().CreateICmpSGT(seen, e_.index(0)),
                   [&] { emit_key_block(slice, j0, seen, key_prefetch); });
      });
    });
    for_each_slice(count, [&](const QuerySlice& slice) { emit_finish(slice); });
  }

 private:
  QuerySlice slice_at(Emitted* in_group, Emitted* i) const {
    Emitted* number = e_.add(e_.mul(in_group, p_.slices_per_head()), i);
    const KernelArray base = memory_.scratch_part(p_.slices, number, p_.slice_floats);
    const auto behind = [&](const KernelArray& part, int64_t elements) {
      return KernelArray{e_.byte_address(part.base, bytes_in_scratch(elements)), kScratch};
    };
    QuerySlice slice{};
    slice.first = e_.add(tile_.t0, e_.mul(i, p_.slice_width));
    slice.h = e_.add(e_.mul(tile_.g, p_.group()), in_group);
    slice.queries = base;
    const int64_t sum_floats = p_.slice_width * p_.sum_tile.padded(p_.d);
    slice.out_sums = behind(base, p_.slice_width * p_.d);
    slice.reference = behind(slice.out_sums, sum_floats);
    slice.sums = behind(slice.reference, p_.slice_width);
    return slice;
  }
  void for_each_slice(Emitted* count, const std::function<void(const QuerySlice&)>& body) const {
    e_.for_loop(e_.index(0), e_.index(p_.group()), 1, [&](Emitted* in_group) {
      e_.for_loop(e_.index(0), count, 1, [&](Emitted* i) { body(slice_at(in_group, i)); });
    });
  }

  BlockMatrix query_rows(int position, Emitted* h, Emitted* first) const {
    return head_rows(e_, memory_.buffer(position), tile_.b, h, first, p_.T, p_.H, p_.d);
  }
  BlockMatrix key_rows(int position, Emitted* j0) const {
    return head_rows(e_, memory_.buffer(position), tile_.b, tile_.g, j0, p_.S, p_.G, p_.d);
  }

  // Queries that come next and where results of these go: of all heads of a group side by side.
  Prefetcher prefetch_queries() const {
    std::vector<Prefetcher::Rows> of_queries;
    const auto add_rows = [&](int position, const Tile& tile) {
      Emitted* h = e_.mul(tile.g, p_.group());
      of_queries.push_back(
          {head_rows(e_, memory_.buffer(position), tile.b, h, tile.t0, p_.T, p_.H, p_.d),
           p_.group() * p_.d});
    };
    add_rows(p_.use.q, next_);
    if (p_.use.out >= 0) add_rows(p_.use.out, tile_);
    return {e_, counters_.queries, e_.index(p_.query_block),
            ceil_div(p_.query_block, p_.slice_count() * p_.register_blocks()), of_queries};
  }

  // The keys and values that come next: of the next block, or of the next tile's first.
  Prefetcher prefetch_keys(Emitted* j0, Emitted* limit) const {
    Emitted* next = e_.add(j0, p_.key_block);
    Emitted* ends = e_.ir().CreateICmpSGE(next, limit);
    Emitted* b = e_.select(ends, next_.b, tile_.b);
    Emitted* g = e_.select(ends, next_.g, tile_.g);
    Emitted* row = e_.select(ends, e_.index(0), next);
    const auto rows_of = [&](int position) {
      return Prefetcher::Rows{head_rows(e_, memory_.buffer(position), b, g, row, p_.S, p_.G, p_.d),
                              p_.d};
    };
    // With a causal mask about half of the slices see a block, so that half of the register blocks
    // must do.
    const int64_t least = std::max<int64_t>(p_.slice_count() / 2, 1) * p_.register_blocks();
    return {e_,
            counters_.keys,
            e_.index(p_.key_block),
            ceil_div(p_.key_block, least),
            {rows_of(p_.use.k), rows_of(p_.use.v)}};
  }

  void emit_start(const QuerySlice& slice) const {
    Emitted* rows = e_.min_index(e_.index(p_.slice_width), e_.sub(e_.index(p_.T), slice.first));
    emit_block_transpose(e_, rows, p_.slice_width, p_.d, query_rows(p_.use.q, slice.h, slice.first),
                         slice.queries);
    emit_block_fill(e_, e_.index(p_.d), p_.slice_width,
                    {slice.out_sums, e_.index(0), p_.slice_width, 1}, 0);
    ForwardRows(memory_, p_, slice).start();
  }

  // Rows of keys beyond the last one are copies of it, so that they change no maximum.
  void emit_copies(Emitted* j0, Emitted* count) const {
    const int tile_rows = p_.score_tile.rows;
    Emitted* padded = e_.mul(e_.div(e_.add(count, tile_rows - 1), tile_rows), tile_rows);
    const auto scaled = [&](Emitted*, Emitted* value) {
      const double factor = p_.transform.keys_scale;
      return factor == 1 ? value : e_.ir().CreateFMul(value, e_.f32_like(value, factor));
    };
    emit_block_copy(
        e_, {padded, p_.d, key_rows(p_.use.k, j0), memory_.scratch_matrix(p_.keys, p_.key_stride),
             e_.add(count, -1), scaled});
    emit_block_copy(e_, {count, p_.d, key_rows(p_.use.v, j0),
                         memory_.scratch_matrix(p_.values, p_.value_stride), nullptr, nullptr});
  }

  // The first `count` keys from j0 on.
  void emit_key_block(const QuerySlice& slice, Emitted* j0, Emitted* count,
                      const Prefetcher& key_prefetch) const {
    const ForwardRows rows(memory_, p_, slice);
    const auto prefetch = [&] {
      key_prefetch.issue();
      query_prefetch_.issue();
    };
    rows.start_maximum();
    BlockProduct scores;
    scores.tile = p_.score_tile;
    scores.a = memory_.scratch_matrix(p_.keys, p_.key_stride);
    scores.b = {slice.queries, e_.index(0), p_.slice_width, 1};
    scores.c = memory_.scratch_matrix(p_.scores, p_.slice_width);
    scores.rows = count;
    scores.columns = p_.slice_width;
    scores.depth = [&](Emitted*) { return BlockProduct::Range{e_.index(0), e_.index(p_.d)}; };
    scores.finish = [&](Emitted* row, Emitted*, Values& block) {
      prefetch();
      for (Emitted*& x : block) x = emit_score(e_, p_.transform, x);
      emit_score_mask(e_, p_.transform, {p_.score_tile, slice.first, e_.add(j0, row), p_.T, p_.S},
                      p_.normalizer->masked_score(), block);
      rows.raise_maximum(block);
    };
    emit_block_product(e_, scores);
    BlockProduct sums;
    sums.rescale = rows.weigh(count);
    sums.tile = p_.sum_tile;
    sums.a = {memory_.scratch(p_.values), e_.index(0), 1, p_.value_stride};
    sums.b = memory_.scratch_matrix(p_.scores, p_.slice_width);
    sums.c = {slice.out_sums, e_.index(0), p_.slice_width, 1};
    sums.rows = e_.index(p_.d);
    sums.columns = p_.slice_width;
    sums.depth = [&](Emitted*) { return BlockProduct::Range{e_.index(0), count}; };
    sums.accumulate = true;
    sums.finish = [&](Emitted*, Emitted*, Values&) { prefetch(); };
    emit_block_product(e_, sums);
  }

  void emit_finish(const QuerySlice& slice) const {
    const ForwardRows slice_rows(memory_, p_, slice);
    Emitted* rows = e_.min_index(e_.index(p_.slice_width), e_.sub(e_.index(p_.T), slice.first));
    const Values factors = slice_rows.finish(rows, tile_.b);
    if (p_.use.out < 0) return;
    slice_rows.store(slice.sums, factors);
    emit_block_transpose(e_, e_.index(p_.d), p_.out_stride, p_.slice_width,
                         {slice.out_sums, e_.index(0), p_.slice_width, 1},
                         memory_.scratch(p_.scores));
    const auto divided = [&](Emitted* row, Emitted* value) {
      return e_.ir().CreateFMul(value, e_.load_broadcast(kScratch, slice.sums.base, row, p_.lanes));
    };
    emit_block_copy(e_, {rows, p_.d, memory_.scratch_matrix(p_.scores, p_.out_stride),
                         query_rows(p_.use.out, slice.h, slice.first), nullptr, divided});
  }

  Emitter& e_;
  const KernelMemory& memory_;
  const ForwardPlan& p_;
  const Counters& counters_;
  const Tile &tile_, &next_;
  const Prefetcher query_prefetch_;
};

}  // namespace

KernelCode attention_kernel(const Graph& region, const Target& target) {
  const ForwardPlan plan = plan_attention(region, target);
  const size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {plan.tiles, plan.scratch_bytes, "attention " + structural_key(region),
          [plan, inputs, buffers](Emitter& e, const std::string& symbol) {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            const KernelFrame frame = e.begin_kernel(symbol, uses);
            const KernelMemory memory{e, frame, plan.elements};
            const Counters counters{PrefetchCounter(e), PrefetchCounter(e)};
            e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* number) {
              const Tile tile = tile_of(e, plan, number);
              const Tile next = tile_of(e, plan, predicted_next_tile(e, frame, number));
              ForwardTile(memory, plan, counters, tile, next).emit();
            });
            e.end_kernel();
          }};
}

}  // namespace weir
