#include "lab/experiments/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "lab/experiments/program_set.h"
#include "lab/experiments/quantize_numbers.h"
#include "lab/measure/progress.h"
#include "passes/sequence_loss.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

std::vector<QuantizeArm> all_arms() {
  std::vector<QuantizeArm> arms;
  for (const int bits : {8, 4})
    for (const int64_t group : {0, 128, 32})
      for (const Smoothing smoothing : {Smoothing::none, Smoothing::activation_aware}) {
        const bool aware = smoothing == Smoothing::activation_aware;
        arms.push_back(
            {.name = fmt::format("weights-{}{}{}", bits, group ? fmt::format("-g{}", group) : "",
                                 aware ? "-aware" : ""),
             .bits = bits,
             .group = group,
             .smoothing = smoothing,
             .meaning = fmt::format(
                 "weights alone, {} bits, a scale {}{}", bits,
                 group ? fmt::format("a group of {} inputs", group) : "an output channel",
                 aware ? ", activation-aware" : "")});
      }
  const auto with = [&](const char* name, ActivationScale scale, Smoothing smoothing, bool down,
                        const char* meaning) {
    arms.push_back({.name = name,
                    .activations = scale,
                    .down_only = down,
                    .smoothing = smoothing,
                    .meaning = std::string("8 bits, activations with ") + meaning});
  };
  using Scale = ActivationScale;
  with("per-token", Scale::token, Smoothing::none, false, "a scale a token");
  with("dynamic", Scale::tensor, Smoothing::none, false, "one scale of the tensor at hand");
  with("static", Scale::given, Smoothing::none, false, "one calibrated scale a tensor");
  with("static-down", Scale::given, Smoothing::none, true,
       "one calibrated scale at the inputs of W_down, exact elsewhere");
  with("smooth-static", Scale::given, Smoothing::smooth_quant, false,
       "one calibrated scale a tensor, SmoothQuant");
  with("smooth-per-token", Scale::token, Smoothing::smooth_quant, false,
       "a scale a token, SmoothQuant");
  return arms;
}

double limit_of(const QuantizeArm& arm) { return arm.bits == 8 ? 127 : 7; }

// What an arm does at each site: arms with the same share a program.
std::vector<SiteQuantization> sites_of(const QuantizeArm& arm, const QuantizedParts& parts,
                                       bool bytes) {
  std::vector<SiteQuantization> sites;
  for (const QuantizedSite& site : parts.sites) {
    const bool is_quantised = !arm.down_only || site.mlp_down;
    sites.push_back({is_quantised ? arm.activations : ActivationScale::none, arm.group, bytes});
  }
  return sites;
}

bool has_activations(const QuantizeArm& arm) { return arm.activations != ActivationScale::none; }

constexpr const char* kMaximum = "abs,max(token)";
constexpr const char* kMean = "abs,mean(token)";
constexpr const char* kRowMaximum = "abs,max(feature)";

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::string probe(const std::string& name, const std::string& reductions) {
  return name + " : " + reductions;
}
std::string id(const std::string& name, const std::string& reductions) {
  return name + ":" + reductions;
}
std::string tokens_maximum(int64_t begin, int64_t end) {
  return fmt::format("slice(token,{},{}),{}", begin, end, kMaximum);
}

// The states of a graph, with the axis along which their outputs lie.
std::string outputs_maximum(const Type& type, const QuantizedWeight& weight) {
  return type.shape[0] == weight.outputs ? "abs,max(axis0)" : "abs,max(axis1)";
}

}  // namespace

const char* smoothing_name(Smoothing smoothing) {
  switch (smoothing) {
    case Smoothing::none:
      return "none";
    case Smoothing::smooth_quant:
      return "smooth-quant";
    case Smoothing::activation_aware:
      return "activation-aware";
  }
  internal_error_at("unknown smoothing");
}

const char* activations_name(ActivationScale activations) {
  switch (activations) {
    case ActivationScale::none:
      return "none";
    case ActivationScale::token:
      return "token";
    case ActivationScale::tensor:
      return "tensor";
    case ActivationScale::given:
      return "static";
  }
  internal_error_at("unknown scale");
}

