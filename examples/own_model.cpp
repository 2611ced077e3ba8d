// A model of one's own in the whole laboratory: with a normaliser that Weir does not know, trained
// in two arms with probes, checkpointed, reported, and measured. What it does not name is left out.
#include <fmt/format.h>

#include "ir/builder.h"
#include "lab/measure/measure.h"
#include "lab/report/measure_summary.h"
#include "lab/report/report.h"
#include "lab/train/train.h"

using namespace weir;

constexpr int64_t B = 4, T = 32;                     // of the measurement
constexpr int64_t V = 65, D = 32, H = 2, d = D / H;  // V: 64 symbols and <s>

// The weights of one row: relu(s)^2 over its sum and 1, so that a head may attend to nothing.
Tensor squared_relu(const Tensor& s) {
  Tensor positive = maximum(s, 0.0), square = positive * positive;
  return square / (reduce_sum(square, {-1}) + 1.0);
}

Model build(int64_t B, int64_t T) {
  Builder b("own");
  Tensor tokens = b.input("tokens", i32({B, T})), targets = b.input("targets", i32({B, T}));
  Tensor scale = b.input("loss_scale", f32({}));
  std::vector<Parameter> parameters;
  auto weight = [&](const std::string& name, int64_t rows) {
    parameters.push_back({name, f32({rows, D}), Initial::normal, 0.2, /*decay=*/true});
    return b.state(name, parameters.back().type);
  };
  Tensor table = weight("embedding", V), positions = weight("positions", T);
  Tensor w_q = weight("q", D), w_k = weight("k", D), w_v = weight("v", D), w_o = weight("o", D);

  const std::string hooks = "blocks.0.";
  Tensor x = (embedding(table, tokens) + positions).named(hooks + "hook_resid_pre");
  auto heads = [&](const Tensor& w) { return reshape(linear(x, w), {B, T, H, d}); };
  auto by_head = [](const Tensor& y) { return transpose(y, {0, 2, 1, 3}); };
  Tensor v = heads(w_v).named(hooks + "attn.hook_v");
  Tensor scores = matmul(by_head(heads(w_q)), by_head(heads(w_k)), {.transpose_b = true});
  Tensor causal = le(b.iota(1, i32({T, T})), b.iota(0, i32({T, T})));  // key <= query
  Tensor pattern = squared_relu(select(causal, scores, b.constant(0.0)));
  pattern.named(hooks + "attn.hook_pattern");
  Tensor z = reshape(by_head(matmul(pattern, by_head(v))), {B, T, D});
  Tensor out = (x + linear(z, w_o).named(hooks + "hook_attn_out")).named(hooks + "hook_resid_post");
  Tensor logits = linear(reshape(out, {B * T, D}), table);
  b.output("loss", cross_entropy(logits, reshape(targets, {B * T}), scale));
  return {b.finish(), parameters};
}

int main() {
  const ModelDefinition model = {{.name = "own",
                                  .layers = 1,
                                  .d_model = D,
                                  .heads = H,
                                  .kv_heads = H,
                                  .d_head = d,
                                  .d_ff = 0,
                                  .vocabulary = V,
                                  .parameters = 0},
                                 build};
  RunConfig config = parse_config(
      "", {"out=own-run", "steps=60", "batch=16", "length=32",
           "arms=slow: optimizer.rate=0.003; fast: optimizer.rate=0.03", "measure.steps=0,30,60"});
  config.measure.probes = {"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)"};
  set_model(config, model);
  train(config, {.overwrite = true, .quiet = true});
  write_report("own-run", "own-run/report.html");
  fmt::print("{}\n", summary_table("own-run"));

  // The trained weights, measured as `weir measure` measures a checkpoint.
  const ModelSource source = stored_source(model, "own-run/fast/checkpoints/step000060");
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < B * (T + 1); ++i) ids.push_back(static_cast<int32_t>(i * i % V));
  const TokenBatch batch = token_batch(B, T, ids);
  const MeasureResult result = Measurer(source, batch, {}).measure();
  fmt::print("{}", measure_table(result.record));
  return result.record.find("\"sink_mass\":[") != std::string::npos ? 0 : 1;
}
