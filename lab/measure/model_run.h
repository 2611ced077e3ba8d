#pragma once
// A model with given weights run on batches: compiled for parts of the batch that fit into the
// memory there is, or interpreted in f64. Peak memory is known before anything runs.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/batch_runner.h"
#include "engine/finite_check.h"
#include "io/text_tokens.h"
#include "lab/measure/model_source.h"
#include "passes/pass.h"

namespace weir {

/// Token ids [batch, length]; a target of -1 is not counted.
struct TokenBatch {
  int64_t batch = 0, length = 0;
  std::vector<int32_t> tokens, targets;
  std::optional<TextTokens> around = {};  ///< of text that was tokenised for the batch
};

/// What a run computes.
struct RunRequest {
  int64_t batch = 1, length = 1;
  std::vector<std::string> probes = {};
  bool loss = true;
  CompileOptions options = {};  ///< target and rewrites; its probes are those above
  /// Bytes that the caller keeps of the values while the run goes on.
  int64_t kept = 0;
  /// measure, or check: the identities of gradients come as probes, those of `sink` too.
  Purpose purpose = Purpose::measure;
  int64_t sink = 0;
};

struct RunSettings {
  int threads = 0;            ///< 0: all cores
  std::string cache = {};     ///< folder of the object cache; "" keeps none
  int64_t memory = 0;         ///< bytes that the process may have in all; 0: what is free
  bool interpret = false;     ///< f64, by definition, the batch in one part
  bool check_finite = false;  ///< every kernel's results are looked at (engine/finite_check.h)
  int64_t rows = 0;           ///< sequences of a part, a divisor of the batch; 0: as memory allows
  /// For tests of what finds faults: changes every program of stage instrumented.
  std::function<GraphPtr(const GraphPtr&)> plant_fault = {};
};

class ModelRun {
 public:
  /// Chooses the parts and compiles; weights are read by `load`. `source` outlives this. User
  /// errors: those of the model and of the probes; not enough memory for one sequence.
  ModelRun(const ModelSource& source, const RunRequest& request, const RunSettings& settings);
  ~ModelRun();

  int64_t rows() const;
  int64_t parts() const { return request_.batch / rows(); }
  const MemoryPeak& memory() const;
  CompileReport compile_report() const;
  /// User error when interpreted.
  const Executables& programs() const;
  int threads() const;
  bool interpreted() const { return settings_.interpret; }
  int64_t parameters() const { return parameter_count_; }

  /// Takes memory, if it is not taken yet, and reads the weights into it.
  void load();
  /// Gives back the memory of weights and programs; load() brings them again.
  void unload();
  /// Runs a batch of the requested size and returns the mean loss over its valid targets, in nats
  /// (0 without a loss). Values of probes that reduce the batch come once, others once a part in
  /// the order of the batch. User errors: before `load`; a batch of another size than requested, or
  /// with ids outside of the vocabulary; no target that counts.
  double run(const TokenBatch& batch, const ValueSink& sink = {}, const ProfileSink& profile = {});
  /// What was not finite first in the last run; nothing unless RunSettings::check_finite.
  const std::optional<NotFinite>& not_finite() const;

 private:
  struct Plan;
  Plan plan(int64_t rows) const;
  int64_t mapped_bytes() const;
  Plan choose(int64_t limit, int64_t below) const;
  BatchRunner::Planner planner(int64_t limit);
  void check(const TokenBatch& batch) const;
  [[noreturn]] void refuse(const MemoryPeak& need, int64_t limit) const;
  double run_interpreted(const TokenBatch& batch, double scale, const ValueSink& sink);

  const ModelSource& source_;
  RunRequest request_;
  RunSettings settings_;
  int64_t parameter_count_ = 0;
  std::unique_ptr<Plan> plan_;
  std::unique_ptr<BatchRunner> runner_;
  std::optional<FiniteCheck> finite_;
  Tensors interpreted_;  // the weights, of the interpreter
};

/// The ids of B windows of T + 1, cut into tokens and targets; user error unless `ids` has
/// B (T + 1) elements.
TokenBatch token_batch(int64_t B, int64_t T, std::span<const int32_t> ids);

}  // namespace weir
