// Rate of the matrix product as a share of the machine's peak rate of fused multiply-adds measured
// right before and after each reading (bench/rounds.h); for two threads it is that of both
// together. One thread is timed by its own processor time, two by the wall clock. Tiles are micro
// rows x vectors, rows x columns x steps of k; "A": A is packed; "B": B is packed before, "b": by
// each tile for itself.
//   matmul_bench [target] [rounds] [part of a name]
//   matmul_bench serve                the shapes of llama-0.1b on stdin's demand, for bench/run
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "bench/matmul_cases.h"
#include "bench/rounds.h"
#include "codegen/matmul/product_run.h"
#include "runtime/machine_rates.h"

namespace {

using namespace weir;
using namespace weir::bench;

constexpr int kThreads = 2;

/// One of the table, with its operands.
class Product {
 public:
  Product(const Target& target, const ProductShape& shape, int workers)
      : shape_(shape),
        operands_(spec_of(shape)),
        run_(plan_matmul(target, spec_of(shape)), operands_, workers) {}
  const ProductShape& shape() const { return shape_; }
  ProductRun& run() { return run_; }
  const ProductRun& run() const { return run_; }

 private:
  ProductShape shape_;
  ProductOperands operands_;
  ProductRun run_;
};

std::string kernel_name(size_t i) { return "matmul" + std::to_string(i); }

int repeats_of(const ProductShape& shape) { return shape.operations() < 1e8 ? 20 : 1; }

// Seconds of one product.
double seconds_of(const Product& product, const Workers& workers) {
  const int repeats = repeats_of(product.shape());
  const auto work = [&] {
    for (int r = 0; r < repeats; ++r) product.run().run(workers);
  };
  return (workers.count() == 1 ? own_seconds(work) : wall_seconds(work)) / repeats;
}

// One reading beside a short product, readings for a tenth of a second beside a long one.
double peak_of(const Product& product, const Target& target, const Workers& workers) {
  return mean_rate(product.shape().operations() > 1e11 ? 0.1 : 0, [&] {
    return workers.count() == 1 ? own_fma_rate(target) : fma_rate(target, workers);
  });
}

Rounds rounds_of(const Product& product, const Target& target, const Workers& workers, int count) {
  return measure_rounds(
      count, [&] { return peak_of(product, target, workers); },
      [&] { return product.shape().operations() / seconds_of(product, workers); });
}

std::string text(const Rounds& rounds) {
  if (rounds.empty()) return "-";
  return fmt::format("{:5.1f} ({:5.1f})", 100 * rounds.median_share(), 100 * rounds.best_share());
}

// Of the median and of the best shares.
class GeometricMean {
 public:
  void add(const Rounds& rounds) {
    if (rounds.empty()) return;
    median_ += std::log(rounds.median_share());
    best_ += std::log(rounds.best_share());
    ++count_;
  }
  std::string text() const {
    if (count_ == 0) return "not measured";
    return fmt::format("{:.1f} % of the peak, {:.1f} % at best ({} products)",
                       100 * std::exp(median_ / count_), 100 * std::exp(best_ / count_), count_);
  }

 private:
  double median_ = 0, best_ = 0;
  int count_ = 0;
};

const char* b_packing(BPacking packing) {
  if (packing == BPacking::none) return "";
  return packing == BPacking::packed ? " b" : " B";
}

void print_row(const Product& product, const Rounds& one, const Rounds& two) {
  const ProductShape& s = product.shape();
  const MatmulTiles& t = product.run().plan().tiles;
  fmt::print("{:18} {:>20} {:>26} {:7.1f} {:>15} {:7.1f} {:>15}\n", s.what,
             fmt::format("{}x{}x{}x{}", s.m, s.n, s.k, s.batch),
             fmt::format("{}x{} {}x{}x{}{}{}", t.mr, t.nr_vectors, t.mc, t.nc, t.kc,
                         t.pack_a ? " A" : "", b_packing(t.b)),
             one.best_peak() / 1e9, text(one), two.best_peak() / 1e9, text(two));
  std::fflush(stdout);
}

void print_table(const Target& target, int rounds, const std::string& wanted) {
  fmt::print("{}\n", print(target));
  Jit jit(target);
  // One at a time: operands of all would not fit into memory comfortably.
  fmt::print("{:18} {:>20} {:>26} {:>7} {:>15} {:>7} {:>15}\n", "", "m x n x k x batch", "tiles",
             "peak", "1 thread", "peak", "2 threads");
  const Workers one(1), two(kThreads);
  GeometricMean one_thread, two_threads;
  for (size_t i = 0; i < product_shapes().size(); ++i) {
    const ProductShape& shape = product_shapes()[i];
    if (std::string(shape.what).find(wanted) == std::string::npos) continue;
    Product product(target, shape, kThreads);
    jit.add(product.run().sources(kernel_name(i)));
    product.run().link(jit, kernel_name(i));
    const Rounds alone = rounds_of(product, target, one, rounds);
    const Rounds both = target.cores < 2 ? Rounds() : rounds_of(product, target, two, rounds);
    print_row(product, alone, both);
    if (!shape.llama) continue;
    one_thread.add(alone);
    two_threads.add(both);
  }
  fmt::print(
      "\nPercent of the peak (Gflop/s): median of {} rounds (best rate over best peak). Kernels "
      "compiled in {:.2f} s.\nllama-0.1b, geometric means: 1 thread {}; 2 threads {}\n",
      rounds, jit.statistics().seconds, one_thread.text(), two_threads.text());
}

// "PRODUCT THREADS" -> {"seconds", "peak_before", "peak_after"}; says the shapes first.
void serve_products(const Target& target) {
  Jit jit(target);
  std::vector<std::unique_ptr<Product>> products;
  nlohmann::json shapes = nlohmann::json::array();
  for (const ProductShape& shape : product_shapes()) {
    if (!shape.llama) continue;
    const std::string name = kernel_name(products.size());
    products.push_back(std::make_unique<Product>(target, shape, target.cores));
    jit.add(products.back()->run().sources(name));
    products.back()->run().link(jit, name);
    shapes.push_back({{"name", shape.what},
                      {"m", shape.m},
                      {"n", shape.n},
                      {"k", shape.k},
                      {"layout", layout_name(shape.layout)},
                      {"operations", shape.operations()}});
  }
  say({{"ready", true}, {"products", shapes}, {"target", print(target)}, {"cores", target.cores}});
  serve([&](const std::vector<std::string>& words) {
    const Product& product = *products.at(std::stoul(words.at(0)));
    const Workers workers(std::stoi(words.at(1)));
    const double before = peak_of(product, target, workers);
    const double seconds = seconds_of(product, workers);
    return nlohmann::json{{"seconds", seconds},
                          {"peak_before", before},
                          {"peak_after", peak_of(product, target, workers)}};
  });
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string first = argc > 1 ? argv[1] : "host";
    if (first == "serve")
      serve_products(host_target());
    else
      print_table(parse_target(first), argc > 2 ? std::atoi(argv[2]) : 7, argc > 3 ? argv[3] : "");
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
