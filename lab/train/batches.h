#pragma once
// Where training batches come from. Batch n is a pure function of n, so a resumed run sees the same
// data without a position to keep.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/text_tokens.h"

namespace weir {

/// What a source is made of. A run is continued with data of the same hash alone.
struct DataFacts {
  /// Of what the batches depend on besides the configuration: the bytes of files, the tokenizer,
  /// how documents are divided. "" if there is nothing.
  std::string hash = {};
  std::string what = {};                  ///< BatchSource::describe()
  int64_t tokens = 0, documents = 0;      ///< of text
  std::optional<TextTokens> around = {};  ///< of text: separator and begin token
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Fills `tokens` and `targets`, each [rows * T], with sequences first .. first + rows - 1 of the
  /// training stream. A target of -1 is to be ignored.
  virtual void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
                    int32_t* targets) const = 0;
  /// Sequences of an epoch, after which they come again in another order; 0: none ever does, or
  /// there is too little text for one.
  virtual int64_t sequences(int64_t /*T*/) const { return 0; }
  /// Ids are below this.
  virtual int64_t vocabulary() const = 0;
  /// The largest id that occurs, which may be far below the vocabulary.
  virtual int32_t largest_id() const { return static_cast<int32_t>(vocabulary()) - 1; }
  /// A printable name of an id, for figures.
  virtual std::string token_text(int32_t id) const = 0;
  /// Files by name that turn text into these ids (io/tokenizer_files.h); none if it isn't text.
  virtual std::map<std::string, std::string> tokenizer_files() const { return {}; }
  /// What the run's record says of the data, and by what a resumed run knows them again.
  virtual DataFacts facts() const { return {.what = describe()}; }
  /// One line for people: what it is, how large.
  virtual std::string describe() const = 0;
};

/// Bigram-Backcopy (Guo et al., "Active-Dormant Attention Heads", 2024): a sequence starts with
/// <s>; the next token after a trigger is the token before it (back-copy), otherwise it is drawn
/// from the current token's row of a Markov source. Triggers are the k most frequent symbols.
struct BackcopyOptions {
  uint64_t seed = 42;
  int64_t triggers = 3;
  /// Bytes whose bigrams are the Markov source; empty means the synthetic one below.
  std::string text = {};
  /// Synthetic source: symbols with a Zipf unigram law p_i ~ 1 / (i + 1); each row is a Dirichlet
  /// draw around it with this concentration (small: rows far apart; large: rows near the law).
  int64_t symbols = 64;
  double concentration = 8;
  /// Whether a sequence starts with <s>. Without it sequence n is the same but for that token: it
  /// starts with the symbol that would follow, which is no trigger, and has one more at its end.
  /// The vocabulary keeps <s>, so that models are of one size.
  bool begin = true;
};

/// A user error lists every bad option.
std::unique_ptr<BatchSource> make_backcopy(const BackcopyOptions& options);

/// What Bigram-Backcopy's best predictor loses, in nats: at back-copy positions 0, elsewhere the
/// entropy of the row, averaged over `sequences` sequences of length T.
struct BackcopyOracle {
  double loss = 0;            ///< mean over all positions
  double bigram_loss = 0;     ///< mean over positions that are drawn
  double backcopy_share = 0;  ///< share of positions that are copied
};
BackcopyOracle backcopy_oracle(const BackcopyOptions& options, int64_t sequences, int64_t T);

/// Multi-query associative recall (MQAR; Arora et al., "Zoology", 2023): what a sequence says of
/// its keys is asked for at its end.
///
///   <s> | f k3 v7 f f k0 v1 f ... | k0 k3
///                                   v1 v7     targets
///
/// `pairs` different keys, each with a value behind it, stand in random order and at random places
/// among filler symbols, of which there are as many as `length` leaves room for. Then `queries` of
/// the keys come again, each once. The target of a queried key, the *answer*, is its value; it
/// stands in no sequence, so that nothing can be told from the answers before. Keys, values and
/// fillers are drawn uniformly. The best predictor loses 0 at the answers, and guessing loses
/// ln(values).
struct RecallOptions {
  uint64_t seed = 42;
  int64_t pairs = 8, keys = 64, values = 64;
  int64_t queries = 8;
  int64_t fillers = 32;      ///< different filler symbols
  bool answers_only = true;  ///< whether others than answers are -1, not the next token
  bool begin = true;         ///< whether a sequence starts with <s>; if not, it has one more filler
};

/// What is wrong with the options for sequences of `length` tokens, by the names of keys of a run.
std::vector<std::string> recall_problems(const RecallOptions& options, int64_t length);
/// A user error lists every bad option; fill() has one for a length that is too short.
std::unique_ptr<BatchSource> make_recall(const RecallOptions& options);

/// Sequences of an unlimited source that no training reaches: number n is sequence 2^61 + n.
std::unique_ptr<BatchSource> held_out(std::unique_ptr<BatchSource> source);

}  // namespace weir
