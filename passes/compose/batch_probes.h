#pragma once
// Probes of a batch that is computed in parts: a chain of reductions is split at the step that
// reduces the batch, whose partial results are joined in an accumulator and completed at the end.
#include <map>
#include <string>
#include <vector>

#include "passes/compose/accumulate.h"
#include "passes/probes.h"

namespace weir {

/// A user error of `topic` that lists the probes whose values `graph` no longer has.
void check_probed(const Graph& graph, const std::vector<ResolvedProbe>& probes, const char* topic);

/// All steps of a probe on x, then the probe node.
void emit_probe(ModelProgram& p, const ResolvedProbe& probe, Value x);
/// All steps of a probe on x.
Value apply_probe(ModelProgram& p, const ResolvedProbe& probe, Value x);

class BatchProbes {
 public:
  /// `probes` all reduce the batch (batch_step >= 0), of which `graph` computes one of `parts`
  /// equal parts; `graph` outlives this. Probes that share value and steps up to the batch share
  /// an accumulator, `probe.<id>` of the first of them.
  BatchProbes(const Graph& graph, const std::vector<ResolvedProbe>& probes, int64_t parts);

  const std::vector<Accumulator>& accumulators() const { return accumulators_; }
  /// Joins what one part gives, x being the probed value, with the accumulator, which becomes an
  /// output; nothing if the program has that output already.
  void accumulate(ModelProgram& p, const ResolvedProbe& probe, Value x) const;
  /// The rest of the chain from the accumulator, then the probe node.
  void complete(ModelProgram& p, const ResolvedProbe& probe) const;

 private:
  Value source(GraphEditor& scratch, const ResolvedProbe& probe) const;

  const Graph& graph_;
  int64_t parts_;
  std::vector<Accumulator> accumulators_;
  std::map<std::string, std::string> accumulator_of_;  // by id of the probe
};

}  // namespace weir
