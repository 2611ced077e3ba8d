// Memory traffic of fused loops as a share of a plain copy of as many bytes, measured in the same
// rounds on one thread, by its processor time; the best round of each counts. Traffic is what the
// region's inputs and outputs hold, each once.
//   loop_bench [target] [rounds]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "bench/rounds.h"
#include "codegen/llvm/emitter.h"
#include "codegen/llvm/jit.h"
#include "codegen/loop/kernel.h"
#include "ir/builder.h"
#include "passes/decompose.h"
#include "passes/lower.h"
#include "passes/simplify.h"
#include "runtime/buffer.h"
#include "support/error.h"

namespace {

using namespace weir;
using bench::own_seconds;

struct Case {
  std::string what, schedule;
  GraphPtr region;
  std::vector<InPlace> in_place = {};
};

GraphPtr finish(Builder& b, const Target& target) {
  return lower(simplify(decompose(with_stage(b.finish(), Stage::instrumented), DecomposeMode::all)),
               target);
}

Case adamw_case(const Target& target, int64_t n) {
  Builder b("adamw");
  std::vector<Tensor> in;
  for (const char* name : {"p", "g", "m", "v"}) in.push_back(b.input(name, f32({n})));
  for (const char* name : {"rate", "c1", "c2", "factor"}) in.push_back(b.input(name, f32({})));
  auto out =
      b.add(Op::adamw, in, {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"weight_decay", 0.1}},
            Where::current());
  for (size_t i = 0; i < 3; ++i) b.output(fmt::format("o{}", i), out[i]);
  return {"AdamW in place", "elementwise", finish(b, target), {{0, 0}, {2, 1}, {3, 2}}};
}

/// One output of a single expression on x and y of `shape` and a weight of its last axis.
template <typename F>
Case one(const Target& target, const char* what, const char* schedule, Shape shape, const F& f) {
  Builder b("region");
  Tensor x = b.input("x", f32(shape)), y = b.input("y", f32(shape));
  Tensor w = b.input("w", f32({shape.back()}));
  b.output("out", f(x, y, w));
  return {fmt::format("{} {}", what, to_string(shape)), schedule, finish(b, target)};
}

std::vector<Case> cases(const Target& target, int64_t rows, int64_t width) {
  using T = const Tensor&;
  const Shape shape = {rows, width};
  std::vector<Case> list;
  list.push_back(adamw_case(target, rows * width));
  auto add_case = [&](const char* what, const char* schedule, Shape s, auto f) {
    list.push_back(one(target, what, schedule, std::move(s), f));
  };
  add_case("add", "elementwise", shape, [](T x, T y, T) { return x + y; });
  add_case("swiglu", "elementwise", shape, [](T x, T y, T) { return swiglu(x, y); });
  add_case("transpose", "elementwise", shape, [](T x, T, T) { return transpose(x, {1, 0}); });
  add_case("rope", "elementwise", {rows / 64, 64, width / 64, 64},
           [](T x, T, T) { return rope(x, 1e4); });
  add_case("rms_norm", "row", shape, [](T x, T, T w) { return rms_norm(x, w, 1e-5); });
  add_case("residual + rms_norm", "row", shape,
           [](T x, T y, T w) { return rms_norm(x + y, w, 1e-5); });
  add_case("rms_norm gradient", "row", shape, [](T x, T y, T w) {
    Tensor scale = weir::rsqrt(reduce_mean(x * x, {1}) + 1e-5);
    Tensor weighted = y * w;
    return scale * (weighted - x * (reduce_mean(weighted * x, {1}) * scale * scale));
  });
  add_case("softmax", "row", shape, [](T x, T, T) { return softmax(x); });
  add_case("v_scale", "row", {rows, width / 64, 64},
           [](T x, T, T) { return v_scale(x, 0.5, "full"); });
  add_case("gain gradient", "column", shape, [](T x, T y, T) { return reduce_sum(x * y, {0}); });
  return list;
}

struct Compiled {
  Case source;
  KernelCode code;
  weir_kernel kernel = nullptr;
  std::vector<Buffer> owned;
  std::vector<void*> buffers;
  Buffer scratch;
  int64_t bytes = 0;
  double best = 1e30, copy = 1e30;

