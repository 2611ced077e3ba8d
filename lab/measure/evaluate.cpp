#include "lab/measure/evaluate.h"

#include <algorithm>
#include <cmath>

#include "lab/measure/progress.h"
#include "support/error.h"

namespace weir {
namespace {

// Tokens that run together: enough to fill the machine.
constexpr int64_t kTokensTogether = 8192;

}  // namespace

Evaluator::Evaluator(const ModelSource& source, EvaluationIds text, const EvaluateTask& task)
    : task_(task), text_(std::move(text)) {
  if (task_.context < 1)
    user_error("eval", "the context is {}, but at least 1 is needed.", task_.context);
  if (task_.stride == 0) task_.stride = task_.context;
  if (task_.stride < 1 || task_.stride > task_.context)
    user_error("eval",
               "the stride is {}, but 1 to {} (the context) is needed, so that no token is left "
               "out.",
               task_.stride, task_.context);
  const size_t length = text_.text_length > 0 ? text_.text_length : text_.ids.size();
  for (size_t begin = 0; begin < text_.ids.size(); begin += length) cut(begin, begin + length);
  if (windows_.empty())
    user_error("eval", "the text has {} tokens, but at least 2 are needed.", text_.ids.size());
  // A window has no use for more than a whole text.
  const size_t targets = length - (text_.begin ? 0 : 1);
  task_.context = std::min(task_.context, static_cast<int64_t>(targets));
  rows_ = std::min(static_cast<int64_t>(windows_.size()),
                   std::max<int64_t>(1, kTokensTogether / task_.context));
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

// The windows of one text.
void Evaluator::cut(size_t begin, size_t end) {
  const auto context = static_cast<size_t>(task_.context);
  const auto stride = static_cast<size_t>(task_.stride);
  size_t counted = begin + (text_.begin ? 0 : 1);
  for (size_t first = counted; counted < end; first += stride) {
    const size_t last = std::min(end, first + context);
    windows_.push_back({first, counted, last});
    counted = last;
    if (last == end) break;
  }
}

// Inputs and targets of a window; returns how many targets count.
int64_t Evaluator::fill(const Window& window, int32_t* tokens, int32_t* targets) const {
  int64_t counted = 0;
  for (size_t at = window.first; at < window.end; ++at) {
    const size_t t = at - window.first;
    tokens[t] = t == 0 && text_.begin ? *text_.begin : text_.ids[at - 1];
    if (at < window.counted ||
        std::binary_search(text_.uncounted.begin(), text_.uncounted.end(), at))
      continue;
    targets[t] = text_.ids[at];
    ++counted;
  }
  return counted;
}

Evaluation Evaluator::evaluate() {
  Activity activity("evaluating windows");
  run_->load();
  Evaluation result{.windows = static_cast<int64_t>(windows_.size())};
  double sum = 0;
  for (size_t first = 0; first < windows_.size(); first += static_cast<size_t>(rows_)) {
    TokenBatch batch{rows_, task_.context, {}, {}};
    batch.tokens.assign(static_cast<size_t>(rows_ * task_.context), 0);
    batch.targets.assign(batch.tokens.size(), -1);
    int64_t counted = 0;
    for (size_t row = 0; row < static_cast<size_t>(rows_) && first + row < windows_.size(); ++row) {
      const size_t at = row * static_cast<size_t>(task_.context);
      counted += fill(windows_[first + row], &batch.tokens[at], &batch.targets[at]);
    }
    if (counted == 0) continue;
    const double loss = run_->run(batch);
    if (!std::isfinite(loss) && result.first_not_finite < 0)
      result.first_not_finite = static_cast<int64_t>(first) + first_row_not_finite(batch);
    sum += loss * static_cast<double>(counted);
    result.tokens += counted;
    const auto done = static_cast<int64_t>(first) + rows_;
    activity.at(std::min(done, result.windows), result.windows);
  }
  result.loss = sum / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.loss);
  return result;
}

}  // namespace weir
