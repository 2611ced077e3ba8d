#pragma once
// Emits terms at a point of the loops. What does not depend on the vector axis is computed once a
// scope, as a scalar; the rest once a chunk, which is one vector along the vector axis.
#include <set>
#include <tuple>

#include "codegen/llvm/elementwise.h"
#include "codegen/loop/terms.h"

namespace weir {

/// What an instruction gives; weir::Value is a value of a graph.
using Emitted = llvm::Value;

/// What is known at compile time of a loop index: low <= index < high.
struct LoopRange {
  int64_t low = 0, high = 0;
};

/// One vector of values along the vector axis, with what has been computed of it so far.
struct Chunk {
  Emitted* base = nullptr;  ///< index of lane 0
  Emitted* mask = nullptr;  ///< lanes inside the row; nullptr means all
  LoopRange range;          ///< of the indices of those lanes
  std::map<std::tuple<int, Emitted*, Emitted*>, Emitted*> memo;  ///< by term and guard
  std::map<Interval, Emitted*> conditions;                       ///< in its lanes
  std::map<std::pair<Emitted*, Emitted*>, Emitted*> both;

  void define(int term, Emitted* value) { memo[{term, nullptr, nullptr}] = value; }
};

Chunk chunk_at(Emitted* base, LoopRange range);
/// The vectors of [low, high), both known; the last one may be partial.
std::vector<Chunk> chunks_of(Emitter& e, int width, int64_t low, int64_t high);

class LoopBody {
 public:
  LoopBody(Emitter& e, const LoopTerms& terms, const std::vector<Emitted*>& inputs, int vector_axis,
           int width);

  Emitter& emitter() { return e_; }
  int width() const { return width_; }

  /// Where the loop over an axis other than the vector axis stands.
  void set_index(int axis, Emitted* index) { index_[axis] = index; }
  void set_range(int axis, LoopRange range) { range_[axis] = range; }
  Emitted* index(int axis) const { return index_[axis]; }

  /// A scope holds scalars computed where it was opened; it must be closed before the builder
  /// leaves the blocks that dominate its users.
  void open_scope() { scopes_.emplace_back(); }
  void close_scope() { scopes_.pop_back(); }

  /// Computes in the current scope everything below `term` that depends on none of `axes`: before a
  /// loop over these axes.
  void hoist(int term, uint64_t axes);
  /// The term, which does not depend on the vector axis, as a scalar.
  Emitted* scalar(int term);
  /// The term in the lanes of a chunk.
  Emitted* vector(int term, Chunk& chunk);
  /// Declares the value of a reduction, or of any scalar term, for the current scope.
  void define(int term, Emitted* value) { scopes_.back().scalars[{term, nullptr}] = value; }

  /// Values of a load in a square block: of the chunk's lanes, for `width` successive indices of
  /// `axis` from the current one, along which the load is contiguous.
  std::vector<Emitted*> block(int load, int axis, const Chunk& chunk);

  /// Writes a store's term: a vector of the chunk, or a scalar.
  void store(const LoopStore& store, Emitted* output, Chunk& chunk);
  void store_scalar(const LoopStore& store, Emitted* output);

  /// Values of the chunk that are kept in memory by the nest: `recall` is called before a term
  /// is computed (nullptr: compute it), `remember` afterwards.
  std::function<Emitted*(int term, Chunk& chunk)> recall;
  std::function<void(int term, Chunk& chunk, Emitted* value)> remember;

 private:
  /// The condition under which what is being computed counts: of the scalars, and of the lanes.
  struct Guard {
    Emitted* scalar = nullptr;
    Emitted* lanes = nullptr;
  };
  struct Scope {
    std::map<std::pair<int, Emitted*>, Emitted*> scalars;  ///< by term and guard
    std::map<int, Emitted*> pointers;                      ///< of loads, at lane index 0
    std::map<Interval, Emitted*> conditions;
    std::map<std::pair<Emitted*, Emitted*>, Emitted*> both;
  };
  enum class Truth { never, always, depends };

  bool varies(int term) const { return vector_axis_ >= 0 && terms_.depends(term, vector_axis_); }
  void hoist(int term, uint64_t axes, std::set<int>& seen);
  Emitted* scalar(int term, Emitted* guard);
  Emitted* vector(int term, Chunk& chunk, Guard guard);
  Emitted* compute_scalar(int term, Emitted* guard);
  Emitted* compute_vector(int term, Chunk& chunk, Guard guard);
  Emitted* load_scalar(int id, Emitted* guard);
  Emitted* load_vector(int id, Chunk& chunk, Guard guard);
  Emitted* choose(const Term& term, Chunk* chunk, Guard guard);
  Emitted* pointer(int load);
  Emitted* address_of(DType dtype, Emitted* base, const std::vector<int64_t>& strides,
                      int64_t offset);
  Truth truth(const Interval& interval, const Chunk* chunk) const;
  Emitted* scalar_condition(const Interval& interval);
  Emitted* lane_condition(const Interval& interval, Chunk& chunk);
  Emitted* both(Emitted* a, Emitted* b, Chunk* chunk);
  Emitted* mask_of(const Chunk& chunk, Guard guard);
  DType operand_type(const Term& term) const;

  Emitter& e_;
  const LoopTerms& terms_;
  const std::vector<Emitted*>& inputs_;
  int vector_axis_;
  int width_;
  std::vector<Emitted*> index_;
  std::vector<LoopRange> range_;
  std::vector<Scope> scopes_;
};

}  // namespace weir
