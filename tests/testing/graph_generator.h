#pragma once
// How random graphs are grown: one maker for every op of the table.
#include "ir/edit.h"
#include "testing/random_graph.h"
#include "testing/random_tensor.h"

namespace weir::test {

class GraphGenerator {
 public:
  GraphGenerator(uint64_t seed, const GraphOptions& options);
  /// Appends one random op with what its operands need.
  void grow();
  GraphPtr finish();

 private:
  /// A float value, an upper estimate of its magnitude, and whether it is made without rounding.
  struct Item {
    Value value;
    double bound = 0;
    bool exact = false;
  };

  bool allowed(Op op) const;
  void make(Op op);
  void make_same_size(Op op);
  void make_boolean(Op op);
  void make_binary(Op op);
  void make_reduction(Op op);
  void make_movement(Op op);
  void make_matmul();
  void make_embedding(Op op);
  void make_row(Op op);
  void make_attention(Op op);
  void make_loss(Op op);
  void make_optimiser(Op op);

  Item pick();
  /// A random value whose magnitude is at most `limit`: squashed by tanh if it may be larger.
  Item pick(double limit);
  Item pick_exact();
  /// A value that broadcasts with `x`.
  Item partner(const Item& x, double limit);
  Value boolean_for(const Shape& shape);
  /// The elements of x, repeated or cut, in another shape.
  Value resized(Value x, const Shape& shape);
  /// low + (high - low) sigmoid(x).
  Item in_domain(const Item& x, double low, double high);
  Item constant(double value);
  Value scalar_between(double low, double high);
  void keep(Value value, double bound, bool exact = false);
  void keep_all(const std::vector<Value>& values, std::initializer_list<double> bounds);

  const Type& type(Value value) const { return editor_.type(value); }
  Value add(Op op, std::vector<Value> inputs, Attrs attrs = {}) {
    return editor_.add(op, std::move(inputs), std::move(attrs));
  }
  int64_t one_of(std::initializer_list<int64_t> choices);

  GraphOptions options_;
  GraphEditor editor_;
  Random random_;
  std::vector<Item> floats_;
  std::vector<Value> booleans_;
  Value ids_, state_;
  int names_ = 0;
};

}  // namespace weir::test
