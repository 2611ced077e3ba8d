#include "lab/specialize/simulate.h"

#include <Eigen/Dense>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "engine/executable.h"
#include "engine/run.h"
#include "models/single_location.h"
#include "passes/pipeline.h"
#include "support/error.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Clock = std::chrono::steady_clock;

constexpr const char* kSimulationTopic = "simulation";
/// Streams of runtime/random under a run's seed, apart from those of other uses.
constexpr uint64_t kDirectionStream = 0x51d0, kKeyStream = 0x51d1;
/// The directions are those of all runs, whatever their seeds.
constexpr uint64_t kDirectionSeed = 1;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_simulation(const LimitModel& model, const SimulationStart& start,
                      std::span<const double> times, const SimulationSettings& settings) {
  Problems problems(kSimulationTopic);
  const int64_t heads = start.at.heads(), directions = model.law.dimension();
  if (settings.seeds.empty()) problems.add("there is no seed");
  // A seed is the key of the generator, so that different ones never draw the same samples.
  for (uint64_t seed : settings.seeds)
    if (seed > std::numeric_limits<uint32_t>::max())
      problems.add(fmt::format("seed {} is beyond the 32 bits that the generator takes", seed));
  if (times.empty()) problems.add("there is no time at which to measure");
  for (size_t i = 0; i < times.size(); ++i)
    if (!std::isfinite(times[i]) || times[i] < 0 || (i > 0 && times[i] < times[i - 1]))
      problems.add(fmt::format("time {} is {}; times grow from 0", i + 1, times[i]));
  if (settings.rates.empty() || settings.rates[0].from != 0)
    problems.add("the first learning rate has to begin at time 0");
  for (size_t i = 0; i < settings.rates.size(); ++i) {
    const RateStage& stage = settings.rates[i];
    if (!std::isfinite(stage.eta_0) || stage.eta_0 <= 0)
      problems.add(fmt::format("eta_0 is {}; a positive number is needed", stage.eta_0));
    if (i > 0 && !(stage.from > settings.rates[i - 1].from))
      problems.add(fmt::format("rate {} begins at {}, which is not after the one before", i + 1,
                               stage.from));
  }
  if (settings.tie.size() > 0 && settings.tie.rows() != heads)
    problems.add(fmt::format("tie has {} rows for {} heads", settings.tie.rows(), heads));
  // Keys with given order parameters lie in as many dimensions as there are directions and heads.
  if (start.random_deviation <= 0 && settings.dimension < directions + heads)
    problems.add(fmt::format("{} dimensions are too few for {} directions and {} heads",
                             settings.dimension, directions, heads));
  problems.raise();
  if (start.random_deviation <= 0) check_parameters(model, start.at);
}

SingleLocationModel described(const LimitModel& model, int64_t heads,
                              const SimulationSettings& settings) {
  return {.runs = static_cast<int64_t>(settings.seeds.size()),
          .tokens = model.tokens,
          .dimension = settings.dimension,
          .directions = model.law.dimension(),
          .heads = heads,
          .free_keys = settings.tie.cols(),
          .points = model.law.kind() == SignalLaw::Kind::kDiscrete ? model.law.points().rows() : 0,
          .activation = model.activation,
          .biases = settings.biases,
          .bias_rate = settings.bias_rate};
}

/// Orthonormal rows [count, D].
MatrixXd random_frame(int64_t count, int64_t dimension, uint64_t seed, uint64_t stream) {
  Random random(seed, stream);
  MatrixXd columns(dimension, count);
  for (Eigen::Index i = 0; i < columns.size(); ++i) columns.data()[i] = random.normal();
  const Eigen::HouseholderQR<MatrixXd> qr(columns);
  return (qr.householderQ() * MatrixXd::Identity(dimension, count)).transpose();
}

/// What the host writes and reads of the two programs, without probes and with them.
class SimulationSession {
 public:
  SimulationSession(const LimitModel& model, const SimulationStart& start,
                    const SimulationSettings& settings)
      : model_(model),
        settings_(settings),
        heads_(start.at.heads()),
        runs_(static_cast<int64_t>(settings.seeds.size())),
        programs_(compiled()),
        session_(programs_, settings.threads) {
    write_law();
    directions_ =
        random_frame(model.law.dimension(), settings.dimension, kDirectionSeed, kDirectionStream);
    write_rows("directions", directions_);
    if (settings.tie.size() > 0) write_rows("tie", settings.tie);
    auto* keys = static_cast<int32_t*>(session_.data("random_key"));
    for (int64_t s = 0; s < runs_; ++s)
      keys[s] = static_cast<int32_t>(static_cast<uint32_t>(settings.seeds[s]));
    write_start(start);
  }

