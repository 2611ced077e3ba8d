#include "tools/command.h"

#include <fmt/format.h>

#include "support/env.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {

Commands all_commands() {
  Commands commands;
  for (const auto add :
       {add_demo,    add_train, add_sweep,  add_tune,   add_report,   add_compare,    add_export,
        add_measure, add_check, add_dial,   add_heads,  add_quantize, add_specialize, add_eval,
        add_dump,    add_run,   add_probes, add_tokens, add_convert,  add_info})
    add(commands);
  return commands;
}

OptionTable& add_command(Commands& commands, const std::string& name, const std::string& summary) {
  commands.push_back(std::make_unique<OptionTable>(name, summary));
  return *commands.back();
}

std::string& command_line() {
  static std::string text;
  return text;
}

Target chosen_target(bool to_run) {
  Target target = parse_target(environment("WEIR_TARGET"));
  if (to_run && !runs_here(target))
    user_error("target", "this machine ({}) cannot run code for {} (WEIR_TARGET).",
               host_target().isa(), target.isa());
  return target;
}

int chosen_threads(int given) {
  std::string name = "";
  if (given <= 0) {
    const std::string text = environment("WEIR_THREADS");  // its range is checked at the start
    given = text.empty() ? 0 : std::stoi(text);
    name = " (WEIR_THREADS)";
  }
  // More than one a core wait for each other while they hold memory of their own.
  const int cores = chosen_target(false).cores;
  if (given <= cores) return given;
  log_once(
      LogLevel::warning,
      fmt::format("{} threads{} are more than the {} core{} of this process; {} {} used. "
                  "Results are the same bits for any number.",
                  given, name, cores, cores == 1 ? "" : "s", cores, cores == 1 ? "is" : "are"));
  return cores;
}

}  // namespace weir
