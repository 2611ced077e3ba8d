#pragma once
// A text source as one long row of token ids, tokenised once and kept in a file.
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "io/file.h"
#include "io/text_source.h"
#include "io/text_tokens.h"

namespace weir {

/// The ids of all documents in order, a separator id, if there is one, after each, without begin
/// tokens. An empty document adds nothing. Immutable; a view into a mapped file, or in memory.
class TokenStream {
 public:
  /// Number of ids, separators included.
  size_t size() const { return count_; }
  int32_t operator[](size_t at) const {
    if (narrow_) {
      uint16_t id;
      std::memcpy(&id, data_ + 2 * at, sizeof id);
      return id;
    }
    uint32_t id;
    std::memcpy(&id, data_ + 4 * at, sizeof id);
    return static_cast<int32_t>(id);
  }
  /// Copies the ids from `begin` on; begin + out.size() <= size().
  void copy(size_t begin, std::span<int32_t> out) const;

  size_t document_count() const { return documents_; }
  int32_t vocabulary_size() const { return vocabulary_; }
  std::optional<int32_t> separator() const { return separator_; }
  /// 32 hexadecimal digits that stand for sources, tokenizer and separator.
  const std::string& key() const { return key_; }
  /// The cache file, "" when in memory.
  std::string path() const { return file_ ? file_->path() : ""; }

 private:
  friend class TokenCache;
  std::optional<MappedFile> file_;
  std::vector<std::byte> memory_;
  const std::byte* data_ = nullptr;
  size_t count_ = 0;
  size_t documents_ = 0;
  bool narrow_ = true;
  int32_t vocabulary_ = 0;
  std::optional<int32_t> separator_;
  std::string key_;
};

/// The ids of a source. They come from `folder`/tokens-KEY.bin when that is sound (a damaged file
/// is reported as a warning and made again), else the source is tokenised and the file written.
/// With an empty `folder` nothing is kept; a folder that cannot be written to is a warning, and
/// nothing is kept either. KEY covers the content of the sources (not their names), the tokenizer
/// and the separator, so that a change of any of them makes a new file. UserError: a second
/// document where a separator is required and not known, no text at all, an unreadable source.
TokenStream open_tokens(const TextSource& source, const Tokenizer& tokenizer,
                        const std::string& folder, const TextTokens& tokens,
                        const TokenWishes& names = {});

}  // namespace weir
