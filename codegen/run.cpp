#include "codegen/run.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "passes/pipeline.h"
#include "runtime/random.h"
#include "support/error.h"

namespace weir {
namespace {

template <typename T>
void put(char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

template <typename T>
T get(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void store(DType dtype, double given, char* at) {
  double value = round_to(dtype, given);
  switch (dtype) {
    case DType::f64:
      return put(at, value);
    case DType::f32:
      return put(at, static_cast<float>(value));
    case DType::bf16:  // the upper half of a float
      return put(at,
                 static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
    case DType::f16:
      return put(at, static_cast<_Float16>(value));
    case DType::i32:
      return put(at, static_cast<int32_t>(value));
    case DType::i8:
      return put(at, static_cast<int8_t>(value));
    case DType::u8:
    case DType::boolean:
      return put(at, static_cast<uint8_t>(value));
  }
}

double load(DType dtype, const char* at) {
  switch (dtype) {
    case DType::f64:
      return get<double>(at);
    case DType::f32:
      return get<float>(at);
    case DType::bf16:
      return std::bit_cast<float>(static_cast<uint32_t>(get<uint16_t>(at)) << 16);
    case DType::f16:
      return get<_Float16>(at);
    case DType::i32:
      return get<int32_t>(at);
    case DType::i8:
      return get<int8_t>(at);
    case DType::u8:
    case DType::boolean:
      return get<uint8_t>(at);
  }
  return 0;
}

HostTensor tensor_at(const Type& type, const void* data) {
  HostTensor tensor = zeros(type);
  const char* at = static_cast<const char*>(data);
  for (double& value : tensor.data) {
    value = load(type.dtype, at);
    at += dtype_size(type.dtype);
  }
  return tensor;
}

}  // namespace

Executables compile(const GraphPtr& graph, const CompileOptions& options,
                    CompileSettings settings) {
  CompileOptions whole = options;
  whole.stop = Stage::planned;
  settings.target = options.target;
  return Executables({run_pipeline(graph, whole).graph}, settings);
}

void write(Session& session, const std::string& input, const HostTensor& value) {
  const Type& type = session.type(input);
  if (value.type != type)
    user_error("session", "input {} is {}, but the given tensor is {}", input, to_string(type),
               to_string(value.type));
  char* at = static_cast<char*>(session.data(input));
  for (double x : value.data) {
    store(type.dtype, x, at);
    at += dtype_size(type.dtype);
  }
}

HostTensor read(Session& session, const std::string& input) {
  return tensor_at(session.type(input), session.data(input));
}

Interpretation run(Session& session, const Tensors& inputs, size_t program) {
  for (const auto& [name, value] : inputs) write(session, name, value);
  const Executable& executable = session.programs()[program];
  Interpretation result;
  session.run(program, [&](int32_t index, const void* data) {
    const ProbeResult& probe = executable.probes[index];
    result.probes[probe.id] = tensor_at(probe.type, data);
  });
  for (const Argument& output : executable.outputs)
    result.outputs[output.name] = tensor_at(output.type, session.output(program, output.name));
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
  if (a.shape() != b.shape()) return kInfinity;
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.data.size(); ++i) {
    if (std::isnan(a.data[i]) || std::isnan(b.data[i])) return kInfinity;
    if (a.data[i] != b.data[i]) difference = std::max(difference, std::abs(a.data[i] - b.data[i]));
    largest = std::max(largest, std::abs(b.data[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

}  // namespace weir
