#pragma once
// The options by which `weir measure` and the experiments take the batch that a model is run on:
// token ids, or text that is cut into sequences.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "lab/measure/model_run.h"
#include "lab/measure/provenance.h"
#include "models/checkpoint.h"
#include "tools/options.h"
#include "tools/text_options.h"

namespace weir {

/// What --sink-token is where the key with the largest mean mass is meant.
inline constexpr const char* kAutoSink = "auto";
/// The position that --sink-token names; nothing for kAutoSink, and for what sink_rule refuses.
std::optional<int64_t> sink_position(const std::string& text);
/// A position or auto.
ValueRule sink_rule();

struct BatchOptions {
  std::string tokens;
  TextOptions text;
  int64_t batch = 4, length = 256;
  /// Sequences of so many tokens that are read behind those of the batch; none if not set.
  std::function<int64_t(int64_t length)> behind = {};

  /// --tokens, those of text, --batch and --length.
  void add_to(OptionTable& table);
  /// Adds what is wrong between these options.
  void check(const OptionTable& table, UsageProblems& problems) const;
  /// Whether --tokens is an array with a shape of its own, to be read before its length is known.
  bool is_shaped() const;
  /// Opens the text and its tokenizer; leaves nothing for token ids. User errors: those of
  /// TextInput.
  void open(const std::string& model, std::optional<TextInput>& input) const;
  /// The batch, with the sequences behind it; an array with a shape of its own is read whole. What
  /// it was made of goes into `provenance`. User errors: those of the files and of
  /// TextOptions::around_ids.
  TokenBatch read(const std::string& model, int64_t vocabulary,
                  const std::optional<TextInput>& input, Provenance& provenance) const;

 private:
  TokenBatch read_ids(const std::string& model, int64_t vocabulary, Provenance& provenance) const;
  int64_t sequences() const { return batch + (behind ? behind(length) : 0); }
};

}  // namespace weir
