#pragma once
// Training batches from text: documents tokenised once and packed into one long row of ids, a
// separator after each, from which sequences are cut.
#include "lab/batches.h"

namespace weir {

struct TextBatchOptions {
  std::vector<std::string> files;   ///< files, folders or globs, as TextSource takes them
  std::string tokenizer = "bytes";  ///< as load_tokenizer takes it
  std::string cache;                ///< folder of tokenised text; "" keeps none
  uint64_t seed = 42;               ///< of the order of windows
};

/// Sequence n is window permutation(n mod windows) of epoch n / windows: T + 1 ids, of which the
/// last is the first of the next window, so that every id but the first is a target once an epoch.
/// User errors: what TextSource and load_tokenizer say; from fill(), a text shorter than T + 1 ids.
std::unique_ptr<BatchSource> make_text_batches(const TextBatchOptions& options);

/// Where element `index` of 0 .. count - 1 goes in the permutation that seed and epoch choose: a
/// Feistel network of Philox rounds on the next even power of two, walked until it is below count.
uint64_t permuted_index(uint64_t index, uint64_t count, uint64_t seed, uint64_t epoch);

}  // namespace weir
