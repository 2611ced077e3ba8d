#include "lab/train/compile_time.h"

#include <chrono>

#include "lab/train/train_graphs.h"
#include "passes/pipeline.h"

namespace weir {

std::vector<GraphPtr> planned_step(const RunConfig& config, const Target& target, bool measured) {
  const TrainingGraphs graphs = make_training_graphs(config, target, measured);
  return run_pipeline(graphs.probed.empty() ? graphs.plain : graphs.probed, {.target = target})
      .programs;
}

CompileTime compile_time(const RunConfig& config, const CompileSettings& settings, bool measured) {
  using Clock = std::chrono::steady_clock;
  CompileTime time;
  const auto start = Clock::now();
  const std::vector<GraphPtr> planned = planned_step(config, settings.target, measured);
  const auto between = Clock::now();
  time.report = Executables(planned, settings).report();
  time.passes = std::chrono::duration<double>(between - start).count();
  time.code = std::chrono::duration<double>(Clock::now() - between).count();
  return time;
}

}  // namespace weir
