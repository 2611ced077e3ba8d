#pragma once
// The parsers of outside bytes, each as a function that any bytes may be given to.
#include <string>
#include <string_view>
#include <vector>

namespace weir {

struct FuzzTarget {
  const char* name;
  /// Reads the bytes and uses what came out. False when the answer is a UserError;
  /// anything else (another exception, a failed check, a crash) is a finding.
  bool (*run)(std::string_view bytes);
  /// Well-formed inputs to start from: `run` gives true.
  std::vector<std::string> (*seeds)();
};

/// safetensors, shards (an index with its files), gguf, gguf_config, config (config.json),
/// tokenizer (tokenizer.json and GGUF metadata), npy, npz, text (plain, JSON Lines, gzip) and
/// graph.
const std::vector<FuzzTarget>& fuzz_targets();
const FuzzTarget& fuzz_target(std::string_view name);

bool fuzz_safetensors(std::string_view bytes);
bool fuzz_shards(std::string_view bytes);
bool fuzz_gguf(std::string_view bytes);
bool fuzz_gguf_config(std::string_view bytes);
bool fuzz_config(std::string_view bytes);
bool fuzz_tokenizer(std::string_view bytes);
bool fuzz_npy(std::string_view bytes);
bool fuzz_npz(std::string_view bytes);
bool fuzz_text(std::string_view bytes);
bool fuzz_graph(std::string_view bytes);

std::vector<std::string> safetensors_seeds();
std::vector<std::string> shards_seeds();
std::vector<std::string> gguf_seeds();
std::vector<std::string> gguf_config_seeds();
std::vector<std::string> config_seeds();
std::vector<std::string> tokenizer_seeds();
std::vector<std::string> npy_seeds();
std::vector<std::string> npz_seeds();
std::vector<std::string> text_seeds();
std::vector<std::string> graph_seeds();

}  // namespace weir
