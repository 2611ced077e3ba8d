#include "lab/experiments/check.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/measure/nonfinite.h"
#include "lab/measure/progress.h"
#include "lab/measure/rewrite_json.h"
#include "lab/measure/token_input.h"
#include "passes/pipeline.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Json place_json(const CheckPlace& place, IdentityKind kind) {
  Json json = {{"sequence", place.sequence},
               {"head", place.head},
               {"token", place.token},
               {"left", json_number(place.left)},
               {"right", json_number(place.right)}};
  if (kind == IdentityKind::exact) json["error"] = json_number(place.error);
  if (kind != IdentityKind::zero) json["scale"] = json_number(place.scale);
  return json;
}

const char* kind_name(IdentityKind kind) {
  switch (kind) {
    case IdentityKind::exact:
      return "exact";
    case IdentityKind::zero:
      return "zero";
    case IdentityKind::bound:
      return "bound";
  }
  internal_error_at("unknown kind of identity");
}

Json identities_json() {
  Json all = Json::array();
  for (const IdentityInfo& identity : all_identities())
    all.push_back({{"id", identity.key},
                   {"number", identity.number},
                   {"site", site_kind_name(identity.site)},
                   {"kind", kind_name(identity.kind)},
                   {"name", identity.name},
                   {"left", identity.left},
                   {"right", identity.right}});
  return all;
}

Json result_json(const CheckResult& result, IdentityKind kind) {
  Json worst = Json::array(), medians = Json::array();
  const CheckHead* largest = &result.heads.front();
  for (const CheckHead& head : result.heads) {
    worst.push_back(json_number(head.worst));
    medians.push_back(json_number(head.median));
    if (head.worst > largest->worst) largest = &head;
  }
  Json json = {{"places", result.places}, {"failures", result.failures}};
  json[kind == IdentityKind::bound ? "largest" : "error"] = worst;
  if (kind == IdentityKind::bound) json["median"] = medians;
  json["at"] = place_json(largest->at, kind);
  return json;
}

std::string failure_text(const IdentitySite& site, const IdentityInfo& identity,
                         const CheckResult& result, const CheckLimits& limits) {
  const CheckPlace at = expect(result.failure);
  const std::string where =
      fmt::format("{}: {} ({}) fails at {} of {} places; worst in sequence {}, head {}, token {}: ",
                  site.label(), identity.name, identity.key, result.failures, result.places,
                  at.sequence, at.head, at.token);
  switch (identity.kind) {
    case IdentityKind::exact:
      return where + fmt::format(
                         "{} is {:.8g}, {} is {:.8g}; they differ by {:.3g}, {:.2g} of the "
                         "error scale {:.3g}, where {:.0e} is allowed.",
                         identity.left, at.left, identity.right, at.right, at.error,
                         at.error / at.scale, at.scale, limits.tolerance);
    case IdentityKind::zero:
      return where + fmt::format("{} is {:.8g}, not exactly 0.", identity.left, at.left);
    case IdentityKind::bound:
      return where + fmt::format(
                         "{} is {:.8g}, above {} = {:.8g} by more than rounding "
                         "(error scale {:.3g}).",
                         identity.left, at.left, identity.right, at.right, at.scale);
  }
  internal_error_at("unknown kind of identity");
}

