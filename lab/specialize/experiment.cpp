#include "lab/specialize/experiment.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

using nlohmann::ordered_json;

ValueRule activation_names() {
  std::vector<std::string> names;
  for (HeadActivation activation : kHeadActivations)
    names.emplace_back(activation_name(activation));
  return of_form("names out of " + join(names, ", ") + ", separated by ','",
                 [](const std::string& text) {
                   const auto parts = split(text, ',');
                   return std::all_of(parts.begin(), parts.end(), [](const std::string& name) {
                     return find_activation(name).has_value();
                   });
                 });
}

ValueRule law_names() {
  return of_form("names out of flipped, one-sided, gaussian, discrete, separated by ','",
                 [](const std::string& text) {
                   const auto parts = split(text, ',');
                   return std::all_of(parts.begin(), parts.end(), [](const std::string& name) {
                     return name == "flipped" || name == "one-sided" || name == "gaussian" ||
                            name == "discrete";
                   });
                 });
}

std::optional<std::vector<double>> numbers_of(std::string_view text) {
  std::vector<double> numbers;
  if (text.empty()) return numbers;
  for (const std::string& part : split(std::string(text), ',')) {
    double number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error != std::errc() || end != part.data() + part.size() || !std::isfinite(number))
      return std::nullopt;
    numbers.push_back(number);
  }
  return numbers;
}

std::optional<Eigen::MatrixXd> rows_of(std::string_view text) {
  if (text.empty()) return Eigen::MatrixXd();
  std::vector<std::vector<double>> rows;
  for (const std::string& line : split(std::string(text), ';')) {
    const auto row = numbers_of(line);
    if (!row || row->empty() || (!rows.empty() && row->size() != rows[0].size()))
      return std::nullopt;
    rows.push_back(*row);
  }
  Eigen::MatrixXd matrix(rows.size(), rows[0].size());
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < rows[0].size(); ++j)
      matrix(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = rows[i][j];
  return matrix;
}

ValueRule number_list(const char* form) {
  return of_form(form, [](const std::string& text) { return numbers_of(text).has_value(); });
}

ValueRule number_rows() {
  return of_form("rows of numbers such as 0.6,0.1;-0.5,0.2",
                 [](const std::string& text) { return rows_of(text).has_value(); });
}

// "50:0.3,80:0.1"
std::optional<std::vector<RateStage>> stages_of(const std::string& text) {
  std::vector<RateStage> stages;
  if (text.empty()) return stages;
  for (std::string part : split(text, ',')) {
    std::replace(part.begin(), part.end(), ':', ',');
    const auto pair = numbers_of(part);
    if (!pair || pair->size() != 2) return std::nullopt;
    stages.push_back({(*pair)[0], (*pair)[1]});
  }
  return stages;
}

// An element of a list as text.
std::string scalar_text(const ordered_json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string value_text(const ordered_json& value) {
  if (!value.is_array()) return scalar_text(value);
  const bool nested = !value.empty() && value[0].is_array();
  std::vector<std::string> parts;
  for (const ordered_json& element : value)
    parts.push_back(nested ? value_text(element) : scalar_text(element));
  return join(parts, nested ? ";" : ",");
}

void read_key(SpecializeConfig& config, const std::string& name, const std::string& text,
              UsageProblems& problems) {
  std::vector<std::string> names;
  for (const SpecializeKey& key : specialize_keys()) {
    names.emplace_back(key.name);
    if (name != key.name) continue;
    const std::string wrong = read_value(name, text, key.slot(config), key.rule);
    if (!wrong.empty()) problems.add(wrong);
    return;
  }
  problems.add(fmt::format("unknown key '{}'.{} `weir specialize --keys` lists them.",
                           short_text(name), did_you_mean(name, names)));
}

void read_json(SpecializeConfig& config, const std::string& path, UsageProblems& problems) {
  const ordered_json json =
      ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false, true);
  if (!json.is_object()) {
    problems.add(fmt::format("{} is no JSON object of keys and values.", path));
    return;
  }
  for (const auto& [name, value] : json.items()) {
    if (value.is_object() || value.is_null())
      problems.add(
          fmt::format("{}: {} is {}, but a value or a list is needed.", path, name, value.dump()));
    else
      read_key(config, name, value_text(value), problems);
  }
}

SignalLaw law_of(const SpecializeConfig& config, const std::string& name) {
  const std::vector<double> strengths = *numbers_of(config.strengths);
  std::vector<double> weights = *numbers_of(config.weights);
  if (name == "discrete") {
    const Eigen::MatrixXd points = *rows_of(config.points);
    if (weights.empty()) weights.assign(static_cast<size_t>(points.rows()), 1);
    return SignalLaw::discrete(points, Eigen::Map<const Eigen::VectorXd>(
                                           weights.data(), static_cast<int64_t>(weights.size())));
  }
  if (name == "gaussian") return SignalLaw::gaussian(strengths);
  if (weights.empty()) weights.assign(strengths.size(), 1);
  return name == "flipped" ? SignalLaw::flipped_spikes(strengths, weights, config.positive)
                           : SignalLaw::one_sided_spikes(strengths, weights);
}

}  // namespace

