#include "passes/debug.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "support/env.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {

bool DebugOptions::dumps(const std::string& pass) const {
  return dump_all || std::find(dump.begin(), dump.end(), pass) != dump.end();
}

DebugOptions parse_debug_options(const std::string& text, const std::vector<std::string>& passes) {
  DebugOptions options;
  UsageProblems problems("WEIR_DEBUG");
  const std::vector<std::string> keys = {"dump", "verify", "time", "stop", "dir"};
  std::set<std::string> given;  // keys, and dump=PASS for each pass
  for (const std::string& part : split(text, ',')) {
    std::string word(trim(part));
    if (word.empty()) continue;
    size_t equals = word.find('=');
    bool has_value = equals != std::string::npos;
    std::string key = word.substr(0, equals), value = has_value ? word.substr(equals + 1) : "";
    // Of two values one would be passed over in silence.
    if (!given.insert(key == "dump" ? word : key).second) {
      problems.add(fmt::format("{} is given twice. Give it once.", key == "dump" ? word : key));
      continue;
    }
    if (key == "dump" && !has_value) {
      options.dump_all = true;
    } else if (key == "dump") {
      if (std::find(passes.begin(), passes.end(), value) == passes.end())
        problems.add(fmt::format("dump={} names no pass.{} The passes are {}.", value,
                                 did_you_mean(value, passes), join(passes, ", ")));
      options.dump.push_back(value);
    } else if (key == "verify" && !has_value) {
      options.verify = true;
    } else if (key == "time" && !has_value) {
      options.time = true;
    } else if (key == "stop") {
      int count = -1;
      auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
      if (error != std::errc() || end != value.data() + value.size() || count < 0)
        problems.add(fmt::format("{} needs a number of passes, such as stop=3.", word));
      options.stop = count;
    } else if (key == "dir") {
      if (value.empty()) problems.add("dir needs a folder, such as dir=/tmp/weir.");
      options.folder = value;
    } else {
      problems.add(fmt::format(
          "'{}' is not understood.{} Words are dump, dump=PASS, verify, time, stop=N and dir=PATH, "
          "as in WEIR_DEBUG=dump=simplify,time or WEIR_DEBUG=dump,dir=/tmp/weir.",
          word, did_you_mean(key, keys)));
    }
  }
  problems.raise();
  return options;
}

DebugOptions debug_options(const std::vector<std::string>& passes) {
  return parse_debug_options(environment("WEIR_DEBUG"), passes);
}

}  // namespace weir
