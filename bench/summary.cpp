#include "bench/summary.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "bench/rounds.h"

namespace weir::bench {
namespace {

using nlohmann::json;

constexpr size_t kProducts = 12;  // of llama-0.1b (bench/matmul_cases.cpp)
constexpr const char* kModel = "llama-0.1b";
constexpr const char* kMeasured = "smollm2-135m";

// The readings of one program on one case, by round.
using Series = std::map<int, json>;

class Readings {
 public:
  explicit Readings(const json& results) : results_(results) {
    for (const json& reading : results.at("readings"))
      most_threads_ = std::max(most_threads_, reading.value("threads", 1));
  }

  int most_threads() const { return most_threads_; }

  Series series(const std::string& kind, const std::string& which, const std::string& program,
                int threads) const {
    Series found;
    for (const json& reading : results_.at("readings"))
      if (reading.at("kind") == kind && reading.at("case") == which &&
          reading.at("program") == program && reading.value("threads", 1) == threads)
        found[reading.value("round", 0)] = reading;
    return found;
  }

  std::vector<std::string> cases(const std::string& kind) const {
    std::vector<std::string> names;
    for (const json& reading : results_.at("readings"))
      if (const auto name = reading.at("case").get<std::string>();
          reading.at("kind") == kind && std::ranges::find(names, name) == names.end())
        names.push_back(name);
    return names;
  }

  std::string why_absent(const std::vector<std::string>& keys) const {
    for (const std::string& key : keys)
      if (results_.contains("absent") && results_["absent"].contains(key))
        return results_["absent"][key].get<std::string>();
    return "no readings";
  }

