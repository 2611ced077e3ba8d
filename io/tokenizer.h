#pragma once
// Text to token ids and back. Tokenizers are immutable and may be used from several threads.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/special_tokens.h"

namespace weir {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Appends the ids of the text; no begin or end token is added.
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
  std::vector<int32_t> encode(std::string_view text) const;

  /// The bytes that the ids stand for, special tokens included. UserError for an id outside the
  /// vocabulary.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;

  /// One more than the largest id.
  virtual int32_t vocabulary_size() const = 0;
  /// The id that separates documents, if the vocabulary has one: special_tokens().end, otherwise
  /// a token of a usual name ("<|endoftext|>", "<|end_of_text|>", "</s>").
  virtual std::optional<int32_t> end_of_text() const = 0;
  /// Begin, end and padding token as the tokenizer's own files name them.
  virtual const SpecialTokens& special_tokens() const = 0;
  /// The id of a whole token given as text, e.g. "<|endoftext|>".
  virtual std::optional<int32_t> token_id(std::string_view text) const = 0;
  /// Equal for tokenizers that give the same ids for every text, otherwise different (128-bit
  /// hash).
  virtual std::string fingerprint() const = 0;
  /// One line for logs, e.g. "BPE, 50257 entries, 50000 merges".
  virtual std::string description() const = 0;
};

/// Ids 0..255 are the bytes of the text, whatever its encoding. Documents are separated by byte 0,
/// which text does not contain.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

/// `what` is "bytes", a tokenizer.json, a vocab.json with its merges.txt beside it, a .gguf file,
/// or a folder that holds tokenizer.json or the pair (tokenizer.json preferred). A tokenizer.json
/// of the 256 bytes and nothing else is the byte tokenizer.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& what);

}  // namespace weir
