#include "lab/report/profile_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "lab/report/page_text.h"
#include "runtime/machine_rates.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr size_t kTableRows = 30;

std::string kernel_table_html(const nlohmann::json& profile) {
  const double step = profile.at("step_seconds").get<double>();
  const double kernels = profile.at("kernel_seconds").get<double>();
  std::string text = fmt::format(
      "<p>{} steps, {} threads: {:.4g} s a step, {:.1f} % of it in kernels. Measured at the start: "
      "{:.0f} Gflop/s of fused multiply-adds, {:.1f} GB/s of memory.</p>",
      profile.at("steps").get<int64_t>(), profile.at("threads").get<int>(),
      step / profile.at("steps").get<double>(), 100 * kernels / step,
      profile.at("peak_operations_per_second").get<double>() / 1e9,
      profile.value("memory_bytes_per_second", 0.0) / 1e9);
  const std::vector<Cell> header = {{"kernel"},   {"makes", true}, {"share of time"}, {"runs"},
                                    {"ms a run"}, {"Gflop/s"},     {"share of peak"}, {"GB/s"}};
  std::vector<std::vector<Cell>> rows;
  for (const nlohmann::json& kernel : profile.at("kernels")) {
    if (rows.size() == kTableRows) break;
    const double runs = kernel.at("runs").get<double>();
    rows.push_back({{fmt::format("<span title=\"{}\">{}</span>",
                                 escaped(kernel.at("kernel").get<std::string>()),
                                 escaped(kernel.at("schedule").get<std::string>()))},
                    {fmt::format("{} {}", escaped(kernel.at("makes").get<std::string>()),
                                 escaped(kernel.at("shape").get<std::string>())),
                     true},
                    {fmt::format("{:.1f} %", 100 * kernel.at("share_of_time").get<double>())},
                    {fmt::format("{:.0f}", runs)},
                    {fmt::format("{:.4g}", 1e3 * kernel.at("seconds").get<double>() / runs)},
                    {fmt::format("{:.1f}", kernel.at("operations_per_second").get<double>() / 1e9)},
                    {fmt::format("{:.1f} %", 100 * kernel.at("share_of_peak").get<double>())},
                    {fmt::format("{:.1f}", kernel.at("bytes_per_second").get<double>() / 1e9)}});
  }
  return text + "<div class=\"scroll\">" + number_table(header, rows) +
         "</div><div class=\"definition\"><p>Kernels of one structure are one row. "
         "Operations and bytes are those that a kernel cannot do without: scores that attention "
         "computes again do not count, every operand counts once. What is in the caches moves "
         "faster "
         "than memory.</p></div>";
}

}  // namespace

ProfileFacts measured_facts(const Target& target, int threads) {
  ProfileFacts facts;
  facts.target = print(target);
  facts.threads = threads;
  facts.peak = peak_flops(target, threads);
  facts.bandwidth = memory_bandwidth(target, threads).bytes_per_second;
  return facts;
}

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

std::string profile_lines(const nlohmann::json& profile, size_t rows) {
  std::string text = fmt::format("{:>8} {:>10} {:>6} {:>7} {:>7}  {}\n", "time", "ms", "runs",
                                 "peak", "GB/s", "kernel");
  size_t shown = 0;
  for (const nlohmann::json& kernel : profile.at("kernels")) {
    if (++shown > rows) break;
    text += fmt::format(
        "{:6.2f} % {:10.3f} {:6} {:5.1f} % {:7.2f}  {} {} {}\n",
        100 * kernel.at("share_of_time").get<double>(), 1e3 * kernel.at("seconds").get<double>(),
        kernel.at("runs").get<int64_t>(), 100 * kernel.at("share_of_peak").get<double>(),
        kernel.at("bytes_per_second").get<double>() / 1e9, kernel.at("schedule").get<std::string>(),
        kernel.at("shape").get<std::string>(), kernel.at("makes").get<std::string>());
  }
  return text;
}

std::string profile_table(const nlohmann::json& profile) {
  try {
    return kernel_table_html(profile);
  } catch (const nlohmann::json::exception& error) {
    user_error("report", "a profile.json of the run is damaged: {}.", error.what());
  }
}

}  // namespace weir
