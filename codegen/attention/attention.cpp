#include "codegen/attention/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/attention/normalizer.h"
#include "codegen/attention/prefetch.h"
#include "codegen/attention/shape.h"
#include "ir/print.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {

using Emitted = llvm::Value;

namespace {

using Values = std::vector<Emitted*>;

// Queries of a unit, in vectors: wider units multiply a little faster, but compute more scores that
// a causal mask hides.
constexpr int kUnitVectors = 2;
/// Keys whose scores become weights together; a power of two.
constexpr int kKeysAtOnce = 2;
// So many keys' weights are summed by themselves before they join the sum of a block: one by one,
// each would be rounded beside a sum that may be far larger.
constexpr int64_t kKeysInSum = 16;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Buffers of the region's inputs and outputs as the node uses them.
struct ForwardBuffers {
  int q, k, v;
  int out = -1, rows = -1;  ///< -1: not returned
};

// Everything lies with queries along the vectors: scores and weights as [key][query], output sums
// as [feature][query]. So keys and values are used as rows, element by element, and a row of
// weights is a lane: maximum, sum and rescaling need no operation across lanes. Only queries (once)
// and outputs (once) are transposed.
//
// A tile is a block of queries of all heads that share a key head. It is cut into units of as many
// queries as a register block has; keys and values of a block are copied once for all units.
class AttentionForward {
 public:
  AttentionForward(const AttentionShape& shape, const ForwardBuffers& buffers, const Target& target)
      : s_(shape),
        use_(buffers),
        lanes_(target.lanes()),
        normalizer_(make_normalizer_code(shape.normalizer, shape.transform.difference_scale)),
        score_tile_(block_tile(target, shape.key_block, shape.T, kUnitVectors)),
        sum_tile_(block_tile(target, shape.d, shape.T, kUnitVectors)),
        width_(int64_t{score_tile_.vectors} * lanes_) {
    key_stride_ = scratch_stride(s_.d, lanes_);
    value_stride_ = scratch_stride(std::max(s_.d, sum_tile_.padded(s_.d)), lanes_);
    out_stride_ = whole_vectors(s_.d, lanes_);
    unit_floats_ = width_ * (s_.d + sum_tile_.padded(s_.d) + 2);
    query_block_ = choose_query_block(target);
    keys_ = parts_.add(score_tile_.padded(s_.key_block) * key_stride_);
    values_ = parts_.add(s_.key_block * value_stride_);
    scores_ = parts_.add(width_ * std::max(score_tile_.padded(s_.key_block), out_stride_));
    largest_ = parts_.add(width_);
    units_ = parts_.add(units() * unit_floats_);
  }

  int64_t tiles() const { return s_.B * s_.G * query_blocks(); }
  int64_t scratch_bytes() const { return parts_.bytes(); }

