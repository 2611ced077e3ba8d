// A graph made by hand: written with the builder, printed as built and as fused into kernels, run
// by the interpreter (f64, the meaning of the program) and by compiled code (f32).
#include <fmt/format.h>

#include "engine/run.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "passes/pipeline.h"

int main() {
  using namespace weir;

  // y = x + relu(rms_norm(x) w^T): every line is a node, its shape is inferred and checked.
  Builder b("residual");
  Tensor x = b.input("x", f32({4, 6}));
  Tensor gamma = b.state("gamma", f32({6}));
  Tensor w = b.state("w", f32({6, 6}));
  Tensor n = rms_norm(x, gamma, 1e-5).named("hook_normalized");
  b.output("y", x + relu(linear(n, w)));
  GraphPtr built = b.finish();
  fmt::print("As built:\n{}\n", print_graph(*built));

  // The passes that lead to stage fused: composites become primitives, primitives become kernels.
  GraphPtr fused = run_pipeline(built, {.stop = Stage::fused}).graph;
  fmt::print("As fused:\n{}\n", print_graph(*fused));

  Tensors inputs = {{"x", random_normal(f32({4, 6}), 1, /*seed=*/1)},
                    {"gamma", filled(f32({6}), 1)},
                    {"w", random_normal(f32({6, 6}), 0.4, /*seed=*/2)}};
  HostTensor meaning = interpret(*built, inputs).at("y");

  Executables programs = compile(built);
  Session session(programs, /*threads=*/2);
  HostTensor compiled = run(session, inputs).outputs.at("y");

  fmt::print("y of the first row, interpreted and compiled:\n");
  for (int64_t i = 0; i < 6; ++i)
    fmt::print("  {:>12.8f} {:>12.8f}\n", meaning.at({0, i}), compiled.at({0, i}));
  double difference = relative_difference(compiled, meaning);
  fmt::print("largest difference over largest value: {:.1e}\n", difference);
  return difference < 1e-5 ? 0 : 1;
}
