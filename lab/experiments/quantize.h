#pragma once
// What rounding weights and activations to 8 or 4 bits does to a model, on two texts, and how much
// of it is the work of the sink token: an integer engine simulated to the bit (passes/quantize.h).
//
// Every arm quantises the linears of the blocks, not the output head. Its *damage* is the rise of
// the loss over the model in f32. Its *sink damage* is
//
//   D_sink = loss(all quantised) - loss(the sink token kept exact and left out of every scale)
//
// Static scales come from calibration sequences, which no evaluation has: max|x| of a tensor over
// all draws, over 127. SmoothQuant (Xiao et al., arXiv 2211.10438) divides activations by
// s_j = max|x_j|^a / max|w_j|^(1-a), a weight's inputs being multiplied by it; the maxima are over
// calibration tokens and over the outputs of all weights that read x. The activation-aware scale
// of weights (Lin et al., AWQ, arXiv 2306.00978) is s_j = (mean|x_j|)^b, divided by
// sqrt(max s min s); b is fixed here, where AWQ searches it.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "lab/measure/model_run.h"
#include "passes/quantize.h"

namespace weir {

/// Which scales are moved between weights and activations.
enum class Smoothing : uint8_t { none, smooth_quant, activation_aware };
const char* smoothing_name(Smoothing smoothing);
/// "none", "token", "tensor", "static".
const char* activations_name(ActivationScale activations);

struct QuantizeArm {
  std::string name;  ///< "weights-4-g128-aware", "static", ...
  int bits = 8;      ///< of weights; activations have 8
  int64_t group = 0;
  ActivationScale activations = ActivationScale::none;
  bool down_only = false;  ///< activations of W_down alone
  Smoothing smoothing = Smoothing::none;
  std::string meaning;
};
/// All arms, in the order of reports.
const std::vector<QuantizeArm>& quantize_arms();
/// Those of these names; none: all. Usage error of topic "quantize" that lists unknown names.
std::vector<QuantizeArm> arms_of_names(const std::vector<std::string>& names);

/// A text of the evaluation.
struct QuantizeCorpus {
  std::string name;
  TokenBatch batch;
  std::string provenance = {};  ///< JSON, of which the record takes `input` and `tokens`
};

/// Whether products of quantised activations are computed from bytes; the bits are the same.
enum class ByteProducts : uint8_t { where_fast, always, never };

struct QuantizeTask {
  std::vector<QuantizeArm> arms = quantize_arms();
  int64_t draws = 5;  ///< of calibration sequences, one after the other, equally many each
  int64_t sink_token = 0;
  double smooth_alpha = 0.5, aware_alpha = 0.5;
  double confidence = 0.95;  ///< of bootstrap intervals
  int64_t resamples = 2000;
  uint64_t seed = 1;  ///< of the bootstrap
  ByteProducts products = ByteProducts::where_fast;
  /// Whether it is told how many targets are recalled (passes/sequence_loss.h), for which all
  /// logits are in memory.
  bool recalled = false;
  CompileOptions options = {};
  RunSettings run = {};
  std::string provenance = {};
};

/// A perplexity above so many times that of the model in f32 is no ratio worth stating.
inline constexpr double kDestroyedAbove = 10;
/// A tensor of which a larger share is rounded to 0 carries nothing any more.
inline constexpr double kAnnihilatedAbove = 0.9;

/// A number with its bootstrap interval over sequences.
struct BootstrapEstimate {
  double value = 0, low = 0, high = 0;
};

/// Sums of a corpus by sequence: nats, targets that count and, if asked for, those recalled.
struct SequenceLosses {
  std::vector<double> nats, targets, recalled;
  double loss() const;            ///< nats a target
  double share_recalled() const;  ///< of the targets
};

/// An arm on a corpus.
struct QuantizeOutcome {
  SequenceLosses losses;
  BootstrapEstimate loss_difference, difference;         ///< in nats a target, in perplexity
  std::optional<BootstrapEstimate> recalled_difference;  ///< of the shares, if asked for
  double ratio = 1;                                      ///< of the perplexities
  bool destroyed() const;
  /// Of arms that quantise activations.
  std::optional<SequenceLosses> sink_exact;
  std::optional<BootstrapEstimate> sink_damage;
};

/// What rounding does to a tensor, of an arm on the first corpus. Errors are |x - rounded| / |x|
/// as norms: of the whole tensor; of a token (or output channel), the median over them.
struct RoundingError {
  double whole = 0, median_row = 0;
  double underflow = 0;  ///< share of all numbers that become 0 and were not
};

struct ArmResult {
  std::vector<QuantizeOutcome> corpora;
  /// By site, none where activations stay; by weight.
  std::vector<std::optional<RoundingError>> sites;
  std::vector<RoundingError> weights;
};

/// The activation of a site in f32.
struct SiteRange {
  std::vector<double> dispersion;  ///< by corpus: max|x| / median over tokens of a token's max|x|
  double calibrated = 0, calibrated_without_sink = 0;  ///< max|x| over all draws
  std::vector<double> draws;                           ///< max|x| of each draw
};

struct QuantizeResult {
  QuantizedParts parts;
  std::vector<SiteRange> ranges;          ///< by site
  std::vector<SequenceLosses> reference;  ///< by corpus, of the model in f32
  std::vector<ArmResult> arms;
  double load_seconds = 0, run_seconds = 0;
  int64_t evaluations = 0;  ///< of a corpus
};

class QuantizeExperiment {
 public:
  /// Plans and compiles; everything given outlives this. `calibration` is cut into draws. User
  /// errors: no corpus, or corpora of different shape; sequences that no draws are made of; a sink
  /// token outside of them; an arm that the model has no tensors for; those of passes/quantize; not
  /// enough memory for one sequence.
  QuantizeExperiment(const ModelSource& source, const std::vector<QuantizeCorpus>& corpora,
                     const TokenBatch& calibration, QuantizeTask task);
  ~QuantizeExperiment();

  const MemoryPeak& memory() const;
  CompileReport compile_report() const;
  int64_t rows() const;  ///< sequences that are computed together
  const std::optional<NotFinite>& not_finite() const;
  QuantizeResult run();

 private:
  class Programs;
  std::unique_ptr<Programs> programs_;
};

/// The record `weir.quantize/1` as one line of JSON without its end (docs/quantize.md). `rows` as
/// the experiment has it.
std::string quantize_record(const MeasuredModel& sizes, const std::vector<QuantizeCorpus>& corpora,
                            const TokenBatch& calibration, const QuantizeTask& task,
                            const QuantizeResult& result, int64_t rows);

}  // namespace weir