  void emit(Emitter& e, const KernelFrame& frame) {
    e_ = &e;
    frame_ = &frame;
    keys_ahead_.begin(e);
    queries_ahead_.begin(e);
    e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* number) {
      const Tile tile = tile_of(number);
      b_ = tile.b;
      g_ = tile.g;
      emit_tile(tile.t0, tile_of(tile_after(e, frame, number)));
    });
  }

 private:
  int64_t query_blocks() const { return (s_.T + query_block_ - 1) / query_block_; }
  int64_t units_a_head() const { return query_block_ / width_; }
  int64_t units() const { return s_.group() * units_a_head(); }

  // Queries of a tile: the more, the less often keys are copied; but units stay in the second-level
  // cache, and there are enough tiles to share out. No influence on the result.
  int64_t choose_query_block(const Target& target) const {
    int64_t block = width_;
    const auto fits = [&](int64_t queries) {
      const int64_t tiles = s_.B * s_.G * ((s_.T + queries - 1) / queries);
      return 4 * s_.group() * queries / width_ * unit_floats_ <= target.l2_bytes / 2 &&
             queries <= 512 && queries < s_.T + width_ && tiles >= 16 * target.cores;
    };
    while (fits(2 * block)) block *= 2;
    return block;
  }

  Emitted* scratch(int64_t floats) { return e_->byte_address(frame_->scratch, floats * 4); }
  BlockMatrix scratch_matrix(int64_t floats, int64_t row_stride) {
    return {scratch(floats), e_->index(0), row_stride, 1};
  }

  // A sequence, a key head, and the first of a block of queries.
  struct Tile {
    Emitted *b, *g, *t0;
  };
  Tile tile_of(Emitted* number) {
    Emitter& e = *e_;
    // Long tiles first: with a causal mask the last block of queries sees the most keys.
    Emitted* block = e.sub(e.index(query_blocks() - 1), e.div(number, s_.B * s_.G));
    Emitted* rest = e.rem(number, s_.B * s_.G);
    return {e.div(rest, s_.G), e.rem(rest, s_.G), e.mul(block, query_block_)};
  }

  // A unit's part of the scratch memory.
  struct Unit {
    Emitted *first, *h;  ///< query, head
    Emitted *queries, *sums, *reference, *weight_sum;
  };
  Unit unit_at(Emitted* t0, Emitted* in_group, Emitted* i) {
    Emitter& e = *e_;
    Emitted* number = e.add(e.mul(in_group, units_a_head()), i);
    Emitted* base = e.byte_address(scratch(units_), e.mul(number, 4 * unit_floats_));
    Unit unit{};
    unit.first = e.add(t0, e.mul(i, width_));
    unit.h = e.add(e.mul(g_, s_.group()), in_group);
    unit.queries = base;
    const int64_t sum_floats = width_ * sum_tile_.padded(s_.d);
    unit.sums = e.byte_address(base, 4 * width_ * s_.d);
    unit.reference = e.byte_address(unit.sums, 4 * sum_floats);
    unit.weight_sum = e.byte_address(unit.reference, 4 * width_);
    return unit;
  }
  void for_each_unit(Emitted* t0, Emitted* count, const std::function<void(const Unit&)>& body) {
    e_->for_loop(e_->index(0), e_->index(s_.group()), 1, [&](Emitted* in_group) {
      e_->for_loop(e_->index(0), count, 1, [&](Emitted* i) { body(unit_at(t0, in_group, i)); });
    });
  }

  Values load_row(Emitted* base) {
    Values row;
    for (int v = 0; v < score_tile_.vectors; ++v)
      row.push_back(e_->load(Storage::f32, base, e_->index(v * lanes_), lanes_));
    return row;
  }
  void store_row(Emitted* base, const Values& row) {
    for (int v = 0; v < score_tile_.vectors; ++v)
      e_->store(Storage::f32, row[v], base, e_->index(v * lanes_));
  }

  void emit_tile(Emitted* t0, const Tile& next) {
    Emitter& e = *e_;
    // Queries that come next and where results of these go: of all heads of a group side by side.
    std::vector<AskAhead::Rows> of_queries;
    const auto rows_of = [&](int position, Emitted* b, Emitted* g, Emitted* first) {
      Emitted* h = e.mul(g, s_.group());
      of_queries.push_back({head_rows(e, frame_->buffers[position], b, h, first, s_.T, s_.H, s_.d),
                            s_.group() * s_.d});
    };
    rows_of(use_.q, next.b, next.g, next.t0);
    if (use_.out >= 0) rows_of(use_.out, b_, g_, t0);
    queries_ahead_.start(e.index(query_block_), ceil_div(query_block_, units() * turns()),
                         of_queries);
    Emitted* rows = e.min_index(e.index(query_block_), e.sub(e.index(s_.T), t0));
    Emitted* count = e.div(e.add(rows, width_ - 1), width_);
    for_each_unit(t0, count, [&](const Unit& unit) { emit_start(unit); });
    Emitted* limit =
        s_.transform.causal ? e.min_index(e.index(s_.S), e.add(t0, rows)) : e.index(s_.S);
    e.for_loop(e.index(0), limit, s_.key_block, [&](Emitted* j0) {
      Emitted* keys = e.min_index(e.index(s_.key_block), e.sub(limit, j0));
      emit_copies(j0, keys);
      look_ahead(j0, limit, next);
      for_each_unit(t0, count, [&](const Unit& unit) {
        if (!s_.transform.causal) return emit_key_block(unit, j0, keys);
        Emitted* seen = e.min_index(keys, e.sub(e.add(unit.first, width_), j0));
        e.if_then(e.ir().CreateICmpSGT(seen, e.index(0)), [&] { emit_key_block(unit, j0, seen); });
      });
    });
    for_each_unit(t0, count, [&](const Unit& unit) { emit_finish(unit); });
  }

  void emit_start(const Unit& unit) {
    Emitter& e = *e_;
    Emitted* rows = e.min_index(e.index(width_), e.sub(e.index(s_.T), unit.first));
    emit_block_transpose(
        e, rows, width_, s_.d,
        head_rows(e, frame_->buffers[use_.q], b_, unit.h, unit.first, s_.T, s_.H, s_.d),
        unit.queries);
    emit_block_fill(e, e.index(s_.d), width_, {unit.sums, e.index(0), width_, 1}, 0);
    RowState state = normalizer_->start(e, lanes_);
    store_row(unit.reference, Values(score_tile_.vectors, state.reference));
    store_row(unit.weight_sum, Values(score_tile_.vectors, state.sum));
  }

  // The keys and values that come next: of the next block, or of the next tile's first.
  void look_ahead(Emitted* j0, Emitted* limit, const Tile& next_tile) {
    Emitter& e = *e_;
    Emitted* next = e.add(j0, s_.key_block);
    Emitted* ends = e.ir().CreateICmpSGE(next, limit);
    Emitted* b = e.select(ends, next_tile.b, b_);
    Emitted* g = e.select(ends, next_tile.g, g_);
    Emitted* row = e.select(ends, e.index(0), next);
    const auto rows_of = [&](int position) {
      return AskAhead::Rows{head_rows(e, frame_->buffers[position], b, g, row, s_.S, s_.G, s_.d),
                            s_.d};
    };
    // With a causal mask about half of the units see a block, so that half of the turns must do.
    const int64_t least = std::max<int64_t>(units() / 2, 1) * turns();
    keys_ahead_.start(e.index(s_.key_block), ceil_div(s_.key_block, least),
                      {rows_of(use_.k), rows_of(use_.v)});
  }
  // Register blocks of a unit and a block of keys, each of which gives a turn to ask.
  int64_t turns() const {
    return score_tile_.padded(s_.key_block) / score_tile_.rows +
           sum_tile_.padded(s_.d) / sum_tile_.rows;
  }
  void ask_ahead() {
    keys_ahead_.turn();
    queries_ahead_.turn();
  }

  // Rows of keys beyond the last one are copies of it, so that they change no maximum.
  void emit_copies(Emitted* j0, Emitted* count) {
    Emitter& e = *e_;
    const int tile_rows = score_tile_.rows;
    Emitted* padded = e.mul(e.div(e.add(count, tile_rows - 1), tile_rows), tile_rows);
    emit_block_copy(
        e, {padded, s_.d, head_rows(e, frame_->buffers[use_.k], b_, g_, j0, s_.S, s_.G, s_.d),
            scratch_matrix(keys_, key_stride_), e.add(count, -1), [&](Emitted*, Emitted* value) {
              const double factor = s_.transform.keys_scale;
              return factor == 1 ? value : e.ir().CreateFMul(value, e.f32_like(value, factor));
            }});
    emit_block_copy(
        e, {count, s_.d, head_rows(e, frame_->buffers[use_.v], b_, g_, j0, s_.S, s_.G, s_.d),
            scratch_matrix(values_, value_stride_), nullptr, nullptr});
  }

  // The first `count` keys from j0 on.
  void emit_key_block(const Unit& unit, Emitted* j0, Emitted* count) {
    Emitter& e = *e_;
    store_row(scratch(largest_), Values(score_tile_.vectors, e.f32(-kInfinity, lanes_)));
    BlockProduct scores;
    scores.tile = score_tile_;
    scores.a = scratch_matrix(keys_, key_stride_);
    scores.b = {unit.queries, e.index(0), width_, 1};
    scores.c = scratch_matrix(scores_, width_);
    scores.rows = count;
    scores.columns = width_;
    scores.depth = [&](Emitted*) { return BlockProduct::Range{e.index(0), e.index(s_.d)}; };
    scores.finish = [&](Emitted* row, Emitted*, Values& block) {
      ask_ahead();
      mask(unit, e.add(j0, row), block);
      find_largest(block);
    };
    emit_block_product(e, scores);
    Values rescale = emit_weights(unit, count);
    BlockProduct sums;
    sums.tile = sum_tile_;
    sums.a = {scratch(values_), e.index(0), 1, value_stride_};
    sums.b = scratch_matrix(scores_, width_);
    sums.c = {unit.sums, e.index(0), width_, 1};
    sums.rows = e.index(s_.d);
    sums.columns = width_;
    sums.depth = [&](Emitted*) { return BlockProduct::Range{e.index(0), count}; };
    sums.accumulate = true;
    sums.rescale = rescale;
    sums.finish = [&](Emitted*, Emitted*, Values&) { ask_ahead(); };
    emit_block_product(e, sums);
  }

  // Scores of keys that a query does not see become minus infinity.
  void mask(const Unit& unit, Emitted* first_key, Values& block) {
    if (!s_.transform.causal) return;
    Emitter& e = *e_;
    const int vectors = score_tile_.vectors;
    Emitted* hides = e.ir().CreateICmpSGT(e.add(first_key, score_tile_.rows - 1), unit.first);
    block = e.if_else(
        hides,
        [&] {
          Values masked = block;
          for (int v = 0; v < vectors; ++v) {
            // The last key that a query sees, counted from the first of the block.
            Emitted* last = e.sub(e.add(unit.first, v * lanes_), first_key);
            last = e.broadcast(e.ir().CreateTrunc(last, e.i32_type()), lanes_);
            last = e.ir().CreateAdd(last, e.iota(lanes_));
            if (s_.S < s_.T) last = minimum_of(last, e.sub(e.index(s_.S - 1), first_key));
            for (int r = 0; r < score_tile_.rows; ++r) {
              Emitted*& score = masked[r * vectors + v];
              score = e.select(e.ir().CreateICmpSGE(last, e.i32_like(last, r)), score,
                               e.f32(-kInfinity, lanes_));
            }
          }
          return masked;
        },
        [&] { return block; });
  }
  Emitted* minimum_of(Emitted* vector, Emitted* index) {
    Emitted* other = e_->broadcast(e_->ir().CreateTrunc(index, e_->i32_type()), lanes_);
    return e_->ir().CreateBinaryIntrinsic(llvm::Intrinsic::smin, vector, other);
  }

  void find_largest(const Values& block) {
    Emitter& e = *e_;
    const int vectors = score_tile_.vectors;
    Values largest = load_row(scratch(largest_));
    for (int v = 0; v < vectors; ++v) {
      // Two chains, for their latency. A maximum does not depend on the order.
      Emitted* other = e.f32(-kInfinity, lanes_);
      for (int r = 0; r < score_tile_.rows; ++r) {
        Emitted*& maximum = r % 2 ? other : largest[v];
        maximum = running_maximum(e, block[r * vectors + v], maximum);
      }
      largest[v] = running_maximum(e, other, largest[v]);
    }
    store_row(scratch(largest_), largest);
  }

  // Scores to weights; the rows' states go on. Returns what output sums are to be multiplied by.
  Values emit_weights(const Unit& unit, Emitted* count) {
    Emitter& e = *e_;
    Values largest = load_row(scratch(largest_)), reference = load_row(unit.reference), rescale;
    for (int v = 0; v < score_tile_.vectors; ++v) {
      auto step = normalizer_->advance(e, reference[v], largest[v]);
      reference[v] = step.reference;
      rescale.push_back(step.rescale);
    }
    const Values zeros(score_tile_.vectors, e.f32(0, lanes_));
    const auto rounded_down = [&](int64_t keys) { return e.mul(e.div(count, keys), keys); };
    Values added =
        e.for_loop(e.index(0), rounded_down(kKeysInSum), kKeysInSum, zeros,
                   [&](Emitted* key, const Values& carried) {
                     return sums_of(carried, e.for_loop(key, e.add(key, kKeysInSum), kKeysAtOnce,
                                                        zeros, weigh_keys(kKeysAtOnce, reference)));
                   });
    Values rest = e.for_loop(rounded_down(kKeysInSum), rounded_down(kKeysAtOnce), kKeysAtOnce,
                             zeros, weigh_keys(kKeysAtOnce, reference));
    rest = e.for_loop(rounded_down(kKeysAtOnce), count, 1, rest, weigh_keys(1, reference));
    added = sums_of(added, rest);
    Values sums = load_row(unit.weight_sum);
    for (int v = 0; v < score_tile_.vectors; ++v)
      sums[v] = e.ir().CreateFAdd(e.ir().CreateFMul(sums[v], rescale[v]), added[v]);
    store_row(unit.reference, reference);
    store_row(unit.weight_sum, sums);
    return rescale;
  }

  Values sums_of(Values a, const Values& b) {
    for (size_t v = 0; v < a.size(); ++v) a[v] = e_->ir().CreateFAdd(a[v], b[v]);
    return a;
  }

  // Some keys' scores to weights, whose sum is added to the carried sums. They are one long vector,
  // so that its parts take turns: an exponential alone is a chain that waits for itself.
  std::function<Values(Emitted*, const Values&)> weigh_keys(int keys, const Values& reference) {
    return [this, keys, reference](Emitted* key, const Values& carried) {
      Emitter& e = *e_;
      Emitted* row = reference.size() == 1 ? reference[0] : e.concat(reference[0], reference[1]);
      Emitted* at = e.mul(key, width_);
      const int width = static_cast<int>(width_);
      Emitted* scores = e.load(Storage::f32, scratch(scores_), at, keys * width);
      for (int k = 1; k < keys; k *= 2) row = e.concat(row, row);
      Emitted* weights = normalizer_->relative_weight(e, scores, row);
      e.store(Storage::f32, weights, scratch(scores_), at);
      for (int parts = keys / 2; parts > 0; parts /= 2)
        weights = e.ir().CreateFAdd(e.slice(weights, 0, parts * width),
                                    e.slice(weights, parts * width, parts * width));
      Values parts;
      for (size_t v = 0; v < carried.size(); ++v)
        parts.push_back(e.slice(weights, static_cast<int>(v) * lanes_, lanes_));
      return sums_of(carried, parts);
    };
  }

  void emit_finish(const Unit& unit) {
    Emitter& e = *e_;
    Emitted* rows = e.min_index(e.index(width_), e.sub(e.index(s_.T), unit.first));
    Values references = load_row(unit.reference), sums = load_row(unit.weight_sum), factors;
    // In [B,H,2,T]: references of the head, then its sums.
    Emitted* at = e.add(e.mul(e.add(e.mul(b_, s_.H), unit.h), 2 * s_.T), unit.first);
    for (int v = 0; v < score_tile_.vectors; ++v) {
      Emitted* divisor = normalizer_->divisor(e, {references[v], sums[v]});
      factors.push_back(e.ir().CreateFDiv(e.f32(1, lanes_), divisor));
      if (use_.rows < 0) continue;
      Emitted* present = e.mask_below(e.sub(rows, e.index(v * lanes_)), lanes_);
      Emitted* buffer = frame_->buffers[use_.rows];
      e.store(Storage::f32, references[v], buffer, e.add(at, v * lanes_), present);
      e.store(Storage::f32, sums[v], buffer, e.add(at, s_.T + v * lanes_), present);
    }
    if (use_.out < 0) return;
    store_row(unit.weight_sum, factors);
    emit_block_transpose(e, e.index(s_.d), out_stride_, width_, {unit.sums, e.index(0), width_, 1},
                         scratch(scores_));
    emit_block_copy(
        e, {rows, s_.d, scratch_matrix(scores_, out_stride_),
            head_rows(e, frame_->buffers[use_.out], b_, unit.h, unit.first, s_.T, s_.H, s_.d),
            nullptr, [&](Emitted* row, Emitted* value) {
              return e.ir().CreateFMul(
                  value, e.load_broadcast(Storage::f32, unit.weight_sum, row, lanes_));
            }});
  }

  AttentionShape s_;
  ForwardBuffers use_;
  int lanes_;
  std::shared_ptr<const NormalizerCode> normalizer_;
  BlockTile score_tile_, sum_tile_;
  int64_t width_;  ///< queries of a unit
  int64_t key_stride_, value_stride_, out_stride_, unit_floats_, query_block_;
  ScratchParts parts_;
  int64_t keys_, values_, scores_, largest_, units_;  ///< places in the scratch memory
  Emitter* e_ = nullptr;
  const KernelFrame* frame_ = nullptr;
  Emitted *b_ = nullptr, *g_ = nullptr;
  AskAhead keys_ahead_, queries_ahead_;
};

}  // namespace

