#include "models/llama.h"

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

const std::vector<ModelConfig>& named_configs() {
  static const std::vector<ModelConfig> configs = {
      {.name = "demo"},
      {.name = "llama-0.1b",
       .layers = 16,
       .d_model = 512,
       .heads = 8,
       .kv_heads = 8,
       .d_head = 64,
       .d_ff = 1408,
       .vocabulary = 50257,
       .context = 1024},
      {.name = "llama-0.3b",
       .layers = 16,
       .d_model = 1024,
       .heads = 8,
       .kv_heads = 4,
       .d_head = 128,
       .d_ff = 2816,
       .vocabulary = 50257,
       .context = 2048},
      {.name = "llama-1b",
       .layers = 18,
       .d_model = 2048,
       .heads = 16,
       .kv_heads = 8,
       .d_head = 128,
       .d_ff = 5504,
       .vocabulary = 50257,
       .context = 2048},
  };
  return configs;
}

}  // namespace

std::vector<std::string> llama_config_names() {
  std::vector<std::string> names;
  for (const ModelConfig& config : named_configs()) names.push_back(config.name);
  return names;
}

ModelConfig llama_config(const std::string& name) {
  for (const ModelConfig& config : named_configs())
    if (config.name == name) return config;
  user_error("model", "unknown configuration '{}'. Known: {}.{}", name,
             join(llama_config_names(), ", "), did_you_mean(name, llama_config_names()));
}

Model build_llama(const ModelConfig& config, int64_t B, int64_t T) {
  return build_model(config, B, T);
}

}  // namespace weir
