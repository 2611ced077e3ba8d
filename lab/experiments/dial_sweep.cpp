// The experiment itself: programs are planned, then the batch goes through them part by part.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "lab/experiments/dial_checks.h"
#include "lab/experiments/dial_graphs.h"
#include "lab/experiments/dial_numbers.h"
#include "lab/measure/progress.h"
#include "support/error.h"

namespace weir {
namespace {

std::vector<int64_t> all_below(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// How far a claim may be from exact arithmetic: in f32 and in the interpreter's f64.
double tolerance_of(bool interpreted) { return interpreted ? 1e-10 : 1e-5; }

}  // namespace

class Dialler::Experiment {
 public:
  Experiment(const ModelSource& source, const TokenBatch& batch, DialTask task)
      : source_(source),
        batch_(batch),
        task_(completed(source, std::move(task))),
        checks_(tolerance_of(task_.run.interpret)) {
    check_dial(task_, source.sizes, batch.length);
    const Activity activity("planning and compiling the dial");
    programs_ = std::make_unique<ProgramSet>(
        source, batch.batch, batch.length, [this](int64_t rows) { return plan(rows); },
        task_.options.target, task_.run);
  }

  const DialTask& task() const { return task_; }
  const ProgramSet& programs() const { return *programs_; }

  DialResult run() {
    DialResult result;
    result.heads = task_.heads;
    auto start = std::chrono::steady_clock::now();
    const Model model = source_.build(programs_->rows(), batch_.length);
    std::vector<AddedState> added;
    const GraphPtr graph = dial_model(source_, task_, programs_->rows(), batch_.length, &added);
    programs_->load(model.parameters, added);
    result.load_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    prepare(*graph, result);
    Activity activity("turning the dial");
    const int64_t parts = batch_.batch / programs_->rows();
    for (int64_t part = 0; part < parts; ++part) run_part(part, parts, result, activity);
    finish(result);
    result.run_seconds = seconds_since(start);
    return result;
  }

 private:
  // Sums of one layer with g frozen or recomputed, by setting.
  struct Sums {
    std::vector<AttentionSums> attention;
    std::vector<NormSums> norm;
  };

  static DialTask completed(const ModelSource& source, DialTask task) {
    if (task.layers.empty()) task.layers = all_below(source.sizes.layers);
    if (task.heads.empty()) task.heads = all_below(source.sizes.heads);
    std::erase_if(task.upstream, [&](Upstream one) { return !has_upstream(task.dial, one); });
    return task;
  }

  bool wants(Upstream upstream) const {
    return std::find(task_.upstream.begin(), task_.upstream.end(), upstream) !=
           task_.upstream.end();
  }
  // Programs: that of the whole model, then of each layer its own and what lies behind.
  bool has_layer_program() const { return task_.dial != Dial::norm || wants(Upstream::frozen); }
  size_t programs_a_layer() const {
    return static_cast<size_t>(has_layer_program()) +
           static_cast<size_t>(wants(Upstream::recomputed));
  }
  size_t layer_program_of(size_t i) const { return 1 + i * programs_a_layer(); }
  size_t suffix_of(size_t i) const {
    return layer_program_of(i) + static_cast<size_t>(has_layer_program());
  }

  ProgramPlan plan(int64_t rows) const {
    const GraphPtr model = dial_model(source_, task_, rows, batch_.length);
    ProgramPlan plan;
    plan.programs.push_back(base_program(model, task_, task_.layers));
    for (int64_t layer : task_.layers) {
      if (has_layer_program()) plan.programs.push_back(layer_program(model, task_, layer));
      if (wants(Upstream::recomputed)) plan.programs.push_back(suffix_program(model, task_, layer));
    }
    // What the sweeps start from, and of one layer the same in f64.
    int64_t largest = 0;
    for (std::string name : plan.programs[0].probes) {
      if (name.ends_with(".grad")) name.resize(name.size() - std::string(".grad").size());
      const Type& type = model->type(expect(model->find(name)));
      plan.kept += type.bytes();
      largest = std::max(largest, type.elements());
    }
    plan.kept += 4 * largest * int64_t{sizeof(double)};
    return plan;
  }

  void prepare(const Graph& graph, DialResult& result) {
    for (int64_t layer : task_.layers) {
      LayerDial one{layer, 0, {}};
      bool centred = false;
      if (task_.dial == Dial::norm)
        one.eps = norm_eps(graph, DialNames(layer, task_.branch).norm_out, &centred);
      for (Upstream upstream : task_.upstream) {
        DialSweep& sweep = one.sweeps.emplace_back();
        sweep.upstream = upstream;
        if (upstream == Upstream::recomputed) sweep.loss.resize(task_.values.size());
        Sums& sums = sums_[{layer, upstream}];
        sums.attention.assign(task_.values.size(), AttentionSums(task_.heads));
        sums.norm.assign(task_.values.size(), NormSums(centred));
      }
      result.layers.push_back(std::move(one));
    }
  }

