#pragma once
// Byte-pair encoding with the exact behaviour of Hugging Face `tokenizers`: over the bytes of text
// (GPT-2 and its descendants) or over its characters (Llama 2, Mistral, Gemma), there also by the
// scores of SentencePiece. The model is a plain value, so that any file format can supply it.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/special_tokens.h"
#include "io/text_steps.h"
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

/// How ids become text again, over the spelling of their tokens.
struct Decoding {
  /// U+2581 is a space.
  bool space_signs = false;
  /// A token "<0x41>" is the byte 0x41.
  bool bytes = false;
  /// So many spaces at the begin of the text are left out.
  size_t strip = 0;
  /// The first token loses its U+2581 (the decoder `Metaspace`).
  bool strip_first_token = false;
};

struct BpeModel {
  /// Where it came from, for messages.
  std::string source;
  /// Whether the symbols that are merged begin as characters of the text, spelt as they are, and
  /// not as its bytes, spelt in the byte-level alphabet.
  bool characters = false;
  /// Spelling by id; "" where there is no such id.
  std::vector<std::string> tokens;
  /// Pairs of spellings, most preferred first.
  std::vector<std::pair<std::string, std::string>> merges;
  /// Only with `characters`, in place of merges: by id, how much it is preferred that neighbours
  /// are joined to this token, whatever their own spelling; of equals the leftmost.
  std::vector<float> scores;
  /// Only with scores: tokens whose spelling is found in a text first and is never joined to
  /// anything, the longest at the leftmost place, and those that nothing is joined to.
  std::vector<int32_t> whole;
  std::vector<int32_t> never;
  std::vector<AddedToken> added;
  /// How text between added tokens is changed, then cut.
  std::vector<NormalStep> normal_steps;
  std::vector<SplitStep> steps;
  /// A word that is itself a token is taken whole, without merging (Llama 3).
  bool ignore_merges = false;
  /// Characters without a token are spelt by the tokens "<0x00>" to "<0xFF>" of their bytes, if all
  /// of these are there.
  bool byte_fallback = false;
  /// Spelling of the token for what has no token of its own; "" where there is none, and it is then
  /// left out (SmolLM2 has no token for 21 bytes).
  std::string unknown;
  /// Consecutive unknown symbols give one unknown token.
  bool fuse_unknown = false;
  Decoding decoding;
  /// What the files say about begin and end; it changes no id and is no part of the fingerprint.
  SpecialTokens special;
};

/// Equal for models that give the same ids and the same text back, otherwise different.
std::string model_fingerprint(const BpeModel& model);

/// The id of a token by its spelling, added tokens first; nothing when the model has none.
std::optional<int32_t> token_id(const BpeModel& model, std::string_view text);

/// The model of a file as load_tokenizer takes it, with what lies beside it (special_tokens.h).
BpeModel load_bpe_model(const std::string& file);

/// The 256 bytes in order and nothing else: the byte tokenizer as a file can hold it.
BpeModel byte_model();
bool is_byte_model(const BpeModel& model);

/// The spelling of the token that stands for a byte, e.g. "<0x0A>".
std::string byte_spelling(unsigned char byte);

/// Text is Unicode to this tokenizer: ill-formed UTF-8 is first replaced as valid_utf8 says, which
/// is what reaches Hugging Face's tokenizer too. decode() gives bytes, also when a cut through the
/// ids leaves half a character. It gives the bytes of the text back where that is valid UTF-8 in
/// the model's normal form, has a token for each of its bytes and no white space or prefix that
/// the model drops or adds. Words of up to 64 bytes are remembered with their ids. The steps of a
/// character model that cut nothing leave whole documents to be merged; where no token goes on with
/// a space after another character, they are cut there, which changes no id.
///
/// UserError that lists all of: merges whose parts or result are no tokens, a token given twice, an
/// added token whose id is taken by another, a pattern that does not compile.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeModel model);

}  // namespace weir
