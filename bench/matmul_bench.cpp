// Rate of the matrix product as a share of the machine's peak rate of fused multiply-adds, which is
// measured in the same rounds, right before and after; for two threads it is that of both together.
// Tiles are micro rows x vectors, rows x columns x steps of k; "in": B is packed by each tile for
// itself; "raw": A is read where it lies. A share with ~ was measured while the machine was slower
// than at its best, when others used its units, and flatters.
//   matmul_bench [target] [rounds] [part of a name]
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cmath>
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

enum class Layout {
  forward,          ///< x w^T
  input_gradient,   ///< dy w
  weight_gradient,  ///< dy^T x
  plain,
};

struct Shape {
  const char* what;
  int64_t m, n, k, batch;
  Layout layout;
  bool llama = false;  ///< one of those of llama-0.1b
};

/// llama-0.1b (width 512, feed forward 1408, vocabulary 50257) on 4096 tokens, of which the output
/// projection takes 512 at a time.
const std::vector<Shape> shapes = {
    {"projection", 4096, 512, 512, 1, Layout::forward, true},
    {"gate, up", 4096, 1408, 512, 1, Layout::forward, true},
    {"down", 4096, 512, 1408, 1, Layout::forward, true},
    {"logits", 512, 50257, 512, 1, Layout::forward, true},
    {"projection dx", 4096, 512, 512, 1, Layout::input_gradient, true},
    {"gate, up dx", 4096, 512, 1408, 1, Layout::input_gradient, true},
    {"down dx", 4096, 1408, 512, 1, Layout::input_gradient, true},
    {"logits dx", 512, 512, 50257, 1, Layout::input_gradient, true},
    {"projection dw", 512, 512, 4096, 1, Layout::weight_gradient, true},
    {"gate, up dw", 1408, 512, 4096, 1, Layout::weight_gradient, true},
    {"down dw", 512, 1408, 4096, 1, Layout::weight_gradient, true},
    {"logits dw", 50257, 512, 512, 1, Layout::weight_gradient, true},
    {"narrow", 4096, 256, 256, 1, Layout::forward},
    {"narrow up", 4096, 704, 256, 1, Layout::forward},
    {"narrow dw", 256, 256, 4096, 1, Layout::weight_gradient},
    {"attention scores", 128, 128, 64, 128, Layout::forward},
    {"attention values", 256, 64, 256, 64, Layout::plain},
    {"primes", 1021, 509, 257, 1, Layout::forward},
    {"few rows", 16, 512, 512, 1, Layout::forward},
    {"one row", 1, 4096, 512, 1, Layout::forward},
    {"one column", 4096, 1, 512, 1, Layout::plain},
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

MatmulSpec spec_of(const Shape& s) {
  MatmulSpec spec;
  spec.m = s.m, spec.n = s.n, spec.k = s.k, spec.batch = {s.batch, 1};
  const auto matrix = [](int64_t rows, int64_t columns, bool transposed) {
    const int64_t stride = ((transposed ? rows : columns) + 15) / 16 * 16;
    return MatmulOperand{stride, {stride * (transposed ? columns : rows), 0}, transposed};
  };
  spec.a = matrix(s.m, s.k, s.layout == Layout::weight_gradient);
  spec.b = matrix(s.k, s.n, s.layout == Layout::forward);
  spec.c = matrix(s.m, s.n, false);
  return spec;
}

Case make_case(const Target& target, const Shape& s, int workers) {
  Case c;
  c.shape = s;
  c.plan = plan_matmul(target, spec_of(s));
  const auto floats = [&](const MatmulOperand& matrix) {
    Buffer buffer(static_cast<size_t>(4 * s.batch * matrix.batch_stride[0]));
    const std::span<float> values = buffer.as<float>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) - 8;
    return buffer;
  };
  c.a = floats(c.plan.spec.a);
  c.b = floats(c.plan.spec.b);
  c.c = floats(c.plan.spec.c);
  c.packed = Buffer(static_cast<size_t>(c.plan.packed_bytes));
  for (int i = 0; i < workers; ++i)
    c.scratch.push_back(Buffer(static_cast<size_t>(c.plan.scratch_bytes)));
  return c;
}

/// A share of the peak of the rounds it was measured in.
struct Share {
  double share = 0;
  bool at_full_speed = false;  ///< these had the highest peak seen
  std::string text() const {
    return share == 0 ? "-" : fmt::format("{}{:.1f}%", at_full_speed ? "" : "~", 100 * share);
  }
};

struct Shares {
  Share one, two;
  double peak_one = 0, peak_two = 0;  ///< the highest seen, in floating-point operations a second
};

constexpr clockid_t own_time = CLOCK_THREAD_CPUTIME_ID, wall_time = CLOCK_MONOTONIC;

/// The best share of `work` in `rounds` rounds in which the peak, measured before and after, was
/// that of the best round of all cases (`peak`). On a machine shared with others the clock and the
/// units at hand change by a factor of two within seconds, so a round waits for full speed, all
/// rounds together a second. Where none got it, the best of the rounds with a steady peak counts.
Share best_share(const std::function<double()>& measure_peak, double& peak,
                 const std::function<double()>& work, int rounds) {
  constexpr timespec pause = {0, 5'000'000};
  constexpr double steady = 0.97;
  double best = 0, otherwise = 0, before = measure_peak();
  int waits = 200;
  for (int taken = 0; taken < rounds && waits > -rounds; --waits) {
    for (; before < steady * peak && waits > 0; --waits) {
      nanosleep(&pause, nullptr);
      before = measure_peak();
    }
    const double rate = work(), after = measure_peak();
    const auto [low, high] = std::minmax(before, after);
    peak = std::max(peak, high);
    if (low >= steady * peak) {
      ++taken;
      best = std::max(best, rate);
    } else if (low >= steady * high) {
      otherwise = std::max(otherwise, rate / high);
    }
    before = after;
  }
  return best > 0 ? Share{best / peak, true} : Share{otherwise, false};
}

