#pragma once
// Perplexity of a model on a text: windows of a stated context, each token counted once.
#include <vector>

#include "lab/model_run.h"

namespace weir {

struct EvaluateTask {
  int64_t context = 0;  ///< tokens of a window
  int64_t stride = 0;   ///< from one window to the next; 0: the context, windows side by side
  CompileOptions options = {};
  RunSettings run = {};
};

struct Evaluation {
  double loss = 0;        ///< mean over counted targets, nats
  double perplexity = 0;  ///< exp(loss)
  int64_t tokens = 0;     ///< counted targets: all ids but the first
  int64_t windows = 0;
  int64_t first_not_finite = -1;  ///< the first window whose loss is not finite; -1: none
};

class Evaluator {
 public:
  /// Compiles; `source` outlives this. User errors: those of ModelRun; fewer than two ids; a stride
  /// that is not in 1 .. context.
  Evaluator(const ModelSource& source, std::vector<int32_t> ids, const EvaluateTask& task);

  const ModelRun& run() const { return *run_; }
  /// Loads the weights and runs all windows. Window n reads ids n stride .. n stride + context - 1;
  /// of its targets only those that no earlier window had are counted. The last, shorter window is
  /// padded behind, which causal attention does not see, and its padding is not counted.
  Evaluation evaluate();

 private:
  /// Which sequence of a batch whose loss is not finite makes it so.
  int64_t first_row_not_finite(const TokenBatch& batch);

  EvaluateTask task_;
  std::vector<int32_t> ids_;
  int64_t windows_ = 0, rows_ = 0;
  std::unique_ptr<ModelRun> run_;
};

}  // namespace weir
