// A transformer block with probes: activations and gradients are asked for by hook name, reduced
// inside the compiled program, and leave the loss as it is to the last bit.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/run.h"
#include "ir/builder.h"

int main() {
  using namespace weir;
  constexpr int64_t B = 2, T = 8, H = 4, d = 16, D = H * d, F = 160;

  // Hook names are given with .named(); weights are [out,in].
  Builder b("block");
  Tensor x = b.input("x", f32({B, T, D}));
  Tensor target = b.input("target", f32({B, T, D}));
  auto weight = [&](const char* name, int64_t out, int64_t in) {
    return b.state(name, f32({out, in}));
  };
  Tensor w_q = weight("q", D, D), w_k = weight("k", D, D), w_v = weight("v", D, D);
  Tensor w_o = weight("o", D, D), w_gate = weight("gate", F, D), w_up = weight("up", F, D);
  Tensor w_down = weight("down", D, F), g1 = b.state("g1", f32({D})), g2 = b.state("g2", f32({D}));

  Tensor n1 = rms_norm(x, g1, 1e-5);
  auto heads = [&](const Tensor& w) { return reshape(linear(n1, w), {B, T, H, d}); };
  Tensor q = rope(heads(w_q), 10000), k = rope(heads(w_k), 10000);
  Tensor v = heads(w_v).named("attn.hook_v");
  auto [z, rows] = attention(q, k, v, /*causal=*/true, /*scale=*/0.25);
  attention_pattern(q, k, rows, true, 0.25).named("attn.hook_pattern");  // computed if probed only
  Tensor mid = x + linear(reshape(z, {B, T, D}), w_o);
  Tensor n2 = rms_norm(mid, g2, 1e-5);
  Tensor y = mid + linear(swiglu(linear(n2, w_gate), linear(n2, w_up)), w_down);
  Tensor error = y.named("hook_resid_post") - target;
  b.output("loss", reshape(reduce_mean(error * error, {0, 1, 2}), {}));
  GraphPtr graph = b.finish();

  CompileOptions options{.gradients = {"*"}};
  Executables plain = compile(graph, options);
  options.probes = {"hook_resid_post : norm(feature), mean(batch)",
                    "attn.hook_v.grad : norm(feature), mean(batch,head)",
                    "attn.hook_pattern : column_mass, mean(batch,head)"};
  Executables probed = compile(graph, options);

  Session without(plain, /*threads=*/2), with(probed, /*threads=*/2);
  Tensors inputs;
  for (const std::string& name : with.names())
    inputs[name] = random_normal(with.type(name), name == "x" ? 1 : 0.1, /*seed=*/inputs.size());
  double loss = run(without, inputs).outputs.at("loss").data[0];
  Interpretation result = run(with, inputs);
  for (const auto& [id, value] : result.probes)
    fmt::print("{}\n  {:.4f}\n", id, fmt::join(value.data, " "));
  fmt::print("loss without probes {:.9g}, with probes {:.9g}\n", loss,
             result.outputs.at("loss").data[0]);
  return loss == result.outputs.at("loss").data[0] ? 0 : 1;
}
