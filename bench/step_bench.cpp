// Time of whole training steps as `weir train` takes them, and where it goes by kernel. The share
// of the peak counts 6 operations a parameter (without the table of the input embedding) and token
// and 6 layers B T^2 d_model of causal attention, against the rate of fused multiply-adds of as
// many threads, measured before and after each step.
//
//   step_bench [demo|text|llama-0.1b] [--steps N] [--threads N] [--probes] [--batch B] [--length T]
//   step_bench SETTING --compile      seconds of passes and code of the step with probes
//   step_bench SETTING --serve        steps on stdin's demand, for bench/run
//
// `text` is 4 layers, d_model 256, 4 heads, d_ff 704, T 256, batch 16, vocabulary 50257.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "bench/rounds.h"
#include "engine/memory.h"
#include "lab/measure/metrics.h"
#include "lab/measure/record_values.h"
#include "lab/report/profile_json.h"
#include "lab/train/compile_time.h"
#include "lab/train/trainer.h"
#include "models/llama.h"
#include "passes/kernel_cost.h"
#include "passes/pipeline.h"
#include "runtime/machine_rates.h"
#include "runtime/random.h"
#include "support/error.h"
#include "support/text.h"

namespace {

using namespace weir;
using namespace weir::bench;
using nlohmann::json;

struct Options {
  std::string setting = "demo", cache, memory;
  int steps = 5, threads = 0;
  int64_t batch = 0, length = 0;
  bool probes = false, serve = false, compile = false, plan = false;
};

RunConfig config_of(const Options& options) {
  RunConfig config;
  if (options.setting == "demo") {
    config.model = llama_config("demo");
    config.batch = 32, config.length = 128;
  } else if (options.setting == "llama-0.1b") {
    config.model = llama_config("llama-0.1b");
    config.batch = 4, config.length = 1024;
  } else if (options.setting == "text") {
    config.model = {.name = "text",
                    .layers = 4,
                    .d_model = 256,
                    .heads = 4,
                    .d_ff = 704,
                    .vocabulary = 50257,
                    .context = 256};
    config.batch = 16, config.length = 256;
  } else {
    user_error("step_bench", "unknown setting '{}'. Known: demo, text, llama-0.1b.",
               options.setting);
  }
  if (options.batch > 0) config.batch = options.batch;
  if (options.length > 0) config.length = options.length;
  config.threads = options.threads;
  config.memory = options.memory;
  config.steps = 1'000'000;  // the learning rate's schedule never ends
  return config;
}

/// Uniform ids.
class RandomBatches : public BatchSource {
 public:
  explicit RandomBatches(int64_t vocabulary) : vocabulary_(vocabulary) {}
  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    for (int64_t r = 0; r < rows; ++r) {
      Random random(1, static_cast<uint64_t>(first + r));
      int32_t next = draw(random);
      for (int64_t t = r * T; t < (r + 1) * T; ++t) {
        tokens[t] = next;
        targets[t] = next = draw(random);
      }
    }
  }
  int64_t vocabulary() const override { return vocabulary_; }
  std::string token_text(int32_t id) const override { return std::to_string(id); }
  std::string describe() const override { return "random ids"; }

 private:
  int32_t draw(Random& random) const {
    return static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary_)));
  }
  int64_t vocabulary_;
};

double operations_of(const RunConfig& config, const TrainingGraphs& graphs) {
  int64_t multiplying = 0;
  for (const Parameter& parameter : graphs.parameters)
    if (parameter.name != "model.embed_tokens.weight") multiplying += parameter.type.elements();
  return training_operations(multiplying, graphs.sizes.layers, config.batch, config.length,
                             graphs.sizes.d_model);
}

double gibibytes(int64_t bytes) { return static_cast<double>(bytes) / (int64_t{1} << 30); }

class StepBench {
 public:
  StepBench(const Options& options, bool probes)
      : config_(config_of(options)),
        source_(config_.model.vocabulary),
        trainer_(config_, source_, settings_of(options), probes),
        workers_(trainer_.threads()),
        setting_(options.setting) {
    trainer_.initialise();
  }

  static CompileSettings settings_of(const Options& options) { return {.cache = options.cache}; }

  double operations() const { return operations_of(config_, trainer_.graphs()); }
  const Trainer& trainer() const { return trainer_; }

  /// Operations a second, for about a tenth of a step's time.
  double peak() const {
    return mean_rate(operations() > 1e11 ? 0.5 : 0.05,
                     [&] { return fma_rate(host_target(), workers_); });
  }
  /// Of one thread by its processor time.
  static double own_peak() {
    return mean_rate(0.05, [] { return own_fma_rate(host_target()); });
  }

  double plain() {
    return wall_seconds([&] { last_ = trainer_.step(step_++); });
  }

  /// Seconds of a step with all of its metric record, and of them what the record took.
  std::pair<double, double> probed() {
    const int64_t step = step_++;
    double record = 0;
    const double seconds = wall_seconds([&] {
      const MeasuredModel& sizes = trainer_.graphs().sizes;
      RecordValues values(sizes, metric_settings(config_), config_.batch, config_.length,
                          {.threads = trainer_.threads()});
      last_ = trainer_.measured_step(step, [&](const ProbeValue& value) { values.add(value); });
      record = wall_seconds([&] {
        record_ = values.record(sizes, {step, config_.batch, config_.length, last_.loss});
      });
    });
    return {seconds, record};
  }

