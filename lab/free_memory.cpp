#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "lab/trainer.h"

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
  std::string word, rest;
  for (int64_t value = 0; file >> word >> value; std::getline(file, rest))
    if (word == key) return value;
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

}  // namespace weir
