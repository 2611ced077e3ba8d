#include "lab/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace weir {
namespace {

// The first number of a file; nothing if there is none ("max" of an unlimited control group).
std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The number behind a key at the start of a line.
std::optional<int64_t> number_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    int64_t value = 0;
    if (words >> word && word == key && words >> value) return value;
  }
  return std::nullopt;
}

}  // namespace

int64_t free_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  if (auto kibibytes = number_of("/proc/meminfo", "MemAvailable:")) available = *kibibytes << 10;
  // Of a control group, version 2 or 1; it counts cached files, which give way.
  struct Group {
    std::string limit, used, statistics, cached;
  };
  const std::string v2 = "/sys/fs/cgroup/memory.", v1 = "/sys/fs/cgroup/memory/memory.";
  for (const Group& group :
       {Group{v2 + "max", v2 + "current", v2 + "stat", "inactive_file"},
        Group{v1 + "limit_in_bytes", v1 + "usage_in_bytes", v1 + "stat", "total_inactive_file"}}) {
    auto limit = number_in(group.limit), used = number_in(group.used);
    if (!limit || !used) continue;
    const int64_t cached = number_of(group.statistics, group.cached).value_or(0);
    available = std::min(available, std::max<int64_t>(0, *limit - *used + cached));
  }
  return available;
}

int64_t resident_memory() { return number_of("/proc/self/status", "VmRSS:").value_or(0) << 10; }

int64_t peak_resident_memory() {
  return number_of("/proc/self/status", "VmHWM:").value_or(0) << 10;
}

}  // namespace weir