  /// Of one step more.
  json profile(bool probes) {
    KernelProfile profile(trainer_.programs());
    ProfileFacts facts{.what = setting_,
                       .target = print(host_target()),
                       .threads = trainer_.threads(),
                       .steps = 1,
                       .peak = peak()};
    trainer_.set_profile(profile.sink());
    facts.step_seconds = probes ? probed().first : plain();
    trainer_.set_profile({});
    return json::parse(profile_json(profile.times(), facts));
  }

  double loss() const { return last_.loss; }
  json facts() const {
    const CompileReport& report = trainer_.compile_report();
    return {{"ready", true},
            {"setting", setting_},
            {"threads", trainer_.threads()},
            {"parameters", trainer_.graphs().sizes.parameters},
            {"operations", operations()},
            {"tokens", config_.batch * config_.length},
            {"kernels", report.kernels},
            {"distinct", report.distinct},
            {"from_cache", report.from_cache},
            {"compile_seconds", report.seconds},
            {"stated_gib", gibibytes(trainer_.memory().total())}};
  }

 private:
  RunConfig config_;
  RandomBatches source_;
  Trainer trainer_;
  Workers workers_;
  std::string setting_, record_;
  StepResult last_;
  int64_t step_ = 0;
};

void print_table(const Options& options) {
  StepBench bench(options, options.probes);
  fmt::print("{}\n{}: {} parameters, {:.3g} operations a step, {:.2f} GiB stated\n",
             print(host_target()), options.setting, bench.trainer().graphs().sizes.parameters,
             bench.operations(), gibibytes(bench.trainer().memory().total()));
  bench.plain();
  Rounds plain, probed;
  double best = 1e300;
  std::vector<double> seconds, added;
  for (int i = 0; i < options.steps; ++i) {
    const double before = bench.peak(), step = bench.plain(), after = bench.peak();
    plain.add({bench.operations() / step, before, after});
    seconds.push_back(step);
    best = std::min(best, step);
    if (!options.probes) continue;
    added.push_back(bench.probed().first / step - 1);
  }
  fmt::print("step: median {:.4f} s, best {:.4f} s, loss {:.4f}\n", median(seconds), best,
             bench.loss());
  fmt::print("share of the peak: median {:.1f} %, best {:.1f} % of {:.1f} Gflop/s\n",
             100 * plain.median_share(), 100 * plain.best_share(), plain.best_peak() / 1e9);
  if (options.probes) fmt::print("probes add: median {:.1f} %\n", 100 * median(added));
  fmt::print("{}", profile_lines(bench.profile(options.probes), 30));
}

/// "peak", "plain", "probed", "profile", "memory", one a line.
void serve_steps(const Options& options) {
  StepBench bench(options, options.probes);
  say(bench.facts());
  serve([&](const std::vector<std::string>& words) -> json {
    const std::string& command = words.at(0);
    if (command == "peak") return {{"rate", bench.peak()}, {"own_rate", bench.own_peak()}};
    if (command == "plain" || command == "probed") {
      json answer;
      const double processor = process_seconds([&] {
        if (command == "plain") {
          answer["seconds"] = bench.plain();
        } else {
          const auto [seconds, record] = bench.probed();
          answer = {{"seconds", seconds}, {"record_seconds", record}};
        }
      });
      answer["processor_seconds"] = processor;
      answer["loss"] = bench.loss();
      return answer;
    }
    if (command == "profile") return bench.profile(options.probes);
    if (command == "memory") return {{"peak_gib", gibibytes(peak_resident_memory())}};
    user_error("step_bench", "unknown request '{}'.", command);
  });
}

/// Model, passes and code of the step with the probes of a record, without running it.
void print_compile_time(const Options& options) {
  const CompileTime time =
      compile_time(config_of(options), StepBench::settings_of(options), /*measured=*/true);
  say({{"seconds", time.total()},
       {"passes_seconds", time.passes},
       {"code_seconds", time.code},
       {"kernels", time.report.kernels},
       {"distinct", time.report.distinct},
       {"from_cache", time.report.from_cache}});
}

/// What the step's memory plan needs.
void print_plan(const Options& options) {
  const RunConfig config = config_of(options);
  const TrainingGraphs graphs = make_training_graphs(config, host_target(), false);
  CompileOptions compile;
  if (!config.memory.empty()) {
    const auto bytes = parse_bytes(config.memory);
    if (!bytes) user_error("step_bench", "--memory is '{}', no size such as 2GiB.", config.memory);
    compile.memory = *bytes;
  }
  const MemoryPeak need = planned_memory(run_pipeline(graphs.plain, compile).programs, {});
  say({{"arena_gib", gibibytes(need.arena)}, {"total_gib", gibibytes(need.running())}});
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Time of whole training steps and where it goes.");
  app.add_option("setting", options.setting, "demo, text or llama-0.1b");
  app.add_option("--steps", options.steps, "timed steps");
  app.add_option("--threads", options.threads, "0: all cores");
  app.add_option("--batch", options.batch, "instead of the setting's");
  app.add_option("--length", options.length, "instead of the setting's");
  app.add_option("--cache", options.cache, "folder of the object cache; default: none");
  app.add_option("--memory", options.memory, "most that a step may need, e.g. 2GiB");
  app.add_flag("--probes", options.probes, "also steps with the full metric record");
  app.add_flag("--serve", options.serve, "steps on stdin's demand");
  app.add_flag("--compile", options.compile, "only compile, with probes");
  app.add_flag("--plan", options.plan, "only plan the memory");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.compile)
      print_compile_time(options);
    else if (options.plan)
      print_plan(options);
    else if (options.serve)
      serve_steps(options);
    else
      print_table(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
