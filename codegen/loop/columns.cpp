#include "codegen/loop/columns.h"

#include <algorithm>

#include "support/error.h"

namespace weir {

using Values = Emitter::Values;

namespace {

class ColumnEmitter {
 public:
  ColumnEmitter(Emitter& e, const ColumnNest& nest, const LoopBuffers& buffers)
      : e_(e),
        nest_(nest),
        terms_(nest.terms),
        buffers_(buffers),
        body_(e, nest.terms, buffers.inputs, nest.vector_axis, nest.width) {
    if (nest.vector_axis >= 0) inner_ |= uint64_t{1} << nest.vector_axis;
    for (const LoopGroup& group : nest.reduced) inner_ |= uint64_t{1} << group.axis;
  }

  void tiles(Emitted* first, Emitted* last) {
    const int64_t columns = int64_t{nest_.panel} * nest_.width;
    const int64_t whole = nest_.extent / columns, rest = nest_.extent % columns;
    e_.for_loop(first, last, 1, [&](Emitted* tile) {
      set_indices(body_, nest_.kept, e_.div(tile, nest_.panels()));
      Emitted* panel = e_.rem(tile, nest_.panels());
      Emitted* base = e_.mul(panel, columns);
      auto compute = [&](int64_t count) {
        panel_at(base, count);
        return Values{};
      };
      if (rest == 0 || whole == 0) {
        compute(rest == 0 ? columns : rest);
        return;
      }
      e_.if_else(
          e_.ir().CreateICmpSLT(panel, e_.index(whole)), [&] { return compute(columns); },
          [&] { return compute(rest); });
    });
  }

 private:
  /// Columns [base, base + count).
  void panel_at(Emitted* base, int64_t count) {
    body_.open_scope();
    std::vector<Chunk> chunks;
    for (int64_t at = 0; at < count; at += nest_.width) {
      Emitted* mask = e_.mask_below(e_.index(count - at), nest_.width);
      chunks.push_back({e_.add(base, at), mask, {0, nest_.extent}, {}, {}, {}});
    }
    Values accumulators;
    for (int id : nest_.reductions) {
      body_.hoist(terms_.terms[id].operands[0], inner_);
      accumulators.insert(accumulators.end(), chunks.size(),
                          reduction_identity(e_, terms_.terms[id], nest_.width));
    }
    accumulators = reduce(0, chunks, accumulators);
    define(accumulators, chunks);
    write(chunks);
    body_.close_scope();
  }

  /// The loops over the reduced axes from the `depth`th inwards.
  Values reduce(size_t depth, const std::vector<Chunk>& chunks, const Values& before) {
    if (depth < nest_.reduced.size()) {
      const LoopGroup& group = nest_.reduced[depth];
      return e_.for_loop(e_.index(0), e_.index(group.extent), 1, before,
                         [&](Emitted* i, const Values& accumulators) {
                           body_.set_index(group.axis, i);
                           return reduce(depth + 1, chunks, accumulators);
                         });
    }
    body_.open_scope();
    Values accumulators = before;
    for (size_t j = 0; j < chunks.size(); ++j) {
      Chunk chunk = chunks[j];  // what it remembers holds for this row alone
      for (size_t r = 0; r < nest_.reductions.size(); ++r) {
        const Term& term = terms_.terms[nest_.reductions[r]];
        Emitted*& accumulator = accumulators[r * chunks.size() + j];
        accumulator = combine(e_, term, accumulator, element(term.operands[0], chunk));
      }
    }
    body_.close_scope();
    return accumulators;
  }

  Emitted* element(int term, Chunk& chunk) {
    return nest_.vector_axis < 0 ? body_.scalar(term) : body_.vector(term, chunk);
  }

  void define(const Values& accumulators, std::vector<Chunk>& chunks) {
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      const int id = nest_.reductions[r];
      const Term& term = terms_.terms[id];
      for (size_t j = 0; j < chunks.size(); ++j) {
        Emitted* value = finish_reduction(e_, term, accumulators[r * chunks.size() + j]);
        chunks[j].define(id, value);
        if (j == 0 && (nest_.vector_axis < 0 || !terms_.depends(id, nest_.vector_axis)))
          body_.define(id, nest_.width == 1 ? value : e_.slice(value, 0, 1));
      }
    }
  }

  void write(std::vector<Chunk>& chunks) {
    if (nest_.vector_axis < 0) {
      for (const LoopStore& store : terms_.stores) body_.scalar(store.term);
      for (const LoopStore& store : terms_.stores)
        body_.store_scalar(store, buffers_.outputs[store.output]);
      return;
    }
    for (Chunk& chunk : chunks) {
      for (const LoopStore& store : terms_.stores) body_.vector(store.term, chunk);
      for (const LoopStore& store : terms_.stores) {
        WEIR_CHECK(store.strides[nest_.vector_axis] != 0, "column outputs of different shapes");
        body_.store(store, buffers_.outputs[store.output], chunk);
      }
    }
  }

  Emitter& e_;
  const ColumnNest& nest_;
  const LoopTerms& terms_;
  const LoopBuffers& buffers_;
  LoopBody body_;
  uint64_t inner_ = 0;  // the axes looped over inside a tile
};

}  // namespace

void emit_columns(Emitter& e, const ColumnNest& nest, const LoopBuffers& buffers, Emitted* first,
                  Emitted* last) {
  ColumnEmitter(e, nest, buffers).tiles(first, last);
}

}  // namespace weir
