#pragma once
// From the readings of one run of `make bench` (results.json) to the figures that Weir is held to.
// Ratios and shares are taken within a round and their median counts, so that a drifting clock rate
// hits both sides; means over several products are geometric.
//
// results.json: "readings", a list of {kind, case, program, threads, round, seconds, operations,
// peak_before, peak_after} where
//   kind      gemm (case: a product of llama-0.1b), step (a setting), attention (T), measure (a
//             model), compile (cold, warm: seconds alone), memory (a setting: gib alone)
//   program   weir, weir probed, or a peer: torch, torch eager, torch compile, torch hooks, jax
// and "absent", {figure or program: why it was not measured}; further keys are for people.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace weir::bench {

struct Figure {
  const char* name;  ///< as in summary.json
  const char* what;
  double target, stretch;  ///< to reach; 0: none stated
  bool less_is_better = false;
  std::optional<double> value = {};
  double low = 0, high = 0;  ///< over the rounds, of a single ratio or share
  int rounds = 0;
  /// Best rate over best peak of a share, best time over best time of a ratio.
  std::optional<double> best = {};
  std::string why_absent = {};

  bool reached() const { return value && (less_is_better ? *value <= target : *value >= target); }
};

/// Every figure, measured or not, in the order of the table.
std::vector<Figure> figures_of(const nlohmann::json& results);

/// The object of names and numbers; what is absent is left out.
nlohmann::ordered_json summary_of(const std::vector<Figure>& figures);

/// A row a figure: value, spread, best, target, stretch; why what is absent is so.
std::string figure_table(const std::vector<Figure>& figures);

/// A row a product, a step's program, a length of attention: the shares that figures come from.
std::string detail_table(const nlohmann::json& results);

/// One self-contained HTML page: figures, roofline, time by kernel.
std::string bench_page(const nlohmann::json& results, const std::vector<Figure>& figures);

}  // namespace weir::bench
