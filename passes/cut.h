#pragma once
// A part of a built graph as a program of its own: what lies behind some of its values, which
// become inputs, and a loss whose gradient at a value is given. An experiment that changes one
// layer computes what lies before it once, and runs the rest as often as it likes.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// A value at which a graph is cut, and the input that stands for it behind the cut.
struct CutPoint {
  Value value;
  std::string input;
};

/// What computes the outputs of `graph` (stage built) from the values of `points`: these are inputs
/// of their types, behind the inputs that are still needed, and keep their names; everything else
/// that no output needs is gone, inputs (weights) included. A name stays if its value is still
/// computed, or can be from what is there. User errors: a graph of another stage; a value that two
/// points name; an input's name that is taken.
GraphPtr cut(const GraphPtr& graph, const std::vector<CutPoint>& points);

/// `graph` (stage built) with one output, `loss` = sum over all elements of `value` times the new
/// input `upstream` of its type: the gradient of this loss at `value` is that input, so that the
/// gradients before it are what they are in a model that hands `upstream` back to the value. User
/// errors: a graph of another stage; a value that is not floating-point; an input's name that is
/// taken.
GraphPtr with_upstream(const GraphPtr& graph, Value value, const std::string& upstream);

}  // namespace weir
