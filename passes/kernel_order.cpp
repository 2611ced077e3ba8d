// In which order kernels run.
#include <algorithm>
#include <functional>

#include "passes/kernel_group.h"
#include "support/error.h"

namespace weir {
namespace {

// Inserts the probe kernels into the order of the main ones.
std::vector<int32_t> with_probe_groups(const std::vector<KernelGroup>& groups,
                                       const std::vector<std::set<int32_t>>& dependencies,
                                       const std::vector<int32_t>& main,
                                       const std::vector<int32_t>& ranked) {
  std::vector<std::set<int32_t>> waiting(groups.size());
  std::vector<std::vector<int32_t>> users(groups.size());
  std::vector<int32_t> sequence, ready;
  for (int32_t group : ranked) {
    if (!groups[group].is_probe) continue;
    waiting[group] = dependencies[group];
    for (int32_t dependency : waiting[group]) users[dependency].push_back(group);
    if (waiting[group].empty()) ready.push_back(group);
  }
  auto drain = [&] {
    for (size_t i = 0; i < ready.size(); ++i) {
      sequence.push_back(ready[i]);
      for (int32_t user : users[ready[i]])
        if (waiting[user].erase(ready[i]) && waiting[user].empty()) ready.push_back(user);
    }
    ready.clear();
  };
  drain();
  for (int32_t group : main) {
    sequence.push_back(group);
    for (int32_t user : users[group])
      if (waiting[user].erase(group) && waiting[user].empty()) ready.push_back(user);
    drain();
  }
  WEIR_CHECK(sequence.size() == groups.size(), "{} of {} kernels could be ordered", sequence.size(),
             groups.size());
  return sequence;
}

}  // namespace

std::vector<int32_t> running_order(const std::vector<KernelGroup>& groups,
                                   const std::vector<std::set<int32_t>>& dependencies) {
  std::vector<int32_t> ranked(groups.size()), sequence;
  for (size_t i = 0; i < ranked.size(); ++i) ranked[i] = static_cast<int32_t>(i);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](int32_t a, int32_t b) { return groups[a].rank < groups[b].rank; });
  std::vector<bool> done(groups.size());
  std::function<void(int32_t)> visit = [&](int32_t group) {
    if (done[group]) return;
    done[group] = true;
    for (int32_t dependency : dependencies[group]) visit(dependency);
    sequence.push_back(group);
  };
  for (int32_t group : ranked)
    if (!groups[group].is_probe) visit(group);
  return with_probe_groups(groups, dependencies, sequence, ranked);
}

}  // namespace weir
