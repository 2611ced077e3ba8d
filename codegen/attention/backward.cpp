#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/attention/attention.h"
#include "codegen/attention/normalizer.h"
#include "codegen/attention/prefetch.h"
#include "codegen/attention/shape.h"
#include "codegen/llvm/vector_math.h"
#include "ir/print.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Positions among the kernel's buffers; -1: not wanted.
struct BackwardBuffers {
  int q = -1, k = -1, v = -1, out = -1, rows = -1, dout = -1;
  int dq = -1, dk = -1, dv = -1;
  int mass = -1, square = -1, entropy = -1, sink = -1, largest = -1, row_sum = -1;
  int64_t sink_key = 0;

  bool gradients() const { return dq >= 0 || dk >= 0 || dv >= 0; }
  bool score_gradients() const { return dq >= 0 || dk >= 0; }
  bool columns() const { return mass >= 0 || square >= 0; }
  /// Statistics of single weights, which are of a[t,s] / r[t].
  bool of_weights() const { return columns() || entropy >= 0 || sink >= 0 || largest >= 0; }
};

// One task owns a sequence and a key head: all its queries, and all rows of the gradients of its
// keys and values, so that no two tasks add to one number.
//
// Scores lie as [query][key]. Keys are taken some blocks at a time (a panel), with which all blocks
// of queries are multiplied before the next; what is multiplied lies in scratch memory, transposed
// for the scores and as it is for the gradients.
//
// The gradient of a score is ds = a (da - delta) with delta = <dout, out>. Where nearly all weight
// of a row is on one key, it is a small difference of two numbers that were rounded apart: da in
// this kernel's products, delta in those of the forward kernel, in out, and in its own. With
// delta = sum_s a da, of the same da, their errors cancel, but that is known only after all keys.
// So each row's residual sum_s a (da - delta), which is zero but for rounding, is added up beside
// its gradients, and blocks of queries that have a row in which it counts are corrected at the
// end: ds -= a residual. That is rare in training: it takes a row whose gradients are hundreds of
// thousand times smaller than the products that they are differences of.
class AttentionBackward {
 public:
  AttentionBackward(const AttentionShape& shape, const BackwardBuffers& buffers,
                    const Target& target)
      : s_(shape),
        use_(buffers),
        lanes_(target.lanes()),
        packed_(whole_vectors(shape.key_block, lanes_)),
        query_block_(std::min<int64_t>(32, whole_vectors(shape.T, lanes_))),
        // Narrow with a causal mask, which hides whole groups of keys then.
        score_tile_(block_tile(target, query_block_, packed_,
                               shape.transform.causal && shape.T <= 2 * shape.key_block ? 2 : 4)),
        query_tile_(block_tile(target, query_block_, shape.d, 4)),
        key_tile_(block_tile(target, shape.key_block, shape.d, 4)),
        stride_(scratch_stride(shape.d, lanes_)),
        query_rows_(std::max(score_tile_.padded(query_block_), query_tile_.padded(query_block_))),
        key_rows_(key_tile_.padded(shape.key_block)),
        normalizer_(make_normalizer_code(shape.normalizer, shape.transform.difference_scale)),
        divides_(buffers.of_weights() && !info(shape.normalizer).rows_sum_to_one) {
    panel_blocks_ = choose_panel(target);
    const bool gradients = use_.gradients();
    keys_across_ = parts_.add(panel_blocks_ * packed_ * s_.d);
    if (gradients) values_across_ = parts_.add(panel_blocks_ * packed_ * s_.d);
    if (use_.dq >= 0) keys_ = parts_.add(panel_blocks_ * s_.key_block * stride_);
    if (use_.dk >= 0) key_sums_ = parts_.add(panel_blocks_ * key_rows_ * stride_);
    if (use_.dv >= 0) value_sums_ = parts_.add(panel_blocks_ * key_rows_ * stride_);
    queries_ = parts_.add(query_rows_ * stride_);
    if (gradients) out_grads_ = parts_.add(query_rows_ * stride_);
    if (use_.dq >= 0) query_sums_ = parts_.add(query_rows_ * stride_);
    // The products by key read a register block beyond the last row's keys.
    weights_ = parts_.add(query_rows_ * packed_ + key_tile_.rows);
    if (gradients) score_grads_ = parts_.add(query_rows_ * packed_ + key_tile_.rows);
    if (gradients) deltas_ = parts_.add(s_.group() * s_.T);
    if (use_.score_gradients()) {
      row_sums_ = parts_.add(2 * s_.group() * s_.T);
      corrected_blocks_ = parts_.add(s_.group() * query_blocks());
      any_corrected_ = parts_.add(1);
    }
    row_factors_ = parts_.add(s_.group() * s_.T);
    if (divides_) share_factors_ = parts_.add(s_.group() * s_.T);
    if (divides_) shares_ = parts_.add(query_rows_ * packed_);
    if (use_.entropy >= 0) row_logs_ = parts_.add(s_.group() * s_.T);
  }

  int64_t tiles() const { return s_.B * s_.G; }
  int64_t scratch_bytes() const { return parts_.bytes(); }

