// The model of a run: by name, by keys, or one's own.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "lab/train/config.h"
#include "models/llama.h"
#include "support/error.h"

namespace weir {

ModelConfig named_model(const std::string& name) {
  ModelConfig model = llama_config(name);
  if (name == "demo") model.vocabulary = 0;  // that of its data
  return model;
}

void set_model(RunConfig& config, const ModelDefinition& model) {
  if (!model.build) user_error("model", "the definition has no function build.");
  const MeasuredModel& sizes = model.sizes;
  ModelConfig& m = config.model;
  m.name = sizes.name;
  m.layers = sizes.layers;
  m.d_model = sizes.d_model;
  m.heads = sizes.heads;
  m.kv_heads = sizes.kv_heads;
  m.d_head = sizes.d_head;
  m.d_ff = sizes.d_ff;
  m.vocabulary = sizes.vocabulary;
  config.own_model = std::make_shared<const ModelDefinition>(model);
}

ModelDefinition model_of(const RunConfig& config) {
  if (config.own_model && !config.own_model->build)
    user_error("model",
               "the model {} is of one's own: only the program that defines it can go on with the "
               "run (set_model of lab/train/config.h).",
               config.model.name);
  if (config.own_model) return *config.own_model;
  const ModelConfig model = resolved(config.model);
  return {{model.name, model.layers, model.d_model, model.heads, model.kv_heads, model.d_head,
           model.d_ff, model.vocabulary, 0},
          [model = config.model](int64_t B, int64_t T) { return build_model(model, B, T); }};
}

std::string named_model_help() {
  std::string text;
  for (const std::string& name : llama_config_names()) {
    const ModelConfig m = resolved(named_model(name));
    text += fmt::format(
        "  {:<12} layers {}, d_model {}, heads {}, kv_heads {}, d_head {}, d_ff {}, vocabulary "
        "{}\n",
        name, m.layers, m.d_model, m.heads, m.kv_heads, m.d_head, m.d_ff,
        m.vocabulary > 0 ? fmt::format("{}", m.vocabulary) : "of the data");
  }
  return text;
}

RunConfig standard_run(const std::string& model) {
  RunConfig config;
  config.model = llama_config(model);
  config.length = config.model.context;
  config.batch = std::max<int64_t>(1, 4096 / config.length);
  return config;
}

}  // namespace weir
