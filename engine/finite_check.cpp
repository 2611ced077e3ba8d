#include "engine/finite_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "ir/alias.h"
#include "ir/hook_name.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// Elements that one worker looks at in one go, and blocks that are looked at sooner than other
// workers are woken up for them.
constexpr int64_t kBlock = 1 << 15, kFewBlocks = 4;

// Code for several processors, of which the one at hand is taken when the program starts; GCC makes
// vectors of such a loop from -O3 on.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WEIR_VECTORIZED __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define WEIR_VECTORIZED
#endif

// Whether no exponent is all ones. Without a branch, so that the compiler can make vectors of it.
WEIR_VECTORIZED bool all_finite(const float* x, int64_t count) {
  uint32_t carries = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, x + i, sizeof(bits));
    carries |= (bits & 0x7f800000U) + 0x00800000U;
  }
  return (carries & 0x80000000U) == 0;
}

bool is_looked_at(const Type& type) { return is_float(type.dtype); }

bool all_finite(const Type& type, const void* data, const Workers& workers) {
  if (type.dtype != DType::f32) {
    bool finite = true;
    TensorView(type, data).floats([&](auto elements) {
      finite =
          std::all_of(elements.begin(), elements.end(), [](auto x) { return std::isfinite(x); });
    });
    return finite;
  }
  const auto* x = static_cast<const float*>(data);
  const int64_t count = type.elements(), blocks = (count + kBlock - 1) / kBlock;
  std::atomic<bool> finite = true;
  const auto look = [&](int64_t first, int64_t last, int) {
    const int64_t begin = first * kBlock, end = std::min(last * kBlock, count);
    if (!all_finite(x + begin, end - begin)) finite = false;
  };
  if (blocks <= kFewBlocks)
    look(0, blocks, 0);
  else
    workers.parallel_tiles(blocks, look);
  return finite;
}

// The name of a value, if it has one: of several one with a layer, of those the shortest.
std::map<Value, std::string> names_of(const Graph& graph) {
  std::map<Value, std::string> names;
  for (const auto& [name, value] : graph.names()) {
    std::string& known = names[strip_reshapes(graph, value)];
    const auto rank = [](const std::string& text) {
      return std::pair(!block_of(text), text.size());
    };
    if (known.empty() || rank(name) < rank(known)) known = name;
  }
  for (const Output& output : graph.outputs())
    names.try_emplace(strip_reshapes(graph, output.value), output.name);
  return names;
}

// The nearest named value that a node is made from, going back breadth first.
std::string nearest_name(const Graph& graph, const std::map<Value, std::string>& names,
                         int32_t id) {
  std::set<int32_t> seen = {id};
  std::vector<int32_t> nodes = {id};
  for (size_t i = 0; i < nodes.size(); ++i)
    for (Value input : graph.node(nodes[i]).inputs) {
      input = strip_reshapes(graph, input);
      if (const auto found = names.find(input); found != names.end()) return found->second;
      if (seen.insert(input.node).second) nodes.push_back(input.node);
    }
  return "";
}

bool makes_infinities(const Graph& region) {
  return std::any_of(region.nodes().begin(), region.nodes().end(), [](const Node& node) {
    return node.op == Op::constant && std::isinf(node.attrs.get_float("value"));
  });
}

}  // namespace

FiniteCheck::FiniteCheck(const Executables& programs, int64_t rows)
    : programs_(programs), rows_(rows) {
  for (size_t p = 0; p < programs.size(); ++p) {
    const Executable& program = programs[p];
    for (size_t i = 0; i < program.code.kernels.size(); ++i) {
      const KernelCall& call = program.code.kernels[i];
      if (i == 0) first_calls_[&call] = p;
      const int32_t id = program.call_nodes[i];
      // Results are complete behind the last call of their node.
      if (i + 1 < program.code.kernels.size() && program.call_nodes[i + 1] == id) continue;
      const Node& node = program.graph->node(id);
      calls_[&call] = {p, id, makes_infinities(*node.region)};
    }
  }
}

void FiniteCheck::clear() {
  first_.reset();
  runs_.clear();
}

KernelSink FiniteCheck::sink() {
  return [this](const KernelCall& call, const Memory& memory) { look(call, memory); };
}

void FiniteCheck::look(const KernelCall& kernel, const Memory& memory) {
  if (const auto start = first_calls_.find(&kernel); start != first_calls_.end())
    ++runs_[start->second];
  if (first_) return;
  const auto found = calls_.find(&kernel);
  if (found == calls_.end()) return;
  const Call& call = found->second;
  const Node& node = programs_[call.program].graph->node(call.node);
  for (size_t r = 0; r < node.types.size(); ++r) {
    const Value result{call.node, static_cast<int32_t>(r)};
    const void* data = address_of(place_of(*programs_[call.program].graph, result), memory.inputs,
                                  memory.workspace);
    if (!is_looked_at(node.types[r]) || all_finite(node.types[r], data, memory.workers)) continue;
    NotFinite description = describe(call, result, kernel, memory);
    if (description.count == 0) continue;
    first_ = std::move(description);
    return;
  }
}