const std::vector<QuantizeArm>& quantize_arms() {
  static const std::vector<QuantizeArm> arms = all_arms();
  return arms;
}

std::vector<QuantizeArm> arms_of_names(const std::vector<std::string>& names) {
  if (names.empty()) return quantize_arms();
  std::vector<std::string> known;
  for (const QuantizeArm& arm : quantize_arms()) known.push_back(arm.name);
  UsageProblems problems("quantize");
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end())
      problems.add(fmt::format("there is no arm '{}'.{} The arms are {}.", name,
                               did_you_mean(name, known), join(known, ", ")));
  problems.raise();
  std::vector<QuantizeArm> arms;
  for (const QuantizeArm& arm : quantize_arms())
    if (std::find(names.begin(), names.end(), arm.name) != names.end()) arms.push_back(arm);
  return arms;
}

double SequenceLosses::loss() const { return sum_of(nats) / sum_of(targets); }

double SequenceLosses::share_recalled() const { return sum_of(recalled) / sum_of(targets); }

bool QuantizeOutcome::destroyed() const { return !(ratio <= kDestroyedAbove); }

/// The programs, and what calibration told.
class QuantizeExperiment::Programs {
 public:
  Programs(const ModelSource& source, const std::vector<QuantizeCorpus>& corpora,
           const TokenBatch& calibration, QuantizeTask task)
      : source_(source), corpora_(corpora), calibration_(calibration), task_(std::move(task)) {
    check_batches();
    const GraphPtr first = model(1);
    parts_ = quantized_parts(*first);
    for (const QuantizedWeight& weight : parts_.weights)
      weight_maxima_.push_back(
          outputs_maximum(first->type(expect(first->find_input(weight.name))), weight));
    check_arms();
    for (const QuantizeArm& arm : task_.arms) {
      std::vector<SiteQuantization> sites = sites_of(arm, parts_, uses_bytes());
      const auto same = [&](const std::vector<SiteQuantization>& other) {
        return std::equal(sites.begin(), sites.end(), other.begin(),
                          [](const SiteQuantization& a, const SiteQuantization& b) {
                            return a.activations == b.activations && a.group == b.group;
                          });
      };
      const auto known = std::find_if(structures_.begin(), structures_.end(), same);
      program_of_arm_.push_back(1 + static_cast<size_t>(known - structures_.begin()));
      if (known == structures_.end()) structures_.push_back(std::move(sites));
    }
    const Activity activity("planning and compiling the arms");
    set_ = std::make_unique<ProgramSet>(
        source_, batch(), length(), [this](int64_t rows) { return plan(rows); },
        task_.options.target, task_.run, "quantize");
  }

  const ProgramSet& set() const { return *set_; }

  QuantizeResult run() {
    QuantizeResult result;
    result.parts = parts_;
    auto start = std::chrono::steady_clock::now();
    const Model built = source_.build(set_->rows(), length());
    set_->load(built.parameters, added_states(*built.graph, *model(set_->rows())));
    result.load_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    Activity activity("quantising");
    const int64_t runs = total_runs();
    calibrate();
    activity.at(++done_, runs);
    for (size_t c = 0; c < corpora_.size(); ++c) {
      result.reference.push_back(reference(c));
      activity.at(++done_, runs);
    }
    finish_ranges(result);
    const Bootstrap bootstrap(static_cast<size_t>(batch()), task_.resamples, task_.seed,
                              task_.confidence);
    for (size_t a = 0; a < task_.arms.size(); ++a)
      result.arms.push_back(run_arm(a, result.reference, bootstrap, activity));
    result.evaluations = done_;
    result.run_seconds = seconds_since(start);
    return result;
  }

 private:
  bool uses_bytes() const {
    switch (task_.products) {
      case ByteProducts::where_fast:
        return !task_.run.interpret && multiplies_bytes(task_.options.target);
      case ByteProducts::always:
        return true;
      case ByteProducts::never:
        return false;
    }
    internal_error_at("unknown choice of products");
  }

