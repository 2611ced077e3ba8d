#include "engine/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/alias.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// A structure's symbol without the number of a phase: "matmul_0123456789abcdef".
std::string structure_of(const std::string& symbol, const std::string& schedule) {
  constexpr size_t kHashDigits = 16;
  return symbol.substr(0, schedule.size() + 1 + kHashDigits);
}

// Names by the value that holds the bytes: what a reshape is called, its operand is, too. Outputs
// count where there is no hook name.
std::map<Value, std::string> labels_of(const Graph& graph) {
  std::map<Value, std::string> labels;
  for (const auto& [name, value] : graph.names())
    labels.try_emplace(strip_reshapes(graph, value), without_numbers(name));
  for (const Output& output : graph.outputs())
    labels.try_emplace(strip_reshapes(graph, output.value), without_numbers(output.name));
  return labels;
}

std::string label_of(const Graph& graph, const std::map<Value, std::string>& labels, int32_t id) {
  const Node& node = graph.node(id);
  for (size_t r = 0; r < node.types.size(); ++r) {
    const auto found = labels.find({id, static_cast<int32_t>(r)});
    if (found != labels.end()) return found->second;
  }
  for (Value input : node.inputs)
    if (const Node& source = graph.node(strip_reshapes(graph, input));
        source.op == Op::input && source.attrs.get_bool("state"))
      return "from " + without_numbers(source.attrs.get_string("name"));
  return "";
}

std::string some_of(const std::set<std::string>& names) {
  constexpr size_t kShown = 3;
  std::vector<std::string> shown(names.begin(), names.end());
  if (shown.size() > kShown) {
    const size_t more = shown.size() - kShown;
    shown.resize(kShown);
    shown.push_back(fmt::format("{} more", more));
  }
  return join(shown, ", ");
}

}  // namespace

std::string without_numbers(const std::string& name) {
  std::vector<std::string> parts = split(name, '.');
  for (std::string& part : parts)
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) part = "*";
  return join(parts, ".");
}

KernelProfile::KernelProfile(const Executables& programs) {
  std::map<std::string, size_t> positions;
  std::vector<std::set<std::string>> makes;
  for (size_t p = 0; p < programs.size(); ++p) {
    const Executable& program = programs[p];
    const Graph& graph = *program.graph;
    const std::map<Value, std::string> labels = labels_of(graph);
    int32_t last = -1;
    WEIR_CHECK(program.call_nodes.size() == program.code.kernels.size(),
               "{} calls of {} kernel nodes", program.code.kernels.size(),
               program.call_nodes.size());
    for (size_t i = 0; i < program.code.kernels.size(); ++i) {
      const KernelCall& call = program.code.kernels[i];
      const int32_t id = program.call_nodes[i];
      const Node& node = graph.node(id);
      const std::string& schedule = node.attrs.get_string("schedule");
      const std::string symbol = structure_of(call.name, schedule);
      const auto [position, inserted] = positions.try_emplace(symbol, kernels_.size());
      if (inserted) {
        kernels_.push_back({.symbol = symbol,
                            .schedule = schedule,
                            .shape = to_string(node.types[0]),
                            .cost = kernel_cost(node)});
        makes.emplace_back();
      }
      const bool is_first = id != last;
      last = id;
      calls_[&call] = {position->second, is_first};
      if (!is_first) continue;
      kernels_[position->second].nodes += 1;
      const std::string label = label_of(graph, labels, id);
      if (!label.empty()) makes[position->second].insert(label);
    }
  }
  for (size_t k = 0; k < kernels_.size(); ++k) kernels_[k].makes = some_of(makes[k]);
}

ProfileSink KernelProfile::sink() {
  return [this](const KernelCall& called, double seconds) {
    const Call& call = calls_.at(&called);
    kernels_[call.kernel].seconds += seconds;
    kernels_[call.kernel].runs += call.is_first;
  };
}

std::vector<KernelTime> KernelProfile::times() const {
  std::vector<KernelTime> times;
  for (const KernelTime& kernel : kernels_)
    if (kernel.runs > 0) times.push_back(kernel);
  std::ranges::stable_sort(times, std::ranges::greater(), &KernelTime::seconds);
  return times;
}

}  // namespace weir
