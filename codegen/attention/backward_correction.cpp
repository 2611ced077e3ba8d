#include "codegen/attention/backward_correction.h"

#include <limits>

#include "codegen/attention/scores.h"

namespace weir {

using Emitted = llvm::Value;

// A residual counts where it changes the largest gradient by more than this share of all the row's
// gradients, which are rounded to 2^-24 of themselves.
constexpr double kResidualShare = 0x1p-21;

void BackwardCorrection::clear_rows(Emitted* in_task, Emitted* t) const {
  for (int first : {0, p_.lanes}) {
    Emitted* left = e_.mul(e_.sub(e_.index(p_.T), t), 2);
    task_.memory.store_scratch(e_.f32(0, p_.lanes), at_.row_sums, e_.add(e_.mul(in_task, 2), first),
                               e_.mask_below(e_.add(left, -first), p_.lanes));
  }
}

void BackwardCorrection::add(RowSums& sums, Emitted* grad) const {
  for (int v = 0; v < Emitter::lanes_of(grad); v += p_.lanes) {
    Emitted* part = e_.slice(grad, v, p_.lanes);
    sums.grads = e_.ir().CreateFAdd(sums.grads, part);
    sums.sizes = e_.ir().CreateFAdd(sums.sizes, e_.absolute(part));
  }
}

void BackwardCorrection::finish_row(const RowSums& sums, Emitted* in_task) const {
  const auto halved = [&](Emitted* x) {
    const int half = Emitter::lanes_of(x) / 2;
    return e_.ir().CreateFAdd(e_.slice(x, 0, half), e_.slice(x, half, half));
  };
  Emitted* both = e_.concat(halved(sums.grads), halved(sums.sizes));  // [grads.. | sizes..]
  for (int lanes = p_.lanes; lanes > 2; lanes /= 2) {
    // The first and the second half of each of the two sums.
    std::vector<int> first, second;
    for (int lane = 0; lane < lanes; ++lane)
      (lane / (lanes / 4) % 2 == 0 ? first : second).push_back(lane);
    both = e_.ir().CreateFAdd(e_.ir().CreateShuffleVector(both, first),
                              e_.ir().CreateShuffleVector(both, second));
  }
  Emitted* at = e_.mul(in_task, 2);
  Emitted* old = task_.memory.load_scratch(at_.row_sums, at, 2);
  task_.memory.store_scratch(e_.ir().CreateFAdd(old, both), at_.row_sums, at);
}

// Completes the residual of a row; whether it counts. No number counts not.
Emitted* BackwardCorrection::residual_counts(const QueryBlock& queries, Emitted* row) const {
  Emitted *in_task = e_.add(queries.in_task, row),
          *at = task_.reference_at(queries.h, e_.add(queries.t0, row)),
          *sums_at = e_.mul(in_task, 2);
  const auto load = [&](int64_t part, Emitted* i) { return task_.memory.load_scratch(part, i, 1); };
  Emitted* residual = load(at_.row_sums, sums_at);
  Emitted* factor = load(at_.row_factors, in_task);
  const RowState state = task_.load_row(at, 1);
  if (Emitted* other = p_.normalizer->other_numerator(e_, state)) {
    // Beside an infinite one all others are zero.
    Emitted* infinite =
        e_.ir().CreateFCmpOEQ(other, e_.f32(std::numeric_limits<double>::infinity()));
    Emitted* weight = e_.select(infinite, e_.f32(1), e_.ir().CreateFMul(other, factor));
    residual = e_.fma(e_.ir().CreateFNeg(weight), load(at_.deltas, in_task), residual);
    task_.memory.store_scratch(residual, at_.row_sums, sums_at);
  }
  // The largest weight of a row is that of its reference: the factor.
  Emitted* sizes = load(at_.row_sums, e_.add(sums_at, 1));
  return e_.ir().CreateFCmpOGT(e_.absolute(e_.ir().CreateFMul(residual, factor)),
                               e_.ir().CreateFMul(sizes, e_.f32(kResidualShare)));
}

void BackwardCorrection::emit() const {
  const auto block_of = [&](Emitted* in_group, const QueryBlock& queries) {
    return e_.add(e_.mul(in_group, p_.query_blocks()), e_.div(queries.t0, p_.query_block));
  };
  const auto set = [&](int64_t part, Emitted* at, double value) {
    task_.memory.store_scratch(e_.f32(value), part, at);
  };
  const auto is_set = [&](int64_t part, Emitted* at) {
    return e_.ir().CreateFCmpONE(task_.memory.load_scratch(part, at, 1), e_.f32(0));
  };
  set(at_.any_corrected, e_.index(0), 0);
  task_.for_each_queries(e_.index(0), [&](Emitted* in_group, const QueryBlock& queries) {
    Emitted* at = block_of(in_group, queries);
    set(at_.corrected_blocks, at, 0);
    e_.for_loop(e_.index(0), queries.rows, 1, [&](Emitted* row) {
      e_.if_then(residual_counts(queries, row), [&] {
        set(at_.corrected_blocks, at, 1);
        set(at_.any_corrected, e_.index(0), 1);
      });
    });
  });
  const auto correct_panel = [&](Emitted* panel) {
    task_.for_each_block(panel, [&](const KeyBlock& keys) { pack_keys(keys); });
    task_.for_each_queries(task_.first_query(panel),
                           [&](Emitted* in_group, const QueryBlock& queries) {
                             e_.if_then(is_set(at_.corrected_blocks, block_of(in_group, queries)),
                                        [&] { correct_queries(queries, panel); });
                           });
    if (use_.dk >= 0)
      task_.for_each_block(panel, [&](const KeyBlock& keys) { task_.copy_key_sums_out(keys); });
  };
  e_.if_then(is_set(at_.any_corrected, e_.index(0)), [&] { task_.for_each_panel(correct_panel); });
}

// As in the main sweep, without values, going on with the gradients of keys that are there.
void BackwardCorrection::pack_keys(const KeyBlock& keys) const {
  task_.pack_keys_transposed(keys);
  if (use_.dq >= 0) task_.copy_keys_in(keys);
  if (use_.dk < 0) return;
  const BlockMatrix sums = task_.in_panel(at_.key_sums, keys.i, p_.key_rows, p_.stride);
  emit_block_fill(e_, e_.index(p_.key_rows), p_.stride, sums, 0);
  emit_block_copy(e_,
                  {keys.count, p_.d, task_.rows_of_keys(use_.dk, keys.j0), sums, nullptr, nullptr});
}

void BackwardCorrection::correct_queries(const QueryBlock& queries, Emitted* panel) const {
  task_.copy_queries_in(queries, use_.q, at_.queries);
  if (use_.dq >= 0) task_.copy_queries_in(queries, use_.dq, at_.query_sums);
  task_.for_each_pair(queries, panel, [&](const KeyBlock& keys) {
    task_.emit_scores(queries, keys, at_.queries, at_.k_transposed, at_.weights, nullptr);
    e_.for_loop(e_.index(0), queries.rows, 1,
                [&](Emitted* row) { correct_row(queries, row, keys); });
    if (use_.dk >= 0)
      task_.add_by_key(queries, keys, at_.score_grads, at_.queries, at_.key_sums, nullptr);
    if (use_.dq >= 0) task_.add_by_query(queries, keys, nullptr);
  });
  if (use_.dq >= 0) task_.copy_query_sums_out(queries);
}

// What a row's residual changes in the gradients of its scores.
void BackwardCorrection::correct_row(const QueryBlock& queries, Emitted* row,
                                     const KeyBlock& keys) const {
  Emitted *in_task = e_.add(queries.in_task, row), *t = e_.add(queries.t0, row);
  for (int64_t c = 0; c < p_.padded_keys; c += p_.lanes) {
    Emitted* at = e_.add(e_.mul(row, p_.padded_keys), c);
    Emitted* product = task_.memory.load_scratch(at_.weights, at, p_.lanes);
    Emitted* score = emit_score(e_, p_.transform, product);
    Emitted* reference =
        task_.memory.load_broadcast(use_.rows, task_.reference_at(queries.h, t), p_.lanes);
    Emitted* numerator = p_.normalizer->parts(e_, score, reference).numerator;
    Emitted* weight =
        e_.ir().CreateFMul(numerator, task_.by_row(at_.row_factors, in_task, p_.lanes));
    // Also where the weight is one: there it makes up for all other gradients of the row.
    Emitted* grad = e_.ir().CreateFMul(
        weight, e_.ir().CreateFNeg(task_.by_row(at_.row_sums, e_.mul(in_task, 2), p_.lanes)));
    grad = e_.select(task_.seen(keys, c, t, p_.lanes), grad, e_.f32(0, p_.lanes));
    grad = emit_product_gradient(e_, p_.transform, score, grad);
    task_.memory.store_scratch(grad, at_.score_grads, at);
  }
}

}  // namespace weir