Shares measure(const Case& c, weir_kernel peak, const Target& target, int rounds) {
  static Shares best;
  Buffer data(256);
  void* buffers[] = {data.data()};
  const double peak_work = 2.0 * peak_chains * target.lanes() * peak_steps;
  const double work = 2.0 * static_cast<double>(c.shape.m * c.shape.n * c.shape.batch) *
                      static_cast<double>(c.shape.k);
  const int repeats = work < 1e8 ? 20 : 1;
  const Workers one(1), two(2);
  best.one = best_share(
      [&] { return peak_work / seconds_of(own_time, [&] { peak(buffers, 0, 1, nullptr); }); },
      best.peak_one,
      [&] {
        return repeats * work / seconds_of(own_time, [&] {
                 for (int r = 0; r < repeats; ++r) c.run(one);
               });
      },
      rounds);
  constexpr int pieces = 8;
  if (target.cores >= 2)
    best.two = best_share(
        [&] {
          return pieces * peak_work / seconds_of(wall_time, [&] {
                   two.parallel_tiles(
                       pieces,
                       [&](int64_t first, int64_t last, int) {
                         peak(buffers, first, last, nullptr);
                       },
                       1);
                 });
        },
        best.peak_two,
        [&] {
          return repeats * work / seconds_of(wall_time, [&] {
                   for (int r = 0; r < repeats; ++r) c.run(two);
                 });
        },
        rounds);
  return best;
}

/// Of shares; those that could not be measured are left out.
class GeometricMean {
 public:
  void add(const Share& share) {
    if (share.share == 0) return;
    logarithms_ += std::log(share.share);
    ++counted_;
    at_full_speed_ += share.at_full_speed;
  }
  std::string text() const {
    if (counted_ == 0) return "not measured";
    return fmt::format("{:.1f} % of the peak ({} products, {} at full speed)",
                       100 * std::exp(logarithms_ / counted_), counted_, at_full_speed_);
  }

 private:
  double logarithms_ = 0;
  int counted_ = 0, at_full_speed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const Target target = parse_target(argc > 1 ? argv[1] : "host");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  const std::string wanted = argc > 3 ? argv[3] : "";
  fmt::print("{}\n", print(target));
  Jit jit(target);
  std::vector<KernelSource> kernels = {peak_kernel()};
  std::vector<MatmulPlan> plans;
  for (const Shape& shape : shapes) plans.push_back(plan_matmul(target, spec_of(shape)));
  const auto is_wanted = [&](size_t i) {
    return std::string(shapes[i].what).find(wanted) != std::string::npos;
  };
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (!is_wanted(i)) continue;
    const std::string name = "matmul" + std::to_string(i);
    const MatmulPlan& plan = plans[i];
    kernels.push_back({name, "", [&plan, name](Emitter& e) { emit_matmul(e, name, plan); }});
    if (plan.pack_grid)
      kernels.push_back({name + "_pack", "",
                         [&plan, name](Emitter& e) { emit_matmul_pack(e, name + "_pack", plan); }});
  }
  const double seconds = seconds_of(CLOCK_PROCESS_CPUTIME_ID, [&] { jit.add(kernels); });
  fmt::print("{} kernels compiled in {:.2f} s, {:.2f} s of all threads' time\n\n", kernels.size(),
             jit.statistics().seconds, seconds);

  fmt::print("{:18} {:>20} {:>26} {:>7} {:>9} {:>7} {:>9}\n", "", "m x n x k x batch", "tiles",
             "peak", "1 thread", "peak", "2 threads");
  GeometricMean one_thread, two_threads;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (!is_wanted(i)) continue;
    const Shape& s = shapes[i];
    Case c = make_case(target, s, 2);
    c.product = jit.kernel("matmul" + std::to_string(i));
    if (c.plan.pack_grid) c.pack = jit.kernel("matmul" + std::to_string(i) + "_pack");
    const Shares shares = measure(c, jit.kernel("peak"), target, rounds);
    const MatmulTiles& t = c.plan.tiles;
    fmt::print("{:18} {:>20} {:>26} {:7.1f} {:>9} {:7.1f} {:>9}\n", s.what,
               fmt::format("{}x{}x{}x{}", s.m, s.n, s.k, s.batch),
               fmt::format("{}x{} {}x{}x{}{}{}", t.micro_rows, t.micro_vectors, t.row_block,
                           t.column_block, t.depth_block, t.pack_b_ahead ? "" : " in",
                           t.pack_a ? "" : " raw"),
               shares.peak_one / 1e9, shares.one.text(), shares.peak_two / 1e9, shares.two.text());
    std::fflush(stdout);
    if (!s.llama) continue;
    one_thread.add(shares.one);
    if (target.cores >= 2) two_threads.add(shares.two);
  }
  fmt::print("\nllama-0.1b, geometric means: 1 thread {}, 2 threads {}\n", one_thread.text(),
             two_threads.text());
  return 0;
}
