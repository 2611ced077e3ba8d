#include <cmath>
#include <limits>

#include "codegen/attention/attention.h"
#include "codegen/attention/memory.h"
#include "codegen/attention/plan.h"
#include "codegen/attention/scores.h"
#include "ir/attention_identities.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = std::vector<Emitted*>;

// A tile is one head of one sequence: query by query, first its scores and weights, then what each
// pair of the query and a key adds to sums. Vectors run along features where rows are multiplied,
// along keys where a key has one number.
class IdentitiesTile {
 public:
  IdentitiesTile(const KernelMemory& memory, const IdentitiesPlan& plan, Emitted* b, Emitted* h)
      : e_(memory.e), memory_(memory), p_(plan), b_(b), h_(h), g_(e_.div(h, plan.group())) {}

  void emit() const {
    start_keys();
    e_.for_loop(e_.index(0), e_.index(p_.T), 1, [&](Emitted* t) { emit_query(t); });
  }

 private:
  // A query with what belongs to it alone.
  struct Query {
    Emitted *t, *at, *seen;  ///< number, first element of its rows, keys that it sees
    Values q, g;             ///< rows of the query and of its upstream gradient
    Emitted *q_norm, *g_norm, *y_norm, *gy;
    Emitted* dlse;  ///< the gradient at the log-sum-exp, or null
  };
  int vectors() const { return static_cast<int>((p_.d + p_.lanes - 1) / p_.lanes); }
  Emitted* mask_of(int vector) const {
    return e_.mask_below(e_.index(p_.d - int64_t{vector} * p_.lanes), p_.lanes);
  }
  Values load_row(int position, Emitted* at) const {
    Values row;
    for (int v = 0; v < vectors(); ++v)
      row.push_back(memory_.load(position, e_.add(at, v * p_.lanes), p_.lanes, mask_of(v)));
    return row;
  }
  void store_row(const Values& row, int position, Emitted* at) const {
    for (int v = 0; v < vectors(); ++v)
      memory_.store(row[v], position, e_.add(at, v * p_.lanes), mask_of(v));
  }
  Values zero_row() const { return Values(vectors(), e_.f32(0, p_.lanes)); }
  Emitted* dot(const Values& x, const Values& y) const {
    Emitted* sum = e_.f32(0, p_.lanes);
    for (int v = 0; v < vectors(); ++v) sum = e_.fma(x[v], y[v], sum);
    return e_.reduce_add(sum);
  }
  Emitted* norm(const Values& x) const { return e_.square_root(dot(x, x)); }
  // sum + factor x.
  Values add_scaled(const Values& sum, Emitted* factor, const Values& x) const {
    Emitted* factors = e_.broadcast(factor, p_.lanes);
    Values result;
    for (int v = 0; v < vectors(); ++v) result.push_back(e_.fma(factors, x[v], sum[v]));
    return result;
  }

  // Where the rows of key j start in k and v [B,S,G,d], and in results of query heads [B,S,H,d].
  Emitted* key_at(Emitted* j) const {
    return e_.mul(e_.add(e_.mul(e_.add(e_.mul(b_, p_.S), j), p_.G), g_), p_.d);
  }
  Emitted* head_at(Emitted* j) const {
    return e_.mul(e_.add(e_.mul(e_.add(e_.mul(b_, p_.S), j), p_.H), h_), p_.d);
  }
  Emitted* number_at(KeyNumber number, Emitted* j) const {
    Emitted* head = e_.add(e_.mul(b_, p_.H), h_);
    return e_.add(e_.mul(e_.add(e_.mul(head, kKeyNumbers), static_cast<int64_t>(number)), p_.S), j);
  }
  Emitted* number_at(QueryNumber number, Emitted* t) const {
    Emitted* head = e_.add(e_.mul(b_, p_.H), h_);
    return e_.add(e_.mul(e_.add(e_.mul(head, kQueryNumbers), static_cast<int64_t>(number)), p_.T),
                  t);
  }
  // Zeros in what is summed over queries; the norms of keys and values.
  void start_keys() const {
    emit_block_transpose(
        e_, e_.index(p_.S), p_.padded_keys, p_.d,
        head_rows(e_, memory_.buffer(p_.use.k), b_, g_, e_.index(0), p_.S, p_.G, p_.d),
        memory_.scratch(p_.keys), p_.transform.keys_scale);
    e_.for_loop(e_.index(0), e_.index(p_.S), 1, [&](Emitted* j) {
      for (int position : {p_.use.dv, p_.use.dk})
        if (position >= 0) store_row(zero_row(), position, head_at(j));
      if (p_.use.by_key >= 0)
        for (int64_t n = 0; n < kKeyNumbers; ++n)
          memory_.store(e_.f32(0), p_.use.by_key, number_at(static_cast<KeyNumber>(n), j));
      memory_.store_scratch(norm(load_row(p_.use.k, key_at(j))), p_.key_norms, j);
      memory_.store_scratch(norm(load_row(p_.use.v, key_at(j))), p_.value_norms, j);
    });
  }

