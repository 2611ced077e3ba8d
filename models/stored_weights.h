#pragma once
// The tensors of a checkpoint as its files have them, whatever their format.
#include <memory>
#include <string>
#include <vector>

#include "io/gguf_parts.h"
#include "io/safetensors.h"

namespace weir {

struct StoredTensor {
  std::string name;
  std::string dtype;  ///< as the format spells it
  std::vector<int64_t> shape;
  int64_t bytes = 0;      ///< as stored
  bool real = true;       ///< not integers, which no weight is
  std::string file = "";  ///< that holds it
};

class StoredWeights {
 public:
  virtual ~StoredWeights() = default;
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// The files that they are in.
  virtual std::vector<std::string> files() const = 0;
  /// Elements of tensors()[index] in C order, widened to f32. From any thread. The stored bytes do
  /// not stay in memory.
  virtual void read(size_t index, float* out) const = 0;

 protected:
  std::vector<StoredTensor> tensors_;
};

/// `folder` holds model.safetensors, or shards under model.safetensors.index.json. One user error
/// lists what is wrong with the index: shards outside the folder or absent, tensors that their
/// shard lacks, that are stored in another shard than the index says, twice, or without being
/// listed.
std::unique_ptr<StoredWeights> open_safetensors_folder(const std::string& folder);

/// The tensors of a GGUF model but those that the configuration is read from.
std::unique_ptr<StoredWeights> gguf_weights(GgufParts parts);

}  // namespace weir
