#include "engine/run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/pipeline.h"
#include "runtime/random.h"
#include "support/error.h"

namespace weir {
Executables compile(const GraphPtr& graph, const CompileOptions& options,
                    CompileSettings settings) {
  if (!graph) user_error("compile", "the graph is null. Make one with Builder::finish().");
  if (graph->outputs().empty() && options.probes.empty() &&
      std::none_of(graph->nodes().begin(), graph->nodes().end(),
                   [](const Node& node) { return node.op == Op::probe; }))
    user_error("compile",
               "graph {} returns nothing, so that there is nothing to compute. Name a result with "
               "Builder::output, or ask for a probe.",
               graph->name());
  CompileOptions whole = options;
  whole.stop = Stage::planned;
  settings.target = options.target;
  return Executables(run_pipeline(graph, whole).programs, settings);
}

void write(Session& session, const std::string& input, const HostTensor& value) {
  const Type& type = session.type(input);
  if (value.type != type)
    user_error("session", "input {} is {}, but the given tensor is {}", input, to_string(type),
               to_string(value.type));
  if (static_cast<int64_t>(value.data.size()) != type.elements())
    user_error("session", "input {} is {} of {} elements, but the given tensor has {} in its data",
               input, to_string(type), type.elements(), value.data.size());
  TensorView(value).copy_to(type.dtype, session.data(input));
}

HostTensor read(Session& session, const std::string& input) { return session.view(input).host(); }

Interpretation run(Session& session, const Tensors& inputs, size_t program) {
  for (const auto& [name, value] : inputs) write(session, name, value);
  const Executable& executable = session.programs()[program];
  Interpretation result;
  session.run(program, [&](int32_t index, const void* data) {
    const ProbeResult& probe = executable.probes[index];
    result.probes[probe.id] = TensorView(probe.type, data).host();
  });
  for (const Argument& output : executable.outputs)
    result.outputs[output.name] = session.output_view(program, output.name).host();
  return result;
}

HostTensor random_normal(const Type& type, double deviation, uint64_t seed, uint64_t stream) {
  HostTensor tensor = zeros(type);
  Random random(seed, stream);
  for (double& value : tensor.data) value = round_to(DType::f32, deviation * random.normal());
  return tensor;
}

double relative_difference(const HostTensor& a, const HostTensor& b) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.shape() != b.shape() || a.data.size() != b.data.size()) return kInfinity;
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.data.size(); ++i) {
    if (std::isnan(a.data[i]) || std::isnan(b.data[i])) return kInfinity;
    if (a.data[i] != b.data[i]) difference = std::max(difference, std::abs(a.data[i] - b.data[i]));
    largest = std::max(largest, std::abs(b.data[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

}  // namespace weir
