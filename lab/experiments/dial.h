#pragma once
// Dials: one assumed cause of gradient sinks is turned up and down in one layer of a model, at the
// same weights and tokens, and the effect is measured (arXiv 2603.17771 for the quantities; the
// dials are Weir's own).
//
// One head, s the key that is dialled, a_ts the weight of query t on it, g_t the gradient at the
// attention's output, sums over queries t > s (query s itself sees s with or without the dial):
//
//   M = sum a_ts, the mass       S = sum a_ts^2, its second moment
//   E = || sum a_ts g_t ||^2, the energy of the gradient at the value of s
//
// Norms and sums are of one sequence; a mean over sequences comes last.
//
//   mass      A logit is added to the score of key s (form `logit`), or the weights on it are
//             multiplied by a factor after normalisation (form `multiply`, which makes E = c^2 E
//             exactly when g is frozen: a check of the laboratory itself). E against M, with the
//             two curves of the theory for g_t = mu + noise: M^2 |mu|^2, and M^2 |mu|^2 +
//             sigma^2 S, where mu is the mean of g_t over t > s of a sequence and sigma^2 the mean
//             of |g_t - mu|^2.
//   norm      The input x_s of a branch's norm is multiplied by c: in form `branch` for this norm
//             alone, in form `stream` in the residual stream itself. compress = |dL/d(c x_s)| /
//             |dL/dn_s|, n_s being the norm's output, against |c x_s|; both as root mean squares
//             over sequences.
//   value     The value vector of s, as attention sums it, is multiplied by c. Loss, M and E.
//   position  Which token is offered as the sink: queries t > s, p see key p with the score that
//             they had for the sink s, and s with that of p. Values stay, so heads that parked
//             their attention on s now take the value of p. M, S and E are those of key p, sums
//             over t > p; p = s changes nothing.
//   mask      Queries t > s no longer see the keys of a set: the sink, the middle key, the last
//             four, or one drawn at random. Loss against the mass that was on them.
//
// With g frozen, g_t is that of the unchanged model and the layer's attention alone is computed
// again; with g recomputed, all that lies behind is run again, forward and backward. What lies
// before the layer is computed once. The setting of a dial is an input of compiled programs.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "lab/experiments/line_fit.h"
#include "lab/measure/model_run.h"

