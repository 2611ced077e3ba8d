#include "codegen/loop/rows.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "codegen/loop/blocks.h"
#include "support/error.h"

namespace weir {

using Values = Emitter::Values;

namespace {

constexpr size_t kMostVersions = 8;  // of the code of a row, one for each case of its choices

/// [0, whole) cut so that, but for the steps that hold a breakpoint, every choice is constant
/// within a part. All limits are multiples of `step`.
std::vector<LoopRange> cut(int64_t whole, int64_t step, const std::vector<int64_t>& points) {
  std::set<int64_t> limits = {0, whole};
  for (int64_t point : points) {
    limits.insert(std::min(whole, point / step * step));
    limits.insert(std::min(whole, (point + step - 1) / step * step));
  }
  if (limits.size() > kMostVersions + 1) limits = {0, whole};
  std::vector<LoopRange> parts;
  for (auto limit = limits.begin(); std::next(limit) != limits.end(); ++limit)
    parts.push_back({*limit, *std::next(limit)});
  return parts;
}

/// Emits the code of one row, or of the columns of it that a tile has.
class RowEmitter {
 public:
  /// `column`: the first column of the tile; nullptr when rows are not cut.
  RowEmitter(Emitter& e, const RowNest& nest, const LoopBuffers& buffers, LoopBody& body,
             Emitted* column)
      : e_(e),
        nest_(nest),
        terms_(nest.terms),
        buffers_(buffers),
        body_(body),
        column_(column),
        cases_(cases_of(nest)) {}

  /// The indices of the outer axes are those of the row.
  void row() { versions(0); }

 private:
  /// An outer axis along which choices change, and where.
  struct Case {
    LoopGroup group;
    std::vector<int64_t> points;
  };
  /// One pass over the row: a phase, or the last one, which writes.
  struct Pass {
    int number;
    int64_t extent;
    std::map<int64_t, std::vector<Chunk>>& registers;  ///< vectors of short rows, by extent
  };

  static std::vector<Case> cases_of(const RowNest& nest) {
    std::vector<Case> cases;
    size_t versions = 1;
    for (const LoopGroup& group : nest.outer) {
      auto points = breakpoints(nest.terms, group.axis, group.extent);
      versions *= points.size() + 1;
      if (!points.empty()) cases.push_back({group, points});
    }
    // Beyond that, conditions are evaluated where they are met.
    if (versions > kMostVersions) cases.clear();
    return cases;
  }

  /// Branches on where the row lies, one version of its code for each case.
  void versions(size_t axis) {
    if (axis == cases_.size()) return passes();
    const Case& cases = cases_[axis];
    Emitted* index = body_.index(cases.group.axis);
    std::function<void(size_t, int64_t)> from = [&](size_t i, int64_t low) {
      const bool final = i == cases.points.size();
      const int64_t high = final ? cases.group.extent : cases.points[i];
      auto inside = [&] {
        body_.set_range(cases.group.axis, {low, high});
        versions(axis + 1);
        return Values{};
      };
      if (final) {
        inside();
        return;
      }
      e_.if_else(e_.ir().CreateICmpSLT(index, e_.index(high)), inside, [&] {
        from(i + 1, high);
        return Values{};
      });
    };
    from(0, 0);
  }

  void passes() {
    body_.open_scope();
    std::map<int64_t, std::vector<Chunk>> registers;
    int number = 0;
    for (const Phase& phase : nest_.phases) reduce(phase, {number++, phase.extent, registers});
    write({number, nest_.extent, registers});
    body_.close_scope();
  }

  // --- the vectors of a row ---

  using ChunksBody = std::function<Values(std::vector<Chunk>&, const Values&)>;

  Values in_scope(std::vector<Chunk> chunks, const Values& carried, const ChunksBody& body) {
    body_.open_scope();
    Values result = body(chunks, carried);
    body_.close_scope();
    return result;
  }

  /// Walks the row (or the tile's columns of it) `step` elements at a time, carrying values along.
  Values walk(const Pass& pass, int64_t step, const Values& carried, const ChunksBody& body) {
    body_.recall = [this, &pass](int term, Chunk& chunk) { return recall(pass, term, chunk); };
    body_.remember = [this, &pass](int term, Chunk& chunk, Emitted* value) {
      remember(pass, term, chunk, value);
    };
    Values result = walk_vectors(pass, step, carried, body);
    body_.recall = nullptr;
    body_.remember = nullptr;
    return result;
  }

