#include "lab/config_diff.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "support/error.h"

namespace weir {

void check_same_config(const RunConfig& started, const RunConfig& given) {
  using Json = nlohmann::json;
  auto flat = [](RunConfig config) {
    config.out.clear();
    config.threads = config.checkpoint_every = config.keep_checkpoints = 0;
    config.memory.clear();
    return Json::parse(config_json(config)).flatten();
  };
  const Json before = flat(started), now = flat(given);
  Problems problems("train");
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