  int64_t batch() const { return corpora_.front().batch.batch; }
  int64_t length() const { return corpora_.front().batch.length; }

  void check_batches() const {
    Problems problems("quantize");
    if (corpora_.empty()) user_error("quantize", "no text is given to evaluate on.");
    for (const QuantizeCorpus& corpus : corpora_)
      if (corpus.batch.batch != batch() || corpus.batch.length != length())
        problems.add(fmt::format("{} has {} x {} tokens, but {} has {} x {}; the same are needed.",
                                 corpus.name, corpus.batch.batch, corpus.batch.length,
                                 corpora_.front().name, batch(), length()));
    if (task_.draws < 1 || calibration_.batch < task_.draws ||
        calibration_.batch % task_.draws != 0)
      problems.add(fmt::format("{} calibration sequences cannot be cut into {} draws.",
                               calibration_.batch, task_.draws));
    else if (calibration_.length != length())
      problems.add(
          fmt::format("calibration sequences have {} tokens, but those of the evaluation "
                      "have {}.",
                      calibration_.length, length()));
    if (task_.sink_token < 0 || task_.sink_token >= length())
      problems.add(fmt::format("the sink token is {}, but a sequence has the tokens 0 to {}.",
                               task_.sink_token, length() - 1));
    problems.raise();
  }

  void check_arms() const {
    const bool has_down = std::any_of(parts_.sites.begin(), parts_.sites.end(),
                                      [](const QuantizedSite& site) { return site.mlp_down; });
    for (const QuantizeArm& arm : task_.arms)
      if (arm.down_only && !has_down)
        user_error("quantize",
                   "{} quantises the inputs of W_down, but no product of {} reads a value named "
                   "blocks.N.mlp.hook_post. Leave this arm out (--arms).",
                   arm.name, source_.sizes.name);
  }

  // The model with its rewrites, before anything is quantised.
  GraphPtr model(int64_t rows) const {
    const Model built = source_.build(rows, length());
    check_model(built, rows, length());
    // Not by the pipeline, which makes one node of the loss and the product before it.
    return apply_rewrites(built.graph, task_.options.rewrites);
  }

  ProgramPlan plan(int64_t rows) const {
    GraphPtr plain = with_sequence_loss(model(rows));
    if (task_.recalled) plain = with_recalled(plain);
    ProgramPlan plan;
    plan.programs.push_back({name_sites(plain), reference_probes()});
    for (const std::vector<SiteQuantization>& sites : structures_) {
      SetProgram& program = plan.programs.emplace_back(SetProgram{apply_quantize(plain, sites)});
      program.probes = sequence_probes();
      const auto add = [&](const QuantizeNames& names) {
        for (const std::string& name : {names.error, names.energy, names.lost})
          program.probes.push_back(name);
      };
      for (size_t i = 0; i < sites.size(); ++i)
        if (sites[i].activations != ActivationScale::none) add(QuantizeNames::of_site(i));
      for (size_t w = 0; w < parts_.weights.size(); ++w) add(QuantizeNames::of_weight(w));
    }
    // Ranges of calibration, and rows of one arm.
    for (const QuantizedSite& site : parts_.sites)
      plan.kept += (8 * site.features + 4 * batch() * length()) * int64_t{sizeof(double)};
    return plan;
  }

  // Tokens before, at and behind the sink, where there are any.
  std::vector<std::pair<int64_t, int64_t>> ranges() const {
    const int64_t s = task_.sink_token;
    std::vector<std::pair<int64_t, int64_t>> all = {{s, s + 1}};
    if (s > 0) all.emplace_back(0, s);
    if (s + 1 < length()) all.emplace_back(s + 1, length());
    return all;
  }

  std::vector<std::string> sequence_probes() const {
    std::vector<std::string> probes = {kSequenceLoss};
    if (task_.recalled) probes.emplace_back(kRecalled);
    return probes;
  }