  void run_part(int64_t part, int64_t parts, DialResult& result, Activity& activity) {
    const int64_t rows = programs_->rows(), T = batch_.length;
    const auto ids = [&](const std::vector<int32_t>& all) {
      return TensorView(i32({rows, T}), all.data() + part * rows * T);
    };
    const auto valid = std::count_if(batch_.targets.begin(), batch_.targets.end(),
                                     [](int32_t target) { return target >= 0; });
    if (valid == 0)
      user_error("dial", "the batch has no target that counts; all are to be ignored.");
    scale_ = scalar(0);
    scale_.data[0] = 1.0 / static_cast<double>(valid);
    first_sequence_ = part * rows;
    common_ = {{"targets", ids(batch_.targets)}, {"loss_scale", scale_}};
    base_.clear();
    NamedInputs inputs = common_;
    inputs.emplace_back("tokens", ids(batch_.tokens));
    base_loss_ = programs_->run(
        0, inputs, [&](const ProbeValue& value) { base_.try_emplace(value.id, value); });
    result.loss += base_loss_;
    const auto all = static_cast<int64_t>(task_.layers.size() * task_.values.size());
    for (size_t i = 0; i < task_.layers.size(); ++i)
      for (size_t v = 0; v < task_.values.size(); ++v) {
        for (DialSweep& sweep : result.layers[i].sweeps)
          task_.dial == Dial::norm ? turn_norm(i, v, sweep) : turn_attention(i, v, sweep);
        activity.at(part * all + static_cast<int64_t>(i * task_.values.size() + v) + 1,
                    parts * all);
      }
  }

  // ---- settings ----

  DialSetting setting(const DialValue& value, bool turned = true) const {
    return dial_setting(task_, value, source_.sizes.heads, turned);
  }

  static void add(NamedInputs& inputs, const DialSetting& setting) {
    inputs.emplace_back(kDialKeys, setting.keys);
    inputs.emplace_back(kDialAmount, setting.amount);
  }

  // ---- dials of attention ----

  void add_operands(NamedInputs& inputs, const DialNames& names) const {
    inputs.emplace_back(kQueries, base_.at(raw_id(names.q)).view());
    inputs.emplace_back(kKeyRows, base_.at(raw_id(names.k)).view());
    inputs.emplace_back(kValueRows, base_.at(raw_id(names.v)).view());
  }

  void turn_attention(size_t i, size_t v, DialSweep& sweep) {
    const DialNames names(task_.layers[i], task_.branch);
    const DialValue& value = task_.values[v];
    AttentionSums& sums = sums_.at({task_.layers[i], sweep.upstream}).attention[v];
    HostTensor g;
    const bool runs = sweep.upstream == Upstream::recomputed && !is_neutral(task_, value);
    if (runs)
      sweep.loss[v] += run_suffix(i, value, [&](const ProbeValue& probe) { g = probe.host(); });
    else if (task_.dial != Dial::mask)
      g = base_.at(raw_id(names.z + ".grad")).view().host();
    if (!runs && !sweep.loss.empty()) sweep.loss[v] += base_loss_;
    if (task_.dial == Dial::mask) {
      const HostTensor weights = layer_weights(i, setting(value, false));
      return sums.add_mass(weights, value.keys);
    }
    const int64_t key = measured_key(task_, value);
    const LayerValues now = layer_values(i, setting(value), g, key);
    sums.add(now.weights, now.gradients, g, key, checks_, [&](int64_t sequence, int64_t head) {
      return place(i, head, value, sweep.upstream) +
             fmt::format(", sequence {}", first_sequence_ + sequence);
    });
  }

  std::string place(size_t i, int64_t head, const DialValue& value, Upstream upstream) const {
    return fmt::format("layer {}{}, {} {}, g {}", task_.layers[i],
                       head < 0 ? "" : fmt::format(", head {}", head), dial_name(task_.dial),
                       value.name, upstream_name(upstream));
  }

  double run_suffix(size_t i, const DialValue& value, const ValueSink& sink) {
    const DialNames names(task_.layers[i], task_.branch);
    const DialSetting now = setting(value);
    NamedInputs inputs = common_;
    inputs.emplace_back(kStream, base_.at(raw_id(names.stream)).view());
    if (task_.dial != Dial::norm) add_operands(inputs, names);
    add(inputs, now);
    return programs_->run(suffix_of(i), inputs, sink);
  }

