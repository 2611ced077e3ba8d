#include "codegen/loop/blocks.h"

#include <map>
#include <set>

namespace weir {
namespace {

using Values = Emitter::Values;

class BlockEmitter {
 public:
  BlockEmitter(Emitter& e, const RowNest& nest, const LoopBuffers& buffers, LoopBody& body,
               Emitted* column)
      : e_(e),
        nest_(nest),
        terms_(nest.terms),
        buffers_(buffers),
        body_(body),
        column_(column),
        blocked_(blocked_loads(nest)) {}

  /// `width` rows from the current block of the blocked axis, or those that are left, over the
  /// tile's columns.
  void blocks() const {
    Emitted* begin = e_.mul(body_.index(nest_.blocked_axis), nest_.width);
    Emitted* end = e_.min_index(e_.add(begin, nest_.width), e_.index(nest_.blocked_extent));
    Emitted* complete = e_.ir().CreateICmpEQ(e_.sub(end, begin), e_.index(nest_.width));
    auto each_row = [&](const Chunk& chunk) {
      e_.for_loop(begin, end, 1, [&](Emitted* row) { write_row(row, chunk); });
    };
    Emitted* column = column_ ? column_ : e_.index(0);
    const int64_t whole = nest_.extent / nest_.width * nest_.width;
    Emitted* limit = e_.min_index(e_.add(column, nest_.tile_columns), e_.index(whole));
    e_.for_loop(column, limit, nest_.width, [&](Emitted* i) {
      const Chunk chunk = chunk_at(i, {0, whole});
      e_.if_else(
          complete,
          [&] {
            block(begin, chunk);
            return Values{};
          },
          [&] {
            each_row(chunk);
            return Values{};
          });
    });
    if (whole == nest_.extent) return;
    const Chunk tail = chunks_of(e_, nest_.width, whole, nest_.extent)[0];
    e_.if_then(e_.ir().CreateICmpSGE(e_.add(column, nest_.tile_columns), e_.index(nest_.extent)),
               [&] { each_row(tail); });
  }

 private:
  /// The loads to be transposed: those met whatever the choices.
  static std::set<int> blocked_loads(const RowNest& nest) {
    std::set<int> blocked;
    for (const LoopStore& store : nest.terms.stores) find_blocked(nest, store.term, blocked);
    return blocked;
  }
  static void find_blocked(const RowNest& nest, int id, std::set<int>& blocked) {
    const Term& term = nest.terms.terms[id];
    if (term.kind == TermKind::load && term.strides[nest.blocked_axis] == 1 &&
        term.strides[nest.vector_axis] > 1)
      blocked.insert(id);
    if (term.kind == TermKind::compute)
      for (int operand : term.operands) find_blocked(nest, operand, blocked);
  }

  void block(Emitted* begin, const Chunk& chunk) const {
    body_.open_scope();
    body_.set_index(nest_.blocked_axis, begin);
    std::map<int, std::vector<Emitted*>> rows;
    for (int load : blocked_) rows[load] = body_.block(load, nest_.blocked_axis, chunk);
    body_.close_scope();
    for (int64_t k = 0; k < nest_.width; ++k) {
      Chunk row = chunk;
      for (int load : blocked_) row.define(load, rows[load][k]);
      write_row(e_.add(begin, k), row);
    }
  }

  void write_row(Emitted* index, Chunk chunk) const {
    body_.open_scope();
    body_.set_index(nest_.blocked_axis, index);
    for (const LoopStore& store : terms_.stores) body_.vector(store.term, chunk);
    for (const LoopStore& store : terms_.stores)
      body_.store(store, buffers_.outputs[store.output], chunk);
    body_.close_scope();
  }

  Emitter& e_;
  const RowNest& nest_;
  const LoopTerms& terms_;
  const LoopBuffers& buffers_;
  LoopBody& body_;
  Emitted* const column_;
  const std::set<int> blocked_;  // loads
};

}  // namespace

void emit_transposed_blocks(Emitter& e, const RowNest& nest, const LoopBuffers& buffers,
                            LoopBody& body, Emitted* column) {
  BlockEmitter(e, nest, buffers, body, column).blocks();
}

}  // namespace weir