const std::vector<SpecializeKey>& specialize_keys() {
  using C = SpecializeConfig;
  // clang-format off
  static const std::vector<SpecializeKey> table = {
      {"experiment", [](C& c) -> ValueSlot { return &c.experiment; }, one_of({"dynamics", "risk", "pruning"}),
       "training by SGD over the flow; the least risk against signal strength; heads removed after training"},
      {"name", [](C& c) -> ValueSlot { return &c.name; }, any_text(), "of the experiment, for its report"},
      {"law", [](C& c) -> ValueSlot { return &c.law; }, law_names(), "of the signal; several: each in turn"},
      {"strengths", [](C& c) -> ValueSlot { return &c.strengths; }, number_list("numbers such as 2,1.5"),
       "of the hidden directions; of gaussian their standard deviations"},
      {"weights", [](C& c) -> ValueSlot { return &c.weights; }, number_list("numbers such as 0.7,0.3"),
       "of the directions, or of the points of a discrete law; equal if not given"},
      {"points", [](C& c) -> ValueSlot { return &c.points; }, number_rows(), "of a discrete law, a row each"},
      {"positive", [](C& c) -> ValueSlot { return &c.positive; }, within(0, 1), "of flipped: the share of signals with a positive sign"},
      {"tokens", [](C& c) -> ValueSlot { return &c.tokens; }, within(2, 64), "of a sample"},
      {"activation", [](C& c) -> ValueSlot { return &c.activation; }, activation_names(), "of the heads; several: each in turn"},
      {"heads", [](C& c) -> ValueSlot { return &c.heads; }, within(1, 64), "how many; several: each in turn"},
      {"biases", [](C& c) -> ValueSlot { return &c.biases; }, one_of({"fixed", "trained", "tied"}),
       "of softmax-1 and Bayes-softmax; tied: half the squared norm of the key, and start_bias"},
      {"bias_rate", [](C& c) -> ValueSlot { return &c.bias_rate; }, within(0, 1e6), "learning rate of biases over that of keys"},
      {"tie", [](C& c) -> ValueSlot { return &c.tie; }, one_of({"none", "opposite"}), "opposite: heads 2g and 2g + 1 have opposite keys"},
      {"dimensions", [](C& c) -> ValueSlot { return &c.dimensions; }, within(2, 1 << 20), "of a token; several: each in turn"},
      {"seeds", [](C& c) -> ValueSlot { return &c.seeds; }, within(1, 1000), "runs side by side"},
      {"first_seed", [](C& c) -> ValueSlot { return &c.first_seed; }, within(0, 4e9), "of the first run; further ones follow"},
      {"eta_0", [](C& c) -> ValueSlot { return &c.eta_0; }, within(1e-9, 1e6), "the learning rate is eta_0 / dimension"},
      {"later_rates", [](C& c) -> ValueSlot { return &c.later_rates; },
       of_form("pairs time:eta_0 such as 50:0.3,80:0.1", [](const std::string& t) { return stages_of(t).has_value(); }),
       "further rates, each from a time on"},
      {"start", [](C& c) -> ValueSlot { return &c.start; }, one_of({"random", "planted"}), "of the keys"},
      {"start_norm", [](C& c) -> ValueSlot { return &c.start_norm; }, within(1e-9, 1e6), "of random keys"},
      {"start_m", [](C& c) -> ValueSlot { return &c.start_m; }, number_rows(), "of planted keys: overlaps with the directions, a row a head"},
      {"start_noise", [](C& c) -> ValueSlot { return &c.start_noise; }, within(0, 1e6), "of planted keys: r = m m^T + start_noise I"},
      {"start_bias", [](C& c) -> ValueSlot { return &c.start_bias; }, within(-1e6, 1e6), "of all heads"},
      {"end", [](C& c) -> ValueSlot { return &c.end; }, within(1e-6, 1e9), "time: the sum of eta_0 / dimension over the steps"},
      {"measurements", [](C& c) -> ValueSlot { return &c.measurements; }, within(2, 10000), "times at which order parameters are measured"},
      {"flow", [](C& c) -> ValueSlot { return &c.flow; }, {}, "whether the limit flow is integrated beside"},
      {"factors", [](C& c) -> ValueSlot { return &c.factors; }, number_list("numbers such as 0.5,1,2"), "of risk: by which all strengths are multiplied"},
      {"random_starts", [](C& c) -> ValueSlot { return &c.random_starts; }, within(0, 1000), "of the search for the least risk, beside planted ones"},
      {"lattice_points", [](C& c) -> ValueSlot { return &c.lattice_points; }, within(16, 1 << 22), "of a shift, for expectations"},
      {"shifts", [](C& c) -> ValueSlot { return &c.shifts; }, within(2, 256), "independent randomisations of the points"},
      {"samples", [](C& c) -> ValueSlot { return &c.samples; }, within(2, 1e12), "for the excess over the Bayes risk of trained heads, shared by the seeds"},
      {"removal", [](C& c) -> ValueSlot { return &c.removal; }, within(0, 10), "of pruning: the share by which the risk may grow"},
      {"learnt", [](C& c) -> ValueSlot { return &c.learnt; }, within(0, 10), "a direction is learnt where an overlap reaches this share of its strength"},
      {"confidence", [](C& c) -> ValueSlot { return &c.confidence; }, within(0.5, 0.9999), "of intervals"},
      {"threads", [](C& c) -> ValueSlot { return &c.threads; }, within(0, kMaxThreads), "0: all cores; any number gives the same bits"},
  };
  // clang-format on
  return table;
}