  struct LayerValues {
    HostTensor weights, gradients;  ///< [B,T,H] on the key, [B,H,d] at its value
  };

  // The gradient at the value of the key by queries behind it: the row of g at the key itself is
  // left out, and rows before it do not see the key.
  LayerValues layer_values(size_t i, const DialSetting& now, const HostTensor& g, int64_t key) {
    HostTensor behind = g;
    const Shape& shape = g.shape();
    const int64_t T = shape[1], row = shape[2] * shape[3];
    for (int64_t b = 0; b < shape[0]; ++b)
      std::fill_n(behind.data.begin() + (b * T + key) * row, row, 0.0);
    LayerValues values;
    run_layer(i, now, behind, [&](const ProbeValue& probe) {
      if (probe.id == raw_id(kDialWeights))
        values.weights =
            probe.view.slice(3, measured_place(task_), measured_place(task_) + 1).host();
      else
        values.gradients = probe.view.slice(1, key, key + 1).host();
    });
    return values;
  }

  HostTensor layer_weights(size_t i, const DialSetting& now) {
    HostTensor weights;
    run_layer(i, now,
              zeros(base_.at(raw_id(DialNames(task_.layers[i], task_.branch).q)).view().type()),
              [&](const ProbeValue& probe) { weights = probe.host(); });
    return weights;
  }

  void run_layer(size_t i, const DialSetting& now, const HostTensor& upstream,
                 const ValueSink& sink) {
    const DialNames names(task_.layers[i], task_.branch);
    NamedInputs inputs = {{kUpstream, upstream}};
    add_operands(inputs, names);
    add(inputs, now);
    programs_->run(layer_program_of(i), inputs, sink);
  }

  // ---- the norm dial ----

  void turn_norm(size_t i, size_t v, DialSweep& sweep) {
    const DialNames names(task_.layers[i], task_.branch);
    const DialValue& value = task_.values[v];
    std::map<std::string, HostTensor> rows;
    const auto sink = [&](const ProbeValue& probe) { rows[probe.id] = probe.host(); };
    if (sweep.upstream == Upstream::recomputed) {
      sweep.loss[v] += run_suffix(i, value, sink);
    } else {
      const DialSetting now = setting(value);
      NamedInputs inputs = {{kStream, base_.at(raw_id(names.stream)).view()},
                            {kUpstream, base_.at(raw_id(names.norm_out + ".grad")).view()}};
      add(inputs, now);
      programs_->run(layer_program_of(i), inputs, sink);
    }
    const auto row = [&](const std::string& name) {
      return rows.at(token_id(name, task_.sink_token));
    };
    sums_.at({task_.layers[i], sweep.upstream})
        .norm[v]
        .add(row(names.norm_in), row(names.norm_in + ".grad"), row(names.norm_out + ".grad"));
  }

  // ---- the end ----

  void finish(DialResult& result) const {
    for (LayerDial& layer : result.layers)
      for (DialSweep& sweep : layer.sweeps) {
        const Sums& sums = sums_.at({layer.layer, sweep.upstream});
        for (size_t v = 0; v < task_.values.size(); ++v)
          if (task_.dial == Dial::norm)
            sweep.norm.push_back(sums.norm[v].mean());
          else
            sweep.attention.push_back(sums.attention[v].mean());
      }
    result.checks = dial_checks(task_, checks_, result);
  }

  const ModelSource& source_;
  const TokenBatch& batch_;
  DialTask task_;
  std::unique_ptr<ProgramSet> programs_;
  AttentionChecks checks_;
  std::map<std::pair<int64_t, Upstream>, Sums> sums_;
  // Of the part that is being computed.
  int64_t first_sequence_ = 0;
  double base_loss_ = 0;
  HostTensor scale_;
  NamedInputs common_;
  std::map<std::string, StoredValue> base_;
};

Dialler::Dialler(const ModelSource& source, const TokenBatch& batch, DialTask task)
    : experiment_(std::make_unique<Experiment>(source, batch, std::move(task))) {}

Dialler::~Dialler() = default;

const DialTask& Dialler::task() const { return experiment_->task(); }
const MemoryPeak& Dialler::memory() const { return experiment_->programs().memory(); }
CompileReport Dialler::compile_report() const { return experiment_->programs().compile_report(); }
int64_t Dialler::rows() const { return experiment_->programs().rows(); }
const std::optional<NotFinite>& Dialler::not_finite() const {
  return experiment_->programs().not_finite();
}
DialResult Dialler::run() { return experiment_->run(); }

}  // namespace weir
