#pragma once
// Redundancy of attention heads: how alike the heads of a layer are, what the loss is without each
// of them, and how many can be removed one after the other.
//
// z_h [B,T,d] is what the output projection reads of head h (hook_z, behind any gate), W_h its
// rows of that projection, c_h = z_h W_h [B,T,D] the head's contribution to the branch. Over all
// heads the c_h and the projection's bias sum to the branch's output.
//
//   ablation     z_h becomes 0 (`zero`), or its mean over all tokens of the batch in the unchanged
//                model (`mean`). Other heads stay as they are in the layer, gates that couple heads
//                included; all behind the projection is computed again.
//   difference   loss without the head minus that of the unchanged model, nats a target. Its
//                standard error is that of the mean over sequences of their own differences.
//   map          mean over sequences and queries t >= 1 of the cosine of rows a_t of two heads
//   similarity   (query 0 sees one key, so that its rows are alike in all heads).
//   output       mean over tokens of the cosine of c_h and c_g. Of both: where a row is zero there
//   similarity   is no cosine, and it is left out.
//   pruning      heads are removed one after the other, each time the one without which the loss is
//                least, ties going to the lowest layer and head. With `candidates` K > 0 only the K
//                heads of least first-order estimate sum (z' - z) . dL/dz, z' being what z becomes,
//                are tried. Losses of the curve are exact either way.
//
// What lies before a layer's projection is computed once.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "lab/measure/model_run.h"

namespace weir {

enum class Ablation : uint8_t { zero, mean };
const char* ablation_name(Ablation ablation);

struct HeadsTask {
  std::vector<Ablation> ablations = {Ablation::zero, Ablation::mean};
  int64_t prune = -1;      ///< heads that the curve removes; -1: all
  int64_t candidates = 0;  ///< heads that a step of the curve tries; 0: all that are left
  bool similarity = true;  ///< whether maps and contributions are compared
  CompileOptions options = {};
  RunSettings run = {};
  std::string provenance = {};  ///< for the record
};

/// A loss over a batch, and how it differs from that of the unchanged model.
struct ChangedLoss {
  double loss = 0, difference = 0;
  std::optional<double> standard_error = {};  ///< of two sequences or more
};

struct HeadNumbers {
  double norm = 0;                   ///< mean over tokens of |c_h|
  double sink_score = 0;             ///< mean over the first 64 queries of a_t0 / sum_s a_ts
  double row_sum = 0;                ///< mean over queries of sum_s a_ts: 1 of softmax
  std::optional<double> gate = {};   ///< mean of hook_gate, of a model that has one
  std::vector<ChangedLoss> ablated;  ///< by HeadsTask::ablations
};

using HeadMatrix = std::vector<std::vector<double>>;  ///< [H][H], symmetric; NaN without a cosine

struct LayerHeads {
  std::vector<HeadNumbers> heads;
  HeadMatrix map_similarity, output_similarity;  ///< empty unless asked for
  /// Largest |sum_h c_h + bias - output| over the largest |output|.
  double sum_error = 0;
};

/// A step of the pruning curve.
struct PrunedHead {
  int64_t layer = 0, head = 0;
  ChangedLoss loss = {};  ///< without this head and all before it
};

struct HeadsResult {
  double loss = 0;  ///< of the unchanged model
  std::vector<LayerHeads> layers;
  std::vector<PrunedHead> curve;
  double load_seconds = 0, run_seconds = 0, prune_seconds = 0;
  int64_t evaluations = 0;  ///< losses of a batch that were computed for single heads
};

class HeadsExperiment {
 public:
  /// Plans and compiles; `source` and `batch` outlive this. User errors: a model without hook_z,
  /// hook_result, hook_pattern or hook_resid_pre of a layer; no target that counts; more heads to
  /// prune than there are; not enough memory for one sequence.
  HeadsExperiment(const ModelSource& source, const TokenBatch& batch, HeadsTask task);
  ~HeadsExperiment();

  const HeadsTask& task() const;
  const MemoryPeak& memory() const;
  CompileReport compile_report() const;
  int64_t rows() const;  ///< sequences of a part
  const std::optional<NotFinite>& not_finite() const;
  /// All but the curve.
  HeadsResult measure();
  /// Adds the curve to what `measure` gave; `done` is called after every step.
  void prune(HeadsResult& result, const std::function<void(const PrunedHead&)>& done = {});

 private:
  class Programs;
  std::unique_ptr<Programs> programs_;
};

/// The mean over pairs of heads of a layer, then over layers; NaN for layers of one head.
double mean_similarity(const HeadsResult& result, HeadMatrix LayerHeads::* matrix);
/// How many heads the curve removes before its loss is above (1 + share) times the unchanged one.
int64_t removable_heads(const HeadsResult& result, double share);
inline constexpr double kRemovableShare = 0.01;
/// A larger LayerHeads::sum_error is none of rounding: the branch has a part that is no head's.
inline constexpr double kLargestSumError = 1e-4;
/// A sentence for each layer with such an error.
std::vector<std::string> wrong_sums(const HeadsResult& result);

/// The record `weir.heads/1` as one line of JSON without its end (docs/heads.md).
std::string heads_record(const MeasuredModel& sizes, const TokenBatch& batch, const HeadsTask& task,
                         const HeadsResult& result);

}  // namespace weir
