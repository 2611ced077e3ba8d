#include "fuzz/targets.h"

#include <stdexcept>

namespace weir {

const std::vector<FuzzTarget>& fuzz_targets() {
  static const std::vector<FuzzTarget> targets = {
      {"safetensors", fuzz_safetensors, safetensors_seeds},
      {"shards", fuzz_shards, shards_seeds},
      {"gguf", fuzz_gguf, gguf_seeds},
      {"gguf_config", fuzz_gguf_config, gguf_config_seeds},
      {"config", fuzz_config, config_seeds},
      {"tokenizer", fuzz_tokenizer, tokenizer_seeds},
      {"npy", fuzz_npy, npy_seeds},
      {"npz", fuzz_npz, npz_seeds},
      {"text", fuzz_text, text_seeds},
      {"graph", fuzz_graph, graph_seeds},
  };
  return targets;
}

const FuzzTarget& fuzz_target(std::string_view name) {
  for (const FuzzTarget& target : fuzz_targets())
    if (name == target.name) return target;
  throw std::out_of_range("no fuzz target " + std::string(name));
}

}  // namespace weir
