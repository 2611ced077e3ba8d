#pragma once
// The options by which `weir measure` and `weir eval` take text: files, their tokenizer, and the
// tokens around them.
#include <memory>
#include <string>
#include <vector>

#include "io/encoded_text.h"
#include "tools/options.h"

namespace weir {

inline constexpr const char* kSeparatorMeaning =
    "token between documents: an id, a token, none, or auto: the end token that "
    "tokenizer_config.json, "
    "config.json, generation_config.json or GGUF keys name (io/README.md)";
inline constexpr const char* kBeginMeaning =
    "token at the begin of every sequence: an id, a token, none, tokenizer: its begin token, or "
    "auto: "
    "as transformers adds it";
inline constexpr const char* kTextKeyMeaning = "member of a line of JSON Lines that is a document";

/// The path of a model that exists, a folder or a file with the files that go with it.
ValueRule model_path_rule();
/// bytes, or the path of a tokenizer that exists.
ValueRule tokenizer_path_rule();
/// FILE.npy, or FILE:TYPE of ids without a header (lab/measure/token_input.h).
ValueRule token_file_rule();
/// Texts that name files, folders or globs of text.
ValueRule text_files_rule();

struct TextOptions {
  std::vector<std::string> text;
  std::string tokenizer, separator = "auto", begin_token = "auto", key = "text";

  void add_to(OptionTable& table);
  /// Adds what is wrong between options and with the files of text, before they are read.
  void check(const OptionTable& table, UsageProblems& problems) const;
  std::vector<std::string> files() const;
  /// Of ids that are given instead of text: the begin token that --begin-token names, by its id
  /// without any tokenizer, else by the tokenizer given or the model's own. Nothing for auto, since
  /// ready-made ids may begin with one already. User errors: those of load_tokenizer and
  /// choose_text_tokens; an id beyond the vocabulary.
  TextTokens around_ids(const std::string& model, int64_t vocabulary) const;
  TokenWishes wishes() const { return {.separator = separator, .begin = begin_token}; }
};

/// The text of the options and the tokenizer that goes with it: the one that is given, or the
/// model's own.
class TextInput {
 public:
  /// User errors: those of load_tokenizer and choose_text_tokens.
  TextInput(const TextOptions& options, const std::string& model);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const TextTokens& tokens() const { return tokens_; }
  /// As encode_text has it; warns of what does not come back. User error for an id that
  /// a model of that vocabulary does not have.
  EncodedText encode(int64_t vocabulary, size_t wanted = 0) const;
  /// Tells what stands around documents, once nothing can be wrong with the call any more.
  void print_tokens() const;

 private:
  void need_vocabulary(const std::vector<int32_t>& ids, int64_t vocabulary) const;

  const TextOptions* options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TextTokens tokens_;
};

}  // namespace weir
