#pragma once
// Training and validation batches from text: documents tokenised once and packed into one long row
// of ids, a separator after each, from which sequences are cut.
#include "io/text_tokens.h"
#include "lab/train/batches.h"

namespace weir {

struct TextBatchOptions {
  std::vector<std::string> files;            ///< files, folders or globs, as TextSource takes them
  std::string tokenizer = "bytes";           ///< as load_tokenizer takes it
  std::string cache = {};                    ///< folder of tokenised text; "" keeps none
  uint64_t seed = 42;                        ///< of the order of windows
  std::string key = "text";                  ///< member of JSON Lines that is a document
  TokenWishes wishes = {};                   ///< separator and begin token
  std::vector<std::string> validation = {};  ///< files held out, or one fraction such as "0.05"
};

/// The fraction that `validation` is, if it is one number.
std::optional<double> validation_fraction(const std::vector<std::string>& validation);

/// What is trained on and, where asked for, what is held out.
struct TextBatchPair {
  std::unique_ptr<BatchSource> training, validation;
};

/// Sequence n is window permutation(n mod windows) of epoch n / windows: T + 1 ids, of which the
/// last is the first of the next window, so that every id but the first is a target once an epoch.
/// With a begin token a window is T ids and the token stands before them, so that every id is a
/// target. A fraction holds out the end of the row of ids (at least one id, at most all but one);
/// files that are given for validation are left out where folders or globs of the training text
/// find them, and that is said.
/// User errors: what TextSource and load_tokenizer say; a file named for both; from fill(), a text
/// shorter than one window.
TextBatchPair make_text_batches(const TextBatchOptions& options);

/// Where element `index` of 0 .. count - 1 goes in the permutation that seed and epoch choose: a
/// Feistel network of Philox rounds on the next even power of two, walked until it is below count.
uint64_t permuted_index(uint64_t index, uint64_t count, uint64_t seed, uint64_t epoch);

}  // namespace weir
