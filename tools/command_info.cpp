// weir info: what this program is, and what machine it is on.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/object_cache.h"
#include "lab/memory.h"
#include "lab/versions.h"
#include "support/env.h"
#include "support/text.h"
#include "tools/command.h"
#include "runtime/machine_rates.h"

namespace weir {
namespace {

struct InfoArguments {
  bool quick = false;
};

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
  fmt::print("\nEnvironment:\n");
  for (const EnvironmentVariable& variable : environment_variables()) {
    const std::string value = environment(variable.name);
    fmt::print("  {:<14}{}: {}{}\n", variable.name, variable.meaning, variable.grammar,
               value.empty() ? "" : " [now " + value + "]");
  }
  return 0;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto options = std::make_shared<InfoArguments>();
  CLI::App* command = app.add_subcommand(
      "info", "print versions, the target, measured rates of this machine, the environment");
  command->add_flag("--quick", options->quick, "measure nothing");
  command->footer("Examples:\n  weir info\n  WEIR_TARGET=x86-64-v3 weir info --quick");
  command->callback([options, &action] { action = [options] { return run_info(*options); }; });
}

}  // namespace weir
