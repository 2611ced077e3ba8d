#pragma once
// Composition: from a differentiated graph to the programs that run, a row of the pipeline.
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/optimizer_slots.h"
#include "passes/probes.h"

namespace weir {

enum class Purpose : uint8_t {
  plain,    ///< the graph as it is, with its probes
  train,    ///< a step of an optimiser around loss and gradients (passes/compose/train.h)
  descend,  ///< a step of plain gradient descent (passes/compose/descend.h)
  measure,  ///< probes of values and of their gradients, no update (passes/compose/measure.h)
  check,    ///< the same with the identities of gradients as probes (passes/identities.h)
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;  ///< of adamw
  double momentum = 0.9;                         ///< of sgd and muon
  /// Of muon: the matrices that it moves, each by rate muon_scale sqrt(max(rows, columns)) times an
  /// orthogonal matrix. 0.2 makes that step as large as one of AdamW usually is, so that both take
  /// one rate and decay (Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, 2.2).
  std::vector<std::string> orthogonal = {};
  double muon_scale = 0.2;
  double weight_decay = 0.1;
  std::vector<std::string> decay = {};  ///< the weights that decay; no other does
  double clip = 1.0;                    ///< bound of the global gradient norm; 0 is none
  double clip_epsilon = 1e-6;           ///< factor = min(1, clip / (norm + this)), as PyTorch
};

struct ComposeOptions {
  Purpose purpose = Purpose::plain;
  /// Equal parts (micro-batches) in which a batch is computed, of which the graph is one.
  int64_t parts = 1;
  OptimizerOptions optimizer = {};  ///< of train
  bool returns_loss = true;         ///< of measure: whether the loss is computed
  int64_t sink = 0;                 ///< of check: the key of bounds from mean and noise
};

/// The programs of stage instrumented, in running order: one, or for a batch in parts *prepare*,
/// *micro* (once a part) and *finish*. `graph` is of stage differentiated, `loss` its output. User
/// errors: those of the purpose; parts of a plain graph.
std::vector<GraphPtr> compose(const GraphPtr& graph, const ComposeOptions& options,
                              const std::string& loss, const std::vector<ResolvedProbe>& probes);

}  // namespace weir