  void emit(Emitter& e, const KernelFrame& frame) {
    e_ = &e;
    frame_ = &frame;
    queries_ahead_.begin(e);
    keys_ahead_.begin(e);
    e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
      b_ = e.div(tile, s_.G);
      g_ = e.rem(tile, s_.G);
      Emitted* next = tile_after(e, frame, tile);
      next_tile_ = {e.div(next, s_.G), e.rem(next, s_.G)};
      emit_task();
    });
  }

 private:
  // Blocks of keys in a panel: the more, the less often queries are copied, but their five arrays
  // stay in half of the second-level cache. No influence on the result.
  int64_t choose_panel(const Target& target) const {
    const int64_t bytes = 4 * 5 * packed_ * stride_;
    const int64_t all = (s_.S + s_.key_block - 1) / s_.key_block;
    return std::clamp<int64_t>(target.l2_bytes / 2 / bytes, 1, std::min<int64_t>(all, 8));
  }

  Emitted* scratch(int64_t floats) { return e_->byte_address(frame_->scratch, 4 * floats); }
  BlockMatrix matrix(int64_t floats, int64_t row_stride) {
    return {scratch(floats), e_->index(0), row_stride, 1};
  }
  // The `i`-th block of keys of a panel in a part with `rows` rows a block.
  BlockMatrix in_panel(int64_t floats, Emitted* i, int64_t rows, int64_t row_stride) {
    return {scratch(floats), e_->mul(i, rows * row_stride), row_stride, 1};
  }
  Emitted* buffer(int position) const { return frame_->buffers[position]; }

  BlockMatrix rows_of_keys(int position, Emitted* j0) {
    return head_rows(*e_, buffer(position), b_, g_, j0, s_.S, s_.G, s_.d);
  }
  BlockMatrix rows_of_queries(int position, Emitted* h, Emitted* t0) {
    return head_rows(*e_, buffer(position), b_, h, t0, s_.T, s_.H, s_.d);
  }
  // Index of row t of head h in a [B,H,T] array.
  Emitted* statistic_row(Emitted* h, Emitted* t) {
    return e_->add(e_->mul(e_->add(e_->mul(b_, s_.H), h), s_.T), t);
  }
  // Index of its reference in [B,H,2,T]; its sum lies T behind.
  Emitted* reference_at(Emitted* h, Emitted* t) {
    return e_->add(e_->mul(e_->add(e_->mul(b_, s_.H), h), 2 * s_.T), t);
  }

  // A block of queries of one head, and the first of them among the rows of the task.
  struct Queries {
    Emitted *h, *t0, *rows, *in_task;
  };
  // A block of keys: its place in the panel, its first key, how many it has.
  struct Keys {
    Emitted *i, *j0, *count;
  };

  // Rows of queries or keys anywhere: sequence, key head, query head, first row.
  struct Place {
    Emitted *b, *g, *h, *row;
  };

  void for_each_head(const std::function<void(Emitted* in_group, Emitted* h)>& body) {
    e_->for_loop(e_->index(0), e_->index(s_.group()), 1, [&](Emitted* in_group) {
      body(in_group, e_->add(e_->mul(g_, s_.group()), in_group));
    });
  }
  void for_each_block(Emitted* panel, const std::function<void(const Keys&)>& body) {
    Emitter& e = *e_;
    Emitted* end = e.min_index(e.add(panel, panel_blocks_ * s_.key_block), e.index(s_.S));
    e.for_loop(panel, end, s_.key_block, [&](Emitted* j0) {
      body({e.div(e.sub(j0, panel), s_.key_block), j0,
            e.min_index(e.index(s_.key_block), e.sub(end, j0))});
    });
  }

  void for_each_queries(Emitted* first,
                        const std::function<void(Emitted* in_group, const Queries&)>& body) {
    Emitter& e = *e_;
    for_each_head([&](Emitted* in_group, Emitted* h) {
      e.for_loop(first, e.index(s_.T), query_block_, [&](Emitted* t0) {
        Emitted* rows = e.min_index(e.index(query_block_), e.sub(e.index(s_.T), t0));
        body(in_group, {h, t0, rows, e.add(e.mul(in_group, s_.T), t0)});
      });
    });
  }

  void emit_task() {
    Emitter& e = *e_;
    for_each_head([&](Emitted* in_group, Emitted* h) {
      e.for_loop(e.index(0), e.index(s_.T), lanes_,
                 [&](Emitted* t) { emit_start(in_group, h, t); });
      if (use_.columns())
        e.for_loop(e.index(0), e.index(s_.S), 1, [&](Emitted* j) {
          Emitted* at = e.add(e.mul(e.add(e.mul(b_, s_.H), h), s_.S), j);
          if (use_.mass >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.mass), at);
          if (use_.square >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.square), at);
        });
    });
    if (!use_.gradients() && !use_.of_weights()) return;
    e.for_loop(e.index(0), e.index(s_.S), panel_blocks_ * s_.key_block,
               [&](Emitted* panel) { emit_panel(panel); });
    if (use_.score_gradients()) emit_corrections();
  }

  int64_t query_blocks() const { return ceil_div(s_.T, query_block_); }

  // Of a vector of rows: the starting values of their statistics, and what is computed from their
  // references and sums once for all keys.
  void emit_start(Emitted* in_group, Emitted* h, Emitted* t) {
    Emitter& e = *e_;
    Emitted* row = statistic_row(h, t);
    Emitted* present = e.mask_below(e.sub(e.index(s_.T), t), lanes_);
    for (int position : {use_.entropy, use_.largest, use_.sink})
      if (position >= 0) e.store(Storage::f32, e.f32(0, lanes_), buffer(position), row, present);
    const auto load = [&](Emitted* at) {
      return e.load(Storage::f32, buffer(use_.rows), at, lanes_, present);
    };
    Emitted* at = reference_at(h, t);
    const RowState state{load(at), load(e.add(at, s_.T))};
    Emitted* divisor = normalizer_->divisor(e, state);
    Emitted* in_task = e.add(e.mul(in_group, s_.T), t);
    const auto keep = [&](int64_t part, Emitted* value) {
      e.store(Storage::f32, value, scratch(part), in_task, present);
    };
    Emitted* one = e.f32(1, lanes_);
    keep(row_factors_, e.ir().CreateFDiv(one, divisor));
    if (use_.score_gradients())
      for (int64_t first : {0, lanes_}) {
        Emitted* left = e.mul(e.sub(e.index(s_.T), t), 2);
        e.store(Storage::f32, e.f32(0, lanes_), scratch(row_sums_), e.add(e.mul(in_task, 2), first),
                e.mask_below(e.add(left, -first), lanes_));
      }
    if (use_.row_sum >= 0)
      e.store(Storage::f32, e.ir().CreateFDiv(state.sum, divisor), buffer(use_.row_sum), row,
              present);
    if (divides_) keep(share_factors_, e.ir().CreateFDiv(one, state.sum));
    if (use_.entropy >= 0)
      keep(row_logs_, e.ir().CreateFMul(emit_log(e, state.sum), e.f32(kLog2E, lanes_)));
  }

  // delta = <dout, out> of a block of rows.
  void emit_deltas(const Queries& queries) {
    Emitter& e = *e_;
    BlockMatrix out = rows_of_queries(use_.out, queries.h, queries.t0);
    BlockMatrix dout = matrix(out_grads_, stride_);
    e.for_loop(e.index(0), queries.rows, 1, [&](Emitted* row) {
      const auto part = [&](const BlockMatrix& m, int64_t c, Emitted* mask) {
        Emitted* at = e.add(e.add(m.origin, e.mul(row, m.row_stride)), c);
        return e.load(Storage::f32, m.base, at, lanes_, mask);
      };
      Emitted* sum = e.f32(0, lanes_);
      for (int64_t c = 0; c < s_.d; c += lanes_) {
        Emitted* mask = s_.d - c >= lanes_ ? nullptr : e.mask_below(e.index(s_.d - c), lanes_);
        sum = e.fma(part(out, c, mask), part(dout, c, mask), sum);
      }
      e.store(Storage::f32, e.reduce_add(sum), scratch(deltas_), e.add(queries.in_task, row));
    });
  }

  // Where the weights lie that statistics are of: divided by their row's sum.
  int64_t shares() const { return divides_ ? shares_ : weights_; }
  // One of the numbers kept by row, in every lane.
  Emitted* by_row(int64_t part, Emitted* in_task, int lanes) {
    return e_->load_broadcast(Storage::f32, scratch(part), in_task, lanes);
  }

  void emit_panel(Emitted* panel) {
    Emitter& e = *e_;
    for_each_block(panel, [&](const Keys& keys) { pack_keys(keys); });
    Emitted* first = first_query(panel);
    for_each_queries(first, [&](Emitted* in_group, const Queries& queries) {
      look_ahead(queries, panel, in_group, first);
      emit_queries(queries, panel);
    });
    for_each_block(panel, [&](const Keys& keys) {
      if (use_.dk >= 0) copy_key_sums_out(keys);
      if (use_.dv >= 0)
        emit_block_copy(e, {keys.count, s_.d, in_panel(value_sums_, keys.i, key_rows_, stride_),
                            rows_of_keys(use_.dv, keys.j0), nullptr, nullptr});
    });
  }

  void copy_key_sums_out(const Keys& keys) {
    emit_block_copy(*e_, {keys.count, s_.d, in_panel(key_sums_, keys.i, key_rows_, stride_),
                          rows_of_keys(use_.dk, keys.j0), nullptr, nullptr});
  }

  // With a causal mask the queries before a panel see none of its keys.
  Emitted* first_query(Emitted* panel) {
    if (!s_.transform.causal) return e_->index(0);
    return e_->mul(e_->div(panel, query_block_), query_block_);
  }

  // What comes next: a block of queries, and with each of them a part of the next panel of keys;
  // and where the results of this one go.
  void look_ahead(const Queries& queries, Emitted* panel, Emitted* in_group, Emitted* first) {
    Emitter& e = *e_;
    const int64_t panel_keys = panel_blocks_ * s_.key_block;
    const auto choose = [&](Emitted* condition, const Place& a, const Place& b) {
      return Place{e.select(condition, a.b, b.b), e.select(condition, a.g, b.g),
                   e.select(condition, a.h, b.h), e.select(condition, a.row, b.row)};
    };
    Emitted* first_head = e.mul(g_, s_.group());
    Emitted* next_panel = e.add(panel, panel_keys);
    Emitted* last_panel = e.ir().CreateICmpSGE(next_panel, e.index(s_.S));
    const Place next_task{next_tile_.first, next_tile_.second, e.mul(next_tile_.second, s_.group()),
                          e.index(0)};
    const Place keys = choose(last_panel, next_task, {b_, g_, first_head, next_panel});
    Emitted* next = e.add(queries.t0, query_block_);
    Emitted* head_ends = e.ir().CreateICmpSGE(next, e.index(s_.T));
    Emitted* last_head = e.ir().CreateICmpEQ(in_group, e.index(s_.group() - 1));
    Place rows = choose(head_ends, {b_, g_, e.add(queries.h, 1), first}, {b_, g_, queries.h, next});
    Emitted* panel_ends = e.ir().CreateAnd(head_ends, last_head);
    rows = choose(panel_ends, {keys.b, keys.g, keys.h, first_query(keys.row)}, rows);
    const auto rows_at = [&](Emitted* base, const Place& place) {
      return AskAhead::Rows{head_rows(e, base, place.b, place.h, place.row, s_.T, s_.H, s_.d),
                            s_.d};
    };
    std::vector<AskAhead::Rows> of_queries = {rows_at(buffer(use_.q), rows)};
    if (use_.gradients()) {
      of_queries.push_back(rows_at(buffer(use_.dout), rows));
      // The first panel reads outputs and starts gradients of queries, the others go on with them.
      Emitted* first_panel = e.ir().CreateICmpEQ(e.select(panel_ends, keys.row, panel), e.index(0));
      Emitted* others = buffer(use_.dq >= 0 ? use_.dq : use_.out);
      of_queries.push_back(rows_at(e.select(first_panel, buffer(use_.out), others), rows));
    }
    if (use_.dq >= 0)
      of_queries.push_back(rows_at(buffer(use_.dq), {b_, g_, queries.h, queries.t0}));
    queries_ahead_.start(e.index(query_block_), ceil_div(query_block_, turns()), of_queries);
    look_ahead_for_keys(keys, queries, panel, in_group, first);
  }

  // The next panel's keys, and where this one's gradients go, come with the last blocks of queries:
  // before, they would only take room in the cache.
  void look_ahead_for_keys(const Place& next, const Queries& queries, Emitted* panel,
                           Emitted* in_group, Emitted* first) {
    Emitter& e = *e_;
    constexpr int64_t some = 8;
    const int64_t panel_keys = panel_blocks_ * s_.key_block;
    // The last panel is seen by the fewest blocks of queries.
    const int64_t hidden =
        s_.transform.causal ? (s_.S - 1) / panel_keys * panel_keys / query_block_ : 0;
    const int64_t fewest = std::max<int64_t>(ceil_div(s_.T, query_block_) - hidden, 1);
    const int64_t last = std::min(some, s_.group() * fewest), part = ceil_div(panel_keys, last);
    const auto blocks_from = [&](Emitted* t) {
      return e.div(e.add(e.sub(e.index(s_.T), t), query_block_ - 1), query_block_);
    };
    Emitted* heads_left = e.sub(e.index(s_.group() - 1), in_group);
    Emitted* left = e.add(e.mul(heads_left, blocks_from(first)), blocks_from(queries.t0));
    Emitted* number = e.sub(e.index(last), left);
    std::vector<AskAhead::Rows> rows;
    const auto ask = [&](int position, const Place& place) {
      if (position < 0) return;
      Emitted* row = e.add(place.row, e.mul(number, part));
      rows.push_back(
          {head_rows(e, buffer(position), place.b, place.g, row, s_.S, s_.G, s_.d), s_.d});
    };
    const Place here{b_, g_, nullptr, panel};
    ask(use_.k, next);
    ask(use_.v, next);
    ask(use_.dk, here);
    ask(use_.dv, here);
    Emitted* now = e.ir().CreateICmpSGE(number, e.index(0));
    keys_ahead_.start(e.select(now, e.index(part), e.index(0)), ceil_div(part, turns()), rows);
  }

  // Register blocks, each of which gives a turn to ask, in one whole pair of blocks at least.
  int64_t turns() const {
    const int64_t scores = query_rows_ / score_tile_.rows;
    const int64_t by_key = key_rows_ / key_tile_.rows, by_query = query_rows_ / query_tile_.rows;
    return (use_.gradients() ? 2 : 1) * scores + (use_.dv >= 0 ? by_key : 0) +
           (use_.dk >= 0 ? by_key : 0) + (use_.dq >= 0 ? by_query : 0);
  }

  void pack_keys(const Keys& keys) {
    Emitter& e = *e_;
    const auto across = [&](int64_t part) {
      return e.byte_address(scratch(part), e.mul(keys.i, 4 * packed_ * s_.d));
    };
    emit_block_transpose(e, keys.count, packed_, s_.d, rows_of_keys(use_.k, keys.j0),
                         across(keys_across_), s_.transform.keys_scale);
    if (use_.gradients())
      emit_block_transpose(e, keys.count, packed_, s_.d, rows_of_keys(use_.v, keys.j0),
                           across(values_across_));
    if (use_.dq >= 0)
      emit_block_copy(e, {keys.count, s_.d, rows_of_keys(use_.k, keys.j0),
                          in_panel(keys_, keys.i, s_.key_block, stride_), nullptr, nullptr});
    Emitted* all = e.index(key_rows_);
    if (use_.dk >= 0)
      emit_block_fill(e, all, stride_, in_panel(key_sums_, keys.i, key_rows_, stride_), 0);
    if (use_.dv >= 0)
      emit_block_fill(e, all, stride_, in_panel(value_sums_, keys.i, key_rows_, stride_), 0);
  }

  void emit_queries(const Queries& queries, Emitted* panel) {
    Emitter& e = *e_;
    copy_queries_in(queries, use_.q, queries_);
    if (use_.gradients()) copy_queries_in(queries, use_.dout, out_grads_);
    Emitted* first_panel = e.ir().CreateICmpEQ(panel, e.index(0));
    if (use_.gradients()) e.if_then(first_panel, [&] { emit_deltas(queries); });
    if (use_.dq >= 0)
      e.if_else(
          first_panel,
          [&] {
            emit_block_fill(e, queries.rows, stride_, matrix(query_sums_, stride_), 0);
            return Emitter::Values{};
          },
          [&] {
            copy_queries_in(queries, use_.dq, query_sums_);
            return Emitter::Values{};
          });
    for_each_pair(queries, panel, [&](const Keys& keys) { emit_pair(queries, keys); });
    if (use_.dq >= 0) copy_query_sums_out(queries);
  }

  // The blocks of keys of a panel that some of the queries see.
  void for_each_pair(const Queries& queries, Emitted* panel,
                     const std::function<void(const Keys&)>& body) {
    Emitter& e = *e_;
    for_each_block(panel, [&](const Keys& keys) {
      if (!s_.transform.causal) return body(keys);
      e.if_then(e.ir().CreateICmpSLT(keys.j0, e.add(queries.t0, queries.rows)),
                [&] { body(keys); });
    });
  }

  void copy_queries_in(const Queries& queries, int position, int64_t part) {
    emit_block_copy(*e_, {queries.rows, s_.d, rows_of_queries(position, queries.h, queries.t0),
                          matrix(part, stride_), nullptr, nullptr});
  }
  void copy_query_sums_out(const Queries& queries) {
    emit_block_copy(*e_, {queries.rows, s_.d, matrix(query_sums_, stride_),
                          rows_of_queries(use_.dq, queries.h, queries.t0), nullptr, nullptr});
  }

  // Rows of `part` times the transposed keys or values of a block: [query][key].
  void emit_scores(const Queries& queries, const Keys& keys, int64_t part, int64_t across,
                   int64_t to) {
    Emitter& e = *e_;
    BlockProduct product;
    product.tile = score_tile_;
    product.a = matrix(part, stride_);
    product.b = in_panel(across, keys.i, s_.d, packed_);
    product.c = matrix(to, packed_);
    product.rows = queries.rows;
    product.columns = packed_;
    // With a causal mask the queries before a group of keys see none of it.
    if (s_.transform.causal)
      product.first_row = [&](Emitted* column) {
        Emitted* before = e.sub(e.add(keys.j0, column), queries.t0);
        return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, before, e.index(0));
      };
    product.depth = [&](Emitted*) { return BlockProduct::Range{e.index(0), e.index(s_.d)}; };
    emit_product(product);
  }

  void emit_product(BlockProduct& product) {
    if (!corrects_)
      product.finish = [&](Emitted*, Emitted*, std::vector<Emitted*>&) {
        queries_ahead_.turn();
        keys_ahead_.turn();
      };
    emit_block_product(*e_, product);
  }

  // Adds to rows of keys: the chains go over the queries that see a register block's first key.
  void add_by_key(const Queries& queries, const Keys& keys, int64_t part, int64_t other,
                  int64_t to) {
    Emitter& e = *e_;
    BlockProduct product;
    product.tile = key_tile_;
    product.a = {scratch(part), e.index(0), 1, packed_};
    product.b = matrix(other, stride_);
    product.c = in_panel(to, keys.i, key_rows_, stride_);
    product.rows = keys.count;
    product.columns = whole_vectors(s_.d, lanes_);
    product.depth = [&](Emitted* row) {
      Emitted* first = e.index(0);
      if (s_.transform.causal) {
        first = e.sub(e.add(keys.j0, row), queries.t0);
        first = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, first, e.index(0));
        first = e.min_index(first, queries.rows);
      }
      return BlockProduct::Range{first, queries.rows};
    };
    product.accumulate = true;
    emit_product(product);
  }

  // Adds to rows of queries: the chains go over the keys that a register block's last query sees.
  void add_by_query(const Queries& queries, const Keys& keys) {
    Emitter& e = *e_;
    BlockProduct product;
    product.tile = query_tile_;
    product.a = matrix(score_grads_, packed_);
    product.b = in_panel(keys_, keys.i, s_.key_block, stride_);
    product.c = matrix(query_sums_, stride_);
    product.rows = queries.rows;
    product.columns = whole_vectors(s_.d, lanes_);
    product.depth = [&](Emitted* row) {
      Emitted* end = keys.count;
      if (s_.transform.causal) {
        end = e.min_index(end, e.sub(e.add(queries.t0, e.add(row, query_tile_.rows)), keys.j0));
        end = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, end, e.index(0));
      }
      return BlockProduct::Range{e.index(0), end};
    };
    product.accumulate = true;
    emit_product(product);
  }

  void emit_pair(const Queries& queries, const Keys& keys) {
    Emitter& e = *e_;
    emit_scores(queries, keys, queries_, keys_across_, weights_);
    if (use_.gradients()) emit_scores(queries, keys, out_grads_, values_across_, score_grads_);
    const auto rows = [&](bool masks) {
      e.for_loop(e.index(0), queries.rows, 1,
                 [&](Emitted* row) { emit_row(queries, row, keys, masks); });
      return Emitter::Values{};
    };
    Emitted* hides = e.ir().CreateICmpSLT(keys.count, e.index(packed_));
    if (s_.transform.causal) {
      Emitted* after = e.ir().CreateICmpSGT(e.add(keys.j0, packed_ - 1), queries.t0);
      hides = e.ir().CreateOr(hides, after);
    }
    e.if_else(hides, [&] { return rows(true); }, [&] { return rows(false); });
    if (use_.columns()) emit_columns(queries, keys);
    if (use_.dv >= 0) add_by_key(queries, keys, weights_, out_grads_, value_sums_);
    if (use_.dk >= 0) add_by_key(queries, keys, score_grads_, queries_, key_sums_);
    if (use_.dq >= 0) add_by_query(queries, keys);
  }

  // Lanes of the block's keys from the c-th on that a query sees.
  Emitted* seen(const Keys& keys, int64_t c, Emitted* query, int lanes) {
    Emitter& e = *e_;
    Emitted* count = keys.count;
    if (s_.transform.causal) count = e.min_index(count, e.add(e.sub(query, keys.j0), 1));
    return e.mask_below(e.sub(count, e.index(c)), lanes);
  }

  // One row of weights from its scores, its score gradients, and its statistics. Keys that the
  // query does not see get exact zeros, whatever lies in their place.
  void emit_row(const Queries& queries, Emitted* row, const Keys& keys, bool masks) {
    Emitter& e = *e_;
    Emitted *at = e.mul(row, packed_), *in_task = e.add(queries.in_task, row);
    Emitted *t = e.add(queries.t0, row), *of_row = reference_at(queries.h, t);
    Emitted *information = e.f32(0, lanes_), *largest = e.i32(0, lanes_);
    Emitted *grads = e.f32(0, lanes_), *sizes = e.f32(0, lanes_);
    int lanes = 0;
    for (int64_t c = 0; c < packed_; c += lanes) {
      // Up to four vectors as one, whose parts take turns: an exponential alone waits for itself.
      lanes = lanes_;
      while (lanes < 4 * lanes_ && c + 2 * lanes <= packed_) lanes *= 2;
      Emitted* zero = e.f32(0, lanes);
      Emitted* reference = e.load_broadcast(Storage::f32, buffer(use_.rows), of_row, lanes);
      Emitted* mask = masks ? seen(keys, c, t, lanes) : nullptr;
      Emitted* score = e.load(Storage::f32, scratch(weights_), e.add(at, c), lanes);
      Emitted* relative = normalizer_->relative_weight(e, score, reference);
      const auto divided = [&](int64_t factors, int64_t to) {
        Emitted* weight = e.ir().CreateFMul(relative, by_row(factors, in_task, lanes));
        if (masks) weight = e.select(mask, weight, zero);
        e.store(Storage::f32, weight, scratch(to), e.add(at, c));
        return weight;
      };
      Emitted* weight = divided(row_factors_, weights_);
      Emitted* share = divides_ ? divided(share_factors_, shares_) : weight;
      Emitted* log2 = zero;
      if (use_.entropy >= 0) {
        log2 = e.ir().CreateFSub(normalizer_->log2_weight(e, score, reference),
                                 by_row(row_logs_, in_task, lanes));
        if (masks) log2 = e.select(mask, log2, zero);
      }
      for (int v = 0; v < lanes; v += lanes_)
        add_to_row(e.slice(share, v, lanes_), e.slice(log2, v, lanes_), information, largest);
      if (!use_.gradients()) continue;
      Emitted* delta = by_row(deltas_, in_task, lanes);
      Emitted* grad = e.load(Storage::f32, scratch(score_grads_), e.add(at, c), lanes);
      grad = normalizer_->score_gradient(e, weight, grad, delta);
      if (masks) grad = e.select(mask, grad, zero);
      for (int v = 0; v < lanes && use_.score_gradients(); v += lanes_) {
        Emitted* part = e.slice(grad, v, lanes_);
        grads = e.ir().CreateFAdd(grads, part);
        sizes = e.ir().CreateFAdd(sizes, e.absolute(part));
      }
      grad = e.ir().CreateFMul(grad, e.f32(s_.transform.scale, lanes));
      e.store(Storage::f32, grad, scratch(score_grads_), e.add(at, c));
    }
    if (use_.score_gradients()) add_row_sums(in_task, grads, sizes);
    emit_row_statistics(statistic_row(queries.h, t), row, information, largest, keys);
  }

  // Two sums over a block of keys, by lane, to those of the row; both are reduced as one vector.
  void add_row_sums(Emitted* in_task, Emitted* grads, Emitted* sizes) {
    Emitter& e = *e_;
    const auto halved = [&](Emitted* x) {
      const int half = e.lanes_of(x) / 2;
      return e.ir().CreateFAdd(e.slice(x, 0, half), e.slice(x, half, half));
    };
    Emitted* both = e.concat(halved(grads), halved(sizes));  // [grads.. | sizes..]
    for (int lanes = lanes_; lanes > 2; lanes /= 2) {
      // The first and the second half of each of the two sums.
      std::vector<int> first, second;
      for (int lane = 0; lane < lanes; ++lane)
        (lane / (lanes / 4) % 2 == 0 ? first : second).push_back(lane);
      both = e.ir().CreateFAdd(e.ir().CreateShuffleVector(both, first),
                               e.ir().CreateShuffleVector(both, second));
    }
    Emitted* at = e.mul(in_task, 2);
    Emitted* old = e.load(Storage::f32, scratch(row_sums_), at, 2);
    e.store(Storage::f32, e.ir().CreateFAdd(old, both), scratch(row_sums_), at);
  }

  // A residual counts where it changes the largest gradient by more than this share of all the
  // row's gradients, which are rounded to 2^-24 of themselves.
  static constexpr double kResidualShare = 0x1p-21;

  // Completes the residual of a row; whether it counts. No number counts not.
  Emitted* residual_counts(const Queries& queries, Emitted* row) {
    Emitter& e = *e_;
    Emitted *in_task = e.add(queries.in_task, row),
            *at = reference_at(queries.h, e.add(queries.t0, row)), *sums_at = e.mul(in_task, 2);
    const auto load = [&](Emitted* base, Emitted* i) { return e.load(Storage::f32, base, i, 1); };
    Emitted* residual = load(scratch(row_sums_), sums_at);
    Emitted* factor = load(scratch(row_factors_), in_task);
    const RowState state{load(buffer(use_.rows), at), load(buffer(use_.rows), e.add(at, s_.T))};
    if (Emitted* other = normalizer_->other_weight(e, state)) {
      // Beside an infinite one all others are zero.
      Emitted* infinite =
          e.ir().CreateFCmpOEQ(other, e.f32(std::numeric_limits<double>::infinity()));
      Emitted* weight = e.select(infinite, e.f32(1), e.ir().CreateFMul(other, factor));
      residual = e.fma(e.ir().CreateFNeg(weight), load(scratch(deltas_), in_task), residual);
      e.store(Storage::f32, residual, scratch(row_sums_), sums_at);
    }
    // The largest weight of a row is that of its reference: the factor.
    Emitted* sizes = load(scratch(row_sums_), e.add(sums_at, 1));
    return e.ir().CreateFCmpOGT(e.absolute(e.ir().CreateFMul(residual, factor)),
                                e.ir().CreateFMul(sizes, e.f32(kResidualShare)));
  }

  // Looks at the residuals of all rows, and corrects the blocks of queries where they count.
  void emit_corrections() {
    Emitter& e = *e_;
    const auto block_of = [&](Emitted* in_group, const Queries& queries) {
      return e.add(e.mul(in_group, query_blocks()), e.div(queries.t0, query_block_));
    };
    e.store(Storage::f32, e.f32(0), scratch(any_corrected_), e.index(0));
    for_each_queries(e.index(0), [&](Emitted* in_group, const Queries& queries) {
      Emitted* at = block_of(in_group, queries);
      e.store(Storage::f32, e.f32(0), scratch(corrected_blocks_), at);
      e.for_loop(e.index(0), queries.rows, 1, [&](Emitted* row) {
        e.if_then(residual_counts(queries, row), [&] {
          e.store(Storage::f32, e.f32(1), scratch(corrected_blocks_), at);
          e.store(Storage::f32, e.f32(1), scratch(any_corrected_), e.index(0));
        });
      });
    });
    const auto is_set = [&](int64_t part, Emitted* at) {
      return e.ir().CreateFCmpONE(e.load(Storage::f32, scratch(part), at, 1), e.f32(0));
    };
    corrects_ = true;
    e.if_then(is_set(any_corrected_, e.index(0)), [&] {
      e.for_loop(e.index(0), e.index(s_.S), panel_blocks_ * s_.key_block, [&](Emitted* panel) {
        for_each_block(panel, [&](const Keys& keys) { pack_keys_again(keys); });
        for_each_queries(first_query(panel), [&](Emitted* in_group, const Queries& queries) {
          e.if_then(is_set(corrected_blocks_, block_of(in_group, queries)),
                    [&] { correct_queries(queries, panel); });
        });
        if (use_.dk >= 0) for_each_block(panel, [&](const Keys& keys) { copy_key_sums_out(keys); });
      });
    });
    corrects_ = false;
  }

  // As pack_keys(), without values, going on with the gradients of keys that are there.
  void pack_keys_again(const Keys& keys) {
    Emitter& e = *e_;
    emit_block_transpose(e, keys.count, packed_, s_.d, rows_of_keys(use_.k, keys.j0),
                         e.byte_address(scratch(keys_across_), e.mul(keys.i, 4 * packed_ * s_.d)),
                         s_.transform.keys_scale);
    if (use_.dq >= 0)
      emit_block_copy(e, {keys.count, s_.d, rows_of_keys(use_.k, keys.j0),
                          in_panel(keys_, keys.i, s_.key_block, stride_), nullptr, nullptr});
    if (use_.dk < 0) return;
    const BlockMatrix sums = in_panel(key_sums_, keys.i, key_rows_, stride_);
    emit_block_fill(e, e.index(key_rows_), stride_, sums, 0);
    emit_block_copy(e, {keys.count, s_.d, rows_of_keys(use_.dk, keys.j0), sums, nullptr, nullptr});
  }

  void correct_queries(const Queries& queries, Emitted* panel) {
    Emitter& e = *e_;
    copy_queries_in(queries, use_.q, queries_);
    if (use_.dq >= 0) copy_queries_in(queries, use_.dq, query_sums_);
    for_each_pair(queries, panel, [&](const Keys& keys) {
      emit_scores(queries, keys, queries_, keys_across_, weights_);
      e.for_loop(e.index(0), queries.rows, 1,
                 [&](Emitted* row) { emit_correction(queries, row, keys); });
      if (use_.dk >= 0) add_by_key(queries, keys, score_grads_, queries_, key_sums_);
      if (use_.dq >= 0) add_by_query(queries, keys);
    });
    if (use_.dq >= 0) copy_query_sums_out(queries);
  }

  // What a row's residual changes in the gradients of its scores.
  void emit_correction(const Queries& queries, Emitted* row, const Keys& keys) {
    Emitter& e = *e_;
    Emitted *in_task = e.add(queries.in_task, row), *t = e.add(queries.t0, row);
    for (int64_t c = 0; c < packed_; c += lanes_) {
      Emitted *at = e.add(e.mul(row, packed_), c), *zero = e.f32(0, lanes_);
      Emitted* score = e.load(Storage::f32, scratch(weights_), at, lanes_);
      Emitted* relative = normalizer_->relative_weight(
          e, score,
          e.load_broadcast(Storage::f32, buffer(use_.rows), reference_at(queries.h, t), lanes_));
      Emitted* weight = e.ir().CreateFMul(relative, by_row(row_factors_, in_task, lanes_));
      // Also where the weight is one: there it makes up for all other gradients of the row.
      Emitted* grad = e.ir().CreateFMul(
          weight, e.ir().CreateFNeg(by_row(row_sums_, e.mul(in_task, 2), lanes_)));
      grad = e.select(seen(keys, c, t, lanes_), grad, zero);
      grad = e.ir().CreateFMul(grad, e.f32(s_.transform.scale, lanes_));
      e.store(Storage::f32, grad, scratch(score_grads_), at);
    }
  }

  // A vector of shares to the row's sums by lane.
  void add_to_row(Emitted* share, Emitted* log2, Emitted*& information, Emitted*& largest) {
    Emitter& e = *e_;
    if (use_.entropy >= 0) information = e.fma(e.ir().CreateFNeg(share), log2, information);
    // Shares are not negative, so their bits are in their order; those of a NaN are the largest.
    if (use_.largest >= 0)
      largest = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::umax, largest, e.bits(share));
  }

  void emit_row_statistics(Emitted* at, Emitted* row, Emitted* information, Emitted* largest,
                           const Keys& keys) {
    Emitter& e = *e_;
    if (use_.entropy >= 0) {
      Emitted* old = e.load(Storage::f32, buffer(use_.entropy), at, 1);
      Emitted* sum = e.fma(e.reduce_add(information), e.f32(kLn2), old);
      e.store(Storage::f32, sum, buffer(use_.entropy), at);
    }
    if (use_.largest >= 0) {
      const auto larger = [&](Emitted* a, Emitted* b) {
        return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::umax, a, b);
      };
      Emitted* old = e.load(Storage::f32, buffer(use_.largest), at, 1);
      Emitted* here = e.reduce(largest, larger);
      e.store(Storage::f32, e.from_bits(larger(e.bits(old), here)), buffer(use_.largest), at);
    }
    if (use_.sink >= 0) {
      Emitted* sink = e.sub(e.index(use_.sink_key), keys.j0);
      e.if_then(e.ir().CreateICmpULT(sink, keys.count), [&] {
        Emitted* share =
            e.load(Storage::f32, scratch(shares()), e.add(e.mul(row, packed_), sink), 1);
        e.store(Storage::f32, share, buffer(use_.sink), at);
      });
    }
  }

  // Column sums: one chain over ascending queries for each key.
  void emit_columns(const Queries& queries, const Keys& keys) {
    Emitter& e = *e_;
    Emitted* base = e.add(e.mul(e.add(e.mul(b_, s_.H), queries.h), s_.S), keys.j0);
    std::vector<int> positions;
    for (int position : {use_.mass, use_.square})
      if (position >= 0) positions.push_back(position);
    const auto for_each_sum = [&](const std::function<void(int, Emitted*, Emitted*)>& body) {
      for (int64_t c = 0; c < packed_; c += lanes_)
        for (int position : positions)
          body(position, e.add(base, c), e.mask_below(e.sub(keys.count, e.index(c)), lanes_));
    };
    Emitter::Values sums;
    for_each_sum([&](int position, Emitted* at, Emitted* mask) {
      sums.push_back(e.load(Storage::f32, buffer(position), at, lanes_, mask));
    });
    sums = e.for_loop(
        e.index(0), queries.rows, 1, sums, [&](Emitted* row, const Emitter::Values& carried) {
          Emitter::Values next;
          for (int64_t c = 0; c < packed_; c += lanes_) {
            Emitted* share =
                e.load(Storage::f32, scratch(shares()), e.add(e.mul(row, packed_), c), lanes_);
            for (int position : positions) {
              Emitted* sum = carried[next.size()];
              next.push_back(position == use_.mass ? e.ir().CreateFAdd(sum, share)
                                                   : e.fma(share, share, sum));
            }
          }
          return next;
        });
    size_t i = 0;
    for_each_sum([&](int position, Emitted* at, Emitted* mask) {
      e.store(Storage::f32, sums[i++], buffer(position), at, mask);
    });
  }

  AttentionShape s_;
  BackwardBuffers use_;
  int lanes_;
  int64_t packed_;       ///< keys of a block in whole vectors
  int64_t query_block_;  ///< small, for the first-level cache; no influence on the result
  BlockTile score_tile_, query_tile_, key_tile_;
  int64_t stride_;                 ///< of rows of features in scratch memory
  int64_t query_rows_, key_rows_;  ///< of a block in whole register blocks
  int64_t panel_blocks_ = 1;
  std::shared_ptr<const NormalizerCode> normalizer_;
  bool divides_;  ///< statistics are of a[t,s] / r[t]
  // Places in the scratch memory.
  ScratchParts parts_;
  int64_t keys_across_ = 0, values_across_ = 0, keys_ = 0, key_sums_ = 0, value_sums_ = 0;
  int64_t queries_ = 0, out_grads_ = 0, query_sums_ = 0, weights_ = 0, shares_ = 0,
          score_grads_ = 0;
  // By row: <dout, out>; of relative weights to weights, and to shares of the row's sum; the
  // logarithm to base 2 of the sum of relative weights.
  int64_t deltas_ = 0, row_factors_ = 0, share_factors_ = 0, row_logs_ = 0;
  // By row, not scaled: the sum of the gradients of its scores, and that of their sizes. By block
  // of queries, and for the task: 1 where residuals count.
  int64_t row_sums_ = 0, corrected_blocks_ = 0, any_corrected_ = 0;
  bool corrects_ = false;  ///< what is emitted is the correction: nothing is asked for ahead
  Emitter* e_ = nullptr;
  const KernelFrame* frame_ = nullptr;
  Emitted *b_ = nullptr, *g_ = nullptr;
  std::pair<Emitted*, Emitted*> next_tile_;  ///< its sequence and key head
  AskAhead queries_ahead_, keys_ahead_;
};

