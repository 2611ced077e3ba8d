#pragma once
// Measuring a model on a batch: the record `weir.measure/1`, probes of one's own, attention maps.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/measure/attention_map.h"
#include "lab/measure/metrics.h"
#include "lab/measure/model_run.h"

namespace weir {

struct MeasureTask {
  MetricSettings metrics = {};
  CompileOptions options = {};           ///< target and rewrites of the model
  std::vector<std::string> probes = {};  ///< further ones, whose values are kept
  RunSettings run = {};
  std::string provenance = {};  ///< for the record (lab/measure/provenance.h)
  /// Bytes that the caller takes afterwards, when weights are given back: for a report.
  int64_t kept = 0;
  /// Whether weights and memory stay for another measurement; else they are given back before the
  /// record is written.
  bool keep_loaded = false;
};

/// What a record says of the checkpoint that was measured, of several that one source gives.
struct MeasuredCheckpoint {
  std::string name;
  std::optional<int64_t> step = {};
  std::string provenance = {};
};

struct MeasureResult {
  std::string record;  ///< one line of JSON
  Tensors kept;        ///< by id, of MeasureTask::probes
  double load_seconds = 0, run_seconds = 0;
};

/// User errors of probes, before anything is tokenised or compiled: as those of ModelRun.
void check_probes(const ModelSource& source, int64_t length, const CompileOptions& options,
                  const std::vector<std::string>& probes);

/// One measurement: planned and compiled by the constructor, so that its peak memory can be stated
/// before it runs.
class Measurer {
 public:
  /// `source` and `batch` outlive this. User errors: those of ModelRun; a sink token outside of the
  /// sequences.
  Measurer(const ModelSource& source, const TokenBatch& batch, const MeasureTask& task);
  ~Measurer();

  const ModelRun& run() const { return *run_; }
  MeasureResult measure(const ProfileSink& profile = {});
  /// The next measurement reads the weights anew, those that `source` gives by then, into the same
  /// memory if MeasureTask::keep_loaded, for the same compiled code. Its record has this name, step
  /// and provenance.
  void take(const MeasuredCheckpoint& checkpoint);
  /// Gives back what MeasureTask::keep_loaded keeps.
  void unload();

 private:
  const ModelSource& source_;
  const TokenBatch& batch_;
  MeasureTask task_;
  std::vector<std::string> kept_ids_;
  MetricPlan plan_;
  std::unique_ptr<ModelRun> run_;
  bool loaded_ = false;
  std::optional<MeasuredCheckpoint> taken_;
};

/// The key that receives the largest share of attention, over sequences, queries, layers and heads.
int64_t heaviest_key(const ModelSource& source, const TokenBatch& batch, const MeasureTask& task);

/// Maps of chosen (layer, head) on the first sequence. They take less memory than the measurement
/// did, whose programs contain theirs, so that no limit is asked here. User error: a layer or head
/// that does not exist.
std::vector<AttentionMap> attention_maps(const ModelSource& source, const TokenBatch& batch,
                                         const MeasureTask& task,
                                         const std::vector<std::pair<int64_t, int64_t>>& heads);

}  // namespace weir