  std::vector<std::string> reference_probes() const {
    std::vector<std::string> probes = sequence_probes();
    for (size_t i = 0; i < parts_.sites.size(); ++i) {
      const std::string name = activation_name(i);
      for (const auto& [begin, end] : ranges())
        probes.push_back(probe(name, tokens_maximum(begin, end)));
      probes.push_back(probe(name, kMean));
      probes.push_back(probe(name, kRowMaximum));
    }
    for (size_t w = 0; w < parts_.weights.size(); ++w)
      probes.push_back(probe(parts_.weights[w].name, weight_maxima_[w]));
    return probes;
  }

  // ---- what runs ----

  int64_t total_runs() const {
    int64_t runs = 1 + std::ssize(corpora_);
    for (const QuantizeArm& arm : task_.arms)
      runs += std::ssize(corpora_) * (has_activations(arm) ? 2 : 1);
    return runs;
  }

  // Runs `rows` sequences from `first`; behind the last one the batch begins again, and what those
  // give is left to the sink to ignore.
  void run_part(size_t program, const TokenBatch& from, int64_t first, const NamedInputs& settings,
                const ValueSink& sink) {
    const int64_t rows = set_->rows(), T = length();
    std::vector<int32_t> tokens, targets;
    for (int64_t row = 0; row < rows; ++row) {
      const auto at = static_cast<ptrdiff_t>((first + row) % from.batch * T);
      tokens.insert(tokens.end(), from.tokens.begin() + at, from.tokens.begin() + at + T);
      targets.insert(targets.end(), from.targets.begin() + at, from.targets.begin() + at + T);
    }
    const HostTensor scale = scalar(1);
    NamedInputs inputs = settings;
    inputs.emplace_back("tokens", TensorView(i32({rows, T}), tokens.data()));
    inputs.emplace_back("targets", TensorView(i32({rows, T}), targets.data()));
    inputs.emplace_back("loss_scale", scale);
    set_->run(program, inputs, sink);
  }

  SequenceLosses no_losses(const TokenBatch& of) const {
    SequenceLosses losses;
    for (int64_t b = 0; b < of.batch; ++b) {
      const auto begin = of.targets.begin() + static_cast<ptrdiff_t>(b * of.length);
      losses.targets.push_back(
          static_cast<double>(std::count_if(begin, begin + static_cast<ptrdiff_t>(of.length),
                                            [](int32_t target) { return target >= 0; })));
    }
    return losses;
  }

  void calibrate() {
    for (const QuantizedSite& site : parts_.sites)
      features_.emplace_back(site.features, task_.draws);
    for (int64_t first = 0; first < calibration_.batch; first += set_->rows()) {
      Tensors values;
      run_part(0, calibration_, first, {},
               [&](const ProbeValue& value) { values[value.id] = value.host(); });
      const int64_t count = std::min(set_->rows(), calibration_.batch - first);
      for (size_t i = 0; i < parts_.sites.size(); ++i)
        for (int64_t row = 0; row < count; ++row)
          add_ranges(i, (first + row) * task_.draws / calibration_.batch, row, values);
      for (size_t w = 0; first == 0 && w < parts_.weights.size(); ++w)
        weight_ranges_.push_back(values.at(id(parts_.weights[w].name, weight_maxima_[w])).data);
    }
  }

  void add_ranges(size_t site, int64_t draw, int64_t row, const Tensors& values) {
    const auto K = static_cast<size_t>(parts_.sites[site].features);
    const std::string name = activation_name(site);
    const auto at = [&](const std::string& reductions) {
      return values.at(id(name, reductions)).data.data() + static_cast<size_t>(row) * K;
    };
    std::vector<double> others(K, 0);
    const double* sink = nullptr;
    for (const auto& [begin, end] : ranges()) {
      const double* found = at(tokens_maximum(begin, end));
      if (begin == task_.sink_token)
        sink = found;
      else
        for (size_t j = 0; j < K; ++j) others[j] = std::max(others[j], found[j]);
    }
    features_[site].add(draw, sink, others.data(), at(kMean));
  }

