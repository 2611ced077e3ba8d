#pragma once
// profile.json, the format weir.profile/1: where the time of steps went, kernel by kernel, beside
// what the machine could have done at the time.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/profile.h"
#include "support/target.h"

namespace weir {

struct ProfileFacts {
  std::string what;    ///< what ran: the arm of a run, the setting of a benchmark
  std::string target;  ///< of the kernels, one line
  int threads = 1;
  int64_t steps = 0;        ///< that the times are sums over
  double step_seconds = 0;  ///< wall time of them, kernels and everything else
  double peak = 0;          ///< f32 operations a second of `threads` threads, measured
  double bandwidth = 0;     ///< bytes a second, measured; 0: not measured
};

/// Of `threads` threads of this machine, whose rates are measured now, which takes about a second.
ProfileFacts measured_facts(const Target& target, int threads);

/// One object; "kernels" has the most expensive first, each with its share of all kernels' time,
/// operations and bytes of one run, and rates, of which the first also as a share of the peak.
std::string profile_json(const std::vector<KernelTime>& times, const ProfileFacts& facts);

/// The most expensive kernels of a profile as lines for a terminal, at most `rows` of them.
std::string profile_lines(const nlohmann::json& profile, size_t rows);

/// A profile for a page: what was measured against, and a row for each of the most expensive
/// kernels. User error when a field is missing.
std::string profile_table(const nlohmann::json& profile);

}  // namespace weir