  void emit_query(Emitted* t) const {
    Query query{};
    query.t = t;
    query.at = e_.mul(e_.add(e_.mul(e_.add(e_.mul(b_, p_.T), t), p_.H), h_), p_.d);
    query.seen = keys_seen(e_, p_.transform, e_.index(p_.S), e_.index(0), t);
    query.q = load_row(p_.use.q, query.at);
    query.g = load_row(p_.use.dout, query.at);
    const Values y = load_row(p_.use.out, query.at);
    query.q_norm = norm(query.q);
    query.g_norm = norm(query.g);
    query.y_norm = norm(y);
    query.gy = dot(query.g, y);
    if (p_.use.dlse >= 0) query.dlse = memory_.load(p_.use.dlse, row_at(query), 1);
    Emitted* factor = weigh(query);
    Emitted* bound = add_vectors(query, mean_key(query, factor), factor);
    add_numbers(query, bound, factor);
  }

  // Of the query with a vector of keys.
  Emitted* product(const Query& query, Emitted* j) const {
    return e_.for_loop(
        e_.index(0), e_.index(p_.d), 1, {e_.f32(0, p_.lanes)},
        [&](Emitted* i, const Values& carried) {
          Emitted* at = e_.add(e_.mul(i, p_.padded_keys), j);
          return Values{e_.fma(memory_.load_broadcast(p_.use.q, e_.add(query.at, i), p_.lanes),
                               memory_.load_scratch(p_.keys, at, p_.lanes), carried[0])};
        })[0];
  }

  // Of the query in [B,H,T].
  Emitted* row_at(const Query& query) const {
    return e_.add(e_.mul(e_.add(e_.mul(b_, p_.H), h_), p_.T), query.t);
  }
  // <g, v> - <g, y>, and what the log-sum-exp adds.
  Emitted* beta(const Query& query, Emitted* of_value, int lanes) const {
    const auto spread = [&](Emitted* x) { return lanes > 1 ? e_.broadcast(x, lanes) : x; };
    Emitted* difference = e_.ir().CreateFSub(of_value, spread(query.gy));
    return query.dlse ? e_.ir().CreateFAdd(difference, spread(query.dlse)) : difference;
  }

  Emitted* extra(const Query& query, Emitted* keys) const {
    switch (p_.extra) {
      case RowExtra::none:
        return nullptr;
      case RowExtra::keys:
        return keys;
      case RowExtra::other:
        return memory_.load(p_.use.other, row_at(query), 1);
      case RowExtra::gate:
        internal_error_at("weights of one head have no gate across heads");
    }
    internal_error_at("unknown extra number of a row");
  }

