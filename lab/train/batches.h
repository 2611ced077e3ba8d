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

}  // namespace weir
