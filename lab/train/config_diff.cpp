#include "lab/train/config_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/usage_error.h"

namespace weir {

namespace {

// Whether further steps leave the learning rate of those before them as it was.
bool may_be_raised(const RunConfig& started, const RunConfig& given) {
  const OptimizerConfig &before = started.optimizer, &now = given.optimizer;
  if (now.schedule == "constant") return now.restart == before.restart;
  return before.restart == 0 && now.restart == started.steps;
}

}  // namespace

namespace {

struct Difference {
  std::string key, before, now;  ///< values as JSON, or "absent"
};

// Of all keys on which results depend, except that steps may be raised where that changes none.
std::vector<Difference> differences(const RunConfig& started, const RunConfig& given,
                                    bool steps_differ) {
  using Json = nlohmann::json;
  const auto flat = [](RunConfig config) {
    config.out.clear();
    config.arms.clear();
    config.threads = config.checkpoint_every = config.keep_checkpoints = 0;
    config.memory.clear();
    config.tensorboard = false;
    config.on_nonfinite.clear();
    return Json::parse(config_json(config)).flatten();
  };
  Json before = flat(started), now = flat(given);
  if (given.steps > started.steps && may_be_raised(started, given))
    for (const char* key : {"/steps", "/optimizer/restart", "/optimizer/restart_rate"})
      before[key] = now[key];
  if (!steps_differ) before["/steps"] = now["/steps"];
  // What the data need is known once they are read.
  if (started.model.vocabulary == 0 || given.model.vocabulary == 0)
    before["/model/vocabulary"] = now["/model/vocabulary"];
  const auto shown = [](const Json& json, const std::string& key) {
    return json.contains(key) ? json[key].dump() : std::string("absent");
  };
  Json keys = before;
  keys.update(now);
  std::vector<Difference> found;
  for (const auto& [key, value] : keys.items()) {
    if (shown(before, key) == shown(now, key)) continue;
    std::string name = key.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    found.push_back({name, shown(before, key), shown(now, key)});
  }
  return found;
}

}  // namespace

void check_same_config(const RunConfig& started, const RunConfig& given) {
  UsageProblems problems("train");
  const bool needs_restart = given.steps > started.steps && !may_be_raised(started, given) &&
                             given.optimizer.restart == started.optimizer.restart;
  if (needs_restart)
    problems.add(fmt::format(
        "steps is {}, but the cosine of the learning rate falls over the {} steps that the run "
        "was started with. Say optimizer.restart={} for a second cosine from that step on, which "
        "begins at optimizer.restart_rate (1) of the peak, or start another run with "
        "init=CHECKPOINT.",
        given.steps, started.steps, started.steps));
  const auto add = [&](const Difference& difference) {
    problems.add(fmt::format(
        "{} is {}, but the run was started with {}. Resume with the same configuration (weir "
        "train resume={}), or start another run with out=FOLDER.",
        difference.key, difference.now, difference.before, started.out));
  };
  for (const Difference& difference : differences(started, given, !needs_restart)) add(difference);
  const auto arms = [](const RunConfig& config) {
    return nlohmann::json::parse(config_json(config)).at("arms").dump();
  };
  if (arms(started) != arms(given)) add({"arms", arms(started), arms(given)});
  problems.raise();
}

std::vector<std::string> differs_from_run(const RunConfig& arm, const RunConfig& run) {
  std::vector<std::string> sentences;
  for (const Difference& difference : differences(arm, run, true))
    sentences.push_back(fmt::format("{} is {} in the configuration of the run, but {} in the arm's",
                                    difference.key, difference.now, difference.before));
  return sentences;
}

}  // namespace weir
