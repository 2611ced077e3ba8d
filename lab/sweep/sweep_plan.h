#pragma once
// A sweep as its file describes it: arms x seeds x grid, each entry an ordinary training run.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lab/train/config.h"
#include "support/usage_error.h"

namespace weir {

/// One run of a sweep by how it is asked for. Two entries of equal settings are one run.
struct SweepEntry {
  int64_t index = 0;
  std::string arm;
  uint64_t seed = 0;
  nlohmann::ordered_json grid;  ///< the key and value of each grid member at this entry
  std::string run;              ///< hash of the settings, the name of the run's folder
  RunConfig config;             ///< without its folder
};

/// "arm v-scale, seed 2, optimizer.rate 0.001".
std::string entry_text(const SweepEntry& entry);

struct SweepPlan {
  /// Keys are dotted, values as they are given: {key: value}, {arm: {key: value}}, [seed],
  /// {key: [value]}.
  nlohmann::ordered_json base, arms, seeds, grid;
  /// Arms outermost, then seeds, then the grid with its last key innermost.
  std::vector<SweepEntry> entries;

  /// The first entry of each run.
  std::vector<const SweepEntry*> runs() const;
};

/// Reads {"base", "arms", "seeds", "grid"}, of which each may be missing: then there is the one arm
/// "baseline", the one seed of a run by default, no grid. An arm wins over base, the grid over
/// base. Adds to `problems`, with the arm or the point of the grid: unknown members and keys with
/// the nearest, wrong values, keys that both an arm and the grid set, keys that a sweep sets itself
/// (out, seed, arms), seeds or values of the grid that are there twice, settings that do not fit
/// together; and of a sweep.json runs that are others with this version of Weir. The plan has
/// entries only if there are no problems. User error at once for a text that is no JSON object.
///
/// Where no source says how often a run keeps a checkpoint, it does so every tenth of its steps,
/// and keeps the newest: neither changes results.
SweepPlan read_sweep(const ConfigText& text, UsageProblems& problems);

/// sweep.json: {"schema": "weir.sweep/1", "base", "arms", "seeds", "grid", "entries": [{"index",
/// "arm", "seed", "grid", "run"}]}.
std::string sweep_json(const SweepPlan& plan);

/// 16 hexadecimal digits of the resolved settings without what results do not depend on: folder,
/// threads, memory, checkpoints that are kept.
std::string hash_of_settings(const RunConfig& config);

/// The most entries of a sweep.
constexpr int64_t kMaxSweepEntries = 10000;

}  // namespace weir
