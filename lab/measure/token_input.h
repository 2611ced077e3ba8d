#pragma once
// Token ids to be measured or evaluated: from a NumPy array, or from text and a tokenizer.
#include <optional>
#include <string>
#include <vector>

#include "io/encoded_text.h"
#include "lab/measure/model_run.h"

namespace weir {

/// Ids of a file, each below the vocabulary.
struct TokenArray {
  std::vector<int64_t> shape;
  std::vector<int32_t> ids;
};

/// What --tokens names: FILE.npy, or FILE:TYPE for ids without a header (nanoGPT's train.bin),
/// where TYPE is the name that NumPy has for it.
struct TokenFile {
  std::string path;
  std::string type;  ///< "uint16"; "" for an array with a header
  bool headerless() const { return !type.empty(); }
};

/// A file that has the whole word as its name is one with a header.
TokenFile token_file(const std::string& word);
/// What to do where a file without the name of an array holds ids alone: " If ... say their type:
/// ..." or "".
std::string headerless_hint(const std::string& word);
/// "uint8, uint16, ...": the types that ids without a header may have.
std::string token_types();

/// A NumPy array of whole numbers of any size and shape, or ids without a header, which make an
/// array [N]: the first `wanted` of them, 0 for all. User errors: what read_npy says; another type;
/// ids outside the vocabulary (the first few with their place); a file that has no header where
/// none is said to be absent, or a header all the same; bytes that are no whole number of ids;
/// every second id 0, as where the type is twice as wide.
TokenArray read_token_ids(const std::string& word, int64_t vocabulary, size_t wanted = 0);

/// An array [B, T+1]: columns 0..T-1 are the input, 1..T the targets. With a begin token [B, T]:
/// all columns are targets, and the input is this token and columns 0..T-2. User errors: those of
/// read_token_ids; another shape.
TokenBatch read_token_array(const std::string& path, int64_t vocabulary,
                            std::optional<int32_t> begin = std::nullopt);

/// Ids that are read, with a begin token before them if there is one, to fill `batch` windows of
/// `length`.
size_t ids_of_windows(int64_t batch, int64_t length, const TextTokens& tokens);

/// The first `batch` windows of the ids. Without a begin token window n has ids n T .. n T + T, so
/// that every id but the first is a target once; with one it has this token and ids n T .. n T +
/// T - 1, so that every id is. User error when there are too few, with the largest batch there is.
TokenBatch first_windows(const std::vector<int32_t>& ids, int64_t batch, int64_t length,
                         const TextTokens& tokens = {});

/// What records say of the tokens around text: a JSON object with "separator" and "begin_token",
/// each {"id", "token", "source"}, without "token" where its spelling is no text; "id" is null
/// where there is none.
std::string tokens_json(const TextTokens& tokens);

/// The text of a token on one line, bytes that are no text escaped, nothing but spaces as open
/// boxes (U+2423); "#id" if the text is no ASCII.
std::string printable_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace weir
