#pragma once
// Reverse-mode differentiation of a graph: from a graph with a scalar loss to the same graph
// followed by the nodes that compute gradients of that loss. Rules, one an op, are in
// autodiff_rules.h.
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

struct DifferentiateOptions {
  std::string loss = "loss";            ///< name of the output that is differentiated; one number
  std::vector<std::string> wrt = {};    ///< inputs whose gradients become outputs `grad.<input>`
  std::vector<std::string> named = {};  ///< further named values whose gradients are wanted
};

/// "grad." + input: the output under which the gradient of an input leaves the program.
std::string gradient_output(const std::string& input);
/// name + ".grad": the name of the gradient of a named value.
std::string gradient_name(const std::string& name);

/// `graph` (stage built) with gradient nodes appended (stage differentiated).
///
/// Every named value between a wanted one (`wrt`, `named`) and the loss has its gradient named
/// `<name>.grad`, and so has every input in `wrt`. Composites the loss depends on that have no rule
/// of their own are replaced by their decomposition first, and linear_cross_entropy by
/// linear_cross_entropy_grad, which gives loss and gradients at once; names stay.
/// A wanted value that shows the weights or scores of an attention (attention_pattern,
/// attention_scores), on which no loss depends, gets the gradient at them inside the attention.
/// A value's gradient is the sum of the contributions of its uses, added one by one in descending
/// order of the using node and, within it, ascending order of operand.
///
/// User errors, all of a kind at once: a name that does not exist; a wanted value that does not
/// influence the loss; ops on the way that have no gradient; a gradient that reaches the
/// row statistics of an attention.
GraphPtr differentiate(const GraphPtr& graph, const DifferentiateOptions& options);

/// The named values and inputs of a built graph whose gradient `differentiate` can give: those that
/// the output `loss` depends on differentiably. Empty if there is no such output.
std::set<std::string> differentiable_names(const GraphPtr& graph, const std::string& loss = "loss");

}  // namespace weir
