#pragma once
// The op table as C++: enum, names and traits, all from ops.def.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

enum class Op : uint8_t {
#define OP(name, ...) name,
#include "ir/ops.def"
};

enum class OpClass : uint8_t {
  Source,
  Elementwise,
  Reduction,
  Movement,
  Contraction,
  Composite,
  Effect,
  Kernel
};

namespace op_trait {
enum : uint8_t {
  None = 0,
  Commutative = 1,
  Comparison = 2,
  Effect = 4,
  NoGradient = 8,
  OwnKernel = 16
};
}

/// What the operands of an elementwise op may be.
enum class OperandKind : uint8_t {
  Any,
  Number,  ///< not bool
  Real,    ///< floating-point
  Bool,
  Integer,  ///< i32
  Choice    ///< bool, then two operands of any one type
};

/// When a kernel that needs a value of another kernel computes it again instead of loading it:
/// where that takes less time than the traffic of storing and loading it.
enum class OpCost : uint8_t {
  Cheap,      ///< if it is made from one large value
  Moderate,   ///< only if the kernel loads or computes that one large value in any case
  Expensive,  ///< never
};

enum class AttrKind : uint8_t { Int, Float, Bool, String, Ints, Dtype };

struct AttrSpec {
  std::string name;
  AttrKind kind;
  bool optional;
};

struct OpInfo {
  const char* name;
  OpClass op_class;
  int inputs_min, inputs_max;
  int results;  ///< of a kernel: as many as its region's outputs
  uint8_t traits;
  double low, high;  ///< domain of the operands in generated tests
  const char* meaning;
  std::vector<AttrSpec> attributes;
  // Of elementwise ops.
  OperandKind operands;
  OpCost cost;
  int instructions;  ///< about as many simple vector instructions is one vector of results

  bool has(uint8_t trait) const { return (traits & trait) != 0; }
  const AttrSpec* find_attribute(std::string_view attribute) const;
};

const OpInfo& info(Op op);
inline const char* op_name(Op op) { return info(op).name; }
/// The op of that name, or of one that an earlier version gave it; nothing if there is none.
std::optional<Op> parse_op(std::string_view name);
const std::vector<Op>& all_ops();
std::vector<std::string> op_names();

}  // namespace weir
