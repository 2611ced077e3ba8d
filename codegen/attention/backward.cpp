#include "codegen/attention/attention.h"
#include "codegen/attention/backward_correction.h"
#include "codegen/attention/scores.h"
#include "codegen/attention/statistics.h"
#include "ir/print.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// One task owns a sequence and a key head: all its queries, and all rows of the gradients of its
// keys and values, so that no two tasks add to one number.
//
// Scores lie as [query][key]. Keys are taken some blocks at a time (a panel), with which all blocks
// of queries are multiplied before the next; what is multiplied lies in scratch memory, transposed
// for the scores and as it is for the gradients.
class BackwardSweep {
 public:
  /// The task that comes next, as sequence and key head.
  BackwardSweep(const BackwardTask& task, const BackwardCounters& counters, Emitted* next_b,
                Emitted* next_g)
      : task_(task),
        e_(task.e),
        p_(task.p),
        use_(task.use),
        at_(task.at),
        statistics_(task),
        correction_(task),
        counters_(counters),
        next_b_(next_b),
        next_g_(next_g) {}

  void emit() const {
    task_.for_each_head([&](Emitted* in_group, Emitted* h) {
      e_.for_loop(e_.index(0), e_.index(p_.T), p_.lanes,
                  [&](Emitted* t) { emit_start(in_group, h, t); });
      statistics_.clear_columns(h);
    });
    if (!use_.gradients() && !use_.of_weights()) return;
    task_.for_each_panel([&](Emitted* panel) { emit_panel(panel); });
    if (p_.corrects) correction_.emit();
  }

 private:
  // Of a vector of rows: the starting values of their statistics, and what is computed from their
  // references and sums once for all keys.
  void emit_start(Emitted* in_group, Emitted* h, Emitted* t) const {
    Emitted* row = task_.statistic_row(h, t);
    Emitted* present = e_.mask_below(e_.sub(e_.index(p_.T), t), p_.lanes);
    statistics_.clear_rows(row, present);
    const RowState state = task_.load_row(task_.reference_at(h, t), p_.lanes, present);
    Emitted* divisor = p_.normalizer->divisor(e_, state);
    Emitted* in_task = e_.add(e_.mul(in_group, p_.T), t);
    task_.memory.store_scratch(e_.ir().CreateFDiv(e_.f32(1, p_.lanes), divisor), at_.row_factors,
                               in_task, present);
    if (p_.corrects) correction_.clear_rows(in_task, t);
    statistics_.start_rows(state, divisor, row, in_task, present);
  }

  // delta = <dout, out> of a block of rows.
  void emit_deltas(const QueryBlock& queries) const {
    const BlockMatrix out = task_.rows_of_queries(use_.out, queries.h, queries.t0);
    const BlockMatrix dout = task_.matrix(at_.out_grads, p_.stride);
    e_.for_loop(e_.index(0), queries.rows, 1, [&](Emitted* row) {
      const auto part = [&](const BlockMatrix& m, int64_t c, Emitted* mask) {
        Emitted* at = e_.add(e_.add(m.origin, e_.mul(row, m.row_stride)), c);
        return e_.load(m.array.element, m.array.base, at, p_.lanes, mask);
      };
      Emitted* sum = e_.f32(0, p_.lanes);
      for (int64_t c = 0; c < p_.d; c += p_.lanes) {
        Emitted* mask =
            p_.d - c >= p_.lanes ? nullptr : e_.mask_below(e_.index(p_.d - c), p_.lanes);
        sum = e_.fma(part(out, c, mask), part(dout, c, mask), sum);
      }
      task_.memory.store_scratch(e_.reduce_add(sum), at_.deltas, e_.add(queries.in_task, row));
    });
  }

