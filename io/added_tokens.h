#pragma once
// Finding the added tokens of a model in a text, before anything else looks at it.
#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "io/bpe.h"

namespace weir {

/// Finds added tokens: those that start with a byte are tried at it from the longest on. What is
/// found does not depend on the white space that an earlier token took in, as in Hugging Face's
/// tokenizers: a token found inside such white space is given too, and what follows it is text, but
/// one that takes in white space before itself is left out if nothing of it remains.
class AddedMatcher {
 public:
  void add(const AddedToken& token) {
    auto& candidates = by_first_[static_cast<unsigned char>(token.content[0])];
    candidates.push_back(token);
    std::stable_sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
      return a.content.size() > b.content.size();
    });
    any_ = true;
  }
  /// Calls text(piece) and token(id) in order.
  template <typename OnText, typename OnToken>
  void split(std::string_view text, OnText on_text, OnToken on_token) const {
    size_t begin = 0;
    for (size_t at = 0; any_ && at < text.size();) {
      const AddedToken* found = match(text.substr(at));
      if (found == nullptr) {
        ++at;
        continue;
      }
      size_t from = at;
      size_t to = at += found->content.size();
      // A token refused for what stands beside it hides shorter ones at its place all the same.
      if (!widen(*found, text, begin, from, to)) continue;
      if (from > begin) on_text(text.substr(begin, from - begin));
      on_token(found->id);
      begin = to;
    }
    if (begin < text.size()) on_text(text.substr(begin));
  }

 private:
  const AddedToken* match(std::string_view text) const {
    for (const AddedToken& token : by_first_[static_cast<unsigned char>(text[0])])
      if (text.starts_with(token.content)) return &token;
    return nullptr;
  }
  /// Takes in the white space that belongs to the token, not before `begin`; false when the token
  /// must be a word of its own and is not, or nothing of it is left.
  static bool widen(const AddedToken& token, std::string_view text, size_t begin, size_t& from,
                    size_t& to);

  std::array<std::vector<AddedToken>, 256> by_first_;
  bool any_ = false;
};

}  // namespace weir
