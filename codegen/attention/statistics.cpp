#include "codegen/attention/statistics.h"

#include "codegen/llvm/vector_math.h"

namespace weir {

using Emitted = llvm::Value;

void AttentionStatistics::clear_rows(Emitted* row, Emitted* present) const {
  for (int position : {use_.entropy, use_.largest, use_.sink})
    if (position >= 0) task_.memory.store(e_.f32(0, p_.lanes), position, row, present);
}

void AttentionStatistics::clear_columns(Emitted* h) const {
  if (!use_.columns()) return;
  e_.for_loop(e_.index(0), e_.index(p_.S), 1, [&](Emitted* j) {
    Emitted* at = e_.add(e_.mul(e_.add(e_.mul(task_.b, p_.H), h), p_.S), j);
    for (int position : {use_.column_sum, use_.column_sum_sq})
      if (position >= 0) task_.memory.store(e_.f32(0), position, at);
  });
}

void AttentionStatistics::start_rows(const RowState& state, Emitted* divisor, Emitted* row,
                                     Emitted* in_task, Emitted* present) const {
  const auto keep = [&](int64_t part, Emitted* value) {
    task_.memory.store_scratch(value, part, in_task, present);
  };
  if (use_.row_sum >= 0)
    task_.memory.store(e_.ir().CreateFDiv(state.numerators(), divisor), use_.row_sum, row, present);
  Emitted* share_divisor = p_.normalizer->share_divisor(e_, state);
  const bool by_factor = p_.normalizer->has_log2_numerator();
  if (p_.divides && by_factor)
    keep(task_.at.share_factors, e_.ir().CreateFDiv(e_.f32(1, p_.lanes), share_divisor));
  if (p_.divides && !by_factor) keep(task_.at.share_factors, share_divisor);
  if (use_.entropy >= 0 && by_factor)
    keep(task_.at.row_logs,
         e_.ir().CreateFMul(emit_log(e_, share_divisor), e_.f32(kLog2E, p_.lanes)));
}

AttentionStatistics::RowAccumulators AttentionStatistics::start_row() const {
  return {e_.f32(0, p_.lanes), e_.i32(0, p_.lanes)};
}

Emitted* AttentionStatistics::share(Emitted* numerator, Emitted* in_task) const {
  Emitted* kept = task_.by_row(task_.at.share_factors, in_task, Emitter::lanes_of(numerator));
  return p_.normalizer->has_log2_numerator() ? e_.ir().CreateFMul(numerator, kept)
                                             : e_.ir().CreateFDiv(numerator, kept);
}

Emitted* AttentionStatistics::log2_share(Emitted* share, Emitted* score, Emitted* reference,
                                         Emitted* in_task, Emitted* mask) const {
  const int lanes = Emitter::lanes_of(share);
  Emitted* zero = e_.f32(0, lanes);
  if (use_.entropy < 0) return zero;
  if (!p_.normalizer->has_log2_numerator()) {
    Emitted* least = e_.f32(0x1p-126, lanes);
    Emitted* bounded = e_.select(e_.ir().CreateFCmpOLT(share, least), least, share);
    return e_.ir().CreateFMul(emit_log(e_, bounded), e_.f32(kLog2E, lanes));
  }
  Emitted* log2 = e_.ir().CreateFSub(p_.normalizer->log2_numerator(e_, score, reference),
                                     task_.by_row(task_.at.row_logs, in_task, lanes));
  return mask ? e_.select(mask, log2, zero) : log2;
}

void AttentionStatistics::add(RowAccumulators& row, Emitted* share, Emitted* log2) const {
  if (use_.entropy < 0 && use_.largest < 0) return;
  for (int v = 0; v < Emitter::lanes_of(share); v += p_.lanes) {
    Emitted *log2_part = e_.slice(log2, v, p_.lanes), *part = e_.slice(share, v, p_.lanes);
    if (use_.entropy >= 0)
      row.entropy_acc = e_.fma(e_.ir().CreateFNeg(part), log2_part, row.entropy_acc);
    // Shares are not negative, so their bits are in their order; those of a NaN are the largest.
    if (use_.largest >= 0)
      row.largest =
          e_.ir().CreateBinaryIntrinsic(llvm::Intrinsic::umax, row.largest, e_.bits(part));
  }
}

void AttentionStatistics::finish_row(const RowAccumulators& acc, Emitted* at, Emitted* row,
                                     const KeyBlock& keys) const {
  if (use_.entropy >= 0) {
    Emitted* old = task_.memory.load(use_.entropy, at, 1);
    Emitted* sum = e_.fma(e_.reduce_add(acc.entropy_acc), e_.f32(kLn2), old);
    task_.memory.store(sum, use_.entropy, at);
  }
  if (use_.largest >= 0) {
    const auto larger = [&](Emitted* a, Emitted* b) {
      return e_.ir().CreateBinaryIntrinsic(llvm::Intrinsic::umax, a, b);
    };
    Emitted* old = task_.memory.load(use_.largest, at, 1);
    Emitted* here = e_.reduce(acc.largest, larger);
    task_.memory.store(e_.from_bits(larger(e_.bits(old), here)), use_.largest, at);
  }
  if (use_.sink >= 0) {
    Emitted* sink = e_.sub(e_.index(use_.sink_key), keys.j0);
    e_.if_then(e_.ir().CreateICmpULT(sink, keys.count), [&] {
      Emitted* share =
          task_.memory.load_scratch(shares(), e_.add(e_.mul(row, p_.padded_keys), sink), 1);
      task_.memory.store(share, use_.sink, at);
    });
  }
}

void AttentionStatistics::add_columns(const QueryBlock& queries, const KeyBlock& keys) const {
  Emitted* base = e_.add(e_.mul(e_.add(e_.mul(task_.b, p_.H), queries.h), p_.S), keys.j0);
  std::vector<int> positions;
  for (int position : {use_.column_sum, use_.column_sum_sq})
    if (position >= 0) positions.push_back(position);
  const auto for_each_sum = [&](const std::function<void(int, Emitted*, Emitted*)>& body) {
    for (int64_t c = 0; c < p_.padded_keys; c += p_.lanes)
      for (int position : positions)
        body(position, e_.add(base, c), e_.mask_below(e_.sub(keys.count, e_.index(c)), p_.lanes));
  };
  Emitter::Values sums;
  for_each_sum([&](int position, Emitted* at, Emitted* mask) {
    sums.push_back(task_.memory.load(position, at, p_.lanes, mask));
  });
  const auto add_row = [&](Emitted* row, const Emitter::Values& carried) {
    Emitter::Values next;
    for (int64_t c = 0; c < p_.padded_keys; c += p_.lanes) {
      Emitted* share =
          task_.memory.load_scratch(shares(), e_.add(e_.mul(row, p_.padded_keys), c), p_.lanes);
      for (int position : positions) {
        Emitted* sum = carried[next.size()];
        next.push_back(position == use_.column_sum ? e_.ir().CreateFAdd(sum, share)
                                                   : e_.fma(share, share, sum));
      }
    }
    return next;
  };
  sums = e_.for_loop(e_.index(0), queries.rows, 1, sums, add_row);
  size_t i = 0;
  for_each_sum([&](int position, Emitted* at, Emitted* mask) {
    task_.memory.store(sums[i++], position, at, mask);
  });
}

}  // namespace weir
