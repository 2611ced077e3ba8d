#pragma once
// Types of results of primitives, and what inference asks of operands; used by infer.cpp alone.
#include <fmt/format.h>

#include "ir/attrs.h"
#include "support/error.h"

namespace weir {

/// One call of infer_types: the operands of an op, and user errors that name it.
class OperandChecks {
 public:
  OperandChecks(Op op, const std::vector<const Type*>& inputs, const Attrs& attrs)
      : op_(op), inputs_(inputs), attrs_(attrs) {}

 protected:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    user_error(op_name(op_), "{}", fmt::format(format, std::forward<Args>(args)...));
  }
  const Type& in(size_t i) const { return *inputs_[i]; }
  std::string text(size_t i) const { return to_string(in(i)); }

  void need_float(size_t i) {
    if (!is_float(in(i).dtype))
      fail("operand {} is {}, but a floating-point type is needed. Convert it first.", i, text(i));
  }
  void need_rank(size_t i, int64_t rank, const char* layout) {
    if (in(i).rank() != rank) fail("operand {} is {}, but {} is needed.", i, text(i), layout);
  }
  void need_integer(size_t i) {
    if (in(i).dtype != DType::i32 && in(i).dtype != DType::u8 && in(i).dtype != DType::i8)
      fail("operand {} is {}, but integer ids are needed.", i, text(i));
  }
  void need_scalar(size_t i, const char* what) {
    if (in(i).rank() != 0 || !is_float(in(i).dtype))
      fail("the {} is {}, but a scalar (f32[]) is needed.", what, text(i));
  }
  void need_type(size_t i, const Type& wanted, const char* what) {
    if (in(i) != wanted) fail("the {} is {}, but {} is needed.", what, text(i), to_string(wanted));
  }
  void need_last(size_t i, int64_t extent, const char* what) {
    need_float(i);
    if (in(i).shape != Shape{extent})
      fail("the {} is {}, but the last axis of {} has {} features, so [{}] is needed.", what,
           text(i), text(0), extent, extent);
  }

  Op op_;
  const std::vector<const Type*>& inputs_;
  const Attrs& attrs_;
};

/// The ops that are no composites; some of these serve composites, too.
class PrimitiveTypes : public OperandChecks {
 public:
  using OperandChecks::OperandChecks;

 protected:
  /// Operands broadcast; of a select, the condition may have another type.
  Type elementwise();
  Type elementwise_op();
  Type unary_float();
  Type reduction();
  Type reshape();
  Type broadcast();
  Type transpose();
  Type slice();
  Type pad();
  Type concat();
  Type matmul();
  Type embedding();
  Type embedding_grad();

 private:
  void check_operands(OperandKind kind);
  std::string all_operands() const;
};

}  // namespace weir
