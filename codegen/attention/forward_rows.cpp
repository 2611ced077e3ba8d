#include "codegen/attention/forward_rows.h"

#include <limits>

#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

/// Keys whose scores become weights together; a power of two.
constexpr int kKeysAtOnce = 2;
// So many keys' terms are summed by themselves before they join the sum of a block: one by one,
// each would be rounded beside a sum that may be far larger.
constexpr int64_t kKeysInSum = 16;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

ForwardRows::Values ForwardRows::load(const KernelArray& array, int64_t offset) const {
  Values row;
  for (int v = 0; v < p_.score_tile.vectors; ++v)
    row.push_back(e_.load(array.element, array.base, e_.index(offset + v * p_.lanes), p_.lanes));
  return row;
}
void ForwardRows::store(const KernelArray& array, const Values& row) const {
  for (size_t v = 0; v < row.size(); ++v)
    e_.store(array.element, row[v], array.base, e_.index(static_cast<int64_t>(v) * p_.lanes));
}

ForwardRows::Values ForwardRows::keys_of_rows() const {
  Values keys;
  for (int v = 0; v < p_.score_tile.vectors; ++v) {
    if (!p_.causal()) {
      keys.push_back(e_.f32(static_cast<double>(p_.S), p_.lanes));
      continue;
    }
    Emitted* first = e_.ir().CreateTrunc(e_.add(slice_.first, v * p_.lanes + 1), e_.i32_type());
    Emitted* seen = e_.ir().CreateAdd(e_.broadcast(first, p_.lanes), e_.iota(p_.lanes));
    keys.push_back(e_.to_f32(seen));
  }
  return keys;
}

Emitted* ForwardRows::extra(int v, Emitted* at, Emitted* present) const {
  switch (p_.extra) {
    case RowExtra::none:
      return nullptr;
    case RowExtra::keys:
      return keys_of_rows()[static_cast<size_t>(v)];
    case RowExtra::other:
      return memory_.load(p_.use.other, at, p_.lanes, present);
    case RowExtra::gate:
      internal_error_at("an attention has no gate across heads");
  }
  internal_error_at("unknown extra number of a row");
}

void ForwardRows::start() const {
  Values references;
  std::vector<Values> by_sum(sum_count());
  for (Emitted* keys : keys_of_rows()) {
    const RowState state = p_.normalizer->start(e_, keys);
    references.push_back(state.reference);
    for (size_t i = 0; i < by_sum.size(); ++i) by_sum[i].push_back(state.sums[i]);
  }
  store(slice_.reference, references);
  Values sums;
  for (const Values& sum : by_sum) sums.insert(sums.end(), sum.begin(), sum.end());
  store(slice_.sums, sums);
}

void ForwardRows::start_maximum() const {
  if (!p_.normalizer->moves_reference()) return;
  store(memory_.scratch(p_.largest),
        Values(static_cast<size_t>(p_.score_tile.vectors), e_.f32(-kInfinity, p_.lanes)));
}

void ForwardRows::raise_maximum(const Values& scores) const {
  if (!p_.normalizer->moves_reference()) return;
  const int vectors = p_.score_tile.vectors;
  Values largest = load(memory_.scratch(p_.largest));
  for (int v = 0; v < vectors; ++v) {
    // Two chains, to hide their latency. A maximum does not depend on the order.
    Emitted* other = e_.f32(-kInfinity, p_.lanes);
    for (int r = 0; r < p_.score_tile.rows; ++r) {
      Emitted*& maximum = r % 2 ? other : largest[v];
      maximum = running_maximum(e_, scores[r * vectors + v], maximum);
    }
    largest[v] = running_maximum(e_, other, largest[v]);
  }
  store(memory_.scratch(p_.largest), largest);
}

ForwardRows::Values ForwardRows::weigh(Emitted* count) const {
  Values reference = load(slice_.reference), rescale;
  if (p_.normalizer->moves_reference()) {
    const Values largest = load(memory_.scratch(p_.largest));
    for (size_t v = 0; v < reference.size(); ++v) {
      auto step = p_.normalizer->advance(e_, reference[v], largest[v]);
      reference[v] = step.reference;
      rescale.push_back(step.rescale);
    }
  }
  const Values added = weigh_all(count, reference);
  Values sums;
  for (size_t i = 0; i < sum_count(); ++i)
    for (Emitted* sum : load(slice_.sums, static_cast<int64_t>(i) * p_.slice_width))
      sums.push_back(sum);
  for (size_t i = 0; i < sums.size(); ++i) {
    Emitted* before = sums[i];
    if (!rescale.empty()) before = e_.ir().CreateFMul(before, rescale[i % rescale.size()]);
    sums[i] = e_.ir().CreateFAdd(before, added[i]);
  }
  if (!rescale.empty()) store(slice_.reference, reference);
  store(slice_.sums, sums);
  return rescale;
}

