// A multilayer perceptron trained on a function of two variables: a model with the builder, its
// gradients and AdamW by passes, one compiled program a step.
#include <fmt/format.h>

#include <cmath>

#include "engine/run.h"
#include "ir/builder.h"
#include "passes/pipeline.h"

int main() {
  using namespace weir;
  constexpr int64_t kBatch = 256, kWidth = 64;

  Builder b("mlp");
  Tensor x = b.input("x", f32({kBatch, 2}));
  Tensor y = b.input("y", f32({kBatch, 1}));
  Tensor w1 = b.state("w1", f32({kWidth, 2})), b1 = b.state("b1", f32({kWidth}));
  Tensor w2 = b.state("w2", f32({kWidth, kWidth})), b2 = b.state("b2", f32({kWidth}));
  Tensor w3 = b.state("w3", f32({1, kWidth}));
  Tensor h1 = gelu(linear(x, w1) + b1).named("hook_hidden1");
  Tensor h2 = gelu(linear(h1, w2) + b2).named("hook_hidden2");
  Tensor error = linear(h2, w3) - y;
  b.output("loss", reshape(reduce_mean(error * error, {0, 1}), {}));

  // Gradients of all weights, then the optimiser around them: the step reads and updates state.
  CompileOptions options{.gradients = {"*"}};
  options.compose = {.purpose = Purpose::train, .optimizer = {.decay = {"w1", "w2", "w3"}}};
  Executables programs = compile(b.finish(), options);
  Session session(programs, /*threads=*/2);

  for (const char* name : {"w1", "w2", "w3"}) {
    Type type = session.type(name);
    double deviation = 1 / std::sqrt(static_cast<double>(type.shape[1]));
    write(session, name, random_normal(type, deviation, /*seed=*/3, /*stream=*/name[1]));
  }

  double first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    HostTensor points = random_normal(f32({kBatch, 2}), 1, /*seed=*/4, /*stream=*/step);
    HostTensor targets = zeros(f32({kBatch, 1}));
    for (int64_t i = 0; i < kBatch; ++i)
      targets.data[i] = std::sin(3 * points.at({i, 0})) * points.at({i, 1});
    run(session, {{"x", points},
                  {"y", targets},
                  {"rate", scalar(5e-3)},
                  {"bias1", scalar(1 / (1 - std::pow(0.9, step + 1)))},
                  {"bias2", scalar(1 / (1 - std::pow(0.95, step + 1)))}});
    last = session.scalar_output(0, "loss");
    if (step == 0) first = last;
    if (step % 50 == 0 || step == 299) fmt::print("step {:3}  loss {:.4f}\n", step, last);
  }
  return last < 0.1 * first ? 0 : 1;
}