  double compile_seconds() const { return programs_.report().seconds; }

  void step(double rate) {
    *static_cast<float*>(session_.data("rate")) = static_cast<float>(rate);
    session_.run(kPlain);
  }

  /// The order parameters before a step, which is taken.
  std::vector<OrderParameters> measured_step(double rate) {
    *static_cast<float*>(session_.data("rate")) = static_cast<float>(rate);
    std::map<std::string, std::vector<float>> values;
    const std::vector<ProbeResult>& probes = programs_[kProbed].probes;
    session_.run(kProbed, [&](int32_t probe, const void* data) {
      const ProbeResult& result = probes[static_cast<size_t>(probe)];
      const auto* first = static_cast<const float*>(data);
      values[result.id.substr(0, result.id.find(':'))].assign(first,
                                                              first + result.type.elements());
    });
    std::vector<OrderParameters> all;
    for (int64_t s = 0; s < runs_; ++s) {
      OrderParameters at;
      at.m = part(values.at("order.m"), s, heads_, model_.law.dimension());
      at.r = part(values.at("order.r"), s, heads_, heads_);
      // Both halves are the same sums; a product may have rounded them apart.
      at.r = ((at.r + at.r.transpose()) / 2).eval();
      at.b = VectorXd::Zero(heads_);
      if (has_bias(model_.activation)) at.b = part(values.at("order.b"), s, heads_, 1);
      all.push_back(std::move(at));
    }
    return all;
  }

  /// The losses of the steps since the last call, added up, by seed.
  VectorXd take_loss_sums() {
    auto* sums = static_cast<float*>(session_.data("loss_sum"));
    VectorXd result(runs_);
    for (int64_t s = 0; s < runs_; ++s) result[s] = sums[s];
    std::fill_n(sums, runs_, 0.0F);
    return result;
  }

 private:
  static constexpr size_t kPlain = 0, kProbed = 1;

  Executables compiled() const {
    const GraphPtr graph = single_location_step(described(model_, heads_, settings_));
    CompileOptions options{.gradients = {"keys"}};
    if (has_bias(model_.activation) && settings_.biases == HeadBiases::kTrained)
      options.gradients.emplace_back("bias");
    options.compose = {.purpose = Purpose::descend};
    std::vector<GraphPtr> planned = run_pipeline(graph, options).programs;
    options.probes = {"order.*"};
    for (const GraphPtr& probed : run_pipeline(graph, options).programs) planned.push_back(probed);
    return Executables(planned, {.cache = settings_.cache});
  }

  void write_rows(const std::string& name, const MatrixXd& matrix, int64_t offset = 0) {
    auto* to = static_cast<float*>(session_.data(name)) + offset;
    for (Eigen::Index i = 0; i < matrix.rows(); ++i)
      for (Eigen::Index j = 0; j < matrix.cols(); ++j) *to++ = static_cast<float>(matrix(i, j));
  }

  void write_law() {
    const SignalLaw& law = model_.law;
    if (law.kind() == SignalLaw::Kind::kGaussian) return write_rows("law.scales", law.scales());
    const VectorXd& weights = law.weights();
    VectorXd high(weights.size()), low(weights.size());
    std::partial_sum(weights.begin(), weights.end(), high.begin());
    high[high.size() - 1] = 2;  // beyond every uniform number
    low[0] = 0;
    for (Eigen::Index p = 1; p < low.size(); ++p) low[p] = high[p - 1];
    write_rows("law.low", low);
    write_rows("law.high", high);
    write_rows("law.points", law.points());
  }

  void write_start(const SimulationStart& start) {
    const MatrixXd& tie = settings_.tie;
    const MatrixXd untied = tie.size() > 0
                                ? MatrixXd(tie.completeOrthogonalDecomposition().pseudoInverse())
                                : MatrixXd(MatrixXd::Identity(heads_, heads_));
    VectorXd bias = start.at.b;
    for (int64_t s = 0; s < runs_; ++s) {
      const MatrixXd keys = start_keys(start, settings_.seeds[s]);
      const MatrixXd free = untied * keys;
      write_rows("keys", free, s * free.size());
      if (!has_bias(model_.activation)) continue;
      if (settings_.biases == HeadBiases::kTiedToNorm)
        bias = start.at.b - keys.rowwise().squaredNorm() / 2;
      write_rows("bias", bias, s * heads_);
    }
  }

