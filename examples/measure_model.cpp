// A measurement through the API: any model with hook names, whose weights come from anywhere, is
// measured as `weir measure` does it - attention sinks, massive activations, gradient sinks.
#include <fmt/format.h>

#include "engine/memory.h"
#include "lab/measure/measure.h"
#include "lab/report/measure_summary.h"
#include "lab/train/trainer.h"
#include "models/llama.h"

int main() {
  using namespace weir;
  constexpr int64_t B = 2, T = 64;
  const ModelConfig config{.name = "random",
                           .layers = 3,
                           .d_model = 64,
                           .heads = 4,
                           .kv_heads = 2,
                           .d_head = 16,
                           .d_ff = 128,
                           .vocabulary = 50};

  // Where the model and its weights come from; checkpoint_source() makes this of a checkpoint.
  ModelSource source;
  source.sizes = {config.name,     config.layers, config.d_model, config.heads,
                  config.kv_heads, config.d_head, config.d_ff,    config.vocabulary};
  source.build = [&](int64_t rows, int64_t length) { return build_llama(config, rows, length); };
  source.read = [](const Parameter& parameter, float* out) {
    initialise_parameter(parameter, /*seed=*/5, out);
  };
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < B * (T + 1); ++i) ids.push_back(static_cast<int32_t>(i * i % 49));
  const TokenBatch batch = token_batch(B, T, ids);

  MeasureTask task;
  task.probes = {"blocks.*.attn.hook_v : norm(feature), mean(batch,head)"};
  Measurer measurer(source, batch, task);  // planned and compiled: its memory is known
  fmt::print("Peak memory {}\n\n", to_string(measurer.run().memory()));
  const MeasureResult result = measurer.measure();
  fmt::print("{}\n", measure_table(result.record));  // the record is one line of JSON
  for (const auto& [id, value] : result.kept)
    fmt::print("{}: {:.4f} at token 0\n", id, value.data[0]);

  const AttentionMap map = attention_maps(source, batch, task, {{1, 2}}).front();
  double row = 0;
  for (int64_t key = 0; key <= 9; ++key) row += map.weights.at({0, 0, 9, key});
  fmt::print("layer 1, head 2: the weights of query 9 sum to {:.6f}\n", row);
  const bool kept = peak_resident_memory() <= measurer.run().memory().total();
  return kept && result.kept.size() == 3 && row > 0.9999 && row < 1.0001 ? 0 : 1;
}
