#pragma once
// The numbers of a measurement that a person looks at first, a row a layer.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace weir {

/// By layer: sink rate; sink mass, mean over heads and largest head; gradient-sink ratio; norm of
/// the sink token over that of tokens 1..15, of the residual stream after the layer and of values.
struct LayerNumbers {
  std::vector<double> sink_rate, sink_mass, sink_mass_max, gradient_sink_ratio, norm_ratio,
      value_ratio;
  double loss = 0, mean_sink_rate = 0, ratio_median = 0, norm_ratio_max = 0;
  std::vector<double> ratio_quartiles;
};
/// `record` is one of `weir.measure/1`.
LayerNumbers layer_numbers(const nlohmann::json& record);

/// These as texts, and the largest activation, with its place if it is massive.
struct LayerTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
LayerTable layer_table(const nlohmann::json& record);

/// Where uniform attention alone exceeds the threshold of a sink, which it does in very short
/// sequences, a sentence that the sink rate says nothing; else "".
std::string sink_rate_caveat(double threshold, double null_score, int64_t queries);

/// The table and the summary for the terminal.
std::string measure_table(const std::string& record);

}  // namespace weir
