#pragma once
// Identities and bounds of gradients on a model and a batch (`weir check`): both sides are computed
// in the compiled program, or by the interpreter in f64, and compared by layer, head and token.
#include <memory>
#include <string>
#include <vector>

#include "lab/experiments/check_values.h"
#include "lab/measure/model_run.h"

namespace weir {

struct CheckTask {
  CompileOptions options = {};  ///< target and rewrites of the model
  RunSettings run = {};
  int64_t sink = 0;             ///< key of the bounds from mean and noise
  std::string provenance = {};  ///< for the record (lab/measure/provenance.h)
};

struct CheckOutcome {
  std::string record;                 ///< `weir.check/1`, one line of JSON (lab/README.md)
  std::vector<std::string> failures;  ///< what does not hold, a sentence an identity and site
  double load_seconds = 0, run_seconds = 0;
};

class Checker {
 public:
  /// Plans and compiles; `source` and `batch` outlive this. User errors: those of ModelRun; a sink
  /// token outside of the sequences; a model that has nothing to check.
  Checker(const ModelSource& source, const TokenBatch& batch, const CheckTask& task);

  const ModelRun& run() const { return *run_; }
  CheckOutcome check();

 private:
  const ModelSource& source_;
  const TokenBatch& batch_;
  CheckTask task_;
  std::vector<IdentitySite> sites_;
  std::unique_ptr<ModelRun> run_;
};

}  // namespace weir
