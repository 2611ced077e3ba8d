#include "codegen/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/attention_normalizer.h"
#include "codegen/attention_shape.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {

using Emitted = llvm::Value;

namespace {

using Values = std::vector<Emitted*>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Buffers of the region's inputs and outputs as the node uses them.
struct ForwardBuffers {
  int q, k, v;
  int out = -1, lse = -1;  ///< -1: not returned
};

class AttentionForward {
 public:
  AttentionForward(const AttentionShape& shape, const ForwardBuffers& buffers, int lanes)
      : s_(shape),
        use_(buffers),
        lanes_(lanes),
        packed_(shape.packed_keys(lanes)),
        normalizer_(make_normalizer_code(shape.normalizer)) {}

  int64_t tiles() const { return s_.B * s_.H * s_.query_blocks(); }
  int64_t scratch_floats() const {
    return packed_ * s_.d + s_.query_block * (packed_ + padded_d() + 2 * lanes_);
  }

  void emit(Emitter& e, const KernelFrame& frame) {
    e_ = &e;
    frame_ = &frame;
    e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
      // Long tiles first: with a causal mask the last block of queries sees the most keys.
      Emitted* block = e.sub(e.index(s_.query_blocks() - 1), e.rem(tile, s_.query_blocks()));
      Emitted* rest = e.div(tile, s_.query_blocks());
      emit_tile(e.div(rest, s_.H), e.rem(rest, s_.H), e.mul(block, s_.query_block));
    });
  }

 private:
  int64_t padded_d() const { return (s_.d + lanes_ - 1) / lanes_ * lanes_; }
  Emitted* scratch(int64_t floats) { return e_->byte_address(frame_->scratch, floats * 4); }

  void emit_tile(Emitted* b, Emitted* h, Emitted* t0) {
    Emitter& e = *e_;
    packed_keys_ = scratch(0);
    scores_ = scratch(packed_ * s_.d);
    sums_ = scratch(packed_ * s_.d + s_.query_block * packed_);
    state_ = scratch(packed_ * s_.d + s_.query_block * (packed_ + padded_d()));
    Emitted* rows = e.min_index(e.index(s_.query_block), e.sub(e.index(s_.T), t0));
    emit_block_fill(e, rows, s_.d, sum_block(), 0);
    e.for_loop(e.index(0), rows, 1, [&](Emitted* row) { store_state(row, normalizer_->start(e)); });
    Emitted* limit = s_.causal ? e.min_index(e.index(s_.S), e.add(t0, rows)) : e.index(s_.S);
    e.for_loop(e.index(0), limit, s_.key_block,
               [&](Emitted* j0) { emit_key_block(b, h, t0, rows, j0); });
    e.for_loop(e.index(0), rows, 1, [&](Emitted* row) { emit_finish(b, h, t0, row); });
  }

  BlockMatrix sum_block() { return {sums_, e_->index(0), padded_d(), 1}; }
  BlockMatrix score_block() { return {scores_, e_->index(0), packed_, 1}; }

  void emit_key_block(Emitted* b, Emitted* h, Emitted* t0, Emitted* rows, Emitted* j0) {
    Emitter& e = *e_;
    Emitted* g = e.div(h, s_.group());
    Emitted* keys = e.min_index(e.index(s_.key_block), e.sub(e.index(s_.S), j0));
    emit_block_transpose(e, keys, packed_, s_.d,
                         head_rows(e, frame_->buffers[use_.k], b, g, j0, s_.S, s_.G, s_.d),
                         packed_keys_);
    emit_block_product(e, rows, packed_, e.index(s_.d),
                       head_rows(e, frame_->buffers[use_.q], b, h, t0, s_.T, s_.H, s_.d),
                       {packed_keys_, e.index(0), packed_, 1}, score_block(), false);
    e.for_loop(e.index(0), rows, 1, [&](Emitted* row) { emit_row(row, e.add(t0, row), j0); });
    Emitted* depth = keys;
    if (s_.causal) depth = e.min_index(keys, e.sub(e.add(t0, rows), j0));
    emit_block_product(e, rows, s_.d, depth, score_block(),
                       head_rows(e, frame_->buffers[use_.v], b, g, j0, s_.S, s_.G, s_.d),
                       sum_block(), true);
  }

  RowState load_state(Emitted* row) {
    return {e_->load(Storage::f32, state_, e_->mul(row, 2), 1),
            e_->load(Storage::f32, state_, e_->add(e_->mul(row, 2), 1), 1)};
  }
  void store_state(Emitted* row, const RowState& state) {
    e_->store(Storage::f32, state.first, state_, e_->mul(row, 2));
    e_->store(Storage::f32, state.second, state_, e_->add(e_->mul(row, 2), 1));
  }

  // Scores of one row to weights; its state updated and its output rescaled.
  void emit_row(Emitted* row, Emitted* t, Emitted* j0) {
    Emitter& e = *e_;
    Emitted* at = e.mul(row, packed_);
    Values scores;
    for (int64_t c = 0; c < packed_; c += lanes_) {
      Emitted* score = e.load(Storage::f32, scores_, e.add(at, c), lanes_);
      score = e.ir().CreateFMul(score, e.f32(s_.scale, lanes_));
      scores.push_back(mask_scores(e, s_, score, e.add(j0, c), t));
    }
    auto [state, rescale] = normalizer_->update(e, load_state(row), scores);
    for (size_t i = 0; i < scores.size(); ++i)
      e.store(Storage::f32, scores[i], scores_, e.add(at, static_cast<int64_t>(i) * lanes_));
    store_state(row, state);
    for (int64_t c = 0; c < padded_d(); c += lanes_) {
      Emitted* where = e.add(e.mul(row, padded_d()), c);
      Emitted* old = e.load(Storage::f32, sums_, where, lanes_);
      e.store(Storage::f32, e.ir().CreateFMul(old, e.broadcast(rescale, lanes_)), sums_, where);
    }
  }

  void emit_finish(Emitted* b, Emitted* h, Emitted* t0, Emitted* row) {
    Emitter& e = *e_;
    auto [divisor, lse] = normalizer_->finish(e, load_state(row));
    Emitted* t = e.add(t0, row);
    if (use_.lse >= 0) {
      Emitted* at = e.add(e.mul(e.add(e.mul(b, s_.H), h), s_.T), t);
      e.store(Storage::f32, lse, frame_->buffers[use_.lse], at);
    }
    if (use_.out < 0) return;
    BlockMatrix out = head_rows(e, frame_->buffers[use_.out], b, h, t, s_.T, s_.H, s_.d);
    for (int64_t c = 0; c < s_.d; c += lanes_) {
      Emitted* mask = s_.d - c >= lanes_ ? nullptr : e.mask_below(e.index(s_.d - c), lanes_);
      Emitted* value = e.load(Storage::f32, sums_, e.add(e.mul(row, padded_d()), c), lanes_);
      value = e.ir().CreateFDiv(value, e.broadcast(divisor, lanes_));
      e.store(Storage::f32, value, out.base, e.add(out.origin, c), mask);
    }
  }

  AttentionShape s_;
  ForwardBuffers use_;
  int lanes_;
  int64_t packed_;
  std::shared_ptr<const NormalizerCode> normalizer_;
  Emitter* e_ = nullptr;
  const KernelFrame* frame_ = nullptr;
  Emitted *packed_keys_ = nullptr, *scores_ = nullptr, *sums_ = nullptr, *state_ = nullptr;
};

}  // namespace

