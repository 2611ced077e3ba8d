#include "codegen/attention/backward_task.h"

#include "codegen/attention/scores.h"

namespace weir {

using Emitted = llvm::Value;

Emitted* BackwardTask::statistic_row(Emitted* h, Emitted* t) const {
  return e.add(e.mul(e.add(e.mul(b, p.H), h), p.T), t);
}
Emitted* BackwardTask::reference_at(Emitted* h, Emitted* t) const {
  return e.add(e.mul(e.add(e.mul(b, p.H), h), p.row_numbers * p.T), t);
}
RowState BackwardTask::load_row(Emitted* at_row, int lanes, Emitted* mask) const {
  return p.row_state(
      [&](int i) { return memory.load(use.rows, e.add(at_row, i * p.T), lanes, mask); });
}

void BackwardTask::for_each_head(
    const std::function<void(Emitted* in_group, Emitted* h)>& body) const {
  e.for_loop(e.index(0), e.index(p.group()), 1,
             [&](Emitted* in_group) { body(in_group, e.add(e.mul(g, p.group()), in_group)); });
}
void BackwardTask::for_each_panel(const std::function<void(Emitted* panel)>& body) const {
  e.for_loop(e.index(0), e.index(p.S), p.panel_keys(), body);
}
void BackwardTask::for_each_block(Emitted* panel,
                                  const std::function<void(const KeyBlock&)>& body) const {
  Emitted* end = e.min_index(e.add(panel, p.panel_keys()), e.index(p.S));
  e.for_loop(panel, end, p.key_block, [&](Emitted* j0) {
    body({e.div(e.sub(j0, panel), p.key_block), j0,
          e.min_index(e.index(p.key_block), e.sub(end, j0))});
  });
}
void BackwardTask::for_each_queries(
    Emitted* first, const std::function<void(Emitted* in_group, const QueryBlock&)>& body) const {
  for_each_head([&](Emitted* in_group, Emitted* h) {
    e.for_loop(first, e.index(p.T), p.query_block, [&](Emitted* t0) {
      Emitted* rows = e.min_index(e.index(p.query_block), e.sub(e.index(p.T), t0));
      body(in_group, {h, t0, rows, e.add(e.mul(in_group, p.T), t0)});
    });
  });
}
void BackwardTask::for_each_pair(const QueryBlock& queries, Emitted* panel,
                                 const std::function<void(const KeyBlock&)>& body) const {
  for_each_block(panel, [&](const KeyBlock& keys) {
    if (!p.causal()) return body(keys);
    e.if_then(e.ir().CreateICmpSLT(keys.j0, e.add(queries.t0, queries.rows)), [&] { body(keys); });
  });
}
Emitted* BackwardTask::first_query(Emitted* panel) const {
  if (!p.causal()) return e.index(0);
  return e.mul(e.div(panel, p.query_block), p.query_block);
}
Emitted* BackwardTask::seen(const KeyBlock& keys, int64_t c, Emitted* query, int lanes) const {
  Emitted* count = keys_seen(e, p.transform, keys.count, keys.j0, query);
  return e.mask_below(e.sub(count, e.index(c)), lanes);
}

void BackwardTask::pack_keys_transposed(const KeyBlock& keys) const {
  emit_block_transpose(e, keys.count, p.padded_keys, p.d, rows_of_keys(use.k, keys.j0),
                       memory.scratch_part(at.k_transposed, keys.i, p.padded_keys * p.d),
                       p.transform.keys_scale);
}
void BackwardTask::copy_keys_in(const KeyBlock& keys) const {
  emit_block_copy(e, {keys.count, p.d, rows_of_keys(use.k, keys.j0),
                      in_panel(at.keys, keys.i, p.key_block, p.stride), nullptr, nullptr});
}
void BackwardTask::copy_key_sums_out(const KeyBlock& keys) const {
  emit_block_copy(e, {keys.count, p.d, in_panel(at.key_sums, keys.i, p.key_rows, p.stride),
                      rows_of_keys(use.dk, keys.j0), nullptr, nullptr});
}
void BackwardTask::copy_queries_in(const QueryBlock& queries, int position, int64_t part) const {
  emit_block_copy(e, {queries.rows, p.d, rows_of_queries(position, queries.h, queries.t0),
                      matrix(part, p.stride), nullptr, nullptr});
}
void BackwardTask::copy_query_sums_out(const QueryBlock& queries) const {
  emit_block_copy(e, {queries.rows, p.d, matrix(at.query_sums, p.stride),
                      rows_of_queries(use.dq, queries.h, queries.t0), nullptr, nullptr});
}

Emitted* BackwardTask::at_least_zero(Emitted* index) const {
  return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, index, e.index(0));
}

void BackwardTask::emit_scores(const QueryBlock& queries, const KeyBlock& keys, int64_t part,
                               int64_t transposed, int64_t to,
                               const BackwardPrefetch* prefetch) const {
  BlockProduct product;
  product.tile = p.score_tile;
  product.a = matrix(part, p.stride);
  product.b = in_panel(transposed, keys.i, p.d, p.padded_keys);
  product.c = matrix(to, p.padded_keys);
  product.rows = queries.rows;
  product.columns = p.padded_keys;
  // With a causal mask the queries before a group of keys see none of it.
  if (p.causal())
    product.first_row = [&](Emitted* column) {
      return at_least_zero(e.sub(e.add(keys.j0, column), queries.t0));
    };
  product.depth = [&](Emitted*) { return BlockProduct::Range{e.index(0), e.index(p.d)}; };
  emit_product(product, prefetch);
}

void BackwardTask::add_by_key(const QueryBlock& queries, const KeyBlock& keys, int64_t part,
                              int64_t other, int64_t to, const BackwardPrefetch* prefetch) const {
  BlockProduct product;
  product.tile = p.key_tile;
  product.a = {scratch(part), e.index(0), 1, p.padded_keys};
  product.b = matrix(other, p.stride);
  product.c = in_panel(to, keys.i, p.key_rows, p.stride);
  product.rows = keys.count;
  product.columns = whole_vectors(p.d, p.lanes);
  product.depth = [&](Emitted* row) {
    Emitted* first = e.index(0);
    if (p.causal()) {
      first = at_least_zero(e.sub(e.add(keys.j0, row), queries.t0));
      first = e.min_index(first, queries.rows);
    }
    return BlockProduct::Range{first, queries.rows};
  };
  product.accumulate = true;
  emit_product(product, prefetch);
}

void BackwardTask::add_by_query(const QueryBlock& queries, const KeyBlock& keys,
                                const BackwardPrefetch* prefetch) const {
  BlockProduct product;
  product.tile = p.query_tile;
  product.a = matrix(at.score_grads, p.padded_keys);
  product.b = in_panel(at.keys, keys.i, p.key_block, p.stride);
  product.c = matrix(at.query_sums, p.stride);
  product.rows = queries.rows;
  product.columns = whole_vectors(p.d, p.lanes);
  product.depth = [&](Emitted* row) {
    Emitted* end = keys.count;
    if (p.causal()) {
      end = e.min_index(end, e.sub(e.add(queries.t0, e.add(row, p.query_tile.rows)), keys.j0));
      end = at_least_zero(end);
    }
    return BlockProduct::Range{e.index(0), end};
  };
  product.accumulate = true;
  emit_product(product, prefetch);
}

void BackwardTask::emit_product(BlockProduct& product, const BackwardPrefetch* prefetch) const {
  if (prefetch)
    product.finish = [prefetch](Emitted*, Emitted*, std::vector<Emitted*>&) { prefetch->issue(); };
  emit_block_product(e, product);
}

}  // namespace weir