AttentionShape attention_shape(const Graph& region, const Node& node) {
  const Shape& q = region.type(node.inputs[0]).shape;
  const Shape& k = region.type(node.inputs[1]).shape;
  return {q[0],
          q[1],
          k[1],
          q[2],
          k[2],
          q[3],
          score_transform(node.attrs),
          normalizer_of(node.attrs),
          node.attrs.get_int("key_block")};
}

int attention_operand(const Graph& region, Value operand) {
  const auto& inputs = region.inputs();
  auto found = std::find(inputs.begin(), inputs.end(), operand.node);
  WEIR_CHECK(found != inputs.end(), "an operand of attention is computed inside its kernel");
  if (region.type(operand).dtype != DType::f32)
    user_error("attention", "an operand is {}, but compiled attention takes f32. Convert it.",
               to_string(region.type(operand)));
  return static_cast<int>(found - inputs.begin());
}

int64_t whole_vectors(int64_t count, int lanes) { return (count + lanes - 1) / lanes * lanes; }

int64_t scratch_stride(int64_t floats, int lanes) {
  const int64_t stride = whole_vectors(floats, lanes);
  return stride % 512 == 0 ? stride + 16 : stride;
}

BlockMatrix head_rows(Emitter& e, Emitted* base, Emitted* b, Emitted* h, Emitted* t0, int64_t T,
                      int64_t H, int64_t d) {
  Emitted* row = e.add(e.mul(b, T), t0);
  return {base, e.mul(e.add(e.mul(row, H), h), d), H * d, 1};
}