// One site of the record; what fails is added to `failures`.
Json site_json(const CheckValues& values, size_t index, std::vector<std::string>& failures,
               Json& failed) {
  const IdentitySite& site = values.sites()[index];
  Json json = {{"site", site_kind_name(site.kind)},
               {"index", site.index},
               {"label", site.label()},
               {"layer", site.layer >= 0 ? Json(site.layer) : Json(nullptr)}};
  Json identities = Json::object();
  for (const IdentityInfo& identity : all_identities()) {
    if (identity.site != site.kind) continue;
    if (const std::string reason = not_applicable(identity, site); !reason.empty()) {
      identities[identity.key] = {{"not_applicable", reason}};
      continue;
    }
    const CheckResult result = values.result(index, identity.id);
    identities[identity.key] = result_json(result, identity.kind);
    if (!result.failure) continue;
    failures.push_back(failure_text(site, identity, result, values.limits()));
    failed.push_back({{"identity", identity.key},
                      {"label", site.label()},
                      {"layer", json["layer"]},
                      {"places", result.failures},
                      {"worst", place_json(*result.failure, identity.kind)}});
  }
  json["identities"] = identities;
  if (site.kind == IdentitySiteKind::attention) {
    Json lower = Json::array(), energy = Json::array(), upper = Json::array();
    for (const MeanAndNoise& head : values.mean_and_noise(index)) {
      lower.push_back(json_number(head.lower));
      energy.push_back(json_number(head.energy));
      upper.push_back(json_number(head.upper));
    }
    json["mean_and_noise"] = {{"lower", lower}, {"energy", energy}, {"upper", upper}};
  }
  return json;
}

}  // namespace

Checker::Checker(const ModelSource& source, const TokenBatch& batch, const CheckTask& task)
    : source_(source), batch_(batch), task_(task) {
  if (task.sink < 0 || task.sink >= batch.length)
    user_error("check", "the sink token {} is not one of the {} of a sequence.", task.sink,
               batch.length);
  CompileOptions options = task.options;
  options.stop = Stage::built;
  sites_ = identity_sites(run_pipeline(source.build(1, batch.length).graph, options).graph);
  if (sites_.empty())
    user_error("check",
               "{} has no attention, norm or V-scale on which its loss depends, so that there is "
               "nothing to check.",
               source.sizes.name);
  const Activity activity("planning and compiling the check");
  RunRequest request{.batch = batch.batch,
                     .length = batch.length,
                     .options = task.options,
                     .purpose = Purpose::check,
                     .sink = task.sink};
  // Ratios of bounds, by head and token, and both sides of a site that is not complete yet.
  for (const IdentitySite& site : sites_)
    request.kept += site.heads * batch.batch * batch.length * int64_t{sizeof(double)} *
                    (site.kind == IdentitySiteKind::attention ? 5 : 1);
  run_ = std::make_unique<ModelRun>(source, request, task.run);
}

CheckOutcome Checker::check() {
  CheckOutcome outcome;
  const Activity activity("checking");
  auto start = std::chrono::steady_clock::now();
  run_->load();
  outcome.load_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  CheckValues values(sites_, check_limits(run_->interpreted()), task_.sink);
  const double loss = run_->run(batch_, [&](const ProbeValue& value) { values.add(value); });
  run_->unload();
  outcome.run_seconds = seconds_since(start);

  Json record = {{"format", "weir.check/1"}};
  if (!task_.provenance.empty()) record["provenance"] = Json::parse(task_.provenance);
  const MeasuredModel& model = source_.sizes;
  record["model"] = {
      {"name", model.name},   {"layers", model.layers},         {"d_model", model.d_model},
      {"heads", model.heads}, {"kv_heads", model.kv_heads},     {"d_head", model.d_head},
      {"d_ff", model.d_ff},   {"vocabulary", model.vocabulary}, {"parameters", run_->parameters()}};
  record["tokens"] = {{"batch", batch_.batch}, {"length", batch_.length}};
  if (batch_.around) record["tokens"].update(Json::parse(tokens_json(*batch_.around)));
  record["settings"] = {{"precision", run_->interpreted() ? "f64" : "f32"},
                        {"tolerance", values.limits().tolerance},
                        {"slack", values.limits().slack},
                        {"sink_token", task_.sink}};
  state_all_rewrites(task_.options.rewrites, record["settings"]);
  record["loss"] = json_number(loss);
  record["identities"] = identities_json();
  Json failed = Json::array(), sites = Json::array();
  for (size_t i = 0; i < sites_.size(); ++i)
    sites.push_back(site_json(values, i, outcome.failures, failed));
  record["failures"] = failed;
  record["sites"] = sites;
  outcome.record = record.dump();
  return outcome;
}

}  // namespace weir
