#pragma once
// Inside the interpreter: one function for every row of ops.def, so that a new row does not link
// before it is given a meaning, and the walk over broadcast indices that most of them share.
#include <array>
#include <functional>
#include <memory>

#include "interpret/host_tensor.h"
#include "ir/graph.h"

namespace weir::reference {

using Shared = std::shared_ptr<const HostTensor>;
using ProbeSink = std::function<void(const std::string& id, const HostTensor& value)>;
using Results = std::vector<Shared>;

/// One node with the values of its operands.
struct Call {
  const Node& node;
  std::vector<Shared> operands;
  const ProbeSink& sink;

  const HostTensor& in(size_t i) const { return *operands[i]; }
  double scalar(size_t i) const { return operands[i]->data[0]; }
  const Type& type(size_t i = 0) const { return node.types[i]; }
  const Attrs& attrs() const { return node.attrs; }
};

/// The values of `wanted`, computing what they and the probes need. `inputs` by position.
std::vector<Shared> run_graph(const Graph& graph, const std::vector<Shared>& inputs,
                              const std::vector<Value>& wanted, const ProbeSink& sink);

#define OP(name, ...) Results name(const Call& call);
#include "ir/ops.def"

/// Wraps finished tensors as the results of a node.
template <typename... T>
Results results(T&&... tensors) {
  Results list;
  (list.push_back(std::make_shared<const HostTensor>(std::forward<T>(tensors))), ...);
  return list;
}

/// Row-major strides of a shape; broadcast_strides has 0 on the axes that repeat in `result`.
Shape strides_of(const Shape& shape);
Shape broadcast_strides(const Shape& shape, const Shape& result);

/// Visits the elements of `shape` in row-major order, one row (last axis) at a time:
/// body(position of the row's first element, offsets of N strided views at it, row length,
/// steps of the views along the row).
template <size_t N, typename Body>
void for_each_row(Shape shape, std::array<Shape, N> strides, const Body& body) {
  if (shape.empty()) {
    shape = {1};
    for (Shape& view : strides) view = {0};
  }
  size_t last = shape.size() - 1;
  std::array<int64_t, N> offsets{}, steps{};
  for (size_t i = 0; i < N; ++i) steps[i] = strides[i][last];
  int64_t rows = element_count(shape) / shape[last];
  Shape index(shape.size(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    body(row * shape[last], offsets, shape[last], steps);
    for (size_t axis = last; axis-- > 0;) {
      for (size_t i = 0; i < N; ++i) offsets[i] += strides[i][axis];
      if (++index[axis] < shape[axis]) break;
      index[axis] = 0;
      for (size_t i = 0; i < N; ++i) offsets[i] -= strides[i][axis] * shape[axis];
    }
  }
}

/// Rows of the last axis: their number and their length.
inline int64_t row_length(const Type& type) { return type.shape.empty() ? 1 : type.shape.back(); }
inline int64_t row_count(const Type& type) { return type.elements() / row_length(type); }

/// Throws the user error of an id outside [0, vocabulary), naming its position.
void check_ids(const Call& call, const HostTensor& ids, int64_t vocabulary, bool negative_ignored);

}  // namespace weir::reference
