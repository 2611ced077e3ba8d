#include "lab/experiments/heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "lab/experiments/heads_graphs.h"
#include "lab/experiments/heads_numbers.h"
#include "lab/measure/progress.h"
#include "passes/sequence_loss.h"
#include "support/error.h"

namespace weir {
namespace {

std::string whole_value(const std::string& name) { return name + ":raw"; }

}  // namespace

const char* ablation_name(Ablation ablation) {
  switch (ablation) {
    case Ablation::zero:
      return "zero";
    case Ablation::mean:
      return "mean";
  }
  internal_error_at("unknown ablation");
}

/// The programs, and what the unchanged model gave.
class HeadsExperiment::Programs {
  /// Which head of which layer.
  struct HeadPlace {
    int64_t layer = 0, head = 0;
    auto operator<=>(const HeadPlace&) const = default;
  };

 public:
  Programs(const ModelSource& source, const TokenBatch& batch, HeadsTask task)
      : source_(source), batch_(batch), task_(std::move(task)) {
    const int64_t all = layers() * heads();
    if (task_.ablations.empty()) user_error("heads", "no ablation is asked for. Name one.");
    if (task_.prune < 0) task_.prune = all;
    if (task_.prune > all)
      user_error("heads", "{} heads are to be pruned, but the model has {} x {} = {}.", task_.prune,
                 layers(), heads(), all);
    if (task_.candidates >= all) task_.candidates = 0;
    count_targets();
    const Activity activity("planning and compiling the heads");
    set_ = std::make_unique<ProgramSet>(
        source_, batch_.batch, batch_.length, [this](int64_t rows) { return plan(rows); },
        task_.options.target, task_.run, "heads");
  }

  const HeadsTask& task() const { return task_; }
  const ProgramSet& set() const { return *set_; }

  HeadsResult measure() {
    HeadsResult result;
    auto start = std::chrono::steady_clock::now();
    load();
    result.load_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    removed_.clear();
    set_masks();
    unchanged_ = run_base();
    result.loss = sum(unchanged_) / sum(targets_);
    find_means();
    for (int64_t layer = 0; layer < layers(); ++layer) result.layers.push_back(describe(layer));
    Activity activity("removing heads");
    int64_t done = 0;
    for (int64_t layer = 0; layer < layers(); ++layer)
      for (int64_t head = 0; head < heads(); ++head) {
        for (Ablation ablation : task_.ablations)
          result.layers[at(layer)].heads[at(head)].ablated.push_back(
              without({layer, head}, ablation));
        activity.at(++done, layers() * heads());
      }
    result.evaluations = evaluations_;
    result.run_seconds = seconds_since(start);
    return result;
  }

  void prune(HeadsResult& result, const std::function<void(const PrunedHead&)>& done) {
    if (unchanged_.empty()) internal_error_at("heads are pruned before they are measured");
    const auto start = std::chrono::steady_clock::now();
    const Ablation ablation = task_.ablations.front();
    Activity activity("pruning heads");
    while (std::ssize(result.curve) < task_.prune) {
      // Nothing is removed yet at the first step, whose losses the ablation has given.
      const bool first = removed_.empty();
      std::optional<PrunedHead> best;
      for (const HeadPlace& place : candidates(ablation)) {
        const ChangedLoss loss =
            first ? result.layers[at(place.layer)].heads[at(place.head)].ablated[0]
                  : without(place, ablation);
        // A loss that is not finite is never the least one.
        if (!best || loss.loss < best->loss.loss || std::isnan(best->loss.loss))
          best = PrunedHead{place.layer, place.head, loss};
      }
      if (!best) break;
      removed_.insert({best->layer, best->head});
      result.curve.push_back(*best);
      if (done) done(*best);
      activity.at(std::ssize(result.curve), task_.prune);
      if (std::ssize(result.curve) == task_.prune) break;
      set_masks();
      run_base();
    }
    result.evaluations = evaluations_;
    result.prune_seconds = seconds_since(start);
  }

 private:
  static size_t at(int64_t index) { return static_cast<size_t>(index); }
  static double sum(const std::vector<double>& values) {
    double total = 0;
    for (double value : values) total += value;
    return total;
  }

  int64_t layers() const { return source_.sizes.layers; }
  int64_t heads() const { return source_.sizes.heads; }
  int64_t parts() const { return batch_.batch / set_->rows(); }

  // Programs: that of the whole model, its gradients if candidates are chosen by them, then of each
  // layer its own and what lies behind.
  bool has_gradient() const { return task_.candidates > 0 && task_.prune > 0; }
  size_t layer_program(int64_t layer) const { return 1 + has_gradient() + 2 * at(layer); }
  size_t suffix_program(int64_t layer) const { return layer_program(layer) + 1; }

  void count_targets() {
    for (int64_t b = 0; b < batch_.batch; ++b) {
      const auto begin = batch_.targets.begin() + b * batch_.length;
      targets_.push_back(static_cast<double>(
          std::count_if(begin, begin + batch_.length, [](int32_t target) { return target >= 0; })));
    }
    if (sum(targets_) == 0)
      user_error("heads", "the batch has no target that counts; all are to be ignored.");
  }