namespace weir {

enum class Dial : uint8_t { mass, norm, value, position, mask };
enum class DialForm : uint8_t { logit, multiply, branch, stream };
enum class Upstream : uint8_t { frozen, recomputed };
enum class DialBranch : uint8_t { attention, mlp };  ///< whose norm is dialled

const char* dial_name(Dial dial);
const char* form_name(DialForm form);
const char* upstream_name(Upstream upstream);
const char* branch_name(DialBranch branch);

/// One setting of a dial.
struct DialValue {
  std::string name;           ///< "-10", "last-four", "random-2"
  double number = 0;          ///< logit, factor, or key of position
  std::vector<int64_t> keys;  ///< that are blocked
};

struct DialTask {
  Dial dial = Dial::mass;
  DialForm form = DialForm::logit;  ///< of mass and norm
  DialBranch branch = DialBranch::attention;
  std::vector<int64_t> layers = {},
                       heads = {};  ///< empty: all; each layer alone, its heads together
  int64_t sink_token = 0;
  std::vector<DialValue> values = {};
  std::vector<Upstream> upstream = {Upstream::frozen, Upstream::recomputed};
  double confidence = 0.95;  ///< of intervals
  uint64_t seed = 1;         ///< of random keys, for the record
  CompileOptions options = {};
  RunSettings run = {};
  std::string provenance = {};  ///< for the record
};

/// The forms that a dial has, the usual one first; none for most.
std::vector<DialForm> forms_of(Dial dial);
/// Whether g frozen, or recomputed, has a meaning for a dial: nothing changes in `value` with g
/// frozen, and `mask` is about the loss.
bool has_upstream(Dial dial, Upstream upstream);

/// What a dial is turned to if nothing is said: logits -10 to 10; factors of `multiply` 2^-5 to
/// 2^5; of `norm` 2^-6 to 2^4; of `value` 0 to 4; keys s and the powers of two below T; the sink,
/// the middle, the last four and `random` keys, each another one and none the sink. Usage error for
/// more of these than a sequence has.
std::vector<DialValue> default_values(Dial dial, DialForm form, int64_t sink_token, int64_t length,
                                      int64_t random, uint64_t seed);
/// Numbers, or of a mask `sink`, `middle`, `last-four`, `random` and keys. User error of topic
/// "dial" that lists what is wrong: no number, a key outside of the sequence, a factor of
/// `multiply` or `norm` that is not positive, an empty list.
std::vector<DialValue> parse_values(const std::vector<std::string>& words, Dial dial, DialForm form,
                                    int64_t sink_token, int64_t length, int64_t random,
                                    uint64_t seed);

/// What a dial of attention does at one setting, by head of DialTask::heads.
struct AttentionPoint {
  std::vector<double> mass, second_moment, energy;  ///< means over sequences
  std::vector<double> mean_curve, noise_curve;      ///< of the theory
  /// Largest over sequences of |dv| over sum a_ts |g_t|, over M max |g_t|, and over
  /// sqrt(S) sqrt(sum |g_t|^2): none is above one.
  std::vector<double> by_sum, by_mass, by_moment;
};

/// What the norm dial does at one setting.
struct NormPoint {
  double norm = 0, compress = 0;
  /// Least over sequences of the mean of (c x_s)^2, of LayerNorm of its variance.
  double mean_square = 0;
};

/// All settings of one layer.
struct DialSweep {
  Upstream upstream = Upstream::frozen;
  std::vector<double> loss;               ///< by setting; empty with g frozen
  std::vector<AttentionPoint> attention;  ///< by setting; of all dials but norm
  std::vector<NormPoint> norm;
};

struct LayerDial {
  int64_t layer = 0;
  double eps = 0;  ///< of the norm that is dialled
  std::vector<DialSweep> sweeps;
};

/// A claim that holds exactly, and how far it was from failing.
struct DialCheck {
  std::string name;
  bool holds = true;
  double worst = 0, limit = 0;
  std::string where = {};  ///< "layer 3, head 2, value 4, g recomputed"
};

struct DialResult {
  double loss = 0;  ///< of the unchanged model
  std::vector<int64_t> heads;
  std::vector<LayerDial> layers;
  std::vector<DialCheck> checks;
  double load_seconds = 0, run_seconds = 0;
};

/// One experiment: planned and compiled by the constructor, so that its peak memory can be stated
/// before it runs.
class Dialler {
 public:
  /// `source` and `batch` outlive this. User errors: a layer, head or key that there is not (usage
  /// errors); hooks that the model lacks; what the passes say; not enough memory for one sequence.
  Dialler(const ModelSource& source, const TokenBatch& batch, DialTask task);
  ~Dialler();

  const DialTask& task() const;
  const MemoryPeak& memory() const;
  CompileReport compile_report() const;
  int64_t rows() const;  ///< sequences of a part
  /// What was not finite first; nothing unless RunSettings::check_finite.
  const std::optional<NotFinite>& not_finite() const;
  DialResult run();

 private:
  class Experiment;
  std::unique_ptr<Experiment> experiment_;
};

/// Layer, head and key of a task against the sizes of the model: a usage error that lists all that
/// there are not.
void check_dial(const DialTask& task, const MeasuredModel& sizes, int64_t length);

/// The record `weir.dial/1` as one line of JSON without its end (lab/README.md has its fields).
std::string dial_record(const MeasuredModel& sizes, const TokenBatch& batch, const DialTask& task,
                        const DialResult& result);

/// The fit of a sweep of the mass dial over heads together (means over heads of E and M), or of one
/// of them; and that of the norm dial, over settings where mean_square > kEpsShare eps.
LineFit mass_fit(const DialSweep& sweep, std::optional<size_t> head, double confidence);
LineFit norm_fit(const DialSweep& sweep, double eps, double confidence);
inline constexpr double kEpsShare = 1000;

}  // namespace weir
