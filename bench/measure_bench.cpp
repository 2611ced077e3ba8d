// Time of a measurement of a checkpoint: what `weir measure` runs, with weights and memory in place
// as they are for the peer that takes turns with it. The share of the peak counts 4 operations a
// parameter and token: forward, and the gradients of activations.
//
//   measure_bench MODEL TOKENS.npy            a table by kernel
//   measure_bench MODEL TOKENS.npy --serve    measurements on stdin's demand, for bench/run
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/rounds.h"
#include "codegen/llvm/object_cache.h"
#include "lab/measure/measure.h"
#include "lab/measure/token_input.h"
#include "lab/report/profile_json.h"
#include "runtime/machine_rates.h"

namespace {

using namespace weir;
using namespace weir::bench;
using nlohmann::json;

constexpr double kPeakSeconds = 0.2;  // about a tenth of a measurement

class MeasureBench {
 public:
  MeasureBench(const std::string& model, const std::string& tokens)
      : checkpoint_(std::make_shared<const Checkpoint>(Checkpoint::open(model))),
        source_(checkpoint_source(checkpoint_)),
        batch_(read_token_array(tokens, checkpoint_->config().vocabulary)),
        measurer_(source_, batch_,
                  {.options = {.rewrites = trained_rewrites(*checkpoint_)},
                   .run = {.cache = default_object_cache()},
                   .keep_loaded = true}),
        workers_(measurer_.run().threads()) {
    measurer_.measure();
  }

  double seconds() {
    return wall_seconds([&] { record_ = measurer_.measure().record; });
  }
  double peak() const {
    return mean_rate(kPeakSeconds, [&] { return fma_rate(host_target(), workers_); });
  }
  double operations() const {
    return 4.0 * static_cast<double>(measurer_.run().parameters() * batch_.batch * batch_.length);
  }
  json profile() {
    KernelProfile kernels(measurer_.run().programs());
    ProfileFacts facts = measured_facts(host_target(), measurer_.run().threads());
    facts.what = source_.sizes.name;
    facts.steps = 1;
    facts.step_seconds = wall_seconds([&] { measurer_.measure(kernels.sink()); });
    return json::parse(profile_json(kernels.times(), facts));
  }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelSource source_;
  TokenBatch batch_;
  Measurer measurer_;
  Workers workers_;
  std::string record_;
};

void print_table(MeasureBench& bench) {
  constexpr int rounds = 5;
  const Rounds all = measure_rounds(
      rounds, [&] { return bench.peak(); }, [&] { return bench.operations() / bench.seconds(); });
  const json profile = bench.profile();
  fmt::print(
      "share of the peak: median {:.1f} %, best {:.1f} % of {:.1f} Gflop/s\n{:.3f} s, {:.3f} of "
      "them in kernels\n{}",
      100 * all.median_share(), 100 * all.best_share(), all.best_peak() / 1e9,
      profile.at("step_seconds").get<double>(), profile.at("kernel_seconds").get<double>(),
      profile_lines(profile, 30));
}

}  // namespace

int main(int argc, char** argv) {
  std::string model, tokens;
  bool serves = false;
  CLI::App app("Time of a measurement of a checkpoint.");
  app.add_option("model", model, "as `weir measure --model` takes it")->required();
  app.add_option("tokens", tokens, "NumPy array [batch, length + 1] of token ids")->required();
  app.add_flag("--serve", serves, "measurements on stdin's demand");
  CLI11_PARSE(app, argc, argv);
  try {
    MeasureBench bench(model, tokens);
    if (!serves) {
      print_table(bench);
      return 0;
    }
    say({{"ready", true}, {"operations", bench.operations()}});
    serve([&](const std::vector<std::string>& words) -> json {
      if (words.at(0) == "profile") return bench.profile();
      const double before = bench.peak(), seconds = bench.seconds();
      return {{"seconds", seconds}, {"peak_before", before}, {"peak_after", bench.peak()}};
    });
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