  ProgramPlan plan(int64_t rows) const {
    const GraphPtr model = heads_model(source_, task_.options, rows, batch_.length);
    ProgramPlan plan;
    plan.programs.push_back(heads_base(model, layers()));
    if (has_gradient()) plan.programs.push_back(heads_gradient(model, layers()));
    int64_t largest = 0;
    for (int64_t layer = 0; layer < layers(); ++layer) {
      plan.programs.push_back(heads_layer(model, layer));
      plan.programs.push_back(heads_suffix(model, layer));
      const HeadsNames names(layer);
      const auto type = [&](const std::string& name) {
        return model->type(expect(model->find(name)));
      };
      // What all parts give, then of one layer weights or contributions in f64.
      plan.kept += batch_.batch / rows * (type(names.stream).bytes() + type(names.z).bytes());
      largest = std::max({largest, type(names.pattern).elements(),
                          type(names.result).elements() + type(names.output).elements()});
    }
    plan.kept += 2 * largest * int64_t{sizeof(double)};
    return plan;
  }

  void load() {
    const Model built = source_.build(set_->rows(), batch_.length);
    std::vector<AddedState> added;
    const GraphPtr model = heads_model(source_, task_.options, set_->rows(), batch_.length, &added);
    set_->load(built.parameters, added);
    d_head_ = model->type(expect(model->find(HeadsNames(0).z))).shape[3];
    scale_ = scalar(0);
    scale_.data[0] = 1.0 / sum(targets_);
  }

  // ---- masks ----

  void set_mask(const HeadPlace& place, Ablation ablation) {
    keep_[at(place.layer)].data[at(place.head)] = 0;
    if (ablation == Ablation::mean)
      std::copy_n(means_[at(place.layer)].data.begin() + place.head * d_head_, d_head_,
                  fill_[at(place.layer)].data.begin() + place.head * d_head_);
  }

  // Those of the heads that are removed for good.
  void set_masks() {
    keep_.assign(at(layers()), filled(f32({1, 1, heads(), 1}), 1));
    fill_.assign(at(layers()), zeros(f32({1, 1, heads(), d_head_})));
    for (const HeadPlace& place : removed_) set_mask(place, task_.ablations.front());
  }

  void add_masks(NamedInputs& inputs) const {
    for (int64_t layer = 0; layer < layers(); ++layer) {
      const HeadsNames names(layer);
      inputs.emplace_back(names.keep, keep_[at(layer)]);
      inputs.emplace_back(names.fill, fill_[at(layer)]);
    }
  }

  // ---- runs ----

  NamedInputs inputs_of(int64_t part) const {
    const int64_t rows = set_->rows(), T = batch_.length;
    const auto ids = [&](const std::vector<int32_t>& all) {
      return TensorView(i32({rows, T}), all.data() + part * rows * T);
    };
    NamedInputs inputs = {
        {"tokens", ids(batch_.tokens)}, {"targets", ids(batch_.targets)}, {"loss_scale", scale_}};
    add_masks(inputs);
    return inputs;
  }

  static void add_losses(const ProbeValue& value, std::vector<double>& losses) {
    const HostTensor own = value.host();
    losses.insert(losses.end(), own.data.begin(), own.data.end());
  }

  // The model with the masks set: nats by sequence; streams and z of all parts are kept.
  std::vector<double> run_base() {
    std::vector<double> losses;
    base_.clear();
    for (int64_t part = 0; part < parts(); ++part) {
      auto& kept = base_.emplace_back();
      set_->run(0, inputs_of(part), [&](const ProbeValue& value) {
        if (value.id == whole_value(kSequenceLoss))
          add_losses(value, losses);
        else
          kept.try_emplace(value.id, value);
      });
    }
    return losses;
  }

  TensorView kept(int64_t part, const std::string& name) const {
    return base_[at(part)].at(whole_value(name)).view();
  }

  // The loss without one more head.
  ChangedLoss without(const HeadPlace& place, Ablation ablation) {
    const HostTensor keep = keep_[at(place.layer)], fill = fill_[at(place.layer)];
    set_mask(place, ablation);
    const HeadsNames names(place.layer);
    std::vector<double> losses;
    for (int64_t part = 0; part < parts(); ++part) {
      NamedInputs inputs = inputs_of(part);
      inputs.emplace_back("heads.stream", kept(part, names.stream));
      inputs.emplace_back("heads.z", kept(part, names.z));
      set_->run(suffix_program(place.layer), inputs,
                [&](const ProbeValue& value) { add_losses(value, losses); });
    }
    keep_[at(place.layer)] = keep;
    fill_[at(place.layer)] = fill;
    ++evaluations_;
    return changed_loss(losses, unchanged_, targets_);
  }

  // Of z over all tokens, by layer.
  void find_means() {
    means_.assign(at(layers()), zeros(f32({1, 1, heads(), d_head_})));
    const int64_t width = heads() * d_head_;
    for (int64_t layer = 0; layer < layers(); ++layer) {
      std::vector<double>& mean = means_[at(layer)].data;
      for (int64_t part = 0; part < parts(); ++part) {
        const HostTensor z = kept(part, HeadsNames(layer).z).host();
        for (size_t i = 0; i < z.data.size(); ++i) mean[i % at(width)] += z.data[i];
      }
      for (double& one : mean) one /= static_cast<double>(batch_.batch * batch_.length);
    }
  }