  MatrixXd start_keys(const SimulationStart& start, uint64_t seed) const {
    const int64_t D = settings_.dimension;
    if (start.random_deviation > 0) {
      Random random(seed, kKeyStream);
      MatrixXd keys(heads_, D);
      const double deviation = start.random_deviation / std::sqrt(static_cast<double>(D));
      for (Eigen::Index i = 0; i < keys.size(); ++i) keys.data()[i] = deviation * random.normal();
      return keys;
    }
    // m k* and, orthogonal to the hidden directions, what is missing of r.
    MatrixXd other = random_frame(heads_ + directions_.rows(), D, seed, kKeyStream);
    for (Eigen::Index i = 0; i < other.rows(); ++i)
      other.row(i) -= (other.row(i) * directions_.transpose()) * directions_;
    const Eigen::HouseholderQR<MatrixXd> qr(other.topRows(heads_).transpose());
    other = (qr.householderQ() * MatrixXd::Identity(D, heads_)).transpose();
    const MatrixXd missing = symmetric_root(start.at.r - start.at.m * start.at.m.transpose());
    return start.at.m * directions_ + missing * other;
  }

  static MatrixXd part(const std::vector<float>& values, int64_t index, int64_t rows,
                       int64_t columns) {
    using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    return Eigen::Map<const Rows>(values.data() + index * rows * columns, rows, columns)
        .cast<double>();
  }

  const LimitModel& model_;
  const SimulationSettings& settings_;
  int64_t heads_, runs_;
  Executables programs_;
  Session session_;
  MatrixXd directions_;
};

void check_finite(const SimulationPoint& point, const std::vector<uint64_t>& seeds) {
  for (size_t s = 0; s < seeds.size(); ++s)
    if (!point.at[s].m.allFinite() || !point.at[s].r.allFinite() || !point.at[s].b.allFinite())
      user_error(kSimulationTopic,
                 "an order parameter of seed {} is not finite at time {:.4g} (step {}). Take a "
                 "smaller eta_0, or a smaller start.",
                 seeds[s], point.time, point.step);
}

/// eta_0 at a time, and how many steps are left of its stage.
class RateSchedule {
 public:
  RateSchedule(const std::vector<RateStage>& stages, double dimension)
      : stages_(stages), dimension_(dimension) {}

  double rate() const { return stages_[stage_].eta_0 / dimension_; }
  double time() const { return begin_ + static_cast<double>(steps_) * rate(); }
  /// Moves on by a step.
  void advance() {
    ++steps_;
    if (stage_ + 1 == stages_.size() || time() < stages_[stage_ + 1].from) return;
    begin_ = time();
    ++stage_;
    steps_ = 0;
  }

 private:
  const std::vector<RateStage>& stages_;
  double dimension_, begin_ = 0;
  size_t stage_ = 0;
  int64_t steps_ = 0;
};

int64_t count_steps(const std::vector<RateStage>& stages, double dimension, double end) {
  RateSchedule schedule(stages, dimension);
  int64_t steps = 0;
  for (; schedule.time() + schedule.rate() <= end * (1 + 1e-12); ++steps) schedule.advance();
  return steps;
}

}  // namespace

Simulation simulate(const LimitModel& model, const SimulationStart& start,
                    std::span<const double> times, const SimulationSettings& settings,
                    const std::function<void(int64_t, int64_t)>& progress) {
  check_simulation(model, start, times, settings);
  SimulationSession session(model, start, settings);
  Simulation result;
  result.compile_seconds = session.compile_seconds();
  const auto dimension = static_cast<double>(settings.dimension);
  const int64_t steps = count_steps(settings.rates, dimension, times.back());
  RateSchedule schedule(settings.rates, dimension);
  const Clock::time_point begin = Clock::now();
  int64_t since = 0;
  VectorXd sums = VectorXd::Zero(static_cast<Eigen::Index>(settings.seeds.size()));
  for (int64_t step = 0;; ++step, schedule.advance(), ++since) {
    const auto is_due = [&] {
      return result.points.size() < times.size() &&
             (step == steps ||
              schedule.time() + schedule.rate() > times[result.points.size()] * (1 + 1e-12));
    };
    if (is_due()) {
      sums += session.take_loss_sums();
      SimulationPoint point{schedule.time(), step, session.measured_step(schedule.rate()),
                            sums / static_cast<double>(since)};
      check_finite(point, settings.seeds);
      while (is_due()) result.points.push_back(point);
      sums.setZero();
      since = 0;
      if (progress) progress(step, steps);
    } else {
      session.step(schedule.rate());
    }
    // A sum of many losses in f32 would lose bits.
    if (step % 256 == 255) sums += session.take_loss_sums();
    if (result.points.size() == times.size()) break;
  }
  result.steps = steps;
  result.run_seconds = seconds_since(begin);
  return result;
}

}  // namespace weir
