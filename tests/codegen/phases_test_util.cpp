#include "codegen/phases_test_util.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/buffer.h"
#include "runtime/threads.h"
#include "support/error.h"

namespace weir::test {
namespace {

template <typename T>
void write_as(const HostTensor& tensor, const GuardedBuffer& buffer) {
  std::transform(tensor.data.begin(), tensor.data.end(), buffer.as<T>().begin(),
                 [](double value) { return static_cast<T>(value); });
}
void write(const HostTensor& tensor, const GuardedBuffer& buffer) {
  if (tensor.type.dtype == DType::f32) return write_as<float>(tensor, buffer);
  if (tensor.type.dtype == DType::i32) return write_as<int32_t>(tensor, buffer);
  if (tensor.type.dtype == DType::u8) return write_as<uint8_t>(tensor, buffer);
  WEIR_CHECK(tensor.type.dtype == DType::i8, "{} in a test", to_string(tensor.type));
  write_as<int8_t>(tensor, buffer);
}

std::unique_ptr<GuardedBuffer> nan_buffer(int64_t bytes) {
  auto buffer = std::make_unique<GuardedBuffer>(static_cast<size_t>(bytes));
  std::memset(buffer->data(), 0xff, buffer->bytes());
  return buffer;
}

}  // namespace

PhasesRunner::PhasesRunner(GraphPtr region, KernelPhases phases, const Target& target)
    : region_(std::move(region)), phases_(std::move(phases)), jit_(target, {.threads = 1}) {
  std::vector<KernelSource> sources;
  for (size_t i = 0; i < phases_.codes.size(); ++i)
    sources.push_back({fmt::format("k{}", i), "",
                       [this, i](Emitter& e) { phases_.codes[i].emit(e, fmt::format("k{}", i)); }});
  jit_.add(sources);
}

namespace {

std::vector<unsigned char> bytes_of(const GuardedBuffer& buffer) {
  const auto* bytes = static_cast<const unsigned char*>(buffer.data());
  return {bytes, bytes + buffer.bytes()};
}

}  // namespace

Tensors PhasesRunner::operator()(const Tensors& inputs, int threads) const {
  std::vector<std::unique_ptr<GuardedBuffer>> buffers;
  for (int32_t id : region_->inputs()) {
    buffers.push_back(nan_buffer(region_->node(id).types[0].bytes()));
    write(inputs.at(region_->input_name(id)), *buffers.back());
  }
  std::vector<std::vector<unsigned char>> given;
  for (const auto& buffer : buffers) given.push_back(bytes_of(*buffer));
  for (const Output& output : region_->outputs())
    buffers.push_back(nan_buffer(region_->type(output.value).bytes()));
  if (phases_.workspace_bytes > 0) buffers.push_back(nan_buffer(phases_.workspace_bytes));

  const Workers workers(threads);
  for (const KernelRun& run : phases_.runs) {
    const KernelCode& code = phases_.codes[run.code];
    std::vector<void*> addresses;
    const size_t count = run.buffers.empty() ? buffers.size() : run.buffers.size();
    for (size_t i = 0; i < count; ++i) {
      const RunBuffer taken = run.buffers.empty() ? RunBuffer{static_cast<int>(i)} : run.buffers[i];
      addresses.push_back(static_cast<char*>(buffers[taken.buffer]->data()) + taken.offset);
    }
    std::vector<std::unique_ptr<GuardedBuffer>> scratch;
    for (int i = 0; i < threads; ++i) scratch.push_back(nan_buffer(code.scratch_bytes));
    std::vector<std::vector<unsigned char>> before;
    for (const auto& buffer : buffers) before.push_back(bytes_of(*buffer));
    const weir_kernel function = jit_.kernel(fmt::format("k{}", run.code));
    workers.parallel_tiles(code.tiles, [&](int64_t first, int64_t last, int worker) {
      function(addresses.data(), first, last, scratch[worker]->data());
    });
    for (const auto& buffer : scratch) EXPECT_FALSE(buffer->overrun());
    for (const RunBuffer& taken : run.buffers) {
      // What it says that it writes may have changed, and nothing else.
      const GuardedBuffer& buffer = *buffers[taken.buffer];
      const int64_t rest = static_cast<int64_t>(buffer.bytes()) - taken.offset;
      if (taken.written)
        std::memcpy(before[taken.buffer].data() + taken.offset,
                    static_cast<const char*>(buffer.data()) + taken.offset,
                    static_cast<size_t>(taken.bytes > 0 ? taken.bytes : rest));
    }
    for (size_t i = 0; i < buffers.size() && !run.buffers.empty(); ++i)
      EXPECT_TRUE(bytes_of(*buffers[i]) == before[i]) << "buffer " << i << " of " << code.key;
  }

  for (const auto& buffer : buffers) EXPECT_FALSE(buffer->overrun());
  for (size_t i = 0; i < given.size(); ++i)
    EXPECT_EQ(std::memcmp(buffers[i]->data(), given[i].data(), given[i].size()), 0)
        << "input " << i;
  Tensors outputs;
  for (size_t i = 0; i < region_->outputs().size(); ++i) {
    const Output& output = region_->outputs()[i];
    HostTensor& tensor = outputs[output.name];
    tensor = zeros(region_->type(output.value));
    std::copy_n(buffers[given.size() + i]->as<float>().begin(), tensor.data.size(),
                tensor.data.begin());
  }
  return outputs;
}

}  // namespace weir::test
