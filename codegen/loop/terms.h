#pragma once
// A region seen from one point of its iteration space. Movement ops vanish into index maps: what is
// left are terms - loads with a stride for every loop axis, constants, arithmetic, reductions, and
// choices between terms by where the loop stands (pad, concat).
//
// A loop axis is an axis of the iteration space; every index of a value is one loop index plus a
// constant, or a constant, because movement ops never scale an index.
#include <cstdint>
#include <map>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// Index along one axis of a value: that of a loop axis plus `offset`, or `offset` when axis is -1.
struct AxisIndex {
  int axis = -1;
  int64_t offset = 0;
  auto operator<=>(const AxisIndex&) const = default;
};
using IndexMap = std::vector<AxisIndex>;

/// low <= index along the loop axis < high.
struct Interval {
  int axis = 0;
  int64_t low = 0, high = 0;
  auto operator<=>(const Interval&) const = default;
};

enum class TermKind : uint8_t { load, constant, iota, compute, choose, reduce };

/// The type in which values of a dtype are held in registers: f32 or i32.
DType register_type(DType dtype);
inline constexpr int64_t kRegisterTypeBytes = 4;

struct Term {
  TermKind kind = TermKind::constant;
  Op op = Op::constant;          ///< of compute and reduce
  DType dtype = DType::f32;      ///< of the result; a bf16 term is rounded to bf16 in registers
  std::vector<int> operands;     ///< earlier terms
  double value = 0;              ///< of a constant
  int buffer = -1;               ///< of a load: position among the region's inputs
  std::vector<int64_t> strides;  ///< of a load, in elements, one a loop axis
  int64_t offset = 0;            ///< of a load: the element at index 0 of every loop axis
  AxisIndex index;               ///< of an iota
  std::vector<std::vector<Interval>>
      where;              ///< of a choice: operand i counts where all of where[i] hold
  bool total = false;     ///< of a choice: one operand counts everywhere; else 0 elsewhere
  std::vector<int> axes;  ///< of a reduction: loop axes, ascending
  int64_t extent = 0;     ///< of a reduction: product of the reduced extents
  int64_t lanes = 0;      ///< of a reduction over the last axis

  uint64_t depends = 0;  ///< bit set of loop axes that the value depends on
  int level = 0;         ///< number of reductions on the longest way down
  int cost = 0;          ///< rough instructions per vector, operands included
  bool operator==(const Term&) const = default;
};

/// Writing one region output: element offset + sum of stride * loop index.
struct LoopStore {
  int term = 0;
  int output = 0;  ///< position among the region's outputs
  DType dtype = DType::f32;
  std::vector<int64_t> strides;
};

struct LoopTerms {
  std::vector<int64_t> extents;  ///< of the loop axes
  std::vector<Term> terms;       ///< operands before users
  std::vector<LoopStore> stores;

  bool depends(int term, int axis) const { return (terms[term].depends >> axis) & 1; }
};

/// The terms of the outputs listed, all of which have the shape of the iteration space `extents` or
/// 1 along some of its axes. User errors: f64, which is the interpreter's alone.
LoopTerms make_loop_terms(const Graph& region, std::vector<int64_t> extents,
                          const std::vector<int>& outputs);

}  // namespace weir
