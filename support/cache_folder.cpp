#include "support/cache_folder.h"

#include <sys/stat.h>

#include <string_view>

#include "support/env.h"
#include "support/log.h"

namespace weir {
namespace {

bool is_folder(const std::string& path) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

CacheFolder cache_folder() {
  if (const std::string chosen = environment("WEIR_CACHE"); !chosen.empty())
    return {chosen == "off" ? "" : chosen, "WEIR_CACHE"};
  if (const std::string shared = environment("XDG_CACHE_HOME"); shared.starts_with('/'))
    return {shared + "/weir", "XDG_CACHE_HOME"};
  const std::string home = environment("HOME");
  if (home.empty()) return {};
  if (is_folder(home)) return {home + "/.cache/weir", "HOME"};
  log_once(LogLevel::warning, fmt::format("no cache is kept: HOME is {}, which is no folder. {}",
                                          home, "Name one by WEIR_CACHE, or say WEIR_CACHE=off."));
  return {"", "HOME"};
}

std::string cache_subfolder(const std::string& name) {
  const CacheFolder folder = cache_folder();
  return folder.path.empty() ? "" : folder.path + "/" + name;
}

std::string cache_advice() {
  const std::string variable = cache_folder().variable;
  if (variable == "WEIR_CACHE")
    return "The folder is named by WEIR_CACHE: name another one, or say WEIR_CACHE=off.";
  return fmt::format("The folder follows from {}: name another one by WEIR_CACHE, or say {}.",
                     variable.empty() ? "the command" : variable, "WEIR_CACHE=off");
}

}  // namespace weir