  // Scores and <g, v> of the keys that a query sees; then their numerators. Returns what makes
  // these weights.
  Emitted* weigh(const Query& query) const {
    Emitted* lowest = e_.f32(-std::numeric_limits<double>::infinity(), p_.lanes);
    // A score is one chain of multiply-adds over the features, as in the other kernels: another
    // order would round large scores, and with them weights, differently.
    Emitted* vector_largest = e_.for_loop(
        e_.index(0), query.seen, p_.lanes, {lowest}, [&](Emitted* j, const Values& carried) {
          Emitted* score = emit_score(e_, p_.transform, product(query, j));
          memory_.store_scratch(score, p_.scores, j);
          Emitted* mask = e_.mask_below(e_.sub(query.seen, j), p_.lanes);
          return Values{running_maximum(e_, e_.select(mask, score, lowest), carried[0])};
        })[0];
    Emitted* largest = e_.reduce(vector_largest,
                                 [&](Emitted* a, Emitted* b) { return running_maximum(e_, a, b); });
    e_.for_loop(e_.index(0), query.seen, 1, [&](Emitted* j) {
      memory_.store_scratch(dot(query.g, load_row(p_.use.v, key_at(j))), p_.gradients, j);
    });
    Emitted* keys = e_.to_f32(e_.ir().CreateTrunc(query.seen, e_.i32_type()));
    RowState row{p_.normalizer->start(e_, keys).reference, {}, extra(query, keys)};
    if (p_.normalizer->moves_reference())
      row.reference = p_.normalizer->advance(e_, row.reference, largest).reference;
    Emitted* reference = e_.broadcast(row.reference, p_.lanes);
    const Values none(2, e_.f32(0, p_.lanes));
    const Values sums = e_.for_loop(
        e_.index(0), query.seen, p_.lanes, none, [&](Emitted* j, const Values& carried) {
          Emitted* mask = e_.mask_below(e_.sub(query.seen, j), p_.lanes);
          const auto visible = [&](Emitted* x) { return e_.select(mask, x, none[0]); };
          const NormalizerCode::Parts parts =
              p_.normalizer->parts(e_, memory_.load_scratch(p_.scores, j, p_.lanes), reference);
          Emitted* numerator = visible(parts.numerator);
          memory_.store_scratch(numerator, p_.numerators, j);
          return Values{e_.ir().CreateFAdd(carried[0], visible(parts.term)),
                        e_.ir().CreateFAdd(carried[1], numerator)};
        });
    row.sums.push_back(e_.reduce_add(sums[0]));
    if (p_.sums > 1) row.sums.push_back(e_.reduce_add(sums[1]));
    return e_.ir().CreateFDiv(e_.f32(1), p_.normalizer->divisor(e_, row));
  }

  Emitted* weight_of(Emitted* j, Emitted* factor, int lanes) const {
    Emitted* numerator = memory_.load_scratch(p_.numerators, j, lanes);
    return e_.ir().CreateFMul(numerator, lanes > 1 ? e_.broadcast(factor, lanes) : factor);
  }

  Values mean_key(const Query& query, Emitted* factor) const {
    return e_.for_loop(e_.index(0), query.seen, 1, zero_row(), [&](Emitted* j, const Values& mean) {
      return add_scaled(mean, weight_of(j, factor, 1), load_row(p_.use.k, key_at(j)));
    });
  }

  // What each pair adds to gradients. Returns sum_s a |beta| |k - mean|.
  Emitted* add_vectors(const Query& query, const Values& mean, Emitted* factor) const {
    const auto add_to = [&](int position, Emitted* j, Emitted* coefficient, const Values& row) {
      if (position < 0) return;
      Emitted* at = head_at(j);
      store_row(add_scaled(load_row(position, at), coefficient, row), position, at);
    };
    Values start = zero_row();
    start.push_back(e_.f32(0));
    Values sums =
        e_.for_loop(e_.index(0), query.seen, 1, start, [&](Emitted* j, const Values& carried) {
          Emitted* weight = weight_of(j, factor, 1);
          Emitted* of_value = memory_.load_scratch(p_.gradients, j, 1);
          Emitted* slope = e_.ir().CreateFMul(weight, beta(query, of_value, 1));
          Emitted* of_product =
              emit_product_gradient(e_, p_.transform, memory_.load_scratch(p_.scores, j, 1), slope);
          const Values k = load_row(p_.use.k, key_at(j));
          add_to(p_.use.dv, j, weight, query.g);
          add_to(p_.use.dk, j, of_product, query.q);
          Values next = add_scaled({carried.begin(), carried.end() - 1}, of_product, k);
          Values away;
          for (int v = 0; v < vectors(); ++v) away.push_back(e_.ir().CreateFSub(k[v], mean[v]));
          next.push_back(e_.fma(e_.absolute(slope), norm(away), carried.back()));
          return next;
        });
    Emitted* bound = sums.back();
    sums.pop_back();
    if (p_.use.dq >= 0) store_row(sums, p_.use.dq, query.at);
    return bound;
  }

