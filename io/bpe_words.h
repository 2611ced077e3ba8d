#pragma once
// How one word of a byte-pair encoding becomes ids: by ranked merges of its bytes or characters, or
// by the scores of SentencePiece.
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/bpe.h"
#include "io/hash.h"
#include "io/merge_table.h"

namespace weir {

class Problems;

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return hash_64(text); }
};
template <typename Value>
using TextMap = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

/// What one thread needs while encoding a word; kept between calls for its memory.
struct WordScratch {
  struct Symbol {
    int32_t id = 0;
    int32_t previous = 0;
    int32_t next = 0;  ///< -1 at the end
    bool alive = true;
    bool whole = false;  ///< never joined to a neighbour
    size_t begin = 0;    ///< scored: the bytes of the word
    size_t end = 0;
  };
  struct Ranked {
    MergeTable::Merge merge;
    int32_t at;
    /// The heap's top is the least rank and, among equals, the leftmost.
    bool operator<(const Ranked& other) const {
      return std::pair(merge.rank, at) > std::pair(other.merge.rank, other.at);
    }
  };
  struct Scored {
    float score;
    int32_t at;
    size_t bytes;  ///< of both parts together
    /// The heap's top is the greatest score and, among equals, the leftmost.
    bool operator<(const Scored& other) const {
      return score != other.score ? score < other.score : at > other.at;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Ranked> ranked;
  std::vector<Scored> scored;
};

/// Immutable.
class WordEncoder {
 public:
  virtual ~WordEncoder() = default;
  /// Appends the ids of a word that is not empty.
  virtual void encode(std::string_view word, WordScratch& scratch,
                      std::vector<int32_t>& ids) const = 0;
};

/// `ids` has the spellings of model.tokens. Problems: merges whose parts or result are no tokens,
/// scores of another number than tokens, an unknown token that is none.
std::unique_ptr<WordEncoder> make_word_encoder(const BpeModel& model, const TextMap<int32_t>& ids,
                                               Problems& problems);

}  // namespace weir