ForwardRows::Values ForwardRows::sum_of(Values a, const Values& b) const {
  for (size_t v = 0; v < a.size(); ++v) a[v] = e_.ir().CreateFAdd(a[v], b[v]);
  return a;
}

// What `count` keys add to the sums of their rows, [sum][vector].
ForwardRows::Values ForwardRows::weigh_all(Emitted* count, const Values& reference) const {
  const Values zeros(reference.size() * sum_count(), e_.f32(0, p_.lanes));
  const auto rounded_down = [&](int64_t keys) { return e_.mul(e_.div(count, keys), keys); };
  const auto step = [&](int keys) {
    return [this, keys, &reference](Emitted* key, const Values& carried) {
      return weigh_keys(keys, reference, key, carried);
    };
  };
  Values added =
      e_.for_loop(e_.index(0), rounded_down(kKeysInSum), kKeysInSum, zeros,
                  [&](Emitted* key, const Values& carried) {
                    return sum_of(carried, e_.for_loop(key, e_.add(key, kKeysInSum), kKeysAtOnce,
                                                       zeros, step(kKeysAtOnce)));
                  });
  Values rest = e_.for_loop(rounded_down(kKeysInSum), rounded_down(kKeysAtOnce), kKeysAtOnce, zeros,
                            step(kKeysAtOnce));
  rest = e_.for_loop(rounded_down(kKeysAtOnce), count, 1, rest, step(1));
  return sum_of(added, rest);
}

// Some keys' scores to numerators, which with their terms are added to the carried sums. They are
// one long vector: that interleaves independent lanes to hide exp latency.
ForwardRows::Values ForwardRows::weigh_keys(int keys, const Values& reference, Emitted* key,
                                            const Values& carried) const {
  Emitted* row = reference.size() == 1 ? reference[0] : e_.concat(reference[0], reference[1]);
  Emitted* at = e_.mul(key, p_.slice_width);
  const int width = static_cast<int>(p_.slice_width);
  Emitted* scores = memory_.load_scratch(p_.scores, at, keys * width);
  for (int k = 1; k < keys; k *= 2) row = e_.concat(row, row);
  const NormalizerCode::Parts parts = p_.normalizer->parts(e_, scores, row);
  memory_.store_scratch(parts.numerator, p_.scores, at);
  Values added;
  for (size_t i = 0; i < sum_count(); ++i) {
    Emitted* sum = i == 0 ? parts.term : parts.numerator;
    for (int halves = keys / 2; halves > 0; halves /= 2)
      sum = e_.ir().CreateFAdd(e_.slice(sum, 0, halves * width),
                               e_.slice(sum, halves * width, halves * width));
    for (size_t v = 0; v < reference.size(); ++v)
      added.push_back(e_.slice(sum, static_cast<int>(v) * p_.lanes, p_.lanes));
  }
  return sum_of(carried, added);
}

ForwardRows::Values ForwardRows::finish(Emitted* rows, Emitted* b) const {
  const Values references = load(slice_.reference);
  std::vector<Values> sums;
  for (size_t i = 0; i < sum_count(); ++i)
    sums.push_back(load(slice_.sums, static_cast<int64_t>(i) * p_.slice_width));
  // In [B,H,2 or more,T]: references of the head, then its sums, then what else there is.
  Emitted* head = e_.add(e_.mul(b, p_.H), slice_.h);
  Emitted* at = e_.add(e_.mul(head, p_.row_numbers * p_.T), slice_.first);
  Values factors;
  Emitted* first_row = e_.add(e_.mul(head, p_.T), slice_.first);
  for (int v = 0; v < p_.score_tile.vectors; ++v) {
    Emitted* present = e_.mask_below(e_.sub(rows, e_.index(v * p_.lanes)), p_.lanes);
    RowState state{references[v], {}, extra(v, e_.add(first_row, v * p_.lanes), present)};
    for (const Values& sum : sums) state.sums.push_back(sum[v]);
    Emitted* divisor = p_.normalizer->divisor(e_, state);
    factors.push_back(e_.ir().CreateFDiv(e_.f32(1, p_.lanes), divisor));
    if (p_.use.rows < 0) continue;
    memory_.store(state.reference, p_.use.rows, e_.add(at, v * p_.lanes), present);
    for (size_t i = 0; i < sum_count(); ++i)
      memory_.store(state.sums[i], p_.use.rows,
                    e_.add(at, static_cast<int64_t>(i + 1) * p_.T + v * p_.lanes), present);
    if (state.extra)
      memory_.store(state.extra, p_.use.rows, e_.add(at, (p_.sums + 1) * p_.T + v * p_.lanes),
                    present);
  }
  return factors;
}

}  // namespace weir
