#pragma once
// What is known of an architecture, as data: how its blocks are made, and what its files call the
// configuration and the weights. Builder, loaders, writers and checks read the description; a
// further architecture is a row of models/architectures.cpp.
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "models/block.h"
#include "models/config.h"

namespace weir {

// Beyond these no model exists, and products of sizes stay within 63 bits.
constexpr int64_t kMostLayers = 4096, kMostHeads = 1 << 16, kMostWidth = 1 << 24;
constexpr int64_t kMostContext = 1LL << 40;

// ---- What a key of a configuration means. ----

/// An integer >= 1. Where it may be null it becomes 0, or `times_width` times d_model, whose key
/// stands above it.
struct SizeKey {
  int64_t ModelConfig::* member;
  int64_t most;
  bool shapes = false;  ///< a size of weights: a warning says when its default is taken
  int64_t times_width = 0;
};
/// A number >= 0. Where it may be null that becomes 0, and 0 is written as null.
struct NumberKey {
  double ModelConfig::* member;
  /// Of one that is not 0.
  double least = 0, most = std::numeric_limits<double>::max();
};
struct FlagKey {
  bool ModelConfig::* member;
};
/// A flag for biases, of those model types whose class has the key; passed over in others. Written
/// if it is true.
struct BiasKey {
  bool ModelConfig::* member;
};
/// A flag that chooses a gate, of model code that the library does not have
/// (qiuzh20/gated_attention for Qwen 3). Written if it is true.
struct GateKey {
  OutputGate gate;
};
/// One of these words, of which the first is written; any other would make another model.
struct WordKey {
  std::vector<const char*> allowed;
};
/// Any other value would make another model, but null where it may be. Not written.
struct FixedKey {
  bool value;
};
/// Another name of a size, which the library does not read; a note says so if it differs.
struct UnreadKey {
  int64_t ModelConfig::* member;
  const char* counts;  ///< the key that does
};
/// Keys that models/hugging_face_rope.h and the window's reader read together; one key of each
/// group stands for what is written. What is `read_only` is not written, or read by nothing.
enum class TogetherKey : uint8_t { rope_base, rope_scaling, window, read_only };

using KeyMeaning = std::variant<SizeKey, NumberKey, FlagKey, BiasKey, GateKey, WordKey, FixedKey,
                                UnreadKey, TogetherKey>;

/// One key of a configuration under its names in both formats; "" where a format has none.
struct ModelKey {
  const char* hugging_face;  ///< in config.json
  const char* gguf;          ///< behind the architecture and a dot; of sizes, numbers, base, window
  KeyMeaning meaning;
  bool gguf_needed = false;  ///< llama.cpp requires it
};

// ---- The architecture. ----

/// A model type of Hugging Face. Its defaults are in hugging_face_defaults().
struct ModelType {
  const char* name;           ///< model_type
  const char* library_class;  ///< in `architectures`
  bool windowed = false;      ///< the one that is written for models with a sliding window
};

struct Architecture {
  const char* name;   ///< in GGUF, and ModelConfig::architecture
  const char* title;  ///< in messages
  /// With the biases that every model of it has.
  BlockDescription block;
  /// Whether ModelConfig::attention_bias (on all four projections) and mlp_bias add some.
  bool chooses_attention_bias = false, chooses_mlp_bias = false;
  /// As many key heads as heads, and d_model / heads features in each: no key says otherwise.
  bool full_heads = false;
  /// The rows of q and k in GGUF are permuted for the rotation of neighbours.
  bool gguf_neighbours = false;
  std::vector<ModelType> types;
  /// In the order in which config.json has them when it is written.
  std::vector<ModelKey> keys;
  /// Patterns of tensors that some versions of the library stored and all compute.
  std::vector<const char*> computed_tables;
  /// The names of the weights in GGUF.
  WeightNames gguf_names;
  /// What llama.cpp takes for keys that a file leaves out.
  ModelConfig gguf_start = {};
  /// What it derives from other keys, as GGUF has none for it; null: nothing.
  void (*gguf_derived)(ModelConfig&) = nullptr;
};

/// All, in the order in which messages list them.
const std::vector<Architecture>& architectures();
/// That of a configuration.
const Architecture& architecture_of(const ModelConfig& config);

/// How the blocks of a configuration are made: those of its architecture with the biases that the
/// configuration chooses.
BlockDescription block_description(const ModelConfig& config);

}  // namespace weir