  Values walk_vectors(const Pass& pass, int64_t step, Values carried, const ChunksBody& body) {
    const int64_t extent = pass.extent;
    if (nest_.in_registers) {
      auto [row, fresh] = pass.registers.try_emplace(extent);
      if (fresh) row->second = chunks_of(e_, nest_.width, 0, extent);
      return body(row->second, carried);
    }
    const int64_t whole = extent / step * step;
    if (whole > 0)
      for (LoopRange part : cut(whole, step, breakpoints(terms_, nest_.vector_axis, extent)))
        carried = walk_part(part, step, carried, body);
    if (whole == extent) return carried;
    auto tail = [&] { return in_scope(chunks_of(e_, nest_.width, whole, extent), carried, body); };
    if (!column_) return tail();
    Emitted* last = e_.ir().CreateICmpSGE(e_.add(column_, nest_.tile_columns), e_.index(extent));
    return e_.if_else(last, tail, [&] { return carried; });
  }

  Values walk_part(LoopRange part, int64_t step, const Values& carried, const ChunksBody& body) {
    if (!column_ && part.high - part.low == step)
      return in_scope(chunks_of(e_, nest_.width, part.low, part.high), carried, body);
    Emitted* begin = e_.index(part.low);
    Emitted* end = e_.index(part.high);
    if (column_) {
      begin = e_.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, begin, column_);
      end = e_.min_index(end, e_.add(column_, nest_.tile_columns));
    }
    return e_.for_loop(begin, end, step, carried, [&](Emitted* i, const Values& values) {
      std::vector<Chunk> chunks;
      for (int64_t at = 0; at < step; at += nest_.width)
        chunks.push_back(chunk_at(e_.add(i, at), part));
      return in_scope(std::move(chunks), values, body);
    });
  }

  // --- passes ---

  void reduce(const Phase& phase, const Pass& pass) {
    int64_t step = int64_t{nest_.width} * nest_.unroll;
    Values initial;
    for (int id : phase.reductions) {
      const Term& term = terms_.terms[id];
      step = std::max(step, term.lanes);
      body_.hoist(term.operands[0], uint64_t{1} << nest_.vector_axis);
      initial.insert(initial.end(), term.lanes / nest_.width,
                     reduction_identity(e_, term, nest_.width));
    }
    Values parts = walk(pass, step, initial, [&](std::vector<Chunk>& chunks, const Values& before) {
      return accumulate(phase, chunks, before);
    });
    size_t first = 0;
    for (int id : phase.reductions) {
      const Term& term = terms_.terms[id];
      const size_t count = term.lanes / nest_.width;
      Values own(parts.begin() + first, parts.begin() + first + count);
      body_.define(id, finish_reduction(e_, term, join_lanes(e_, term, own)));
      first += count;
    }
  }

  Values accumulate(const Phase& phase, std::vector<Chunk>& chunks, const Values& before) {
    Values parts = before;
    for (size_t j = 0; j < chunks.size(); ++j) {
      size_t first = 0;
      for (int id : phase.reductions) {
        const Term& term = terms_.terms[id];
        const size_t count = term.lanes / nest_.width;
        Emitted*& part = parts[first + j % count];
        Emitted* sum = combine(e_, term, part, body_.vector(term.operands[0], chunks[j]));
        part = chunks[j].mask ? e_.select(chunks[j].mask, sum, part) : sum;
        first += count;
      }
    }
    return parts;
  }

  /// The last pass. All values of a vector are computed before the first is stored, and a row's
  /// scalars are stored after its vectors, so that an output may overwrite an input of the same
  /// access.
  void write(const Pass& pass) {
    std::vector<const LoopStore*> vectors, scalars;
    for (const LoopStore& store : terms_.stores) {
      const bool along = nest_.vector_axis >= 0 && store.strides[nest_.vector_axis] != 0;
      (along ? vectors : scalars).push_back(&store);
      body_.hoist(store.term, nest_.vector_axis < 0 ? 0 : uint64_t{1} << nest_.vector_axis);
    }
    if (!vectors.empty())
      walk(pass, int64_t{nest_.width} * nest_.unroll, {},
           [&](std::vector<Chunk>& chunks, const Values&) {
             for (Chunk& chunk : chunks) {
               for (const LoopStore* store : vectors) body_.vector(store->term, chunk);
               for (const LoopStore* store : vectors)
                 body_.store(*store, buffers_.outputs[store->output], chunk);
             }
             return Values{};
           });
    for (const LoopStore* store : scalars) body_.scalar(store->term);
    for (const LoopStore* store : scalars)
      body_.store_scalar(*store, buffers_.outputs[store->output]);
  }

