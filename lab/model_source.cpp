#include "lab/model_source.h"

#include <filesystem>

namespace weir {
namespace {

namespace fs = std::filesystem;

int64_t bytes_of_weights(const fs::path& path) {
  if (!fs::is_directory(path)) return static_cast<int64_t>(fs::file_size(path));
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path))
    if (const auto kind = entry.path().extension(); kind == ".safetensors" || kind == ".gguf")
      bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

}  // namespace

ModelSource checkpoint_source(std::shared_ptr<const Checkpoint> checkpoint) {
  const ModelConfig config = resolved(checkpoint->config());
  ModelSource source;
  source.sizes = {checkpoint->name(), config.layers,     config.d_model,
                  config.heads,       config.kv_heads,   config.d_head,
                  config.d_ff,        config.vocabulary, 0};
  source.mapped_bytes = bytes_of_weights(checkpoint->path());
  source.build = [checkpoint](int64_t B, int64_t T) { return checkpoint->build(B, T); };
  source.read = [checkpoint](const Parameter& parameter, float* out) {
    checkpoint->read(parameter, out);
  };
  return source;
}

}  // namespace weir
