#include "testing/peers.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace weir::test {

namespace {

// Output and exit status of a command; what it says on the way to an error is in the output.
std::pair<std::string, int> output_of(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot run " + command);
  std::string output;
  std::array<char, 4096> part{};
  while (const size_t count = fread(part.data(), 1, part.size(), pipe))
    output.append(part.data(), count);
  return {output, pclose(pipe)};
}

}  // namespace

std::string peers_with(const std::vector<std::string>& modules) {
  const char* given = std::getenv("WEIR_PEERS");
  const std::string python = given ? given : WEIR_PEERS_PYTHON;
  if (!std::filesystem::exists(python)) return "";
  std::string imports;
  for (const std::string& module : modules) imports += "import " + module + "; ";
  return output_of(fmt::format("'{}' -c '{}'", python, imports)).second == 0 ? python : "";
}

nlohmann::json ask_peer(const std::string& python, const std::string& script,
                        const std::vector<std::string>& arguments) {
  std::string command = fmt::format("'{}' '{}/{}'", python, WEIR_PEERS_SCRIPTS, script);
  for (const std::string& argument : arguments) command += fmt::format(" '{}'", argument);
  const auto [output, status] = output_of(command);
  if (status != 0) throw std::runtime_error(command + ":\n" + output);
  // Libraries may have warned on the lines before.
  const size_t end = output.find_last_not_of('\n');
  const size_t begin = output.rfind('\n', end);
  return nlohmann::json::parse(output.substr(begin == std::string::npos ? 0 : begin + 1));
}

}  // namespace weir::test
