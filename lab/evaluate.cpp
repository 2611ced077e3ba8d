#include "lab/evaluate.h"

#include <algorithm>
#include <cmath>

#include "lab/progress.h"
#include "support/error.h"

namespace weir {
namespace {

// Tokens that run together: enough to fill the machine.
constexpr int64_t kTokensTogether = 8192;

}  // namespace

Evaluator::Evaluator(const ModelSource& source, std::vector<int32_t> ids, const EvaluateTask& task)
    : task_(task), ids_(std::move(ids)) {
  if (task_.context < 1)
    user_error("eval", "the context is {}, but at least 1 is needed.", task_.context);
  if (task_.stride == 0) task_.stride = task_.context;
  if (task_.stride < 1 || task_.stride > task_.context)
    user_error("eval",
               "the stride is {}, but 1 to {} (the context) is needed, so that no token is left "
               "out.",
               task_.stride, task_.context);
  const auto targets = static_cast<int64_t>(ids_.size()) - 1;
  if (targets < 1)
    user_error("eval", "the text has {} tokens, but at least 2 are needed.", ids_.size());
  const int64_t rest = std::max<int64_t>(0, targets - task_.context);
  windows_ = 1 + (rest + task_.stride - 1) / task_.stride;
  rows_ = std::min(windows_, std::max<int64_t>(1, kTokensTogether / task_.context));
  const Activity activity("planning and compiling a window");
  run_ = std::make_unique<ModelRun>(
      source, RunRequest{.batch = rows_, .length = task_.context, .options = task_.options},
      task_.run);
}

int64_t Evaluator::first_row_not_finite(const TokenBatch& batch) {
  for (int64_t row = 0; row < batch.batch; ++row) {
    TokenBatch alone = batch;
    for (size_t at = 0; at < alone.targets.size(); ++at)
      if (static_cast<int64_t>(at) / batch.length != row) alone.targets[at] = -1;
    const bool counts = std::any_of(alone.targets.begin(), alone.targets.end(),
                                    [](int32_t target) { return target >= 0; });
    if (counts && !std::isfinite(run_->run(alone))) return row;
  }
  return 0;
}

Evaluation Evaluator::evaluate() {
  Activity activity("evaluating windows");
  run_->load();
  const auto targets = static_cast<int64_t>(ids_.size()) - 1;
  Evaluation result{.windows = windows_};
  double sum = 0;
  int64_t counted_to = 0;  // targets before this one are counted
  for (int64_t first = 0; first < windows_; first += rows_) {
    TokenBatch batch{rows_, task_.context, {}, {}};
    batch.tokens.assign(static_cast<size_t>(rows_ * task_.context), 0);
    batch.targets.assign(batch.tokens.size(), -1);
    int64_t counted = 0;
    for (int64_t row = 0; row < rows_ && first + row < windows_; ++row) {
      const int64_t begin = (first + row) * task_.stride;
      for (int64_t t = 0; t < task_.context && begin + t < targets; ++t) {
        const auto at = static_cast<size_t>(row * task_.context + t);
        batch.tokens[at] = ids_[static_cast<size_t>(begin + t)];
        if (begin + t < counted_to) continue;
        batch.targets[at] = ids_[static_cast<size_t>(begin + t + 1)];
        ++counted;
      }
      counted_to = std::min(targets, begin + task_.context);
    }
    const double loss = run_->run(batch);
    if (!std::isfinite(loss) && result.first_not_finite < 0)
      result.first_not_finite = first + first_row_not_finite(batch);
    sum += loss * static_cast<double>(counted);
    result.tokens += counted;
    activity.at(std::min(windows_, first + rows_), windows_);
  }
  WEIR_CHECK(result.tokens == targets, "{} of {} targets were counted", result.tokens, targets);
  result.loss = sum / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.loss);
  return result;
}

}  // namespace weir