SpecializeConfig read_specialize(const std::vector<std::string>& words, UsageProblems& problems) {
  SpecializeConfig config;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos)
      problems.collect([&] { read_json(config, word, problems); });
    else
      read_key(config, word.substr(0, equals), word.substr(equals + 1), problems);
  }
  return config;
}

std::vector<SpecializeCase> specialize_cases(const SpecializeConfig& config,
                                             UsageProblems& problems) {
  std::vector<SpecializeCase> cases;
  for (const std::string& law : split(config.law, ',')) {
    std::optional<SignalLaw> made;
    problems.collect([&] { made = law_of(config, law); });
    if (!made) continue;
    for (const std::string& activation : split(config.activation, ','))
      for (int64_t heads : config.heads)
        cases.push_back({law, {*made, config.tokens, *find_activation(activation)}, heads});
    if (config.start == "planted" && config.experiment != "risk") {
      const Eigen::MatrixXd m = *rows_of(config.start_m);
      for (int64_t heads : config.heads)
        if (m.rows() != heads || m.cols() != made->dimension())
          problems.add(fmt::format(
              "start_m has {} rows of {} numbers, but {} heads and {} directions are needed.",
              m.rows(), m.cols(), heads, made->dimension()));
    }
  }
  for (int64_t heads : config.heads)
    if (config.tie == "opposite" && heads % 2 != 0)
      problems.add(fmt::format("tie=opposite needs pairs of heads, but there are {}.", heads));
  if (config.experiment == "risk" && config.factors.empty())
    problems.add("factors is empty, but the risk is computed for each of them. Name some.");
  return cases;
}

Eigen::MatrixXd parse_rows(std::string_view text) {
  const auto rows = rows_of(text);
  if (!rows) user_error("specialize", "'{}' is not rows of numbers", std::string(text));
  return *rows;
}

SimulationStart specialize_start(const SpecializeConfig& config, const SpecializeCase& one) {
  SimulationStart start;
  const bool random = config.start == "random";
  start.at.m = random ? Eigen::MatrixXd::Zero(one.heads, one.model.law.dimension())
                      : parse_rows(config.start_m);
  start.at.r = start.at.m * start.at.m.transpose();
  start.at.r.diagonal().array() += config.start_noise;
  start.at.b = Eigen::VectorXd::Constant(one.heads, config.start_bias);
  // Of random keys the bias is half the squared norm they have, up to its spread.
  if (config.biases == "tied")
    start.at.b.array() += (random ? config.start_norm * config.start_norm : 0) / 2;
  if (config.biases == "tied" && !random) start.at.b += start.at.r.diagonal() / 2;
  if (random) start.random_deviation = config.start_norm;
  return start;
}

SimulationSettings specialize_simulation(const SpecializeConfig& config, int64_t heads,
                                         int64_t dimension) {
  SimulationSettings settings{.dimension = dimension, .seeds = {}, .rates = {{0, config.eta_0}}};
  for (int64_t s = 0; s < config.seeds; ++s)
    settings.seeds.push_back(static_cast<uint64_t>(config.first_seed + s));
  const std::vector<RateStage> later = *stages_of(config.later_rates);
  settings.rates.insert(settings.rates.end(), later.begin(), later.end());
  settings.biases = config.biases == "fixed"     ? HeadBiases::kFixed
                    : config.biases == "trained" ? HeadBiases::kTrained
                                                 : HeadBiases::kTiedToNorm;
  settings.bias_rate = config.bias_rate;
  if (config.tie == "opposite") {
    settings.tie = Eigen::MatrixXd::Zero(heads, heads / 2);
    for (int64_t h = 0; h < heads; ++h) settings.tie(h, h / 2) = h % 2 == 0 ? 1 : -1;
  }
  settings.threads = static_cast<int>(config.threads);
  return settings;
}

RuleSettings specialize_rule(const SpecializeConfig& config) {
  RuleSettings rule;
  rule.lattice_points = config.lattice_points;
  rule.shifts = config.shifts;
  return rule;
}

}  // namespace weir