NotFinite FiniteCheck::describe(const Call& call, Value result, const KernelCall& kernel,
                                const Memory& memory) const {
  const Graph& graph = *programs_[call.program].graph;
  const Node& node = graph.node(call.node);
  const auto data_of = [&](Value value) {
    return address_of(place_of(graph, value), memory.inputs, memory.workspace);
  };
  const auto names = names_of(graph);
  NotFinite found;
  found.kernel = kernel.name;
  found.type = graph.type(result);
  if (const auto name = names.find(result); name != names.end()) found.value = name->second;
  found.near = nearest_name(graph, names, call.node);
  found.layer = block_of(found.value.empty() ? found.near : found.value).value_or(-1);
  const Node& made =
      node.region->node(node.region->outputs()[static_cast<size_t>(result.result)].value);
  found.op = op_name(made.op);
  found.where = made.where;

  int64_t at = -1, position = 0;
  TensorView(found.type, data_of(result)).floats([&](auto elements) {
    for (auto x : elements) {
      const bool hidden = call.hides_infinities && std::isinf(x) && x < 0;
      if (!std::isfinite(x) && !hidden) {
        if (at < 0) at = position, found.element = static_cast<double>(x);
        ++found.count;
      }
      ++position;
    }
  });
  if (found.count == 0) return found;
  const Shape& shape = found.type.shape;
  found.index.resize(shape.size());
  int64_t rest = at;
  for (size_t axis = shape.size(); axis-- > 0;) {
    found.index[axis] = rest % shape[axis];
    rest /= shape[axis];
  }
  // Axes of the batch: [B,T,...], or both as one, [B T,...].
  if (const auto tokens = graph.find_input("tokens")) {
    const Shape& ids = graph.type(*tokens).shape;
    if (ids.size() == 2 && !shape.empty()) {
      const int64_t before =
          rows_ > 0 && runs_.contains(call.program) ? rows_ * (runs_.at(call.program) - 1) : 0;
      if (shape.size() >= 2 && shape[0] == ids[0] && shape[1] == ids[1]) {
        found.sequence = before + found.index[0];
        found.token = found.index[1];
      } else if (shape[0] == ids[0] * ids[1] && ids[0] * ids[1] > 1) {
        found.sequence = before + found.index[0] / ids[1];
        found.token = found.index[0] % ids[1];
      } else if (shape[0] == ids[0] && shape.size() >= 3) {  // [B,heads,...,T] of attention
        found.sequence = before + found.index[0];
        if (shape.back() == ids[1]) found.token = found.index.back();
      }
    }
  }
  std::set<const void*> written;  // an operand that a result lies over is gone
  for (size_t r = 0; r < node.types.size(); ++r)
    written.insert(data_of({call.node, static_cast<int32_t>(r)}));
  for (Value input : node.inputs) {
    const Type& type = graph.type(input);
    const void* data = data_of(input);
    if (!is_looked_at(type) || written.contains(data)) continue;
    bool finite = true;
    TensorView(type, data).floats([&](auto elements) {
      for (auto x : elements) {
        if (std::isfinite(x))
          found.largest_before = std::max(found.largest_before, std::abs(static_cast<double>(x)));
        else
          finite = false;
      }
    });
    const Value operand = strip_reshapes(graph, input);
    if (!finite && graph.is_input(operand))
      found.operands.push_back(graph.input_name(operand.node));
  }
  return found;
}

std::string to_string(const NotFinite& found) {
  std::vector<std::string> index;
  for (int64_t i : found.index) index.push_back(fmt::format("{}", i));
  std::string text = "first not finite is ";
  text += found.value.empty() ? fmt::format("a result of {}", found.op)
                              : fmt::format("{} (by {})", found.value, found.op);
  if (!found.where.empty()) text += fmt::format(", built at {}", found.where);
  if (found.value.empty() && !found.near.empty()) text += fmt::format(", behind {}", found.near);
  text += fmt::format(": {} at [{}] of {}",
                      std::isnan(found.element) ? "nan"
                      : found.element > 0       ? "inf"
                                                : "-inf",
                      join(index, ","), weir::to_string(found.type));
  std::vector<std::string> place;
  if (found.layer >= 0) place.push_back(fmt::format("layer {}", found.layer));
  if (found.sequence >= 0) place.push_back(fmt::format("sequence {}", found.sequence));
  if (found.token >= 0) place.push_back(fmt::format("token {}", found.token));
  if (!place.empty()) text += " (" + join(place, ", ") + ")";
  text += fmt::format(", {} of {} elements; kernel {}; largest magnitude of what it reads {:.4g}",
                      found.count, found.type.elements(), found.kernel, found.largest_before);
  if (!found.operands.empty())
    text += fmt::format("; not finite itself is {}", join(found.operands, ", "));
  return text;
}

}  // namespace weir