  LayerHeads describe(int64_t layer) {
    const HeadsNames names(layer);
    LayerSums sums(heads());
    for (int64_t part = 0; part < parts(); ++part) {
      NamedInputs inputs = inputs_of(part);
      inputs.emplace_back("heads.stream", kept(part, names.stream));
      HostTensor results, output;
      std::vector<double> bias;
      set_->run(layer_program(layer), inputs, [&](const ProbeValue& value) {
        if (value.id == whole_value(names.pattern))
          sums.add_pattern(value.host(), task_.similarity);
        else if (value.id == whole_value(names.gate))
          sums.add_gates(value.host());
        else if (value.id == whole_value(names.bias))
          bias = value.host().data;
        else
          (value.id == whole_value(names.result) ? results : output) = value.host();
      });
      sums.add_results(results, output, bias, task_.similarity);
    }
    return sums.result(task_.similarity);
  }

  // ---- the curve ----

  // Heads that are left, or those of least first-order estimate, by layer and head.
  std::vector<HeadPlace> candidates(Ablation ablation) {
    std::vector<HeadPlace> left;
    for (int64_t layer = 0; layer < layers(); ++layer)
      for (int64_t head = 0; head < heads(); ++head)
        if (!removed_.contains({layer, head})) left.push_back({layer, head});
    if (task_.candidates == 0 || std::ssize(left) <= task_.candidates) return left;
    const std::vector<double> estimates = first_order(ablation);
    const auto estimate = [&](const HeadPlace& place) {
      const double value = estimates[at(place.layer * heads() + place.head)];
      return std::isnan(value) ? std::numeric_limits<double>::infinity() : value;
    };
    std::stable_sort(left.begin(), left.end(), [&](const HeadPlace& a, const HeadPlace& b) {
      return estimate(a) < estimate(b);
    });
    left.resize(at(task_.candidates));
    std::sort(left.begin(), left.end());
    return left;
  }

  // sum (z' - z) . dL/dz by head.
  std::vector<double> first_order(Ablation ablation) {
    std::vector<double> estimates(at(layers() * heads()));
    for (int64_t part = 0; part < parts(); ++part)
      set_->run(1, inputs_of(part), [&](const ProbeValue& value) {
        for (int64_t layer = 0; layer < layers(); ++layer) {
          const HeadsNames names(layer);
          if (value.id != whole_value(names.masked + ".grad")) continue;
          const HostTensor g = value.host(), z = kept(part, names.z).host();
          const std::vector<double>& mean = means_[at(layer)].data;
          for (size_t i = 0; i < g.data.size(); ++i) {
            const size_t of_head = i % mean.size();
            const double now = ablation == Ablation::mean ? mean[of_head] : 0;
            estimates[at(layer * heads()) + of_head / at(d_head_)] += (now - z.data[i]) * g.data[i];
          }
        }
      });
    return estimates;
  }

  const ModelSource& source_;
  const TokenBatch& batch_;
  HeadsTask task_;
  std::unique_ptr<ProgramSet> set_;
  int64_t d_head_ = 1, evaluations_ = 0;
  HostTensor scale_;
  std::vector<double> targets_, unchanged_;               ///< by sequence
  std::vector<HostTensor> keep_, fill_, means_;           ///< by layer
  std::set<HeadPlace> removed_;                           ///< for good, by the curve
  std::vector<std::map<std::string, StoredValue>> base_;  ///< by part
};

HeadsExperiment::HeadsExperiment(const ModelSource& source, const TokenBatch& batch, HeadsTask task)
    : programs_(std::make_unique<Programs>(source, batch, std::move(task))) {}

HeadsExperiment::~HeadsExperiment() = default;

const HeadsTask& HeadsExperiment::task() const { return programs_->task(); }
const MemoryPeak& HeadsExperiment::memory() const { return programs_->set().memory(); }
CompileReport HeadsExperiment::compile_report() const { return programs_->set().compile_report(); }
int64_t HeadsExperiment::rows() const { return programs_->set().rows(); }
const std::optional<NotFinite>& HeadsExperiment::not_finite() const {
  return programs_->set().not_finite();
}
HeadsResult HeadsExperiment::measure() { return programs_->measure(); }
void HeadsExperiment::prune(HeadsResult& result,
                            const std::function<void(const PrunedHead&)>& done) {
  programs_->prune(result, done);
}

std::vector<std::string> wrong_sums(const HeadsResult& result) {
  std::vector<std::string> wrong;
  for (size_t layer = 0; layer < result.layers.size(); ++layer)
    if (const double error = result.layers[layer].sum_error; !(error <= kLargestSumError))
      wrong.push_back(
          fmt::format("the contributions of layer {} miss the output of attention by {:.3g} of its "
                      "largest number, {:g} is allowed: it has a part that is no head's.",
                      layer, error, kLargestSumError));
  return wrong;
}

}  // namespace weir