  void run() { kernel(buffers.data(), 0, code.tiles, scratch.data()); }
};

void prepare(Compiled& c) {
  const Graph& region = *c.source.region;
  for (int32_t id : region.inputs()) {
    const Type& type = region.node(id).types[0];
    c.owned.emplace_back(type.bytes());
    c.buffers.push_back(c.owned.back().data());
    for (float& value : c.owned.back().as<float>()) value = 0.5f;
    // An input that the expression leaves out is not read.
    for (const Node& node : region.nodes())
      if (std::count(node.inputs.begin(), node.inputs.end(), Value{id, 0})) {
        c.bytes += type.bytes();
        break;
      }
  }
  for (size_t i = 0; i < region.outputs().size(); ++i) {
    const Type& type = region.type(region.outputs()[i].value);
    c.bytes += type.bytes();
    c.buffers.push_back(nullptr);
    for (const InPlace& pair : c.source.in_place)
      if (pair.output == static_cast<int>(i)) c.buffers.back() = c.buffers[pair.input];
    if (c.buffers.back()) continue;
    c.owned.emplace_back(type.bytes());
    c.buffers.back() = c.owned.back().data();
    for (float& value : c.owned.back().as<float>()) value = 0.5f;
  }
  c.scratch = Buffer(c.code.scratch_bytes + 64);
}

/// A copy of n values by the same loops.
Compiled copy_of(const Target& target, Jit& jit, int64_t n, const std::string& symbol) {
  Builder b("copy");
  b.output("y", identity(b.input("x", f32({n}))));
  Compiled c{{"copy", "elementwise", b.finish()}, {}, nullptr, {}, {}, {}, 0};
  c.code = make_loop_kernel(c.source.region, expect(parse_schedule(c.source.schedule)), target);
  jit.add({{symbol, "", [&](Emitter& e) { c.code.emit(e, symbol); }}});
  c.kernel = jit.kernel(symbol);
  prepare(c);
  return c;
}

void measure(const Target& target, int rounds, int64_t rows, int64_t width) {
  Jit jit(target);
  std::vector<Compiled> compiled;
  int number = 0;
  for (Case& source : cases(target, rows, width)) {
    Compiled c{std::move(source), {}, nullptr, {}, {}, {}, 0};
    c.code = make_loop_kernel(c.source.region, expect(parse_schedule(c.source.schedule)), target,
                              c.source.in_place);
    const std::string symbol = fmt::format("case{}", number++);
    jit.add({{symbol, "", [&](Emitter& e) { c.code.emit(e, symbol); }}});
    c.kernel = jit.kernel(symbol);
    prepare(c);
    compiled.push_back(std::move(c));
  }
  Compiled copy = copy_of(target, jit, rows * width, "copy");
  for (int round = 0; round <= rounds; ++round)
    for (Compiled& c : compiled) {
      copy.run();  // so that what fits a cache is in it
      const double copied = own_seconds([&] { copy.run(); });
      c.run();
      const double taken = own_seconds([&] { c.run(); });
      if (round == 0) continue;
      c.copy = std::min(c.copy, copied);
      c.best = std::min(c.best, taken);
    }
  fmt::print("{:36} {:>9} {:>9} {:>7} {:>6}\n", fmt::format("[{}, {}]", rows, width), "us", "GB/s",
             "copy", "share");
  for (const Compiled& c : compiled) {
    const double rate = 1e-9 * static_cast<double>(c.bytes) / c.best;
    const double copied = 1e-9 * static_cast<double>(copy.bytes) / c.copy;
    fmt::print("{:36} {:9.1f} {:9.2f} {:7.2f} {:5.0f}%\n", c.source.what, 1e6 * c.best, rate,
               copied, 100 * rate / copied);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Target target = parse_target(argc > 1 ? argv[1] : "host");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20;
  fmt::print("{}\n", print(target));
  measure(target, rounds, 256, 256);   // stays in the second-level cache
  measure(target, rounds, 4096, 512);  // does not
  measure(target, rounds, 512, 4096);
}