 private:
  const json& results_;
  int most_threads_ = 1;
};

double seconds_of(const json& reading) { return reading.at("seconds").get<double>(); }

Rounds rounds_of(const Series& series) {
  Rounds rounds;
  for (const auto& [round, reading] : series)
    rounds.add({reading.at("operations").get<double>() / seconds_of(reading),
                reading.at("peak_before").get<double>(), reading.at("peak_after").get<double>()});
  return rounds;
}

double best_seconds(const Series& series) {
  double best = std::numeric_limits<double>::infinity();
  for (const auto& [round, reading] : series) best = std::min(best, seconds_of(reading));
  return best;
}

// Operations in a second of processor time over the peak of one thread in one: what is left of a
// share when other programs take the cores away; waiting threads count as working.
double processor_share(const Series& series) {
  std::vector<double> shares;
  for (const auto& [round, reading] : series)
    shares.push_back(reading.at("operations").get<double>() /
                     reading.at("processor_seconds").get<double>() /
                     reading.at("own_peak").get<double>());
  return median(std::move(shares));
}

// `other` over `own`, round by round.
std::vector<double> ratios(const Series& other, const Series& own) {
  std::vector<double> values;
  for (const auto& [round, reading] : own)
    if (const auto found = other.find(round); found != other.end())
      values.push_back(seconds_of(found->second) / seconds_of(reading));
  return values;
}

void set_values(Figure& figure, std::vector<double> values) {
  if (values.empty()) return;
  const auto [low, high] = std::ranges::minmax(values);
  figure.low = low, figure.high = high;
  figure.rounds = static_cast<int>(values.size());
  figure.value = median(std::move(values));
}

void set_share(Figure& figure, const Series& series) {
  const Rounds rounds = rounds_of(series);
  std::vector<double> shares;
  for (const auto& [round, reading] : series)
    shares.push_back(rounds_of({{round, reading}}).median_share());
  set_values(figure, std::move(shares));
  if (figure.value) figure.best = rounds.best_share();
}

void set_ratio(Figure& figure, const Series& other, const Series& own, double minus = 0) {
  std::vector<double> values = ratios(other, own);
  for (double& value : values) value -= minus;
  set_values(figure, std::move(values));
  if (figure.value) figure.best = best_seconds(other) / best_seconds(own) - minus;
}

double geometric_mean(const std::vector<double>& values) {
  double logarithms = 0;
  for (double value : values) logarithms += std::log(value);
  return std::exp(logarithms / static_cast<double>(values.size()));
}

// Over all products; absent unless every one was measured.
void set_mean(Figure& figure, const std::vector<double>& values, const std::vector<double>& best,
              size_t wanted, size_t rounds) {
  if (values.size() != wanted) {
    if (!values.empty())
      figure.why_absent = fmt::format("{} of {} products measured", values.size(), wanted);
    return;
  }
  figure.value = geometric_mean(values);
  figure.best = geometric_mean(best);
  const auto [low, high] = std::ranges::minmax(values);
  figure.low = low, figure.high = high;
  figure.rounds = static_cast<int>(rounds);
}

void set_gemm_share(Figure& figure, const Readings& readings, int threads) {
  std::vector<double> values, best;
  size_t rounds = 0;
  for (const std::string& product : readings.cases("gemm")) {
    const Series series = readings.series("gemm", product, "weir", threads);
    if (series.empty()) continue;
    rounds = series.size();
    values.push_back(rounds_of(series).median_share());
    best.push_back(rounds_of(series).best_share());
  }
  set_mean(figure, values, best, kProducts, rounds);
}

void set_gemm_ratio(Figure& figure, const Readings& readings) {
  std::vector<double> values, best;
  std::set<int> numbers = {1, readings.most_threads()};
  size_t rounds = 0;
  for (const std::string& product : readings.cases("gemm"))
    for (int threads : numbers) {
      const Series torch = readings.series("gemm", product, "torch", threads);
      const Series weir = readings.series("gemm", product, "weir", threads);
      const std::vector<double> both = ratios(torch, weir);
      if (both.empty()) continue;
      rounds = both.size();
      values.push_back(median(both));
      best.push_back(best_seconds(torch) / best_seconds(weir));
    }
  set_mean(figure, values, best, kProducts * numbers.size(), rounds);
}

void set_one(Figure& figure, const Readings& readings, const char* kind, const char* which,
             const char* key) {
  std::vector<double> values;
  for (const auto& [round, reading] : readings.series(kind, which, "weir", 1))
    values.push_back(reading.at(key).get<double>());
  set_values(figure, std::move(values));
}

std::vector<Figure> empty_figures() {
  return {
      {"gemm_share_1t", "products of llama-0.1b, share of peak, 1 thread", 0.85, 0.92},
      {"gemm_share_2t", "products of llama-0.1b, share of peak, 2 threads", 0.82, 0.90},
      {"gemm_vs_torch", "products over PyTorch's, 1 and 2 threads", 1.10, 1.25},
      {"step_share", "llama-0.1b step, 2 threads, share of peak", 0.72, 0.80},
      {"step_vs_compile", "llama-0.1b step over torch.compile", 1.8, 2.0},
      {"step_vs_eager", "llama-0.1b step over PyTorch eager", 2.1, 2.4},
      {"step_vs_jax", "llama-0.1b step over JAX jit", 3.5, 4.0},
      {"probe_overhead", "time added by the full metric record", 0.03, 0.01, true},
      {"probed_vs_hooks", "probed step over PyTorch with hooks", 3.0, 3.3},
      {"demo_vs_eager", "demo model's step over PyTorch eager", 2.0, 3.0},
      {"demo_share", "demo model's step, share of peak", 0.60, 0.75},
      {"measure_vs_hooks", "weir measure over PyTorch with hooks, SmolLM2-135M", 2.5, 4.0},
      {"measure_share", "weir measure, SmolLM2-135M, share of peak", 0.70, 0.78},
      {"peak_gib", "peak memory of the llama-0.1b step, GiB", 3.5, 3.2, true},
      {"peak_gib_recompute", "the same with recompute, GiB", 2.4, 2.0, true},
      {"threads_2", "llama-0.1b step, 1 to 2 threads", 1.85, 1.93},
      {"attention_share_512", "attention, T 512, share of peak", 0, 0},
      {"attention_share_4096", "attention, T 4096, share of peak", 0, 0},
      {"softpick_vs_softmax", "attention, T 1024, softpick over softmax", 0, 0},
      {"relu_vs_softmax", "the same with relu", 0.9, 1.0},
      {"sigmoid_vs_softmax", "the same with sigmoid", 0.9, 1.0},
      {"sink_logit_vs_softmax", "the same with sink-logit", 0.9, 1.0},
      {"bayes_softmax_vs_softmax", "the same with bayes-softmax, gate included", 0.5, 0.7},
      {"compile_cold_s", "compile the probed llama-0.1b step, cold, s", 3.0, 1.5, true},
      {"compile_warm_s", "the same from the cache, s", 0.5, 0.2, true},
  };
}

// What a figure's readings are called in "absent", besides its own name.
const std::map<std::string, std::string>& sources() {
  static const std::map<std::string, std::string> names = {
      {"gemm_vs_torch", "torch"},
      {"step_vs_compile", "torch compile"},
      {"step_vs_eager", "torch eager"},
      {"step_vs_jax", "jax"},
      {"probed_vs_hooks", "torch hooks"},
      {"demo_vs_eager", "torch eager"},
      {"measure_vs_hooks", "measure"},
      {"measure_share", "measure"},
      {"attention_share_512", "attention"},
      {"attention_share_4096", "attention"},
      {"softpick_vs_softmax", "attention"},
      {"relu_vs_softmax", "attention"},
      {"sigmoid_vs_softmax", "attention"},
      {"sink_logit_vs_softmax", "attention"},
      {"bayes_softmax_vs_softmax", "attention"},
      {"gemm_share_1t", "gemm"},
      {"gemm_share_2t", "gemm"},
      {"compile_cold_s", "compile"},
      {"compile_warm_s", "compile"},
      {"step_share", "step"},
      {"probe_overhead", "step"},
      {"threads_2", "step"},
      {"demo_share", "step"},
  };
  return names;
}

void fill(Figure& figure, const Readings& r) {
  const std::string name = figure.name;
  const int all = r.most_threads();
  const auto step = [&](const char* which, const char* program, int threads) {
    return r.series("step", which, program, threads);
  };
  if (name == "gemm_share_1t") set_gemm_share(figure, r, 1);
  if (name == "gemm_share_2t") set_gemm_share(figure, r, 2);
  if (name == "gemm_vs_torch") set_gemm_ratio(figure, r);
  if (name == "step_share") set_share(figure, step(kModel, "weir", all));
  const std::map<std::string, const char*> peers = {{"step_vs_compile", "torch compile"},
                                                    {"step_vs_eager", "torch eager"},
                                                    {"step_vs_jax", "jax"}};
  if (const auto peer = peers.find(name); peer != peers.end())
    set_ratio(figure, step(kModel, peer->second, all), step(kModel, "weir", all));
  if (name == "probe_overhead")
    set_ratio(figure, step(kModel, "weir probed", all), step(kModel, "weir", all), 1);
  if (name == "probed_vs_hooks")
    set_ratio(figure, step(kModel, "torch hooks", all), step(kModel, "weir probed", all));
  if (name == "demo_vs_eager")
    set_ratio(figure, step("demo", "torch eager", all), step("demo", "weir", all));
  if (name == "demo_share") set_share(figure, step("demo", "weir", all));
  if (name == "measure_vs_hooks")
    set_ratio(figure, r.series("measure", kMeasured, "torch hooks", all),
              r.series("measure", kMeasured, "weir", all));
  if (name == "measure_share") set_share(figure, r.series("measure", kMeasured, "weir", all));
  if (name == "peak_gib") set_one(figure, r, "memory", kModel, "gib");
  if (name == "peak_gib_recompute") set_one(figure, r, "memory", "llama-0.1b recompute", "gib");
  if (name == "threads_2" && all >= 2)
    set_ratio(figure, step(kModel, "weir", 1), step(kModel, "weir", 2));
  if (name == "attention_share_512") set_share(figure, r.series("attention", "512", "weir", all));
  if (name == "attention_share_4096") set_share(figure, r.series("attention", "4096", "weir", all));
  const std::map<std::string, const char*> normalizers = {
      {"softpick_vs_softmax", "1024 softpick"},
      {"relu_vs_softmax", "1024 relu"},
      {"sigmoid_vs_softmax", "1024 sigmoid"},
      {"sink_logit_vs_softmax", "1024 sink-logit"},
      {"bayes_softmax_vs_softmax", "1024 bayes-softmax"}};
  if (const auto other = normalizers.find(name); other != normalizers.end())
    set_ratio(figure, r.series("attention", "1024", "weir", all),
              r.series("attention", other->second, "weir", all));
  if (name == "compile_cold_s") set_one(figure, r, "compile", "cold", "seconds");
  if (name == "compile_warm_s") set_one(figure, r, "compile", "warm", "seconds");
}

}  // namespace

std::vector<Figure> figures_of(const json& results) {
  const Readings readings(results);
  std::vector<Figure> figures = empty_figures();
  for (Figure& figure : figures) {
    fill(figure, readings);
    if (figure.value || !figure.why_absent.empty()) continue;
    std::vector<std::string> keys = {figure.name};
    if (const auto source = sources().find(figure.name); source != sources().end())
      keys.push_back(source->second);
    figure.why_absent = readings.why_absent(keys);
  }
  return figures;
}

nlohmann::ordered_json summary_of(const std::vector<Figure>& figures) {
  nlohmann::ordered_json summary = nlohmann::ordered_json::object();
  for (const Figure& figure : figures)
    if (figure.value) summary[figure.name] = *figure.value;
  return summary;
}

std::string figure_table(const std::vector<Figure>& figures) {
  std::string text = fmt::format("{:22} {:>8} {:>17} {:>8} {:>7} {:>7} {:>7}  {}\n", "figure",
                                 "median", "spread", "best", "reach", "stretch", "", "what");
  for (const Figure& f : figures) {
    const auto goal = [](double value) { return value == 0 ? "" : fmt::format("{:.2f}", value); };
    if (!f.value) {
      text += fmt::format("{:22} {:>8} {:>17} {:>8} {:>7} {:>7} {:>7}  {} - {}\n", f.name, "-", "",
                          "", goal(f.target), goal(f.stretch), "", f.what, f.why_absent);
      continue;
    }
    text +=
        fmt::format("{:22} {:8.3f} {:>17} {:>8} {:>7} {:>7} {:>7}  {}\n", f.name, *f.value,
                    f.rounds > 1 ? fmt::format("{:.3f} .. {:.3f}", f.low, f.high) : "",
                    f.best ? fmt::format("{:.3f}", *f.best) : "", goal(f.target), goal(f.stretch),
                    f.target == 0 ? "" : (f.reached() ? "reached" : "missed"), f.what);
  }
  return text;
}

std::string detail_table(const json& results) {
  const Readings readings(results);
  // kind, case, program, threads -> the series, in the order they were first read
  std::vector<std::tuple<std::string, std::string, std::string, int>> keys;
  for (const json& reading : results.at("readings")) {
    if (!reading.contains("seconds")) continue;
    const auto key =
        std::tuple(reading.at("kind").get<std::string>(), reading.at("case").get<std::string>(),
                   reading.at("program").get<std::string>(), reading.value("threads", 1));
    if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  }
  std::string text =
      fmt::format("{:18} {:14} {:14} {:>7} {:>10} {:>10} {:>7} {:>7} {:>7}\n", "", "", "program",
                  "threads", "median s", "best s", "peak", "best", "cpu");
  for (const auto& [kind, which, program, threads] : keys) {
    const Series series = readings.series(kind, which, program, threads);
    std::vector<double> seconds;
    for (const auto& [round, reading] : series) seconds.push_back(seconds_of(reading));
    text += fmt::format("{:18} {:14} {:14} {:7} {:10.4f} {:10.4f}", kind, which, program, threads,
                        median(seconds), best_seconds(series));
    if (series.begin()->second.contains("peak_before")) {
      const Rounds rounds = rounds_of(series);
      text += fmt::format(" {:5.1f} % {:5.1f} %", 100 * rounds.median_share(),
                          100 * rounds.best_share());
    }
    if (series.begin()->second.contains("own_peak"))
      text += fmt::format(" {:5.1f} %", 100 * processor_share(series));
    text += "\n";
  }
  return text;
}

}  // namespace weir::bench
