#pragma once
// Perplexity of a model on a text: windows of a stated context, each token counted once.
#include <memory>
#include <optional>
#include <vector>

#include "lab/measure/model_run.h"

namespace weir {

/// What is evaluated: ids, which may be several texts of equal length.
struct EvaluationIds {
  std::vector<int32_t> ids;
  /// Places of ids that are not of the text, ascending: they are read, but not counted.
  std::vector<size_t> uncounted = {};
  size_t text_length = 0;             ///< ids of each text; 0: all are one
  std::optional<int32_t> begin = {};  ///< the token that begins every window
};

struct EvaluateTask {
  int64_t context = 0;  ///< tokens of a window
  int64_t stride = 0;   ///< from one window to the next; 0: the context, windows side by side
  CompileOptions options = {};
  RunSettings run = {};
};

struct Evaluation {
  double loss = 0;        ///< mean over counted targets, nats
  double perplexity = 0;  ///< exp(loss)
  int64_t tokens = 0;     ///< counted targets: all ids of the text but, without a begin token, the
                          ///< first
  int64_t windows = 0;
  int64_t first_not_finite = -1;  ///< the first window whose loss is not finite; -1: none
};

class Evaluator {
 public:
  /// Compiles; `source` outlives this. User errors: those of ModelRun; no target that counts; a
  /// stride that is not in 1 .. context.
  Evaluator(const ModelSource& source, EvaluationIds text, const EvaluateTask& task);

  const ModelRun& run() const { return *run_; }
  /// Loads the weights and runs all windows. Window n of a text reads ids n stride .. n stride +
  /// context - 1, or the begin token and the ids before the last of these; of its targets only
  /// those that no earlier window had are counted. The last, shorter window is padded behind, which
  /// causal attention does not see, and its padding is not counted.
  Evaluation evaluate();

 private:
  /// Which sequence of a batch whose loss is not finite makes it so.
  int64_t first_row_not_finite(const TokenBatch& batch);
  struct Window {
    size_t first = 0;    ///< place of its first target
    size_t counted = 0;  ///< place of the first target that counts
    size_t end = 0;      ///< place after its last target
  };
  void cut(size_t begin, size_t end);
  int64_t fill(const Window& window, int32_t* tokens, int32_t* targets) const;

  EvaluateTask task_;
  EvaluationIds text_;
  std::vector<Window> windows_;
  int64_t rows_ = 0;
  std::unique_ptr<ModelRun> run_;
};

}  // namespace weir
