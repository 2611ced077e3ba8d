#pragma once
// From a differentiated loss to the programs of a measurement: probes of values and of their
// gradients, without weights' gradients and without an update. The pipeline differentiates by the
// values whose gradients are probed and by nothing else, so that the backward part ends at the
// lowest of them.
#include <string>
#include <vector>

#include "passes/compose/model_program.h"
#include "passes/probes.h"

namespace weir {

struct MeasureOptions {
  std::string loss = "loss";  ///< "": no loss, nothing but what probes need
  int64_t parts = 1;          ///< equal parts in which the batch is computed
  std::vector<ResolvedProbe> probes = {};
};

/// User error that lists probes of gradients of weights, before anything is differentiated.
void check_measurable(const Graph& graph, const std::vector<ResolvedProbe>& probes);

/// The programs of stage instrumented, from `graph` of stage differentiated, which computes one
/// part. `step` returns the loss. With parts, `loss` and the accumulators `probe.<id>` are states
/// (passes/compose/batch_probes): a probe that reduces the batch comes out of `finish`, any other
/// once a part out of `micro`, in the order of the batch, except that states are probed in
/// `finish`. A value is reduced where it is made, so that it need not outlive its last use.
/// Reductions of the batch belong to the main part of a program: they also leave `step` as outputs
/// `probe.<id>`. User errors: no loss, probes of values that are gone, parts
/// of the batch cut out of a batch that is computed in parts.
BatchPrograms make_measure_programs(const GraphPtr& graph, const MeasureOptions& options);

}  // namespace weir