BackwardBuffers backward_buffers(const Graph& region) {
  BackwardBuffers use;
  for (const Node& node : region.nodes()) {
    if (node.op != Op::attention_grad && node.op != Op::attention_stats) continue;
    use.q = attention_operand(region, node.inputs[0]);
    use.k = attention_operand(region, node.inputs[1]);
    if (node.op == Op::attention_stats) {
      use.rows = attention_operand(region, node.inputs[2]);
      use.sink_key = node.attrs.get_int("sink");
      continue;
    }
    use.v = attention_operand(region, node.inputs[2]);
    use.out = attention_operand(region, node.inputs[3]);
    use.rows = attention_operand(region, node.inputs[4]);
    use.dout = attention_operand(region, node.inputs[5]);
  }
  int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o) {
    Value value = region.outputs()[o].value;
    int* gradients[] = {&use.dq, &use.dk, &use.dv};
    int* statistics[] = {&use.mass, &use.square,  &use.entropy,
                         &use.sink, &use.largest, &use.row_sum};
    bool gradient = region.node(value).op == Op::attention_grad;
    *(gradient ? gradients[value.result] : statistics[value.result]) = base + static_cast<int>(o);
  }
  return use;
}

}  // namespace

KernelCode attention_backward_kernel(const Graph& region, const Target& target) {
  const Node* attention = nullptr;
  for (const Node& node : region.nodes())
    if (node.op == Op::attention_grad || node.op == Op::attention_stats) attention = &node;
  WEIR_CHECK(attention, "no attention in {}", print_graph(region));
  AttentionBackward kernel(attention_shape(region, *attention), backward_buffers(region), target);
  size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {kernel.tiles(), kernel.scratch_bytes(), "attention backward " + structural_key(region),
          [kernel, inputs, buffers](Emitter& e, const std::string& symbol) mutable {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            KernelFrame frame = e.begin_kernel(symbol, uses);
            kernel.emit(e, frame);
            e.end_kernel();
          }};
}

}  // namespace weir
