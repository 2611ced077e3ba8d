#include "codegen/loop/loop_test_util.h"

#include <cstring>
#include <limits>

#include "interpret/tensor_view.h"
#include "ir/print.h"
#include "passes/decompose.h"
#include "passes/lower.h"
#include "passes/simplify.h"
#include "runtime/buffer.h"
#include "support/error.h"

namespace weir::test {
namespace {

void fill_nan(void* data, size_t bytes) { std::memset(data, 0xff, bytes); }

}  // namespace

std::vector<Target> loop_targets() {
  std::vector<Target> targets;
  for (const char* name : {"x86-64-v3", "x86-64-v4"})
    if (runs_here(parse_target(name))) targets.push_back(parse_target(name));
  return targets;
}

LoopRunner::LoopRunner(GraphPtr region, const std::string& schedule, const Target& target,
                       LoopRunOptions options)
    : region_(std::move(region)),
      options_(std::move(options)),
      code_(make_loop_kernel(region_, expect(parse_schedule(schedule)), target, options_.in_place)),
      jit_(target, {.threads = 1, .optimised = options_.optimised}) {
  jit_.add({{"k", "", [this](Emitter& e) { code_.emit(e, "k"); }}});
}

Tensors LoopRunner::operator()(const Tensors& inputs) const {
  std::vector<std::unique_ptr<GuardedBuffer>> owned;
  std::vector<GuardedBuffer*> buffers;
  auto add = [&](const Type& type) {
    owned.push_back(std::make_unique<GuardedBuffer>(type.bytes()));
    fill_nan(owned.back()->data(), owned.back()->bytes());
    buffers.push_back(owned.back().get());
  };
  for (int32_t id : region_->inputs()) {
    const HostTensor& tensor = inputs.at(region_->input_name(id));
    add(tensor.type);
    TensorView(tensor).copy_to(tensor.type.dtype, buffers.back()->data());
  }
  const size_t count = region_->inputs().size();
  for (size_t i = 0; i < region_->outputs().size(); ++i) {
    const InPlace* shared = nullptr;
    for (const InPlace& pair : options_.in_place)
      if (pair.output == static_cast<int>(i)) shared = &pair;
    if (shared)
      buffers.push_back(buffers[shared->input]);
    else
      add(region_->type(region_->outputs()[i].value));
  }
  std::vector<void*> addresses;
  for (GuardedBuffer* buffer : buffers) addresses.push_back(buffer->data());
  Buffer scratch(std::max<int64_t>(64, code_.scratch_bytes));
  fill_nan(scratch.data(), scratch.bytes());
  const int64_t split = options_.split ? options_.split : code_.tiles;
  for (int64_t first = (code_.tiles - 1) / split * split; first >= 0; first -= split)
    jit_.kernel("k")(addresses.data(), first, std::min(code_.tiles, first + split), scratch.data());
  Tensors outputs;
  for (size_t i = 0; i < region_->outputs().size(); ++i) {
    const Output& output = region_->outputs()[i];
    outputs[output.name] =
        TensorView(region_->type(output.value), buffers[count + i]->data()).host();
  }
  for (const auto& buffer : owned) EXPECT_FALSE(buffer->overrun());
  for (size_t i = 0; i < count; ++i) {
    bool overwritten = false;
    for (const InPlace& pair : options_.in_place) overwritten |= pair.input == static_cast<int>(i);
    const HostTensor& given = inputs.at(region_->input_name(region_->inputs()[i]));
    if (!overwritten) {
      EXPECT_EQ(
          difference(TensorView(given.type, buffers[i]->data()).host(), given, {.relative = 0}),
          "");
    }
  }
  return outputs;
}

GraphPtr lowered(const GraphPtr& graph, int64_t vector_lanes) {
  Target target = parse_target("x86-64-v4");
  target.vector_bytes = static_cast<int>(vector_lanes) * 4;
  return lower(simplify(decompose(with_stage(graph, Stage::instrumented), DecomposeMode::all)),
               target);
}

void check_region(const GraphPtr& region, const std::string& schedule, Tolerance tolerance,
                  double low, double high, uint64_t seed) {
  const Tensors inputs = random_inputs(*region, seed, low, high);
  const Tensors expected = interpret(*region, inputs);
  for (const Target& target : loop_targets()) {
    LoopRunner run(region, schedule, target);
    const Tensors actual = run(inputs);
    EXPECT_TRUE(close(actual, expected, tolerance))
        << "on " << target.name << ", " << schedule << " of\n"
        << print_graph(*region);
  }
}

}  // namespace weir::test
