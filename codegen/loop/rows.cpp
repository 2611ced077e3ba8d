#include "codegen/loop/rows.h"

#include <algorithm>
#include <limits>
#include <set>

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

class RowEmitter {
 public:
  RowEmitter(Emitter& e, const RowNest& nest, const LoopBuffers& buffers)
      : e_(e),
        nest_(nest),
        terms_(nest.terms),
        buffers_(buffers),
        body_(e, nest.terms, buffers.inputs, nest.vector_axis, nest.width) {
    body_.recall = [this](int term, Chunk& chunk) { return recall(term, chunk); };
    body_.remember = [this](int term, Chunk& chunk, Emitted* value) {
      remember(term, chunk, value);
    };
    size_t versions = 1;
    for (const LoopGroup& group : nest.outer) {
      auto points = breakpoints(terms_, group.axis, group.extent);
      versions *= points.size() + 1;
      if (!points.empty()) cases_.push_back({group, points});
    }
    // Beyond that, and in blocks of rows, conditions are evaluated where they are met.
    if (versions > kMostVersions || nest.blocked_axis >= 0) cases_.clear();
    if (nest.blocked_axis >= 0)
      for (const LoopStore& store : terms_.stores) find_blocked(store.term);
  }

  void tiles(Emitted* first, Emitted* last) {
    e_.for_loop(first, last, 1, [&](Emitted* tile) {
      Emitted* row = e_.mul(e_.div(tile, nest_.column_tiles()), nest_.tile_rows);
      Emitted* end = e_.min_index(e_.add(row, nest_.tile_rows), e_.index(nest_.rows));
      column_ = nullptr;
      if (nest_.column_tiles() > 1)
        column_ = e_.mul(e_.rem(tile, nest_.column_tiles()), nest_.tile_columns);
      e_.for_loop(row, end, 1, [&](Emitted* r) {
        set_indices(body_, nest_.outer, r);
        if (nest_.blocked_axis >= 0)
          blocks();
        else
          versions(0, r);
      });
    });
  }

 private:
  struct Case {
    LoopGroup group;
    std::vector<int64_t> points;
  };

