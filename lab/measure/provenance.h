#pragma once
// What the numbers of a record come from: the object "provenance" of `weir.measure/1` and
// `weir.eval/1` (lab/README.md has its fields). All that differs between two equal measurements -
// command, time, paths - stands in it and nowhere else in a record.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace weir {

struct Provenance {
  std::string command = {}, target = {};
  std::string model = {};                      ///< path, as it was given
  std::vector<std::string> weight_files = {};  ///< that the weights are in
  std::string input_kind = {};                 ///< "text" or "tokens"
  std::vector<std::string> input_files = {};
  /// Of text; empty where token ids were given.
  std::string tokenizer = {}, tokenizer_fingerprint = {};
  std::optional<int32_t> begin_token = {}, separator = {};  ///< put between the ids of the text
};

/// One JSON object as text; without "model" or "input" and "tokens" where there are none. Paths are
/// made absolute, the time is now (UTC); every file is read whole for its hash. `ids` are those
/// that the model is given: of a batch, row by row. User error if a file cannot be read.
std::string provenance_json(const Provenance& provenance, std::span<const int32_t> ids);

/// The same text with another model, of which `model` has path and files: the same input was given
/// to several. User error if a file cannot be read.
std::string with_model(const std::string& provenance, const Provenance& model);

/// The ids of sequences and, one further, of targets as [B, T+1], row by row.
std::vector<int32_t> ids_of_batch(std::span<const int32_t> tokens, std::span<const int32_t> targets,
                                  int64_t length);

}  // namespace weir