  void emit_panel(Emitted* panel) const {
    task_.for_each_block(panel, [&](const KeyBlock& keys) { pack_keys(keys); });
    Emitted* first = task_.first_query(panel);
    task_.for_each_queries(first, [&](Emitted* in_group, const QueryBlock& queries) {
      const BackwardPrefetch prefetch =
          plan_prefetch(task_, counters_, {queries, panel, in_group, first, next_b_, next_g_});
      emit_queries(queries, panel, prefetch);
    });
    task_.for_each_block(panel, [&](const KeyBlock& keys) {
      if (use_.dk >= 0) task_.copy_key_sums_out(keys);
      if (use_.dv >= 0)
        emit_block_copy(
            e_, {keys.count, p_.d, task_.in_panel(at_.value_sums, keys.i, p_.key_rows, p_.stride),
                 task_.rows_of_keys(use_.dv, keys.j0), nullptr, nullptr});
    });
  }

  void pack_keys(const KeyBlock& keys) const {
    task_.pack_keys_transposed(keys);
    if (use_.gradients())
      emit_block_transpose(
          e_, keys.count, p_.padded_keys, p_.d, task_.rows_of_keys(use_.v, keys.j0),
          task_.memory.scratch_part(at_.v_transposed, keys.i, p_.padded_keys * p_.d));
    if (use_.dq >= 0) task_.copy_keys_in(keys);
    Emitted* all = e_.index(p_.key_rows);
    const auto clear = [&](int64_t part) {
      emit_block_fill(e_, all, p_.stride, task_.in_panel(part, keys.i, p_.key_rows, p_.stride), 0);
    };
    if (use_.dk >= 0) clear(at_.key_sums);
    if (use_.dv >= 0) clear(at_.value_sums);
  }

  void emit_queries(const QueryBlock& queries, Emitted* panel,
                    const BackwardPrefetch& prefetch) const {
    task_.copy_queries_in(queries, use_.q, at_.queries);
    if (use_.gradients()) task_.copy_queries_in(queries, use_.dout, at_.out_grads);
    Emitted* first_panel = e_.ir().CreateICmpEQ(panel, e_.index(0));
    if (use_.gradients()) e_.if_then(first_panel, [&] { emit_deltas(queries); });
    if (use_.dq >= 0)
      e_.if_else(
          first_panel,
          [&] {
            emit_block_fill(e_, queries.rows, p_.stride, task_.matrix(at_.query_sums, p_.stride),
                            0);
            return Emitter::Values{};
          },
          [&] {
            task_.copy_queries_in(queries, use_.dq, at_.query_sums);
            return Emitter::Values{};
          });
    task_.for_each_pair(queries, panel,
                        [&](const KeyBlock& keys) { emit_pair(queries, keys, &prefetch); });
    if (use_.dq >= 0) task_.copy_query_sums_out(queries);
  }

  void emit_pair(const QueryBlock& queries, const KeyBlock& keys,
                 const BackwardPrefetch* prefetch) const {
    task_.emit_scores(queries, keys, at_.queries, at_.k_transposed, at_.weights, prefetch);
    if (use_.gradients())
      task_.emit_scores(queries, keys, at_.out_grads, at_.v_transposed, at_.score_grads, prefetch);
    const auto rows = [&](bool masks) {
      e_.for_loop(e_.index(0), queries.rows, 1,
                  [&](Emitted* row) { emit_row(queries, row, keys, masks); });
      return Emitter::Values{};
    };
    Emitted* hides = e_.ir().CreateICmpSLT(keys.count, e_.index(p_.padded_keys));
    if (p_.causal()) {
      Emitted* after = e_.ir().CreateICmpSGT(e_.add(keys.j0, p_.padded_keys - 1), queries.t0);
      hides = e_.ir().CreateOr(hides, after);
    }
    e_.if_else(hides, [&] { return rows(true); }, [&] { return rows(false); });
    if (use_.columns()) statistics_.add_columns(queries, keys);
    if (use_.dv >= 0)
      task_.add_by_key(queries, keys, at_.weights, at_.out_grads, at_.value_sums, prefetch);
    if (use_.dk >= 0)
      task_.add_by_key(queries, keys, at_.score_grads, at_.queries, at_.key_sums, prefetch);
    if (use_.dq >= 0) task_.add_by_query(queries, keys, prefetch);
  }

