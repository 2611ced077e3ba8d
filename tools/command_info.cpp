// weir info: what this program is, and what machine it is on.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "codegen/llvm/object_cache.h"
#include "codegen/matmul/tile_table.h"
#include "engine/memory.h"
#include "lab/train/compile_time.h"
#include "models/llama.h"
#include "runtime/machine_rates.h"
#include "support/env.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "support/versions.h"
#include "tools/command.h"

namespace weir {
namespace {

struct InfoArguments {
  bool quick = false;
  bool timing = false;
  std::vector<std::string> models = {"demo", "llama-0.1b"};
};

// An empty folder that goes away with what is in it.
class TimingCache {
 public:
  TimingCache() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weir-timing-XXXXXX").string();
    if (!mkdtemp(pattern.data()))
      user_error("info", "no folder can be made in {} for a cache.",
                 std::filesystem::temp_directory_path().string());
    folder_ = pattern;
  }
  ~TimingCache() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TimingCache(const TimingCache&) = delete;
  TimingCache& operator=(const TimingCache&) = delete;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

// Seconds to compile the measured training step, with an empty object cache and from it.
void print_timing(const Target& target, const std::vector<std::string>& models) {
  fmt::print(
      "\nCompiling a training step with the probes of its record, on {} cores:\n"
      "  {:12} {:>14} {:>18} {:>10} {:>10}\n",
      host_target().cores, "model", "batch x tokens", "kernels", "cold", "warm");
  for (const std::string& name : models) {
    const RunConfig config = standard_run(name);
    const TimingCache cache;
    const CompileSettings settings{.target = target, .cache = cache.folder()};
    const CompileTime cold = compile_time(config, settings, true);
    const CompileTime warm = compile_time(config, settings, true);
    fmt::print("  {:12} {:>14} {:>18} {:8.2f} s {:8.2f} s   (of it passes {:.2f} s)\n", name,
               fmt::format("{} x {}", config.batch, config.length),
               fmt::format("{} ({} distinct)", cold.report.kernels, cold.report.distinct),
               cold.total(), warm.total(), warm.passes);
  }
}

int run_info(const InfoArguments& options) {
  for (const auto& [name, version] : build_versions())
    if (!version.empty()) fmt::print("{:<10}{}\n", name, version);
  const Target& host = host_target();
  fmt::print("{:<10}{}\n", "machine", print(host));
  const Target target = chosen_target(false);
  if (target.name != host.name) fmt::print("{:<10}{}\n", "target", print(target));
  fmt::print("{:<10}{} free\n", "memory", human_bytes(static_cast<double>(free_memory())));
  const std::string cache = default_object_cache();
  fmt::print("{:<10}{}\n", "cache", cache.empty() ? "none" : cache);
  if (const size_t tuned = TileTable::load(cache, target).size())
    fmt::print("{:<10}{} products, {}\n", "tuned", tuned, TileTable::file(cache, target));
  if (!options.quick) {
    fmt::print("\nMeasured here:\n");
    for (int threads = 1;; threads = host.cores) {
      const Bandwidth bandwidth = memory_bandwidth(host, threads);
      fmt::print(
          "  {} thread{}: {:.0f} Gflop/s of f32 fused multiply-adds, {:.1f} GB/s of memory "
          "(three arrays of {})\n",
          threads, threads == 1 ? "" : "s", peak_flops(host, threads) / 1e9,
          bandwidth.bytes_per_second / 1e9,
          human_bytes(static_cast<double>(bandwidth.array_bytes)));
      if (threads == host.cores) break;
    }
  }
  if (options.timing) print_timing(chosen_target(true), options.models);
  fmt::print("\nEnvironment:\n");
  for (const EnvironmentVariable& variable : environment_variables()) {
    const std::string value = environment(variable.name);
    fmt::print("  {:<14}{}: {}{}\n", variable.name, variable.meaning, variable.grammar,
               value.empty() ? "" : " [now " + value + "]");
  }
  return 0;
}

}  // namespace

void add_info(Commands& commands) {
  auto options = std::make_shared<InfoArguments>();
  OptionTable& table =
      add_command(commands, "info",
                  "print versions, the target, measured rates of this machine, the environment");
  table.flag("--quick", options->quick, "measure nothing");
  table.flag("--timing", options->timing,
             "compile training steps: seconds with an empty object cache, and again");
  table
      .add("--model", &options->models, one_of(llama_config_names()),
           "what --timing compiles; demo and llama-0.1b if not given")
      .many();
  table.check([&table](UsageProblems& problems) {
    if (table.given("--model") && !table.given("--timing"))
      problems.add("--model chooses what --timing compiles, which is not given.");
  });
  table.footer(
      "Examples:\n  weir info\n  weir info --quick --timing --model llama-0.3b\n  "
      "WEIR_TARGET=x86-64-v3 weir info --quick");
  table.action([options] { return run_info(*options); });
}

}  // namespace weir
