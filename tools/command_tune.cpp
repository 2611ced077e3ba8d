// weir tune: the matrix products of a training step, with the fastest tiles on this machine.
#include <fmt/format.h>

#include <filesystem>

#include "codegen/llvm/object_cache.h"
#include "engine/tune.h"
#include "lab/train/compile_time.h"
#include "lab/train/data.h"
#include "support/error.h"
#include "tools/command.h"

namespace weir {
namespace {

struct TuneArguments {
  std::vector<std::string> words;
  std::string model;
  int rounds = 7, threads = 0;
  bool forget = false;
};

std::string text_of(const MatmulSpec& spec) {
  return fmt::format("{} x {} x {}{} {}{}", spec.m, spec.n, spec.k,
                     spec.batch > 1 ? fmt::format(" x {}", spec.batch) : "",
                     spec.a.transposed ? "A^T" : "A", spec.b.transposed ? " B^T" : " B");
}

int forget(const std::string& cache, const Target& target) {
  const std::string file = TileTable::file(cache, target);
  const bool existed = std::filesystem::remove(file);
  fmt::print("{} {}\n", existed ? "Removed" : "There was no", file);
  return 0;
}

int run_tune(const TuneArguments& options) {
  const Target target = chosen_target(true);
  const std::string cache = default_object_cache();
  if (cache.empty())
    user_error("tune",
               "WEIR_CACHE is off, so there is no place to keep what is found. Unset it, or "
               "name a folder.");
  if (options.forget) return forget(cache, target);
  RunConfig config = config_of_words(
      "tune", options.words, options.model.empty() ? RunConfig() : standard_run(options.model));
  config = resolve_vocabulary(config, *make_batches(config.data, config.seed));
  const std::vector<MatmulSpec> products =
      products_of(planned_step(config, target, config.measure.metrics), target);
  fmt::print(
      "{}\n{} products of a step of {} ({} x {} tokens)\n\n{:>28} {:>9}  {:>5} {:>6}  tiles\n",
      print(target), products.size(), config.model.name, config.batch, config.length, "m x n x k",
      "ms", "gain", "tried");
  TileTable table = TileTable::load(cache, target);
  const TuneOptions tuning{.threads = chosen_threads(options.threads), .rounds = options.rounds};
  for (const MatmulSpec& product : products) {
    const TunedProduct tuned = tune_product(target, product, tuning);
    fmt::print("{:>28} {:9.3f}  {:5.2f} {:6}  {}\n", text_of(product), 1e3 * tuned.seconds,
               tuned.gain, tuned.tried, tuned.gain > 1 ? print(tuned.tiles) : "the usual ones");
    std::fflush(stdout);
    if (tuned.gain > 1)
      table.set(product, tuned.tiles);
    else
      table.erase(product);
    table.save(cache, target);
  }
  fmt::print("\nKept in {}; `weir tune --forget` removes it.\n", TileTable::file(cache, target));
  return 0;
}

}  // namespace

void add_tune(Commands& commands) {
  auto options = std::make_shared<TuneArguments>();
  OptionTable& table =
      add_command(commands, "tune",
                  "measure how to cut the matrix products of a training step, and keep the best");
  table.add("config", &options->words, some_text(),
            "a configuration as `weir train` takes it: a JSON file, key=value words");
  table.add("--model", &options->model, one_of(llama_config_names()),
            "start from a standard model, 4096 tokens a step");
  table.add("--rounds", &options->rounds, within(1, 1000), "in which alternatives take turns")
      .with_default();
  table.add("--threads", &options->threads, thread_count(), "worker threads; 0 takes all cores");
  table.flag("--forget", options->forget, "remove what was found on this machine");
  for (const char* other : {"config", "--model", "--rounds"}) table.exclude("--forget", other);
  table.hint(key_of_option);
  table.footer(
      "Results stay the same to the bit; only time changes. What is found is used by every "
      "command\n"
      "whose model has such a product.\n\nExamples:\n"
      "  weir tune --model llama-0.1b\n"
      "  weir tune run.json --rounds 15\n  weir tune --forget");
  table.action([options] { return run_tune(*options); });
}

}  // namespace weir