  // --- rows kept in scratch memory ---

  Emitted* kept_address(const KeptRow& row) {
    return e_.byte_address(buffers_.scratch, row.slot * nest_.slot_bytes);
  }
  Storage kept_storage(int term) const {
    return storage_of(register_type(terms_.terms[term].dtype));
  }
  Emitted* recall(const Pass& pass, int term, Chunk& chunk) {
    auto found = nest_.kept.find(term);
    if (found == nest_.kept.end() || pass.number <= found->second.pass ||
        pass.extent != found->second.extent)
      return nullptr;
    return e_.load(kept_storage(term), kept_address(found->second), chunk.base, nest_.width);
  }
  void remember(const Pass& pass, int term, Chunk& chunk, Emitted* value) {
    auto found = nest_.kept.find(term);
    if (found != nest_.kept.end() && pass.number == found->second.pass)
      e_.store(kept_storage(term), value, kept_address(found->second), chunk.base);
  }

  Emitter& e_;
  const RowNest& nest_;
  const LoopTerms& terms_;
  const LoopBuffers& buffers_;
  LoopBody& body_;
  Emitted* const column_;
  const std::vector<Case> cases_;
};

}  // namespace

void emit_rows(Emitter& e, const RowNest& nest, const LoopBuffers& buffers, Emitted* first,
               Emitted* last) {
  LoopBody body(e, nest.terms, buffers.inputs, nest.vector_axis, nest.width);
  e.for_loop(first, last, 1, [&](Emitted* tile) {
    Emitted* row = e.mul(e.div(tile, nest.column_tiles()), nest.tile_rows);
    Emitted* end = e.min_index(e.add(row, nest.tile_rows), e.index(nest.rows));
    Emitted* column = nullptr;
    if (nest.column_tiles() > 1)
      column = e.mul(e.rem(tile, nest.column_tiles()), nest.tile_columns);
    e.for_loop(row, end, 1, [&](Emitted* r) {
      set_indices(body, nest.outer, r);
      if (nest.blocked_axis >= 0)
        emit_transposed_blocks(e, nest, buffers, body, column);
      else
        RowEmitter(e, nest, buffers, body, column).row();
    });
  });
}

void set_indices(LoopBody& body, const std::vector<LoopGroup>& groups, Emitted* row) {
  Emitter& e = body.emitter();
  for (size_t g = groups.size(); g-- > 0;) {
    body.set_index(groups[g].axis, g == 0 ? row : e.rem(row, groups[g].extent));
    row = e.div(row, groups[g].extent);
  }
}

Emitted* reduction_identity(Emitter& e, const Term& reduction, int lanes) {
  const bool floating = is_float(reduction.dtype);
  const double infinity = std::numeric_limits<double>::infinity();
  using Integer = std::numeric_limits<int32_t>;
  if (reduction.op == Op::reduce_max)
    return floating ? e.f32(-infinity, lanes) : e.i32(Integer::min(), lanes);
  if (reduction.op == Op::reduce_min)
    return floating ? e.f32(infinity, lanes) : e.i32(Integer::max(), lanes);
  WEIR_CHECK(reduction.op == Op::reduce_sum, "{} is not lowered", op_name(reduction.op));
  return floating ? e.f32(-0.0, lanes) : e.i32(0, lanes);
}

Emitted* combine(Emitter& e, const Term& reduction, Emitted* a, Emitted* b) {
  const Op op = reduction.op == Op::reduce_max   ? Op::maximum
                : reduction.op == Op::reduce_min ? Op::minimum
                                                 : Op::add;
  const DType type = register_type(reduction.dtype);
  return emit_elementwise(e, op, type, type, {a, b});
}

Emitted* join_lanes(Emitter& e, const Term& reduction, std::vector<Emitted*> parts) {
  for (size_t half = parts.size() / 2; half >= 1; half /= 2)
    for (size_t j = 0; j < half; ++j) parts[j] = combine(e, reduction, parts[j], parts[j + half]);
  return e.reduce(parts[0], [&](Emitted* a, Emitted* b) { return combine(e, reduction, a, b); });
}

Emitted* finish_reduction(Emitter& e, const Term& reduction, Emitted* value) {
  return emit_elementwise(e, Op::identity, reduction.dtype, reduction.dtype, {value});
}

}  // namespace weir
