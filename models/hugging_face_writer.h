#pragma once
// Writes a model as Hugging Face publishes them, so that `transformers` loads the folder.
#include <functional>
#include <string>
#include <vector>

#include "io/dtype.h"
#include "models/checkpoint.h"
#include "models/model.h"

namespace weir {

struct HuggingFaceOptions {
  FileDtype dtype = FileDtype::f32;      ///< of the weights: f32, f16 or bf16
  uint64_t shard_bytes = 5'000'000'000;  ///< a larger model is cut into shards with an index
  std::map<std::string, std::string> texts = {};  ///< further files by name, e.g. tokenizer.json
};

/// Elements of a weight, as f32, into memory with room for them.
using ReadWeight = std::function<void(const Parameter&, float* out)>;

/// Writes config.json, model.safetensors (or shards and model.safetensors.index.json) and the
/// further files into `folder`, which is made if need be. Each file appears whole; config.json is
/// the last one, so that a folder that was cut short is not taken for a model. At most one weight
/// is in memory at a time. User errors, before anything is written: a folder that holds a model
/// already; weights that f16 cannot hold (they are read once more to see it).
void write_hugging_face(const std::string& folder, const ModelConfig& config,
                        const std::vector<Parameter>& parameters, const ReadWeight& read,
                        const HuggingFaceOptions& options = {});

}  // namespace weir
