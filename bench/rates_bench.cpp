// The machine's rates, one thread and all: fused multiply-adds in registers, and memory.
//   rates_bench [readings]
//   rates_bench serve       one reading a line of stdin, for bench/run: "peak" leaves memory out
#include <fmt/format.h>

#include <cstdlib>

#include "bench/rounds.h"
#include "runtime/machine_rates.h"

namespace {

using namespace weir;
using namespace weir::bench;

nlohmann::json reading(MemoryStream& stream, const std::vector<int>& threads,
                       bool with_memory = true) {
  nlohmann::json rates = nlohmann::json::array();
  for (int count : threads) {
    const Workers workers(count);
    std::vector<double> peaks;
    for (int i = 0; i < 9; ++i) peaks.push_back(fma_rate(host_target(), workers));
    rates.push_back({{"threads", count}, {"operations_per_second", median(peaks)}});
    if (with_memory) rates.back()["bytes_per_second"] = stream.rate(workers);
  }
  return rates;
}

}  // namespace

int main(int argc, char** argv) {
  MemoryStream stream(host_target());
  std::vector<int> threads = {1};
  if (host_target().cores > 1) threads.push_back(host_target().cores);
  if (argc > 1 && std::string(argv[1]) == "serve") {
    say({{"ready", true},
         {"target", print(host_target())},
         {"brand", host_target().brand},
         {"threads", threads}});
    serve([&](const std::vector<std::string>& words) {
      return reading(stream, threads, words.at(0) != "peak");
    });
    return 0;
  }
  const int readings = argc > 1 ? std::atoi(argv[1]) : 10;
  fmt::print("{}\n", print(host_target()));
  for (int i = 0; i < readings; ++i) {
    for (const auto& rate : reading(stream, threads))
      fmt::print("{} threads: {:6.1f} Gflop/s {:6.1f} GB/s   ", rate.at("threads").get<int>(),
                 rate.at("operations_per_second").get<double>() / 1e9,
                 rate.at("bytes_per_second").get<double>() / 1e9);
    fmt::print("\n");
  }
}
