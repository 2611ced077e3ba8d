#include "engine/memory.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "support/align.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// The first number of a file; nothing if there is none ("max" of an unlimited control group).
std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The number behind a key at the start of a line.
std::optional<int64_t> number_of(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    int64_t value = 0;
    if (words >> word && word == key && words >> value) return value;
  }
  return std::nullopt;
}

// How a version of control groups calls what is asked for here.
struct GroupFiles {
  std::vector<const char*> limits;
  const char *used, *cached;
};
const GroupFiles kVersion2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file"};
const GroupFiles kVersion1 = {
    {"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_inactive_file"};

// What one group leaves.
int64_t left_of(const fs::path& group, const GroupFiles& files) {
  int64_t left = std::numeric_limits<int64_t>::max();
  const auto used = number_in(group / files.used);
  if (!used) return left;
  const int64_t cached = number_of(group / "memory.stat", files.cached).value_or(0);
  for (const char* limit : files.limits)
    if (const auto bytes = number_in(group / limit))
      left = std::min(left, std::max<int64_t>(0, *bytes - *used + cached));
  return left;
}

// What a group and all above it leave. In a container the path may be that of the host, of which
// only the container's own group, the root, is there.
int64_t left_up_to_root(const fs::path& root, const std::string& path, const GroupFiles& files) {
  int64_t left = left_of(root, files);
  fs::path group = root;
  for (const fs::path& part : fs::path(path).relative_path()) {
    group /= part;
    left = std::min(left, left_of(group, files));
  }
  return left;
}

}  // namespace

int64_t free_of_control_groups(const std::string& groups, const std::string& mount) {
  int64_t left = std::numeric_limits<int64_t>::max();
  std::ifstream file(groups);
  // number:controllers:path; version 2 has number 0 and no controllers.
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::vector<std::string> controllers =
        split(line.substr(first + 1, second - first - 1), ',');
    const std::string path = line.substr(second + 1);
    if (line.starts_with("0::")) {
      for (const char* root : {"", "unified"})
        left = std::min(left, left_up_to_root(fs::path(mount) / root, path, kVersion2));
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      left = std::min(left, left_up_to_root(fs::path(mount) / "memory", path, kVersion1));
    }
  }
  return left;
}

int64_t free_memory() {
  int64_t available = free_of_control_groups();
  if (auto kibibytes = number_of("/proc/meminfo", "MemAvailable:"))
    available = std::min(available, *kibibytes << 10);
  return available;
}

int64_t resident_memory() { return number_of("/proc/self/status", "VmRSS:").value_or(0) << 10; }

int64_t peak_resident_memory() {
  return number_of("/proc/self/status", "VmHWM:").value_or(0) << 10;
}

int64_t buffer_bytes(int64_t bytes) {
  constexpr int64_t huge_page = int64_t{2} << 20;
  return bytes >= huge_page ? round_up(bytes, huge_page) : bytes;
}

void MemoryPeak::add_process(int64_t before, int64_t files) {
  malloc_trim(0);
  const int64_t peak = peak_resident_memory();
  earlier = before;
  compiler = peak > before ? peak : 0;
  // The buffer of weights, states and inputs is rounded up, too, and workers have stacks.
  constexpr int64_t rest = int64_t{4} << 20;
  process = resident_memory() + files + rest;
}

std::string to_string(const MemoryPeak& peak) {
  const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
  std::string text;
  if (peak.total() > peak.running())
    text = fmt::format("{} {}, then ", bytes(peak.total()),
                       peak.compiler >= peak.earlier ? "while compiling" : "before");
  return text + fmt::format(
                    "{} = weights {} + other state {} + arena {} + inputs {} + kept values {} + "
                    "program and files {}",
                    bytes(peak.running()), bytes(peak.weights), bytes(peak.state),
                    bytes(peak.arena), bytes(peak.inputs), bytes(peak.kept), bytes(peak.process));
}

std::string memory_to_allow(int64_t bytes) {
  const int64_t mebibyte = int64_t{1} << 20;
  return fmt::format("{}MiB", (bytes + bytes / 50 + mebibyte - 1) / mebibyte);
}

}  // namespace weir