  /// Branches on where the row lies, one version of its code for each case.
  void versions(size_t axis, Emitted* row) {
    if (axis == cases_.size()) {
      this->row();
      return;
    }
    const Case& cases = cases_[axis];
    Emitted* index = body_.index(cases.group.axis);
    std::function<void(size_t, int64_t)> from = [&](size_t i, int64_t low) {
      const bool final = i == cases.points.size();
      const int64_t high = final ? cases.group.extent : cases.points[i];
      auto inside = [&] {
        body_.set_range(cases.group.axis, {low, high});
        versions(axis + 1, row);
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

  void row() {
    body_.open_scope();
    registers_.clear();
    for (pass_ = 0; pass_ < static_cast<int>(nest_.phases.size()); ++pass_)
      reduce(nest_.phases[pass_]);
    write();
    body_.close_scope();
  }

  // --- square blocks of rows and columns, transposed in registers ---

  /// The loads to be transposed: those met whatever the choices.
  void find_blocked(int id) {
    const Term& term = terms_.terms[id];
    if (term.kind == TermKind::load && term.strides[nest_.blocked_axis] == 1 &&
        term.strides[nest_.vector_axis] > 1)
      blocked_.insert(id);
    if (term.kind == TermKind::compute)
      for (int operand : term.operands) find_blocked(operand);
  }

  /// `width` rows from the current block of the blocked axis, or those that are left, over the
  /// tile's columns.
  void blocks() {
    Emitted* begin = e_.mul(body_.index(nest_.blocked_axis), nest_.width);
    Emitted* end = e_.min_index(e_.add(begin, nest_.width), e_.index(nest_.blocked_extent));
    Emitted* complete = e_.ir().CreateICmpEQ(e_.sub(end, begin), e_.index(nest_.width));
    auto each_row = [&](const Chunk& chunk) {
      e_.for_loop(begin, end, 1, [&](Emitted* row) { write_block_row(row, chunk); });
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
    const Chunk tail = chunks_of(whole, nest_.extent)[0];
    e_.if_then(e_.ir().CreateICmpSGE(e_.add(column, nest_.tile_columns), e_.index(nest_.extent)),
               [&] { each_row(tail); });
  }

  void block(Emitted* begin, const Chunk& chunk) {
    body_.open_scope();
    body_.set_index(nest_.blocked_axis, begin);
    std::map<int, std::vector<Emitted*>> rows;
    for (int load : blocked_) rows[load] = body_.block(load, nest_.blocked_axis, chunk);
    body_.close_scope();
    for (int64_t k = 0; k < nest_.width; ++k) {
      Chunk row = chunk;
      for (int load : blocked_) row.define(load, rows[load][k]);
      write_block_row(e_.add(begin, k), row);
    }
  }

  void write_block_row(Emitted* index, Chunk chunk) {
    body_.open_scope();
    body_.set_index(nest_.blocked_axis, index);
    for (const LoopStore& store : terms_.stores) body_.vector(store.term, chunk);
    for (const LoopStore& store : terms_.stores)
      body_.store(store, buffers_.outputs[store.output], chunk);
    body_.close_scope();
  }

  // --- the vectors of a row ---

  Chunk chunk_at(Emitted* base, LoopRange range) const {
    return {base, nullptr, range, {}, {}, {}};
  }

  /// Vectors of [low, high), both known; the last one may be partial.
  std::vector<Chunk> chunks_of(int64_t low, int64_t high) {
    std::vector<Chunk> chunks;
    for (int64_t at = low; at < high; at += nest_.width) {
      chunks.push_back(chunk_at(e_.index(at), {at, std::min(high, at + nest_.width)}));
      chunks.back().mask = e_.mask_below(e_.index(high - at), nest_.width);
    }
    return chunks;
  }

  using ChunksBody = std::function<Values(std::vector<Chunk>&, const Values&)>;

  Values in_scope(std::vector<Chunk> chunks, const Values& carried, const ChunksBody& body) {
    body_.open_scope();
    Values result = body(chunks, carried);
    body_.close_scope();
    return result;
  }

  /// Walks the row (or the tile's columns of it) `step` elements at a time, carrying values along.
  Values walk(int64_t extent, int64_t step, Values carried, const ChunksBody& body) {
    extent_ = extent;
    if (nest_.in_registers) {
      auto [row, fresh] = registers_.try_emplace(extent);
      if (fresh) row->second = chunks_of(0, extent);
      return body(row->second, carried);
    }
    const int64_t whole = extent / step * step;
    if (whole > 0)
      for (LoopRange part : cut(whole, step, breakpoints(terms_, nest_.vector_axis, extent)))
        carried = walk_part(part, step, carried, body);
    if (whole == extent) return carried;
    auto tail = [&] { return in_scope(chunks_of(whole, extent), carried, body); };
    if (!column_) return tail();
    Emitted* last = e_.ir().CreateICmpSGE(e_.add(column_, nest_.tile_columns), e_.index(extent));
    return e_.if_else(last, tail, [&] { return carried; });
  }

  Values walk_part(LoopRange part, int64_t step, const Values& carried, const ChunksBody& body) {
    if (!column_ && part.high - part.low == step)
      return in_scope(chunks_of(part.low, part.high), carried, body);
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

  void reduce(const Phase& phase) {
    int64_t step = int64_t{nest_.width} * nest_.unroll;
    Values initial;
    for (int id : phase.reductions) {
      const Term& term = terms_.terms[id];
      step = std::max(step, term.lanes);
      body_.hoist(term.operands[0], uint64_t{1} << nest_.vector_axis);
      initial.insert(initial.end(), term.lanes / nest_.width,
                     reduction_identity(e_, term, nest_.width));
    }
    Values parts =
        walk(phase.extent, step, initial, [&](std::vector<Chunk>& chunks, const Values& before) {
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
  void write() {
    std::vector<const LoopStore*> vectors, scalars;
    for (const LoopStore& store : terms_.stores) {
      const bool along = nest_.vector_axis >= 0 && store.strides[nest_.vector_axis] != 0;
      (along ? vectors : scalars).push_back(&store);
      body_.hoist(store.term, nest_.vector_axis < 0 ? 0 : uint64_t{1} << nest_.vector_axis);
    }
    if (!vectors.empty())
      walk(nest_.extent, int64_t{nest_.width} * nest_.unroll, {},
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
  Emitted* recall(int term, Chunk& chunk) {
    auto found = nest_.kept.find(term);
    if (found == nest_.kept.end() || pass_ <= found->second.pass || extent_ != found->second.extent)
      return nullptr;
    return e_.load(kept_storage(term), kept_address(found->second), chunk.base, nest_.width);
  }
  void remember(int term, Chunk& chunk, Emitted* value) {
    auto found = nest_.kept.find(term);
    if (found != nest_.kept.end() && pass_ == found->second.pass)
      e_.store(kept_storage(term), value, kept_address(found->second), chunk.base);
  }

  Emitter& e_;
  const RowNest& nest_;
  const LoopTerms& terms_;
  const LoopBuffers& buffers_;
  LoopBody body_;
  std::vector<Case> cases_;
  Emitted* column_ = nullptr;  // first column of the tile, when rows are cut
  std::set<int> blocked_;      // loads transposed in registers
  int pass_ = 0;               // phases, then the pass that writes
  int64_t extent_ = 0;         // of the pass
  std::map<int64_t, std::vector<Chunk>> registers_;
};

}  // namespace

void emit_rows(Emitter& e, const RowNest& nest, const LoopBuffers& buffers, Emitted* first,
               Emitted* last) {
  RowEmitter(e, nest, buffers).tiles(first, last);
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
