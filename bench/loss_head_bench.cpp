// The output projection with cross entropy and both gradients, as in llama-0.1b (vocabulary 50257,
// width 512): its share of the machine's peak, and where its time goes step by step. Three products
// count; the exponentials do not.
//   loss_head_bench [rounds] [threads] [tokens]
#include <fmt/format.h>

#include <cstdlib>
#include <map>

#include "bench/rounds.h"
#include "codegen/llvm/jit.h"
#include "codegen/loss_head/loss_head.h"
#include "ir/edit.h"
#include "runtime/buffer.h"
#include "runtime/machine_rates.h"
#include "runtime/random.h"
#include "runtime/threads.h"

namespace {

using namespace weir;
using namespace weir::bench;

constexpr int64_t kVocabulary = 50257, kWidth = 512;

GraphPtr region_of(int64_t tokens) {
  GraphEditor editor("region", Stage::lowered);
  std::vector<Value> inputs;
  for (const Type& type :
       {f32({tokens, kWidth}), f32({kVocabulary, kWidth}), i32({tokens}), f32({})})
    inputs.push_back(editor.input(fmt::format("in{}", inputs.size()), type));
  for (Value result : editor.add_node(Op::linear_cross_entropy_grad, inputs))
    editor.output(fmt::format("out{}", result.result), result);
  return editor.finish();
}

class LossHeadRun {
 public:
  LossHeadRun(int64_t tokens, int threads)
      : region_(region_of(tokens)),
        phases_(make_loss_head_kernel(region_, host_target())),
        jit_(host_target()),
        workers_(threads) {
    const auto add = [&](const Type& type) { buffers_.emplace_back(size_t(type.bytes())); };
    for (int32_t id : region_->inputs()) add(region_->node(id).types[0]);
    for (const Output& output : region_->outputs()) add(region_->type(output.value));
    buffers_.emplace_back(size_t(phases_.workspace_bytes));
    Random random(1, 1);
    for (int i : {0, 1}) {
      float* data = static_cast<float*>(buffers_[i].data());
      for (int64_t j = 0; j < region_->node(region_->inputs()[i]).types[0].elements(); ++j)
        data[j] = static_cast<float>(0.1 * random.normal());
    }
    int32_t* targets = static_cast<int32_t*>(buffers_[2].data());
    for (int64_t i = 0; i < tokens; ++i) targets[i] = static_cast<int32_t>(i * 7919 % kVocabulary);
    *static_cast<float*>(buffers_[3].data()) = 1.0f / static_cast<float>(tokens);
    int64_t scratch = 0;
    std::vector<KernelSource> sources;
    for (size_t i = 0; i < phases_.codes.size(); ++i) {
      const std::string name = fmt::format("step{}", i);
      sources.push_back(
          {name, "", [this, i, name](Emitter& e) { phases_.codes[i].emit(e, name); }});
      scratch = std::max(scratch, phases_.codes[i].scratch_bytes);
    }
    jit_.add(sources);
    for (int i = 0; i < threads; ++i) scratch_.emplace_back(size_t(scratch));
  }

  double run(std::map<std::string, double>& by_step) {
    double total = 0;
    for (const KernelRun& call : phases_.runs) {
      std::vector<void*> buffers;
      for (const RunBuffer& taken : call.buffers)
        buffers.push_back(static_cast<char*>(buffers_[taken.buffer].data()) + taken.offset);
      const KernelCode& code = phases_.codes[call.code];
      const weir_kernel kernel = jit_.kernel(fmt::format("step{}", call.code));
      const double seconds = wall_seconds([&] {
        workers_.parallel_tiles(
            code.tiles,
            [&](int64_t first, int64_t last, int worker) {
              kernel(buffers.data(), first, last, scratch_[worker].data());
            },
            1);
      });
      by_step[fmt::format("{} ({} tiles)", code.key, code.tiles)] += seconds;
      total += seconds;
    }
    return total;
  }
  const Workers& workers() const { return workers_; }

 private:
  GraphPtr region_;
  KernelPhases phases_;
  Jit jit_;
  Workers workers_;
  std::vector<Buffer> buffers_, scratch_;
};

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 7;
  const int threads = argc > 2 ? std::atoi(argv[2]) : host_target().cores;
  const int64_t tokens = argc > 3 ? std::atoi(argv[3]) : 2048;
  LossHeadRun head(tokens, threads);
  const double work = 6.0 * static_cast<double>(tokens * kVocabulary * kWidth);
  std::map<std::string, double> by_step;
  head.run(by_step);
  by_step.clear();
  double total = 0;
  const Rounds measured = measure_rounds(
      rounds,
      [&] { return mean_rate(0.1, [&] { return fma_rate(host_target(), head.workers()); }); },
      [&] {
        const double seconds = head.run(by_step);
        total += seconds;
        return work / seconds;
      });
  fmt::print("{} tokens, {} threads: {:.1f} % ({:.1f}) of {:.1f} Gflop/s, {:.1f} ms\n", tokens,
             threads, 100 * measured.median_share(), 100 * measured.best_share(),
             measured.best_peak() / 1e9, 1e3 * total / rounds);
  for (const auto& [step, seconds] : by_step)
    fmt::print("{:9.1f} ms {:5.1f} %  {}\n", 1e3 * seconds / rounds, 100 * seconds / total, step);
}
