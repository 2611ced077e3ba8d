#pragma once
// What `weir compare` reads: from folders of runs and sweeps the trained arms that can be compared,
// a replicate each, and by name those that cannot.
//   RUN/run.json, RUN/config.json, RUN/ARM/metrics.jsonl   as report.h has them
//   SWEEP/sweep.json   {"schema": "weir.sweep/1", "base": {}, "arms": {NAME: {key: value}},
//                      "seeds": [], "grid": {}, "entries": [{"index", "arm", "seed",
//                      "grid": {key: value}, "run": HASH}]}
//   SWEEP/runs/HASH/   the run of an entry
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lab/report/report_data.h"

namespace weir {

/// One trained arm: a seed of an (arm, grid point).
struct Replicate {
  std::string arm;
  nlohmann::ordered_json grid = nlohmann::ordered_json::object();       ///< {} outside of sweeps
  nlohmann::ordered_json overrides = nlohmann::ordered_json::object();  ///< of the arm, dotted keys
  uint64_t seed = 0;
  std::string folder;  ///< of its arm in its run
  int64_t tokens_a_step = 0;
  ReportArm measured;
  /// What has to be equal for numbers to be comparable: data, tokens, sizes, definitions.
  std::map<std::string, std::string> facts;
  /// The resolved configuration by dotted key, without what does not change a result.
  std::map<std::string, std::string> configuration;
};

struct LeftOut {
  std::string folder, arm, why;  ///< `why` is a sentence
  std::string seed;              ///< "" if it is not known
};

struct CompareInput {
  std::vector<Replicate> replicates;  ///< in the order of folders, arms and entries
  std::vector<LeftOut> left_out;
  /// Differences that an arm or a grid point makes on purpose, in a sentence each.
  std::vector<std::string> notes;
};

/// User errors, all at once: folders that are no run and no sweep, a sweep.json that is damaged. An
/// arm that is not there, not finished, damaged, or not comparable with the first arm of its grid
/// point is left out and named. Arms of one run that differ in the key `seed` alone are replicates.
CompareInput read_comparison(const std::vector<std::string>& folders);

}  // namespace weir