Emitted* tile_after(Emitter& e, const KernelFrame& frame, Emitted* tile) {
  Emitted* next = e.add(tile, 1);
  Emitted* others = e.mul(e.sub(frame.last_tile, frame.first_tile), e.target().cores - 1);
  return e.select(e.ir().CreateICmpSLT(next, frame.last_tile), next, e.add(next, others));
}

KernelCode attention_kernel(const Graph& region, const Target& target) {
  ForwardBuffers use{};
  const Node* attention = nullptr;
  for (const Node& node : region.nodes())
    if (node.op == Op::attention) attention = &node;
  WEIR_CHECK(attention, "no attention in {}", print_graph(region));
  auto input = [&](size_t i) {
    const auto& inputs = region.inputs();
    int32_t node = attention->inputs[i].node;
    if (region.type(attention->inputs[i]).dtype != DType::f32)
      user_error("attention", "operand {} is {}, but compiled attention takes f32. Convert it.", i,
                 to_string(region.type(attention->inputs[i])));
    return static_cast<int>(std::find(inputs.begin(), inputs.end(), node) - inputs.begin());
  };
  use.q = input(0);
  use.k = input(1);
  use.v = input(2);
  int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o)
    (region.outputs()[o].value.result == 0 ? use.out : use.rows) = base + static_cast<int>(o);
  AttentionForward kernel(attention_shape(region, *attention), use, target);
  size_t buffers = region.inputs().size() + region.outputs().size();
  return {kernel.tiles(), kernel.scratch_bytes(), "attention " + structural_key(region),
          [kernel, base, buffers](Emitter& e, const std::string& symbol) mutable {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = static_cast<size_t>(base); i < buffers; ++i) uses[i].written = true;
            KernelFrame frame = e.begin_kernel(symbol, uses);
            kernel.emit(e, frame);
            e.end_kernel();
          }};
}

}  // namespace weir
