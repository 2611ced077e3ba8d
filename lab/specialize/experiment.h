#pragma once
// An experiment of the single-location model as `weir specialize` takes it: its keys, and the cases
// that they describe.
#include <string>
#include <string_view>
#include <vector>

#include "lab/specialize/simulate.h"
#include "support/usage_error.h"
#include "support/value_rule.h"

namespace weir {

struct SpecializeConfig {
  std::string experiment = "dynamics";  ///< dynamics, risk or pruning
  std::string name = {};                ///< of the experiment, for people
  // The law of the signal; lists of numbers are separated by ",", rows by ";".
  std::string law = "flipped";  ///< a list of flipped, one-sided, gaussian, discrete
  std::string strengths = "2,1.5", weights = {}, points = {};
  double positive = 0.5;
  int64_t tokens = 3;
  // The predictor.
  std::string activation = "bayes-softmax";  ///< a list
  std::vector<int64_t> heads = {4};
  std::string biases = "trained";  ///< fixed, trained or tied
  double bias_rate = 1;
  std::string tie = "none";  ///< none or opposite
  // Training.
  std::vector<int64_t> dimensions = {1000};
  int64_t seeds = 20, first_seed = 1;
  double eta_0 = 1;
  std::string later_rates = {};  ///< "50:0.3,80:0.1": from that time on
  std::string start = "random";  ///< random or planted
  double start_norm = 0.1;       ///< of random keys
  std::string start_m = {};      ///< of planted ones, a row a head
  double start_noise = 0.3;      ///< r = m m^T + start_noise I
  double start_bias = 0;
  double end = 20;
  int64_t measurements = 60;
  bool flow = true;
  // Limits.
  std::string factors = "0.5,1,1.5,2,3,4";
  int64_t random_starts = 3, lattice_points = 1024, shifts = 4, samples = 1000000;
  double removal = 0.01;  ///< a pruned head may raise the risk by this share
  double learnt = 0.5;    ///< a direction is learnt at this share of its strength
  double confidence = 0.95;
  int64_t threads = 0;
};

struct SpecializeKey {
  const char* name;
  ValueSlot (*slot)(SpecializeConfig&);
  ValueRule rule;
  const char* meaning;
};
/// All keys, in the order of the record.
const std::vector<SpecializeKey>& specialize_keys();

/// Reads `key=value` words and JSON files (objects of the same keys; arrays stand for lists), in
/// this order, on top of the defaults. Everything wrong goes to `problems`.
SpecializeConfig read_specialize(const std::vector<std::string>& words, UsageProblems& problems);

/// One law, activation and number of heads out of the lists of a configuration.
struct SpecializeCase {
  std::string law;
  LimitModel model;
  int64_t heads;
};
/// All of them; what does not fit together goes to `problems`.
std::vector<SpecializeCase> specialize_cases(const SpecializeConfig& config,
                                             UsageProblems& problems);
/// Where keys start, from a planted or random start.
SimulationStart specialize_start(const SpecializeConfig& config, const SpecializeCase& one);
/// Rows of numbers as text: "0.6,0.1;-0.5,0.2".
Eigen::MatrixXd parse_rows(std::string_view text);
/// The settings of a simulation in `dimension` dimensions.
SimulationSettings specialize_simulation(const SpecializeConfig& config, int64_t heads,
                                         int64_t dimension);
RuleSettings specialize_rule(const SpecializeConfig& config);

}  // namespace weir
