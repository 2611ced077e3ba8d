#pragma once
// The sink-gradient gain as a rewrite of any built graph: an intervention in training that turns
// the gradient through the sink's value up or down and leaves what the model computes as it is.
//
// With v the value that an attention takes (behind V-scale or a value gate, where there is one) and
// s the sink token, backpropagation goes on with kappa dL/dv_s in place of dL/dv_s; the gradients
// at all other tokens stay as they are. Forward v is the same, bit for bit. kappa = 1 is no
// intervention; 0 takes the sink's value gradient away.
#include <vector>

#include "ir/graph.h"

namespace weir {

struct SinkGradientOptions {
  double gain = 1;                   ///< kappa
  int64_t token = 0;                 ///< s, counted from 0
  std::vector<int64_t> layers = {};  ///< which attention nodes, counted from 0; empty: all
};

/// The graph with v as straight_through(v, m v), m being kappa at key s and 1 elsewhere, in front
/// of the chosen attention nodes, of all value heads. The new value is named
/// `<prefix>.hook_v_attended` where the old one is `<prefix>.hook_v*`: its gradient is the one that
/// arrives, that of `hook_v` has the gain. User errors: no attention in the graph; layers or a
/// token that there are not; a gain that is not finite.
GraphPtr apply_sink_gradient(const GraphPtr& graph, const SinkGradientOptions& options);

}  // namespace weir
