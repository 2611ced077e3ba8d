#include "lab/train/config_diff.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "support/error.h"

namespace weir {

namespace {

// Whether further steps leave the learning rate of those before them as it was.
bool may_be_raised(const RunConfig& started, const RunConfig& given) {
  const OptimizerConfig &before = started.optimizer, &now = given.optimizer;
  if (now.schedule == "constant") return now.restart == before.restart;
  return before.restart == 0 && now.restart == started.steps;
}

}  // namespace

void check_same_config(const RunConfig& started, const RunConfig& given) {
  using Json = nlohmann::json;
  auto flat = [](RunConfig config) {
    config.out.clear();
    config.threads = config.checkpoint_every = config.keep_checkpoints = 0;
    config.memory.clear();
    config.on_nonfinite.clear();
    return Json::parse(config_json(config)).flatten();
  };
  Problems problems("train");
  Json before = flat(started), now = flat(given);
  if (given.steps > started.steps) {
    const std::vector<std::string> raised = {"/steps", "/optimizer/restart",
                                             "/optimizer/restart_rate"};
    if (may_be_raised(started, given))
      for (const std::string& key : raised) before[key] = now[key];
    else if (given.optimizer.restart == started.optimizer.restart) {
      before["/steps"] = now["/steps"];
      problems.add(fmt::format(
          "steps is {}, but the cosine of the learning rate falls over the {} steps that the run "
          "was started with. Say optimizer.restart={} for a second cosine from that step on, which "
          "begins at optimizer.restart_rate (1) of the peak, or start another run with "
          "init=CHECKPOINT.",
          given.steps, started.steps, started.steps));
    }
  }
  auto shown = [](const Json& json, const std::string& key) {
    return json.contains(key) ? json[key].dump() : std::string("absent");
  };
  Json keys = before;
  keys.update(now);
  for (const auto& [key, value] : keys.items()) {
    if (shown(before, key) == shown(now, key)) continue;
    std::string name = key.substr(1);
    for (char& c : name)
      if (c == '/') c = '.';
    problems.add(fmt::format(
        "{} is {}, but the run was started with {}. Resume with the same configuration (weir "
        "train resume={}), or start another run with out=FOLDER.",
        name, shown(now, key), shown(before, key), started.out));
  }
  problems.raise();
}

}  // namespace weir
