// Training with probes: the step is compiled twice, with probes and without. Both give the same
// bits, so that a run measures the steps it likes and trains on as if it had not looked.
#include <fmt/format.h>

#include <cmath>

#include "engine/run.h"
#include "ir/builder.h"
#include "passes/pipeline.h"

int main() {
  using namespace weir;
  constexpr int64_t B = 8, T = 16, H = 2, d = 8, D = H * d;

  // One layer of attention, which learns to give every token the mean of those before it.
  Builder b("attention");
  Tensor x = b.input("x", f32({B, T, D})), target = b.input("target", f32({B, T, D}));
  Tensor w_q = b.state("q", f32({D, D})), w_k = b.state("k", f32({D, D}));
  Tensor w_v = b.state("v", f32({D, D})), w_o = b.state("o", f32({D, D}));
  auto heads = [&](const Tensor& w) { return reshape(linear(x, w), {B, T, H, d}); };
  Tensor q = heads(w_q), k = heads(w_k), v = heads(w_v).named("hook_v");
  auto [z, lse] = attention(q, k, v, /*causal=*/true, /*scale=*/0.35);
  attention_pattern(q, k, lse, true, 0.35).named("hook_pattern");
  Tensor error = linear(reshape(z, {B, T, D}), w_o) - target;
  b.output("loss", reshape(reduce_mean(error * error, {0, 1, 2}), {}));

  // Gradients of the weights and of what is probed, then the optimiser around them.
  const GraphPtr graph = b.finish();
  CompileOptions options{.gradients = {"*"}};
  options.compose = {.purpose = Purpose::train, .optimizer = {.decay = {"q", "k", "v", "o"}}};
  Executables plain = compile(graph, options);
  const char* gradient = "hook_v.grad:norm(feature),mean(batch,head)";
  const char* entropy = "hook_pattern:entropy,mean(batch,head,query)";
  options.probes = {gradient, entropy};
  Executables probed = compile(graph, options);

  Session without(plain, /*threads=*/2), with(probed, /*threads=*/2);
  for (const char* name : {"q", "k", "v", "o"})
    for (Session* session : {&without, &with})
      write(*session, name, random_normal(f32({D, D}), 0.2, /*seed=*/3, /*stream=*/name[0]));
  double first = 0, last = 0;
  for (int step = 0; step < 200; ++step) {
    Tensors inputs = {{"x", random_normal(f32({B, T, D}), 1, /*seed=*/4, /*stream=*/step)},
                      {"target", zeros(f32({B, T, D}))},
                      {"rate", scalar(1e-2)},
                      {"bias1", scalar(1 / (1 - std::pow(0.9, step + 1)))},
                      {"bias2", scalar(1 / (1 - std::pow(0.95, step + 1)))}};
    for (int64_t i = 0; i < B * T * D; ++i)  // the mean of this token and those before it
      for (int64_t t = 0; t <= i / D % T; ++t)
        inputs["target"].data[i] +=
            inputs["x"].data[i - (i / D % T - t) * D] / static_cast<double>(i / D % T + 1);
    run(without, inputs);
    Interpretation measured = run(with, inputs);
    last = with.scalar_output(0, "loss");
    if (step == 0) first = last;
    if (last != without.scalar_output(0, "loss")) return 1;  // to the last bit
    const auto& probes = measured.probes;
    if (step % 50 == 0 || step == 199)
      fmt::print("step {:3}  loss {:.4f}  entropy {:.3f}  gradient at token 0, 8 {:.2e} {:.2e}\n",
                 step, last, probes.at(entropy).data[0], probes.at(gradient).data[0],
                 probes.at(gradient).data[8]);
  }
  return last < 0.1 * first ? 0 : 1;
}
