#pragma once
// What happens to text before a model sees it: steps that change it, then steps that cut it.
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/split_pattern.h"

namespace weir {

/// The sign that stands for a space in SentencePiece's vocabularies, U+2581.
inline constexpr std::string_view kSpaceSign = "\xE2\x96\x81";

/// One step of changing text; steps act one after the other.
struct NormalStep {
  enum class Kind {
    form_c,   ///< normal form C
    prepend,  ///< `content` before text that is not empty
    replace,  ///< `content` in place of every match of `pattern`
  };
  Kind kind = Kind::form_c;
  std::string pattern;
  std::string content;
};

/// One step of cutting text into words; steps act one after the other on the pieces so far.
struct SplitStep {
  enum class Kind {
    keep_all,             ///< cut at the matches of the pattern, keep matches and gaps
    keep_matches,         ///< drop the gaps
    keep_gaps,            ///< drop the matches
    join_before,          ///< a match belongs to the gap before it
    join_after,           ///< a match belongs to the gap after it
    join_equal,           ///< matches that touch are one piece
    prefix_space,         ///< put a space before a piece that does not start with one; no pattern
    space_sign,           ///< spaces become U+2581; no pattern
    space_sign_prefixed,  ///< the same, and put U+2581 before a piece that does not start with one
    space_sign_first,     ///< the same, but only before the piece that begins the text
  };
  Kind kind = Kind::keep_all;
  std::string pattern;
  /// With a pattern: what matches is a gap, and what does not is a match.
  bool invert = false;
};

/// Steps of changing text, compiled. Immutable.
class Normalizer {
 public:
  Normalizer() = default;
  /// UserError for a pattern that does not compile.
  explicit Normalizer(const std::vector<NormalStep>& steps);
  bool empty() const { return steps_.empty(); }
  /// `text` (valid UTF-8) itself where nothing changes it, otherwise a view of `storage`.
  std::string_view operator()(std::string_view text, std::string& storage) const;

 private:
  std::vector<std::pair<NormalStep, std::optional<SplitPattern>>> steps_;
};

/// Steps of cutting text, compiled. Immutable.
class Cutter {
 public:
  using Visit = std::function<void(std::string_view)>;
  Cutter() = default;
  /// UserError for a pattern that does not compile.
  explicit Cutter(const std::vector<SplitStep>& steps);
  /// Calls visit(word) for all words of `text` in order, none of them empty. `first`: it begins the
  /// whole text.
  void operator()(std::string_view text, bool first, const Visit& visit) const;

 private:
  void cut(std::string_view piece, bool first, size_t step, const Visit& visit) const;
  std::vector<std::pair<SplitStep, std::optional<SplitPattern>>> steps_;
};

}  // namespace weir