AttentionShape attention_shape(const Graph& region, const Node& node, const Target& target) {
  const Shape& q = region.type(node.inputs[0]).shape;
  const Shape& k = region.type(node.inputs[1]).shape;
  int64_t key_block = node.attrs.get_int("key_block"), d = q[3];
  // Scores and output of a block of queries, with the packed keys, in a quarter of the cache.
  int64_t rows = (target.l2_bytes / 16 - key_block * d) / (key_block + d);
  int64_t query_block = std::clamp<int64_t>(rows / 16 * 16, 16, 64);
  return {q[0],
          q[1],
          k[1],
          q[2],
          k[2],
          d,
          node.attrs.get_bool("causal"),
          node.attrs.get_float("scale"),
          normalizer_of(node.attrs),
          key_block,
          query_block};
}

BlockMatrix head_rows(Emitter& e, Emitted* base, Emitted* b, Emitted* h, Emitted* t0, int64_t T,
                      int64_t H, int64_t d) {
  Emitted* row = e.add(e.mul(b, T), t0);
  return {base, e.mul(e.add(e.mul(row, H), h), d), H * d, 1};
}

Emitted* mask_scores(Emitter& e, const AttentionShape& shape, Emitted* scores, Emitted* first_key,
                     Emitted* query) {
  int lanes = Emitter::lanes_of(scores);
  Emitted* last = shape.causal ? query : e.index(shape.S - 1);
  Emitted* mask = e.mask_below(e.add(e.sub(last, first_key), 1), lanes);
  return mask ? e.select(mask, scores, e.f32(-kInfinity, lanes)) : scores;
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
    (region.outputs()[o].value.result == 0 ? use.out : use.lse) = base + static_cast<int>(o);
  AttentionForward kernel(attention_shape(region, *attention, target), use, target.lanes());
  size_t buffers = region.inputs().size() + region.outputs().size();
  return {kernel.tiles(), kernel.scratch_floats() * 4, "attention " + structural_key(region),
          [kernel, base, buffers](Emitter& e, const std::string& symbol) mutable {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = static_cast<size_t>(base); i < buffers; ++i) uses[i].written = true;
            KernelFrame frame = e.begin_kernel(symbol, uses);
            kernel.emit(e, frame);
            e.end_kernel();
          }};
}

}  // namespace weir