  SequenceLosses reference(size_t corpus) {
    const TokenBatch& from = corpora_[corpus].batch;
    SequenceLosses losses = no_losses(from);
    std::vector<std::vector<double>> rows(parts_.sites.size());
    for (int64_t first = 0; first < from.batch; first += set_->rows())
      run_part(0, from, first, {}, [&](const ProbeValue& value) {
        if (value.id == id(kSequenceLoss, "raw"))
          append(losses.nats, value.host().data);
        else if (value.id == id(kRecalled, "raw"))
          append(losses.recalled, value.host().data);
        else if (value.id.ends_with(kRowMaximum))
          append(rows[site_of(value.id)], value.host().data);
      });
    for (const std::vector<double>& maxima : rows) row_maxima_.push_back(maxima);
    return losses;
  }

  static void append(std::vector<double>& all, const std::vector<double>& more) {
    all.insert(all.end(), more.begin(), more.end());
  }

  // "quantize.17.activation:...": 17.
  static size_t site_of(const std::string& id) { return std::stoul(split(id, '.').at(1)); }

  void finish_ranges(QuantizeResult& result) const {
    const auto largest_of = [](const std::vector<double>& values) {
      return *std::max_element(values.begin(), values.end());
    };
    for (size_t i = 0; i < parts_.sites.size(); ++i) {
      SiteRange& range = result.ranges.emplace_back();
      range.calibrated = largest_of(features_[i].maxima(true));
      range.calibrated_without_sink = largest_of(features_[i].maxima(false));
      range.draws = features_[i].draws();
      for (size_t c = 0; c < corpora_.size(); ++c)
        range.dispersion.push_back(row_dispersion(row_maxima_[c * parts_.sites.size() + i]));
    }
  }

  // ---- an arm ----

  // Vectors and scales by which the programs of an arm are set.
  struct Settings {
    std::map<std::string, HostTensor> values;
    NamedInputs inputs() const {
      NamedInputs all;
      for (const auto& [name, value] : values) all.emplace_back(name, value);
      return all;
    }
  };

  std::vector<double> weight_range(size_t site) const {
    std::vector<double> maxima(static_cast<size_t>(parts_.sites[site].features), 0);
    for (size_t w : parts_.sites[site].weights)
      for (size_t j = 0; j < maxima.size(); ++j)
        maxima[j] = std::max(maxima[j], weight_ranges_[w][j]);
    return maxima;
  }

  std::vector<double> smoothing(const QuantizeArm& arm, size_t site, bool with_sink) const {
    switch (arm.smoothing) {
      case Smoothing::none:
        return std::vector<double>(static_cast<size_t>(parts_.sites[site].features), 1);
      case Smoothing::smooth_quant:
        return smooth_quant_scales(features_[site].maxima(with_sink), weight_range(site),
                                   task_.smooth_alpha);
      case Smoothing::activation_aware:
        return activation_aware_scales(features_[site].means(), task_.aware_alpha);
    }
    internal_error_at("unknown smoothing");
  }

  Settings settings(const QuantizeArm& arm, bool with_sink) const {
    Settings all;
    all.values[kQuantizeLimit] = filled(f32({}), limit_of(arm));
    all.values[kQuantizeSink] =
        filled(i32({}), with_sink ? -1 : static_cast<double>(task_.sink_token));
    for (size_t i = 0; i < parts_.sites.size(); ++i) {
      const std::vector<double> s = smoothing(arm, i, with_sink);
      all.values[smooth_input(i)] = {f32({parts_.sites[i].features}), s};
      if (arm.activations == ActivationScale::given)
        all.values[scale_input(i)] =
            filled(f32({}), static_scale(features_[i].maxima(with_sink), s));
    }
    return all;
  }

  // One evaluation; sums of rows come if they are asked for.
  SequenceLosses evaluate(size_t arm, size_t corpus, bool with_sink,
                          std::map<std::string, std::vector<double>>* rows) {
    const TokenBatch& from = corpora_[corpus].batch;
    const Settings set = settings(task_.arms[arm], with_sink);
    SequenceLosses losses = no_losses(from);
    for (int64_t first = 0; first < from.batch; first += set_->rows())
      run_part(program_of_arm_[arm], from, first, set.inputs(), [&](const ProbeValue& value) {
        const std::string name = value.id.substr(0, value.id.find(':'));
        if (name == kSequenceLoss)
          append(losses.nats, value.host().data);
        else if (name == kRecalled)
          append(losses.recalled, value.host().data);
        else if (rows && (!name.starts_with("quantize.weight.") || first == 0))
          append((*rows)[name], value.host().data);
      });
    return losses;
  }

