#pragma once
// Byte-level byte-pair encoding (GPT-2 and its descendants), with the exact behaviour of Hugging
// Face `tokenizers`. The model is a plain value, so that any file format can supply it.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/special_tokens.h"
#include "io/tokenizer.h"

namespace weir {

/// A token that is matched in the text before anything else; the longest of those at the leftmost
/// place wins.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  /// Matched in a second round, in what the tokens without this mark have left and after the text
  /// was brought to its normal form.
  bool normalized = false;
  /// Only where no letter, mark, digit or connector stands directly before or after it.
  bool single_word = false;
  /// White space before it, or after it, belongs to it.
  bool strip_left = false;
  bool strip_right = false;
};

/// One step of cutting text into words; steps act one after the other on the pieces so far.
struct SplitStep {
  enum class Kind {
    keep_all,      ///< cut at the matches of the pattern, keep matches and gaps
    keep_matches,  ///< drop the gaps
    keep_gaps,     ///< drop the matches
    prefix_space,  ///< put a space before a piece that does not start with one; no pattern
  };
  Kind kind = Kind::keep_all;
  std::string pattern;
};

struct BpeModel {
  /// Where it came from, for messages.
  std::string source;
  /// Spelling by id, in the byte-level alphabet; "" where there is no such id.
  std::vector<std::string> tokens;
  /// Pairs of spellings, most preferred first.
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added;
  /// Text between added tokens is brought to normal form C (Qwen).
  bool normal_form_c = false;
  std::vector<SplitStep> steps;
  /// A word that is itself a token is taken whole, without merging (Llama 3).
  bool ignore_merges = false;
  /// Spelling of the token for bytes that have no token of their own; "" where there is none, and
  /// such a byte is then left out (SmolLM2 has no token for 21 bytes).
  std::string unknown;
  /// Consecutive unknown bytes give one unknown token.
  bool fuse_unknown = false;
  /// What the files say about begin and end; it changes no id and is no part of the fingerprint.
  SpecialTokens special;
};

/// The id of a token by its spelling, added tokens first; nothing when the model has none.
std::optional<int32_t> token_id(const BpeModel& model, std::string_view text);

/// The 256 bytes in order and nothing else: the byte tokenizer as a file can hold it.
BpeModel byte_model();
bool is_byte_model(const BpeModel& model);

/// Text is Unicode to this tokenizer: ill-formed UTF-8 is first replaced as valid_utf8 says, which
/// is what reaches Hugging Face's tokenizer too. decode() gives bytes, also when a cut through the
/// ids leaves half a character. It gives the bytes of the text back where that is valid UTF-8 in
/// the model's normal form, has a token for each of its bytes and no white space or prefix that
/// the model drops or adds. Words of up to 64 bytes are remembered with their ids.
///
/// UserError that lists all of: merges whose parts or result are no tokens, a token given twice, an
/// added token whose id is taken by another, a pattern that does not compile.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeModel model);

}  // namespace weir
