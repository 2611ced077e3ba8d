#pragma once
// A model as it is published: a folder of Hugging Face (config.json, safetensors, tokenizer) or a
// GGUF file, opened, checked whole, and read weight by weight.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "io/tokenizer.h"
#include "models/model.h"
#include "models/stored_weights.h"
#include "models/tensor_names.h"

namespace weir {

class Problems;

class Checkpoint {
 public:
  /// `path` is a folder with config.json and safetensors (single or by shards), a .gguf file (of
  /// several, any), or a folder with exactly one such model. User errors list all at once:
  /// configuration keys or values that are not supported; then tensors that are missing, misshapen,
  /// or not of the model. Weights that a rewrite adds (ir/rewrite_state.h) need the rewrite in the
  /// configuration (weir_rewrites); learned sinks as gpt-oss has them, in every layer, speak for
  /// themselves. Warns of what was decided about the configuration (its notes).
  static Checkpoint open(const std::string& path);

  /// What the user gave, and what the model is called: the folder's or the file's own name.
  const std::string& path() const { return path_; }
  const std::string& name() const { return config_.name; }
  const ModelConfig& config() const { return config_; }
  /// The graph with its weights under Hugging Face names, as models/model.h has it. Warns, once, of
  /// a T beyond the context that the configuration states.
  Model build(int64_t B, int64_t T) const;

  /// Whether the weight is stored: every weight of the model is, and of the states that a rewrite
  /// adds (theta of V-scale) those that the model was trained with (config().rewrites).
  bool has(const Parameter& parameter) const;
  /// The elements of such a weight, widened to f32; user error for another. From any
  /// thread. Values that are not finite are remembered.
  void read(const Parameter& parameter, float* out) const;
  /// A line for each tensor in which `read` met a NaN or an infinity: file, tensor, what and where
  /// the first is, how many there are.
  std::vector<std::string> not_finite() const;
  /// User error with those lines, if there are any.
  void need_finite() const;
  /// The type that the file stores the weight in, as the format spells it ("BF16", "Q4_1").
  const std::string& stored_dtype(const Parameter& parameter) const;

  /// Bytes of the largest tensor as it is stored; while one is read, so much of a file is in
  /// memory.
  int64_t largest_stored_bytes() const;
  /// The files that the weights are in.
  std::vector<std::string> weight_files() const { return weights_->files(); }

  /// The tokenizer that comes with the model; user error if there is none.
  std::unique_ptr<Tokenizer> tokenizer() const;

 private:
  struct Place {
    size_t index = 0;  ///< in the stored tensors
    StoredAs stored = StoredAs::same;
  };
  Checkpoint() = default;
  void open_folder();
  void open_gguf(const std::string& file);
  /// Finds the stored tensor of every weight, or lists what does not fit.
  void locate(bool gguf);
  void check_rest(const std::vector<bool>& used, bool gguf, Problems& problems);
  /// States of rewrites that the configuration does not name, by their names: taken with a note
  /// where the tensors alone say which rewrite it is, else a problem that says what is to be done.
  void settle_states(const std::map<std::string, size_t>& unsaid, Problems& problems);
  const Place& place_of(const Parameter& parameter) const;
  /// Elements of the stored tensor as the file has them.
  void read_stored(size_t index, float* out) const;

  std::string path_;
  ModelConfig config_;
  std::shared_ptr<const GgufFile> gguf_;  ///< with the metadata; null for a folder
  std::unique_ptr<StoredWeights> weights_;
  std::unordered_map<std::string, Place> places_;
  /// What is found while the model is used.
  struct Findings {
    std::mutex mutex;
    std::map<size_t, std::string> not_finite;  ///< by the stored tensor
    bool warned_of_length = false;
  };
  std::unique_ptr<Findings> findings_ = std::make_unique<Findings>();
};

}  // namespace weir
