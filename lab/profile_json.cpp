#include "lab/profile_json.h"

#include <nlohmann/json.hpp>

namespace weir {

std::string profile_json(const std::vector<KernelTime>& times, const ProfileFacts& facts) {
  using nlohmann::ordered_json;
  double total = 0;
  for (const KernelTime& kernel : times) total += kernel.seconds;
  ordered_json kernels = ordered_json::array();
  for (const KernelTime& kernel : times) {
    const double runs_a_second = static_cast<double>(kernel.runs) / kernel.seconds;
    const double rate = kernel.cost.operations() * runs_a_second;
    ordered_json row = {
        {"kernel", kernel.symbol},
        {"schedule", kernel.schedule},
        {"makes", kernel.makes},
        {"shape", kernel.shape},
        {"nodes", kernel.nodes},
        {"runs", kernel.runs},
        {"seconds", kernel.seconds},
        {"share_of_time", kernel.seconds / total},
        {"operations", kernel.cost.operations()},
        {"products", kernel.cost.products},
        {"bytes", kernel.cost.bytes},
        {"operations_per_second", rate},
        {"share_of_peak", rate / facts.peak},
        {"bytes_per_second", static_cast<double>(kernel.cost.bytes) * runs_a_second}};
    kernels.push_back(std::move(row));
  }
  ordered_json document = {
      {"format", "weir.profile/1"}, {"what", facts.what},
      {"target", facts.target},     {"threads", facts.threads},
      {"steps", facts.steps},       {"step_seconds", facts.step_seconds},
      {"kernel_seconds", total},    {"peak_operations_per_second", facts.peak}};
  if (facts.bandwidth > 0) document["memory_bytes_per_second"] = facts.bandwidth;
  document["kernels"] = std::move(kernels);
  return document.dump();
}

}  // namespace weir