  // What each pair adds to the numbers of its key and of its query, a vector of keys at a time.
  void add_numbers(const Query& query, Emitted* bound, Emitted* factor) const {
    const auto spread = [&](Emitted* x) { return e_.broadcast(x, p_.lanes); };
    const auto times = [&](Emitted* x, Emitted* y) { return e_.ir().CreateFMul(x, y); };
    Emitted *g = spread(query.g_norm), *y = spread(query.y_norm);
    Emitted* of_lse = query.dlse ? spread(e_.absolute(query.dlse)) : nullptr;
    Emitted *q = spread(query.q_norm), *size = e_.f32(std::abs(p_.transform.scale), p_.lanes);
    const Values none(4, e_.f32(0, p_.lanes));
    const Values sums = e_.for_loop(
        e_.index(0), query.seen, p_.lanes, none, [&](Emitted* j, const Values& carried) {
          Emitted* mask = e_.mask_below(e_.sub(query.seen, j), p_.lanes);
          const auto visible = [&](Emitted* x) { return e_.select(mask, x, none[0]); };
          const auto of_keys = [&](int64_t part) {
            return visible(memory_.load_scratch(part, j, p_.lanes));
          };
          Emitted* weight = visible(weight_of(j, factor, p_.lanes));
          Emitted* magnitude = e_.absolute(weight);
          Emitted* of_pair = visible(beta(query, of_keys(p_.gradients), p_.lanes));
          Emitted* error =
              times(times(magnitude, g), e_.ir().CreateFAdd(of_keys(p_.value_norms), y));
          if (of_lse) error = e_.fma(magnitude, of_lse, error);
          if (p_.use.by_key >= 0) {
            const auto join = [&](KeyNumber number, auto&& combine) {
              Emitted* at = number_at(number, j);
              Emitted* old = memory_.load(p_.use.by_key, at, p_.lanes, mask);
              memory_.store(combine(old), p_.use.by_key, at, mask);
            };
            const auto add = [&](KeyNumber number, Emitted* x, Emitted* factor_of_x) {
              join(number, [&](Emitted* old) { return e_.fma(x, factor_of_x, old); });
            };
            const auto raise = [&](KeyNumber number, Emitted* x) {
              join(number, [&](Emitted* old) { return e_.maximum(old, x); });
            };
            add(KeyNumber::mass, weight, e_.f32(1, p_.lanes));
            add(KeyNumber::square, weight, weight);
            add(KeyNumber::value_scale, magnitude, g);
            add(KeyNumber::gradient_square, g, g);
            add(KeyNumber::key_scale, times(error, q), size);
            raise(KeyNumber::largest_gradient, g);
            raise(KeyNumber::largest_beta, e_.absolute(of_pair));
            raise(KeyNumber::largest_query, q);
          }
          return Values{e_.fma(weight, of_pair, carried[0]), e_.ir().CreateFAdd(carried[1], error),
                        e_.fma(error, of_keys(p_.key_norms), carried[2]),
                        e_.ir().CreateFAdd(carried[3], weight)};
        });
    if (p_.use.by_query < 0) return;
    const auto set = [&](QueryNumber number, Emitted* x) {
      memory_.store(x, p_.use.by_query, number_at(number, query.t));
    };
    Emitted* scale = e_.f32(std::abs(p_.transform.scale));
    set(QueryNumber::row_sum, e_.reduce_add(sums[0]));
    set(QueryNumber::row_scale, e_.reduce_add(sums[1]));
    set(QueryNumber::query_scale, times(e_.reduce_add(sums[2]), scale));
    set(QueryNumber::query_bound, times(bound, scale));
    set(QueryNumber::weight_sum, e_.reduce_add(sums[3]));
    set(QueryNumber::gradient_output, query.gy);
  }

  Emitter& e_;
  const KernelMemory& memory_;
  const IdentitiesPlan& p_;
  Emitted *b_, *h_, *g_;
};

}  // namespace

KernelCode attention_identities_kernel(const Graph& region, const Target& target) {
  const IdentitiesPlan plan = plan_attention_identities(region, target);
  const size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {plan.tiles, plan.scratch_bytes, "attention identities " + structural_key(region),
          [plan, inputs, buffers](Emitter& e, const std::string& symbol) {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            const KernelFrame frame = e.begin_kernel(symbol, uses);
            const KernelMemory memory{e, frame, plan.elements};
            e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
              IdentitiesTile(memory, plan, e.div(tile, plan.H), e.rem(tile, plan.H)).emit();
            });
            e.end_kernel();
          }};
}

}  // namespace weir