  // One row of weights from its products, its score gradients, and its statistics. Keys that the
  // query does not see get exact zeros, whatever lies in their place.
  void emit_row(const QueryBlock& queries, Emitted* row, const KeyBlock& keys, bool masks) const {
    Emitted *at_row = e_.mul(row, p_.padded_keys), *in_task = e_.add(queries.in_task, row);
    Emitted *t = e_.add(queries.t0, row), *of_row = task_.reference_at(queries.h, t);
    Emitted* statistic = task_.statistic_row(queries.h, t);
    AttentionStatistics::RowAccumulators statistics = statistics_.start_row();
    BackwardCorrection::RowSums sums = correction_.start_row();
    int lanes = 0;
    for (int64_t c = 0; c < p_.padded_keys; c += lanes) {
      // Up to four vectors as one: that interleaves independent lanes to hide exp latency.
      lanes = p_.lanes;
      while (lanes < 4 * p_.lanes && c + 2 * lanes <= p_.padded_keys) lanes *= 2;
      NormalizerCode::Weight w{};
      w.reference = task_.memory.load_broadcast(use_.rows, of_row, lanes);
      Emitted* mask = masks ? task_.seen(keys, c, t, lanes) : nullptr;
      Emitted* at = e_.add(at_row, c);
      w.score = emit_score(e_, p_.transform, task_.memory.load_scratch(at_.weights, at, lanes));
      Emitted* numerator = p_.normalizer->parts(e_, w.score, w.reference).numerator;
      const auto kept = [&](Emitted* result, int64_t to) {
        if (masks) result = e_.select(mask, result, e_.f32(0, lanes));
        task_.memory.store_scratch(result, to, at);
        return result;
      };
      w.factor = task_.by_row(at_.row_factors, in_task, lanes);
      w.weight = kept(e_.ir().CreateFMul(numerator, w.factor), at_.weights);
      Emitted* share = w.weight;
      if (p_.divides) share = kept(statistics_.share(numerator, in_task), at_.shares);
      statistics_.add(statistics, share,
                      statistics_.log2_share(share, w.score, w.reference, in_task, mask));
      if (!use_.gradients()) continue;
      Emitted* delta = task_.by_row(at_.deltas, in_task, lanes);
      Emitted* grad = task_.memory.load_scratch(at_.score_grads, at, lanes);
      grad = p_.normalizer->score_gradient(e_, w, grad, delta);
      if (masks) grad = e_.select(mask, grad, e_.f32(0, lanes));
      if (p_.corrects) correction_.add(sums, grad);
      if (use_.dlse >= 0)
        grad = e_.fma(w.weight, task_.memory.load_broadcast(use_.dlse, statistic, lanes), grad);
      grad = emit_product_gradient(e_, p_.transform, w.score, grad);
      task_.memory.store_scratch(grad, at_.score_grads, at);
    }
    if (p_.corrects) correction_.finish_row(sums, in_task);
    statistics_.finish_row(statistics, statistic, row, keys);
  }

  const BackwardTask& task_;
  Emitter& e_;
  const BackwardPlan& p_;
  const BackwardBuffers& use_;
  const BackwardScratch& at_;
  const AttentionStatistics statistics_;
  const BackwardCorrection correction_;
  const BackwardCounters& counters_;
  Emitted *next_b_, *next_g_;
};

}  // namespace

KernelCode attention_backward_kernel(const Graph& region, const Target& target) {
  const BackwardPlan plan = plan_attention_backward(region, target);
  const size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {plan.tiles, plan.scratch_bytes, "attention backward " + structural_key(region),
          [plan, inputs, buffers](Emitter& e, const std::string& symbol) {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            const KernelFrame frame = e.begin_kernel(symbol, uses);
            const KernelMemory memory{e, frame, plan.elements};
            const BackwardCounters counters{PrefetchCounter(e), PrefetchCounter(e)};
            e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
              Emitted *b = e.div(tile, plan.G), *g = e.rem(tile, plan.G);
              Emitted* next = predicted_next_tile(e, frame, tile);
              Emitted *next_b = e.div(next, plan.G), *next_g = e.rem(next, plan.G);
              const BackwardTask task(memory, plan, b, g);
              BackwardSweep(task, counters, next_b, next_g).emit();
            });
            e.end_kernel();
          }};
}

}  // namespace weir
