#include "codegen/attention/backward_prefetch.h"

#include <algorithm>

#include "codegen/attention/backward_task.h"
#include "support/align.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Rows of queries or keys anywhere: sequence, key head, query head, first row.
struct Rows {
  Emitted *b, *g, *h, *row;
};

Rows choose(Emitter& e, Emitted* condition, const Rows& x, const Rows& y) {
  return {e.select(condition, x.b, y.b), e.select(condition, x.g, y.g),
          e.select(condition, x.h, y.h), e.select(condition, x.row, y.row)};
}

// The next panel's keys, and where this one's gradients go, come with the last blocks of queries:
// before, they would only take room in the cache.
Prefetcher prefetch_keys(const BackwardTask& task, const PrefetchCounter& counter, const Rows& next,
                         const BackwardPosition& here) {
  Emitter& e = task.e;
  const BackwardPlan& p = task.p;
  constexpr int64_t some = 8;
  // The last panel is seen by the fewest blocks of queries.
  const int64_t hidden =
      p.causal() ? (p.S - 1) / p.panel_keys() * p.panel_keys() / p.query_block : 0;
  const int64_t fewest = std::max<int64_t>(p.query_blocks() - hidden, 1);
  const int64_t last = std::min(some, p.group() * fewest), part = ceil_div(p.panel_keys(), last);
  const auto blocks_from = [&](Emitted* t) {
    return e.div(e.add(e.sub(e.index(p.T), t), p.query_block - 1), p.query_block);
  };
  Emitted* heads_left = e.sub(e.index(p.group() - 1), here.in_group);
  Emitted* left = e.add(e.mul(heads_left, blocks_from(here.first)), blocks_from(here.queries.t0));
  Emitted* number = e.sub(e.index(last), left);
  std::vector<Prefetcher::Rows> rows;
  const auto add = [&](int position, Emitted* b, Emitted* g, Emitted* first) {
    if (position < 0) return;
    Emitted* row = e.add(first, e.mul(number, part));
    rows.push_back({head_rows(e, task.buffer(position), b, g, row, p.S, p.G, p.d), p.d});
  };
  add(p.use.k, next.b, next.g, next.row);
  add(p.use.v, next.b, next.g, next.row);
  add(p.use.dk, task.b, task.g, here.panel);
  add(p.use.dv, task.b, task.g, here.panel);
  Emitted* now = e.ir().CreateICmpSGE(number, e.index(0));
  return {e, counter, e.select(now, e.index(part), e.index(0)), ceil_div(part, p.register_blocks()),
          rows};
}

}  // namespace

BackwardPrefetch plan_prefetch(const BackwardTask& task, const BackwardCounters& counters,
                               const BackwardPosition& here) {
  Emitter& e = task.e;
  const BackwardPlan& p = task.p;
  const QueryBlock& queries = here.queries;
  Emitted* first_head = e.mul(task.g, p.group());
  Emitted* next_panel = e.add(here.panel, p.panel_keys());
  Emitted* last_panel = e.ir().CreateICmpSGE(next_panel, e.index(p.S));
  const Rows next_task{here.next_b, here.next_g, e.mul(here.next_g, p.group()), e.index(0)};
  const Rows keys = choose(e, last_panel, next_task, {task.b, task.g, first_head, next_panel});
  Emitted* next = e.add(queries.t0, p.query_block);
  Emitted* head_ends = e.ir().CreateICmpSGE(next, e.index(p.T));
  Emitted* last_head = e.ir().CreateICmpEQ(here.in_group, e.index(p.group() - 1));
  Rows rows = choose(e, head_ends, {task.b, task.g, e.add(queries.h, 1), here.first},
                     {task.b, task.g, queries.h, next});
  Emitted* panel_ends = e.ir().CreateAnd(head_ends, last_head);
  rows = choose(e, panel_ends, {keys.b, keys.g, keys.h, task.first_query(keys.row)}, rows);
  const auto rows_at = [&](const KernelArray& array, const Rows& at) {
    return Prefetcher::Rows{head_rows(e, array, at.b, at.h, at.row, p.T, p.H, p.d), p.d};
  };
  std::vector<Prefetcher::Rows> of_queries = {rows_at(task.buffer(p.use.q), rows)};
  if (p.use.gradients()) {
    of_queries.push_back(rows_at(task.buffer(p.use.dout), rows));
    // The first panel reads outputs and starts gradients of queries, the others go on with them.
    Emitted* first_panel =
        e.ir().CreateICmpEQ(e.select(panel_ends, keys.row, here.panel), e.index(0));
    // Of one type, as all operands with rows of queries.
    KernelArray array = task.buffer(p.use.dq >= 0 ? p.use.dq : p.use.out);
    array.base = e.select(first_panel, task.buffer(p.use.out).base, array.base);
    of_queries.push_back(rows_at(array, rows));
  }
  if (p.use.dq >= 0)
    of_queries.push_back(rows_at(task.buffer(p.use.dq), {task.b, task.g, queries.h, queries.t0}));
  // In this order: both set a counter.
  Prefetcher query_prefetch(e, counters.queries, e.index(p.query_block),
                            ceil_div(p.query_block, p.register_blocks()), of_queries);
  return {std::move(query_prefetch), prefetch_keys(task, counters.keys, keys, here)};
}

}  // namespace weir
