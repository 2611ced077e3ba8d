// An attention of one's own, made of primitives: softmax-1, whose denominator has one more 1, so
// that a head may attend to nothing. Gradients, probes and compiled code come without a rule, a
// kernel or any other change of the compiler; they are compared with the interpreter.
#include <fmt/format.h>

#include <algorithm>

#include "engine/run.h"
#include "ir/builder.h"
#include "passes/pipeline.h"

using namespace weir;

// exp(s) / (1 + sum over keys of exp(s)); the result does not depend on m, which only keeps exp in
// range, so no gradient has to flow through it.
Tensor softmax_1(const Tensor& s) {
  Tensor m = stop_gradient(maximum(reduce_max(s, {-1}), 0.0));
  Tensor e = exp(s - m);
  return e / (exp(-m) + reduce_sum(e, {-1}));
}

int main() {
  constexpr int64_t B = 2, H = 3, T = 33, d = 8;
  Builder b("softmax_1_attention");
  Tensor q = b.input("q", f32({B, H, T, d}));
  Tensor k = b.input("k", f32({B, H, T, d}));
  Tensor v = b.input("v", f32({B, H, T, d}));

  Tensor scores = matmul(q, k, {.transpose_b = true}) * 0.35;
  Tensor causal = le(b.iota(1, i32({T, T})), b.iota(0, i32({T, T})));  // key <= query
  Tensor masked = select(causal, scores, b.constant(-1e30)).named("attn.hook_attn_scores");
  Tensor pattern = softmax_1(masked).named("attn.hook_pattern");
  Tensor z = matmul(pattern, v).named("attn.hook_z");
  b.output("loss", reshape(reduce_mean(z * z, {0, 1, 2, 3}), {}));

  // The reference: the differentiated graph with its probes, before any lowering, in f64.
  CompileOptions options{.gradients = {"q", "k", "v"},
                         .probes = {"attn.hook_pattern : sum(query), mean(batch)",
                                    "attn.hook_attn_scores.grad : norm(key)"}};
  GraphPtr graph = b.finish();
  Executables programs = compile(graph, options);
  options.stop = Stage::instrumented;
  GraphPtr reference = run_pipeline(graph, options).graph;

  Session session(programs, /*threads=*/2);
  Tensors inputs;
  for (const std::string& name : session.names())
    inputs[name] = random_normal(session.type(name), 1, /*seed=*/inputs.size());
  Interpretation got = run(session, inputs), want = interpret_all(*reference, inputs);
  got.outputs.merge(got.probes);
  want.outputs.merge(want.probes);
  double worst = 0;
  for (const auto& [name, value] : want.outputs) {
    double difference = relative_difference(got.outputs.at(name), value);
    fmt::print("{:50} {:16} {:.1e}\n", name, to_string(value.type), difference);
    worst = std::max(worst, difference);
  }
  return worst < 1e-5 ? 0 : 1;
}
