#pragma once
// From a differentiated loss to the programs of an optimiser step: gradients, their global norm,
// clipping, and the update of weights and moments.
#include <string>
#include <vector>

#include "passes/compose/compose.h"
#include "passes/compose/model_program.h"
#include "passes/optimizer_slots.h"
#include "passes/probes.h"

namespace weir {

struct TrainingOptions {
  OptimizerOptions optimizer = {};
  std::string loss = "loss";
  int64_t micro_batches = 1;
  std::vector<ResolvedProbe> probes = {};
};

/// The programs of one step, of stage instrumented; `finish` updates.
using TrainingPrograms = BatchPrograms;

/// `graph` (stage differentiated) returns the loss and `grad.<w>` for every trained state input w.
///
/// Added inputs: the rank-0 f32 scalars of passes/optimizer_slots.h: `rate`, and for adamw and muon
/// `bias1`, `bias2` = 1 / (1 - beta^t).
/// Added states: the moments of passes/optimizer_slots.h; with micro-batches the accumulators
/// `grad.<w>`, `loss` and `probe.<id>`.
/// Outputs: `loss`, `grad_norm` (before clipping) and every updated state under its own name.
/// Where the norm or the loss is not finite, every state keeps its value: the update is left out.
/// The norm is the root of the sum, in the order of the outputs, of each gradient's sum of squares.
/// With micro-batches the loss and the gradients are sums over them (its loss_scale must be that of
/// the whole step). A probe that reduces the batch is accumulated over them and completed in
/// *finish*; one of a weight or of its gradient belongs to the whole step and runs in *finish*; any
/// other runs once a micro-batch. Other outputs of the graph belong to `step` or `micro`.
/// User errors, all at once: no loss, no gradients, a gradient of something that is no state, an
/// unknown name in `decay`, numbers out of range, probes of values that are gone.
TrainingPrograms make_training_programs(const GraphPtr& graph, const TrainingOptions& options);

}  // namespace weir
