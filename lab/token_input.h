#pragma once
// Token ids to be measured or evaluated: from a NumPy array, or from text and a tokenizer.
#include <string>
#include <vector>

#include "io/tokenizer.h"
#include "lab/model_run.h"

namespace weir {

/// An array [B, T+1] of int32 or int64, ids in [0, vocabulary): columns 0..T-1 are the input, 1..T
/// the targets. User errors: what read_npy says, another type or shape, ids outside the vocabulary
/// (the first few with their place).
TokenBatch read_token_array(const std::string& path, int64_t vocabulary);

/// All ids of text files (as TextSource takes them), a separator after each document.
std::vector<int32_t> text_ids(const std::vector<std::string>& files, const Tokenizer& tokenizer);

/// The first `batch` windows of the ids: window n has ids n T .. n T + T, so that every id but the
/// first is a target once. User error when there are too few, with the largest batch there is.
TokenBatch first_windows(const std::vector<int32_t>& ids, int64_t batch, int64_t length);

/// The text of a token on one line, bytes that are no text escaped, nothing but spaces as open
/// boxes (U+2423); "#id" if the text is no ASCII.
std::string printable_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace weir
