#include "lab/specialize/specialize.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/measure/provenance.h"
#include "lab/specialize/best_risk.h"
#include "lab/specialize/dynamics.h"
#include "lab/specialize/pruning.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Json finite_number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

template <typename Numbers>
Json list_json(const Numbers& numbers) {
  Json json = Json::array();
  for (double number : numbers) json.push_back(finite_number(number));
  return json;
}

Json matrix_json(const Eigen::MatrixXd& matrix) {
  Json json = Json::array();
  for (Eigen::Index i = 0; i < matrix.rows(); ++i)
    json.push_back(list_json(Eigen::VectorXd(matrix.row(i))));
  return json;
}

Json estimate_json(const Estimate& estimate) {
  return {{"value", finite_number(estimate.value)}, {"error", finite_number(estimate.error)}};
}

Json order_json(const OrderParameters& at) {
  return {{"m", matrix_json(at.m)}, {"r", matrix_json(at.r)}, {"b", list_json(at.b)}};
}

Json power_json(const LineFit& fit) {
  return {{"points", fit.points},
          {"exponent", finite_number(fit.slope)},
          {"low", finite_number(fit.low)},
          {"high", finite_number(fit.high)}};
}

Json flow_json(const std::vector<FlowPoint>& points) {
  Json json = {
      {"m", Json::array()}, {"r", Json::array()}, {"b", Json::array()}, {"loss", Json::array()}};
  for (const FlowPoint& point : points) {
    json["m"].push_back(matrix_json(point.at.m));
    json["r"].push_back(matrix_json(point.at.r));
    json["b"].push_back(list_json(point.at.b));
    json["loss"].push_back(finite_number(point.loss.value));
  }
  return json;
}

Json dimension_json(const DimensionRun& run) {
  Json m = Json::array(), r = Json::array(), b = Json::array(), loss = Json::array(),
       time = Json::array();
  for (const SimulationPoint& point : run.simulation.points) {
    Json m_now = Json::array(), r_now = Json::array(), b_now = Json::array();
    for (const OrderParameters& at : point.at) {
      m_now.push_back(matrix_json(at.m));
      r_now.push_back(list_json(Eigen::VectorXd(at.r.diagonal())));
      b_now.push_back(list_json(at.b));
    }
    time.push_back(point.time);
    m.push_back(std::move(m_now));
    r.push_back(std::move(r_now));
    b.push_back(std::move(b_now));
    loss.push_back(list_json(point.loss));
  }
  Json learnt = Json::array();
  for (const auto& seed : run.order.learnt_at) learnt.push_back(list_json(seed));
  Json json = {{"dimension", run.dimension}, {"steps", run.simulation.steps},
               {"time", std::move(time)},    {"m", std::move(m)},
               {"r_diagonal", std::move(r)}, {"b", std::move(b)},
               {"loss", std::move(loss)}};
  json["order"] = {{"learnt_at", std::move(learnt)},
                   {"moves", run.order.moves},
                   {"complete", run.order.complete},
                   {"in_order", run.order.in_order}};
  if (!run.deviation.empty()) {
    json["deviation"] = list_json(run.deviation);
    json["gradient_deviation"] = list_json(run.gradient_deviation);
  }
  return json;
}

Json dynamics_json(const Dynamics& dynamics) {
  Json json = {{"bayes", estimate_json(dynamics.bayes)},
               {"times", list_json(dynamics.times)},
               {"dimensions", Json::array()}};
  for (const DimensionRun& run : dynamics.runs) json["dimensions"].push_back(dimension_json(run));
  if (!dynamics.flow.empty()) {
    json["flow"] = flow_json(dynamics.flow);
    json["gradient_flow"] = flow_json(dynamics.gradient_flow);
  }
  if (dynamics.fit.points > 2) {
    json["deviation_fit"] = power_json(dynamics.fit);
    json["gradient_deviation_fit"] = power_json(dynamics.gradient_fit);
  }
  json["excess"] = Json::array();
  for (const Estimate& excess : dynamics.excess) json["excess"].push_back(estimate_json(excess));
  return json;
}

Json risk_json(const SpecializeConfig& config, const SpecializeCase& one) {
  BestRiskSettings settings;
  settings.heads = one.heads;
  settings.rule = specialize_rule(config);
  settings.random_starts = config.random_starts;
  settings.seed = static_cast<uint64_t>(config.first_seed);
  const Eigen::MatrixXd factors = parse_rows(config.factors);
  const std::vector<double> strengths(factors.data(), factors.data() + factors.size());
  Json json = {{"factor", Json::array()},
               {"bayes", Json::array()},
               {"risk", Json::array()},
               {"excess", Json::array()},
               {"outside_curvature", Json::array()},
               {"at", Json::array()}};
  for (const RiskPoint& point : risk_curve(one.model, strengths, settings)) {
    json["factor"].push_back(point.strength);
    json["bayes"].push_back(estimate_json(point.bayes));
    json["risk"].push_back(estimate_json(point.best.risk));
    json["excess"].push_back(estimate_json(point.best.excess));
    json["outside_curvature"].push_back(finite_number(point.best.outside_curvature));
    json["at"].push_back(order_json(point.best.at));
  }
  return json;
}

Json pruning_json(const Pruning& pruning) {
  Json curves = Json::array();
  for (const PruningCurve& curve : pruning.curves) {
    Json risk = Json::array();
    for (const Estimate& point : curve.risk) risk.push_back(finite_number(point.value));
    curves.push_back({{"removed", curve.removed},
                      {"risk", std::move(risk)},
                      {"error", finite_number(curve.risk[0].error)},
                      {"removable", curve.removable}});
  }
  return {{"bayes", estimate_json(pruning.bayes)},
          {"directions", pruning.directions},
          {"support", pruning.support},
          {"curves", std::move(curves)}};
}

Json settings_json(SpecializeConfig config) {
  Json json = Json::object();
  for (const SpecializeKey& key : specialize_keys())
    std::visit([&](auto* slot) { json[key.name] = *slot; }, key.slot(config));
  return json;
}

}  // namespace

std::string run_specialize(const SpecializeConfig& config, const std::string& command,
                           const std::function<void(const std::string&)>& say) {
  UsageProblems problems("specialize");
  const std::vector<SpecializeCase> cases = specialize_cases(config, problems);
  problems.raise();
  Json record = {{"format", "weir.specialize/1"}};
  Provenance provenance;
  provenance.command = command;
  provenance.target = print(host_target());
  record["provenance"] = Json::parse(provenance_json(provenance, {}));
  record["settings"] = settings_json(config);
  record["cases"] = Json::array();
  for (const SpecializeCase& one : cases) {
    const std::string activation(activation_name(one.model.activation));
    say(fmt::format("{}, {}, {} head{}", one.law, activation, one.heads,
                    one.heads == 1 ? "" : "s"));
    Json json = {{"law", one.law}, {"activation", activation}, {"heads", one.heads}};
    if (config.experiment == "dynamics")
      json["dynamics"] = dynamics_json(run_dynamics(config, one, say));
    else if (config.experiment == "risk")
      json["risk"] = risk_json(config, one);
    else
      json["pruning"] = pruning_json(run_pruning(config, one, say));
    record["cases"].push_back(std::move(json));
  }
  return record.dump();
}

}  // namespace weir