  ArmResult run_arm(size_t a, const std::vector<SequenceLosses>& reference,
                    const Bootstrap& bootstrap, Activity& activity) {
    const QuantizeArm& arm = task_.arms[a];
    ArmResult result;
    for (size_t c = 0; c < corpora_.size(); ++c) {
      QuantizeOutcome& outcome = result.corpora.emplace_back();
      std::map<std::string, std::vector<double>> rows;
      outcome.losses = evaluate(a, c, true, c == 0 ? &rows : nullptr);
      if (c == 0) add_errors(a, rows, result);
      activity.at(++done_, total_runs());
      outcome.loss_difference = bootstrap.loss_difference(reference[c], outcome.losses);
      outcome.difference = bootstrap.perplexity_difference(reference[c], outcome.losses);
      outcome.ratio = std::exp(outcome.loss_difference.value);
      if (task_.recalled)
        outcome.recalled_difference = bootstrap.recalled_difference(reference[c], outcome.losses);
      if (!has_activations(arm)) continue;
      outcome.sink_exact = evaluate(a, c, false, nullptr);
      activity.at(++done_, total_runs());
      outcome.sink_damage = bootstrap.loss_difference(*outcome.sink_exact, outcome.losses);
    }
    return result;
  }

  void add_errors(size_t arm, const std::map<std::string, std::vector<double>>& rows,
                  ArmResult& result) const {
    const auto error = [&](const QuantizeNames& names, int64_t columns) {
      const std::vector<double>& lost = rows.at(names.lost);
      return RowSums{rows.at(names.error), rows.at(names.energy),
                     std::accumulate(lost.begin(), lost.end(), 0.0)}
          .result(columns);
    };
    const std::vector<SiteQuantization>& sites = structures_[program_of_arm_[arm] - 1];
    for (size_t i = 0; i < sites.size(); ++i)
      result.sites.push_back(
          sites[i].activations == ActivationScale::none
              ? std::nullopt
              : std::optional(error(QuantizeNames::of_site(i), parts_.sites[i].features)));
    for (size_t w = 0; w < parts_.weights.size(); ++w)
      result.weights.push_back(error(QuantizeNames::of_weight(w), parts_.weights[w].inputs));
  }

  const ModelSource& source_;
  const std::vector<QuantizeCorpus>& corpora_;
  const TokenBatch& calibration_;
  QuantizeTask task_;
  QuantizedParts parts_;
  std::vector<std::string> weight_maxima_;                 ///< the reduction, by weight
  std::vector<std::vector<SiteQuantization>> structures_;  ///< of programs behind the first
  std::vector<size_t> program_of_arm_;
  std::unique_ptr<ProgramSet> set_;
  int64_t done_ = 0;
  // Of calibration and reference.
  std::vector<FeatureRanges> features_;             ///< by site
  std::vector<std::vector<double>> weight_ranges_;  ///< max|w_j|, by weight
  std::vector<std::vector<double>> row_maxima_;     ///< by corpus and site
};

QuantizeExperiment::QuantizeExperiment(const ModelSource& source,
                                       const std::vector<QuantizeCorpus>& corpora,
                                       const TokenBatch& calibration, QuantizeTask task)
    : programs_(std::make_unique<Programs>(source, corpora, calibration, std::move(task))) {}

QuantizeExperiment::~QuantizeExperiment() = default;

const MemoryPeak& QuantizeExperiment::memory() const { return programs_->set().memory(); }
CompileReport QuantizeExperiment::compile_report() const {
  return programs_->set().compile_report();
}
int64_t QuantizeExperiment::rows() const { return programs_->set().rows(); }
const std::optional<NotFinite>& QuantizeExperiment::not_finite() const {
  return programs_->set().not_finite();
}
QuantizeResult QuantizeExperiment::run() { return programs_->run(); }

}  // namespace weir
