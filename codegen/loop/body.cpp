#include "codegen/loop/body.h"

#include <algorithm>

#include "support/error.h"

namespace weir {

Chunk chunk_at(Emitted* base, LoopRange range) { return {base, nullptr, range, {}, {}, {}}; }

std::vector<Chunk> chunks_of(Emitter& e, int width, int64_t low, int64_t high) {
  std::vector<Chunk> chunks;
  for (int64_t at = low; at < high; at += width) {
    chunks.push_back(chunk_at(e.index(at), {at, std::min(high, at + width)}));
    chunks.back().mask = e.mask_below(e.index(high - at), width);
  }
  return chunks;
}

LoopBody::LoopBody(Emitter& e, const LoopTerms& terms, const std::vector<Emitted*>& inputs,
                   int vector_axis, int width)
    : e_(e),
      terms_(terms),
      inputs_(inputs),
      vector_axis_(vector_axis),
      width_(width),
      index_(terms.extents.size(), nullptr) {
  for (int64_t extent : terms.extents) range_.push_back({0, extent});
}

DType LoopBody::operand_type(const Term& term) const {
  return terms_.terms[term.operands.back()].dtype;
}

// --- conditions of choices ---

LoopBody::Truth LoopBody::truth(const Interval& interval, const Chunk* chunk) const {
  const bool lanes = chunk && interval.axis == vector_axis_;
  const LoopRange range = lanes ? chunk->range : range_[interval.axis];
  if (range.low >= interval.high || range.high <= interval.low) return Truth::never;
  if (range.low >= interval.low && range.high <= interval.high) return Truth::always;
  return Truth::depends;
}

Emitted* LoopBody::scalar_condition(const Interval& interval) {
  for (const Scope& scope : scopes_)
    if (auto found = scope.conditions.find(interval); found != scope.conditions.end())
      return found->second;
  Emitted* index = index_[interval.axis];
  WEIR_CHECK(index, "a condition on loop axis {}, which has no index", interval.axis);
  // One unsigned comparison serves for both bounds.
  Emitted* inside = e_.ir().CreateICmpULT(e_.ir().CreateSub(index, e_.index(interval.low)),
                                          e_.index(interval.high - interval.low));
  return scopes_.back().conditions[interval] = inside;
}

Emitted* LoopBody::lane_condition(const Interval& interval, Chunk& chunk) {
  auto [known, fresh] = chunk.conditions.try_emplace(interval, nullptr);
  if (!fresh) return known->second;
  Emitted* first = e_.ir().CreateTrunc(e_.ir().CreateSub(chunk.base, e_.index(interval.low)),
                                       e_.ir().getInt32Ty());
  Emitted* lanes = e_.ir().CreateAdd(e_.broadcast(first, width_), e_.iota(width_));
  return known->second = e_.ir().CreateICmpULT(lanes, e_.i32(interval.high - interval.low, width_));
}

/// a and b, either of which may be nullptr: always. Memoised, because guards are keys.
Emitted* LoopBody::both(Emitted* a, Emitted* b, Chunk* chunk) {
  if (!a || !b || a == b) return a ? a : b;
  for (const Scope& scope : scopes_)
    if (auto found = scope.both.find({a, b}); found != scope.both.end()) return found->second;
  auto& memo = chunk ? chunk->both : scopes_.back().both;
  auto [known, fresh] = memo.try_emplace({a, b}, nullptr);
  if (fresh) known->second = e_.ir().CreateAnd(a, b);
  return known->second;
}

Emitted* LoopBody::mask_of(const Chunk& chunk, Guard guard) {
  Emitted* mask = chunk.mask;
  auto with = [&](Emitted* more) { mask = mask ? e_.ir().CreateAnd(mask, more) : more; };
  if (guard.lanes) with(guard.lanes);
  if (guard.scalar) with(e_.broadcast(guard.scalar, width_));
  return mask;
}

// --- addresses and loads ---

/// Address at the current indices of all axes but the vector axis, there at index 0.
Emitted* LoopBody::address_of(DType dtype, Emitted* base, const std::vector<int64_t>& strides,
                              int64_t offset) {
  Emitted* element = e_.index(offset);
  for (size_t axis = 0; axis < strides.size(); ++axis)
    if (strides[axis] != 0 && static_cast<int>(axis) != vector_axis_ && index_[axis])
      element = e_.add(element, e_.mul(index_[axis], strides[axis]));
  return e_.address(storage_of(dtype), base, element);
}

Emitted* LoopBody::pointer(int load) {
  for (const Scope& scope : scopes_)
    if (auto found = scope.pointers.find(load); found != scope.pointers.end()) return found->second;
  const Term& term = terms_.terms[load];
  return scopes_.back().pointers[load] =
             address_of(term.dtype, inputs_[term.buffer], term.strides, term.offset);
}

Emitted* LoopBody::load_scalar(int id, Emitted* guard) {
  const Term& term = terms_.terms[id];
  Emitted* from = pointer(id);
  // Outside its guard the address may lie outside of the buffer: the buffer's first element is read
  // instead.
  if (guard) from = e_.select(guard, from, inputs_[term.buffer]);
  return emit_loaded(e_, term.dtype, e_.load(storage_of(term.dtype), from, e_.index(0), 1));
}

Emitted* LoopBody::load_vector(int id, Chunk& chunk, Guard guard) {
  const Term& term = terms_.terms[id];
  const Storage storage = storage_of(term.dtype);
  const int64_t stride = term.strides[vector_axis_];
  Emitted* mask = mask_of(chunk, guard);
  Emitted* loaded;
  if (stride == 1) {
    loaded = e_.load(storage, pointer(id), chunk.base, width_, mask);
  } else {
    WEIR_CHECK(stride * width_ < (int64_t{1} << 31), "a stride of {} elements", stride);
    Emitted* from = e_.address(storage, pointer(id), e_.mul(chunk.base, stride));
    Emitted* lanes = e_.ir().CreateMul(e_.iota(width_), e_.i32(stride, width_));
    loaded = e_.gather(storage, from, lanes, mask);
  }
  return emit_loaded(e_, term.dtype, loaded);
}

std::vector<Emitted*> LoopBody::block(int load, int axis, const Chunk& chunk) {
  const Term& term = terms_.terms[load];
  WEIR_CHECK(term.strides[axis] == 1, "a block along a stride of {}", term.strides[axis]);
  Emitter::Values lanes;  // one vector along `axis` for every lane of the chunk
  for (int64_t lane = 0; lane < width_; ++lane) {
    Emitted* element = e_.mul(e_.add(chunk.base, lane), term.strides[vector_axis_]);
    lanes.push_back(e_.load(storage_of(term.dtype), pointer(load), element, width_));
  }
  Emitter::Values rows = e_.transpose(lanes);
  for (Emitted*& row : rows) row = emit_loaded(e_, term.dtype, row);
  return rows;
}

// --- terms ---

Emitted* LoopBody::choose(const Term& term, Chunk* chunk, Guard guard) {
  const int lanes = chunk ? width_ : 1;
  Emitted* result = nullptr;
  for (size_t i = 0; i < term.operands.size(); ++i) {
    Guard inner = guard;
    Emitted* holds = nullptr;  // of this choice alone, in every lane
    bool never = false;
    for (const Interval& interval : term.where[i]) {
      const Truth known = truth(interval, chunk);
      never = never || known == Truth::never;
      if (never) break;
      if (known == Truth::always) continue;
      Emitted* condition;
      if (chunk && interval.axis == vector_axis_) {
        condition = lane_condition(interval, *chunk);
        inner.lanes = both(inner.lanes, condition, chunk);
      } else {
        condition = scalar_condition(interval);
        inner.scalar = both(inner.scalar, condition, nullptr);
        condition = e_.broadcast(condition, lanes);
      }
      holds = holds ? e_.ir().CreateAnd(holds, condition) : condition;
    }
    if (never) continue;
    Emitted* value =
        chunk ? vector(term.operands[i], *chunk, inner) : scalar(term.operands[i], inner.scalar);
    if (!holds) return value;
    if (!result && !term.total) result = emit_constant(e_, term.dtype, 0, lanes);
    result = result ? e_.select(holds, value, result) : value;
  }
  return result ? result : emit_constant(e_, term.dtype, 0, lanes);
}

Emitted* LoopBody::compute_scalar(int id, Emitted* guard) {
  const Term& term = terms_.terms[id];
  switch (term.kind) {
    case TermKind::load:
      return load_scalar(id, guard);
    case TermKind::constant:
      return emit_constant(e_, term.dtype, term.value, 1);
    case TermKind::iota: {
      Emitted* index = e_.index(term.index.offset);
      if (term.index.axis >= 0) index = e_.add(index_[term.index.axis], term.index.offset);
      index = e_.ir().CreateTrunc(index, e_.ir().getInt32Ty());
      return emit_elementwise(e_, Op::convert, term.dtype, DType::i32, {index});
    }
    case TermKind::compute: {
      std::vector<Emitted*> operands;
      for (int operand : term.operands) operands.push_back(scalar(operand, guard));
      return emit_elementwise(e_, term.op, term.dtype, operand_type(term), operands);
    }
    case TermKind::choose:
      return choose(term, nullptr, {guard, nullptr});
    case TermKind::reduce:
      internal_error_at("a reduction is used before its pass");
  }
  internal_error_at("term");
}

Emitted* LoopBody::compute_vector(int id, Chunk& chunk, Guard guard) {
  const Term& term = terms_.terms[id];
  switch (term.kind) {
    case TermKind::load:
      return load_vector(id, chunk, guard);
    case TermKind::iota: {
      Emitted* first =
          e_.ir().CreateTrunc(e_.add(chunk.base, term.index.offset), e_.ir().getInt32Ty());
      Emitted* index = e_.ir().CreateAdd(e_.broadcast(first, width_), e_.iota(width_));
      return emit_elementwise(e_, Op::convert, term.dtype, DType::i32, {index});
    }
    case TermKind::compute: {
      std::vector<Emitted*> operands;
      for (int operand : term.operands) operands.push_back(vector(operand, chunk, guard));
      return emit_elementwise(e_, term.op, term.dtype, operand_type(term), operands);
    }
    case TermKind::choose:
      return choose(term, &chunk, guard);
    case TermKind::constant:
    case TermKind::reduce:
      break;
  }
  internal_error_at("a term that varies along no vector axis");
}

Emitted* LoopBody::scalar(int id) { return scalar(id, nullptr); }

Emitted* LoopBody::scalar(int id, Emitted* guard) {
  for (const Scope& scope : scopes_)
    for (Emitted* known : {static_cast<Emitted*>(nullptr), guard})
      if (auto found = scope.scalars.find({id, known}); found != scope.scalars.end())
        return found->second;
  Emitted* value = compute_scalar(id, guard);
  return scopes_.back().scalars[{id, guard}] = value;
}

Emitted* LoopBody::vector(int id, Chunk& chunk) { return vector(id, chunk, {}); }

Emitted* LoopBody::vector(int id, Chunk& chunk, Guard guard) {
  if (!varies(id)) return e_.broadcast(scalar(id, guard.scalar), width_);
  // Lanes that a guard excludes may hold anything, so what was computed without one serves too.
  const std::tuple<int, Emitted*, Emitted*> plain{id, nullptr, nullptr};
  const std::tuple<int, Emitted*, Emitted*> key{id, guard.scalar, guard.lanes};
  for (const auto& known : {plain, key})
    if (auto found = chunk.memo.find(known); found != chunk.memo.end()) return found->second;
  Emitted* value = key == plain && recall ? recall(id, chunk) : nullptr;
  if (!value) {
    value = compute_vector(id, chunk, guard);
    if (key == plain && remember) remember(id, chunk, value);
  }
  return chunk.memo[key] = value;
}

void LoopBody::hoist(int id, uint64_t axes) {
  std::set<int> seen;
  hoist(id, axes, seen);
}

void LoopBody::hoist(int id, uint64_t axes, std::set<int>& seen) {
  if (!seen.insert(id).second) return;
  const Term& term = terms_.terms[id];
  if ((term.depends & axes) == 0) {
    scalar(id);
  } else if (term.kind == TermKind::load) {
    bool fixed = true;  // the row's address: only the index along the vector axis is open
    for (size_t axis = 0; axis < term.strides.size(); ++axis)
      if (static_cast<int>(axis) != vector_axis_ && ((axes >> axis) & 1))
        fixed = fixed && term.strides[axis] == 0;
    if (fixed) pointer(id);
  } else if (term.kind == TermKind::compute) {
    for (int operand : term.operands) hoist(operand, axes, seen);
  }
}

// --- stores ---

void LoopBody::store(const LoopStore& store, Emitted* output, Chunk& chunk) {
  Emitted* value = vector(store.term, chunk);
  Emitted* to = address_of(store.dtype, output, store.strides, 0);
  e_.store(storage_of(store.dtype), value, to, chunk.base, chunk.mask);
}

void LoopBody::store_scalar(const LoopStore& store, Emitted* output) {
  Emitted* to = address_of(store.dtype, output, store.strides, 0);
  e_.store(storage_of(store.dtype), scalar(store.term), to, e_.index(0));
}

}  // namespace weir
