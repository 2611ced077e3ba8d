// Rate of the matrix product as a share of the machine's peak rate of fused multiply-adds, which is
// measured in the same rounds, right before each shape.
//   matmul_bench [target] [rounds]
#include <fmt/format.h>
#include <time.h>

#include <cstdlib>
#include <functional>
#include <vector>

#include "codegen/emitter.h"
#include "codegen/jit.h"
#include "codegen/matmul.h"
#include "runtime/buffer.h"
#include "runtime/threads.h"

namespace {

using namespace weir;

struct Shape {
  const char* what;
  int64_t m, n, k, batch;
  bool a_transposed, b_transposed;
};

const std::vector<Shape> shapes = {
    {"projection", 4096, 256, 256, 1, false, true},
    {"projection", 4096, 512, 512, 1, false, true},
    {"feed forward", 4096, 704, 256, 1, false, true},
    {"feed forward", 4096, 1408, 512, 1, false, true},
    {"feed forward back", 4096, 512, 1408, 1, false, true},
    {"input gradient", 4096, 512, 1408, 1, false, false},
    {"weight gradient", 256, 256, 4096, 1, true, false},
    {"weight gradient", 512, 512, 4096, 1, true, false},
    {"weight gradient", 704, 256, 4096, 1, true, false},
    {"logits", 512, 50257, 256, 1, false, true},
    {"attention scores", 128, 128, 64, 128, false, true},
    {"attention values", 256, 64, 256, 64, false, false},
    {"primes", 1021, 509, 257, 1, false, true},
    {"few rows", 16, 512, 512, 1, false, true},
    {"one row", 1, 4096, 512, 1, false, true},
    {"one column", 4096, 1, 512, 1, false, false},
};

/// Seconds that `work` takes by a clock: the thread's own, which other programs on the machine
/// disturb little, or that of the wall when several threads work.
double seconds_of(clockid_t clock, const std::function<void()>& work) {
  const auto now = [&] {
    timespec t;
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  work();
  return now() - start;
}

constexpr int64_t peak_steps = 1 << 16;
constexpr int peak_chains = 12;

/// Independent chains of fused multiply-adds in registers; a tile is `peak_steps` steps.
KernelSource peak_kernel() {
  return {"peak", "", [](Emitter& e) {
            const KernelFrame frame = e.begin_kernel("peak", {{.written = true}});
            Emitter::Values chains;
            for (int i = 0; i < peak_chains; ++i) chains.push_back(e.f32(i, e.lanes()));
            llvm::Value* x = e.load(Storage::f32, frame.buffers[0], e.index(0), e.lanes());
            chains =
                e.for_loop(e.mul(frame.first_tile, peak_steps), e.mul(frame.last_tile, peak_steps),
                           1, chains, [&](llvm::Value*, const Emitter::Values& carried) {
                             Emitter::Values next;
                             for (llvm::Value* c : carried) next.push_back(e.fma(c, x, x));
                             return next;
                           });
            llvm::Value* sum = chains[0];
            for (int i = 1; i < peak_chains; ++i) sum = e.ir().CreateFAdd(sum, chains[i]);
            e.store(Storage::f32, sum, frame.buffers[0], e.index(0));
            e.end_kernel();
          }};
}

struct Case {
  Shape shape;
  MatmulPlan plan;
  Buffer a, b, c, packed;
  std::vector<Buffer> scratch;
  weir_kernel product = nullptr, pack = nullptr;

  void run(const Workers& workers) const {
    void* pack_buffers[] = {b.data(), packed.data()};
    workers.parallel_tiles(plan.pack_grid, [&](int64_t first, int64_t last, int) {
      pack(pack_buffers, first, last, nullptr);
    });
    void* buffers[] = {a.data(), plan.pack_grid ? packed.data() : b.data(), c.data()};
    workers.parallel_tiles(
        plan.grid,
        [&](int64_t first, int64_t last, int worker) {
          product(buffers, first, last, scratch[worker].data());
        },
        1);
  }
};

Case make_case(const Target& target, const Shape& s, int workers) {
  Case c;
  c.shape = s;
  MatmulSpec spec;
  spec.m = s.m, spec.n = s.n, spec.k = s.k, spec.batch = {s.batch, 1};
  spec.a = {s.a_transposed ? s.m : s.k, {s.m * s.k, 0}, s.a_transposed};
  spec.b = {s.b_transposed ? s.k : s.n, {s.n * s.k, 0}, s.b_transposed};
  spec.c = {s.n, {s.m * s.n, 0}, false};
  c.plan = plan_matmul(target, spec);
  const auto floats = [](int64_t count) {
    Buffer buffer(static_cast<size_t>(4 * count));
    for (size_t i = 0; i < buffer.as<float>().size(); ++i)
      buffer.as<float>()[i] = static_cast<float>(i % 17) - 8;
    return buffer;
  };
  c.a = floats(s.batch * s.m * s.k);
  c.b = floats(s.batch * s.n * s.k);
  c.c = floats(s.batch * s.m * s.n);
  c.packed = Buffer(static_cast<size_t>(c.plan.packed_bytes));
  for (int i = 0; i < workers; ++i)
    c.scratch.push_back(Buffer(static_cast<size_t>(c.plan.scratch_bytes)));
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  const Target target = parse_target(argc > 1 ? argv[1] : "host");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  fmt::print("{}\n", print(target));
  Jit jit(target);
  std::vector<Case> cases;
  std::vector<KernelSource> kernels = {peak_kernel()};
  for (const Shape& shape : shapes) cases.push_back(make_case(target, shape, target.cores));
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string name = "matmul" + std::to_string(i);
    const MatmulPlan& plan = cases[i].plan;
    kernels.push_back({name, "", [&plan, name](Emitter& e) { emit_matmul(e, name, plan); }});
    if (plan.pack_grid)
      kernels.push_back({name + "_pack", "",
                         [&plan, name](Emitter& e) { emit_matmul_pack(e, name + "_pack", plan); }});
  }
  jit.add(kernels);
  fmt::print("{} kernels compiled in {:.2f} s\n\n", kernels.size(), jit.statistics().seconds);
  for (size_t i = 0; i < cases.size(); ++i) {
    cases[i].product = jit.kernel("matmul" + std::to_string(i));
    if (cases[i].plan.pack_grid) cases[i].pack = jit.kernel("matmul" + std::to_string(i) + "_pack");
  }
  const weir_kernel peak = jit.kernel("peak");
  Buffer peak_data(256);
  void* peak_buffers[] = {peak_data.data()};
  const double peak_work = 2.0 * peak_chains * target.lanes() * peak_steps;

  fmt::print("{:18} {:>24} {:>22} {:>7} {:>8} {:>8} {:>7}\n", "", "m x n x k x batch", "tiles",
             "peak", "1 thread", "of peak", "2 thr.");
  const Workers one(1), two(2);
  constexpr clockid_t own = CLOCK_THREAD_CPUTIME_ID, wall = CLOCK_MONOTONIC;
  for (Case& c : cases) {
    const Shape& s = c.shape;
    const double work = 2.0 * static_cast<double>(s.m * s.n * s.batch) * static_cast<double>(s.k);
    double best_peak = 0, best_one = 0, best_one_wall = 0, best_two = 0;
    const int repeats = work < 1e8 ? 20 : 1;
    for (int round = 0; round < rounds; ++round) {
      best_peak = std::max(best_peak,
                           peak_work / seconds_of(own, [&] { peak(peak_buffers, 0, 1, nullptr); }));
      for (int r = 0; r < repeats; ++r)
        best_one_wall = std::max(best_one_wall, work / seconds_of(wall, [&] { c.run(one); }));
      for (int r = 0; r < repeats; ++r)
        best_one = std::max(best_one, work / seconds_of(own, [&] { c.run(one); }));
      if (target.cores >= 2)
        for (int r = 0; r < repeats; ++r)
          best_two = std::max(best_two, work / seconds_of(wall, [&] { c.run(two); }));
    }
    const MatmulTiles& t = c.plan.tiles;
    fmt::print("{:18} {:>24} {:>22} {:7.1f} {:8.1f} {:7.1f}% {:6.2f}x\n", s.what,
               fmt::format("{}x{}x{}x{}", s.m, s.n, s.k, s.batch),
               fmt::format("{}x{} {}x{}x{}{}", t.micro_rows, t.micro_vectors, t.row_block,
                           t.column_block, t.depth_block, t.pack_b_ahead ? "" : " in"),
               best_peak / 1e9, best_one / 1e9, 100 * best_one / best_peak,
               best_two / best_one_wall);
  }
  return 0;
}
