// What elementwise work costs in the epilogue of a matrix product, beside the product alone and the
// same work as a loop over memory, all on one thread by its processor time in the same rounds; the
// best round of each counts.
//   epilogue_bench [target] [rounds]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "bench/rounds.h"
#include "codegen/llvm/emitter.h"
#include "codegen/llvm/jit.h"
#include "codegen/loop/kernel.h"
#include "codegen/matmul/kernel.h"
#include "ir/builder.h"
#include "passes/decompose.h"
#include "passes/lower.h"
#include "passes/simplify.h"
#include "runtime/buffer.h"

namespace {

using namespace weir;
using bench::own_seconds;

/// One kernel node with memory of its own.
class Node {
 public:
  Node(Jit& jit, const GraphPtr& region, KernelPhases phases, const std::string& symbol)
      : phases_(std::move(phases)) {
    const auto add = [&](int64_t bytes) {
      owned_.emplace_back(bytes);
      for (float& value : owned_.back().as<float>()) value = 0.01f;
    };
    for (int32_t id : region->inputs()) add(region->node(id).types[0].bytes());
    for (const Output& output : region->outputs()) add(region->type(output.value).bytes());
    if (phases_.workspace_bytes > 0) add(phases_.workspace_bytes);
    int64_t scratch = 64;
    std::vector<std::string> symbols;
    for (const KernelCode& code : phases_.codes) {
      symbols.push_back(fmt::format("{}_{}", symbol, symbols.size()));
      jit.add({{symbols.back(), "", [&](Emitter& e) { code.emit(e, symbols.back()); }}});
      kernels_.push_back(jit.kernel(symbols.back()));
      scratch = std::max(scratch, code.scratch_bytes);
    }
    scratch_ = Buffer(scratch);
  }

  void run() {
    for (const KernelRun& run : phases_.runs) {
      std::vector<void*> buffers;
      if (run.buffers.empty())
        for (Buffer& buffer : owned_) buffers.push_back(buffer.data());
      for (const RunBuffer& taken : run.buffers) buffers.push_back(owned_[taken.buffer].data());
      const KernelCode& code = phases_.codes[run.code];
      kernels_[run.code](buffers.data(), 0, code.tiles, scratch_.data());
    }
  }

  double best = 1e30;

 private:
  KernelPhases phases_;
  std::vector<weir_kernel> kernels_;
  std::vector<Buffer> owned_;
  Buffer scratch_;
};

/// Outputs that are computed from a product and two more operands of its shape.
using Work = std::function<std::vector<Tensor>(const Tensor&, const Tensor&, const Tensor&)>;

struct Shapes {
  int64_t m, n, k;
};

GraphPtr region(const Target& target, const Shapes& s, const Work& work, bool multiplies) {
  Builder b("region");
  const Shape shape = {s.m, s.n};
  Tensor x, w, product, u, v;
  if (multiplies)
    x = b.input("x", f32({s.m, s.k})), w = b.input("w", f32({s.n, s.k}));
  else
    product = b.input("product", f32(shape));
  if (work) u = b.input("u", f32(shape)), v = b.input("v", f32(shape));
  if (multiplies) product = linear(x, w);
  const std::vector<Tensor> outputs = work ? work(product, u, v) : std::vector<Tensor>{product};
  for (size_t i = 0; i < outputs.size(); ++i) b.output(fmt::format("o{}", i), outputs[i]);
  return lower(simplify(decompose(with_stage(b.finish(), Stage::instrumented), DecomposeMode::all)),
               target);
}

void measure(const Target& target, int rounds, const Shapes& s) {
  const std::vector<std::pair<std::string, Work>> cases = {
      {"residual",
       [](const Tensor& p, const Tensor& u, const Tensor&) { return std::vector<Tensor>{p + u}; }},
      {"swiglu", [](const Tensor& p, const Tensor& u,
                    const Tensor&) { return std::vector<Tensor>{p, swiglu(p, u)}; }},
      {"swiglu gradient",
       [](const Tensor& p, const Tensor& u, const Tensor& v) {
         Tensor open = weir::sigmoid(u);
         return std::vector<Tensor>{p * u * open, p * v * (open + u * open * (1.0 - open))};
       }},
  };
  Jit jit(target);
  const GraphPtr alone = region(target, s, nullptr, true);
  Node product(jit, alone, make_matmul_kernel(alone, target), "product");
  std::vector<std::pair<Node, Node>> nodes;
  for (size_t i = 0; i < cases.size(); ++i) {
    const GraphPtr fused = region(target, s, cases[i].second, true);
    const GraphPtr loop = region(target, s, cases[i].second, false);
    nodes.emplace_back(
        Node(jit, fused, make_matmul_kernel(fused, target), fmt::format("fused{}", i)),
        Node(jit, loop, make_loop_kernel(loop, Schedule::elementwise, target),
             fmt::format("loop{}", i)));
  }
  const auto read = [](Node& node) {
    node.best = std::min(node.best, own_seconds([&] { node.run(); }));
  };
  for (int round = 0; round < rounds; ++round) {
    read(product);
    for (auto& [fused, loop] : nodes) read(fused), read(loop);
  }
  fmt::print("{:24} {:>9} {:>9} {:>9} {:>9}\n", fmt::format("{} x {} x {}", s.m, s.n, s.k), "ms",
             "more", "loop", "of loop");
  fmt::print("{:24} {:9.3f}\n", "product alone", 1e3 * product.best);
  for (size_t i = 0; i < cases.size(); ++i) {
    const double more = nodes[i].first.best - product.best, loop = nodes[i].second.best;
    fmt::print("{:24} {:9.3f} {:9.3f} {:9.3f} {:8.0f}%\n", cases[i].first,
               1e3 * nodes[i].first.best, 1e3 * more, 1e3 * loop, 100 * more / loop);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Target target = parse_target(argc > 1 ? argv[1] : "host");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20;
  fmt::print("{}\n", print(target));
  for (const Shapes& shapes : {Shapes{4096, 320, 128}, {1024, 1536, 576}, {4096, 1408, 512}})
    measure(target, rounds, shapes);
}
