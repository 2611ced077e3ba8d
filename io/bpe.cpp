#include "io/bpe.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "io/added_tokens.h"
#include "io/bpe_words.h"
#include "io/utf8.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr size_t kCachedWordBytes = 64;
constexpr size_t kCachedWords = 1 << 18;
constexpr std::array kEndOfTextNames = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

/// What one thread needs while encoding; kept between calls for its memory and its cache.
struct Scratch {
  WordScratch word;
  std::string storage;
  std::string normal_storage;
  struct Range {
    size_t begin;
    size_t count;
  };
  TextMap<Range> cache;
  std::vector<int32_t> cached_ids;
};

/// The place from `from` on where a word of SentencePiece begins: a space sign after another
/// character; the end of the text if there is none.
size_t next_word(std::string_view text, size_t from) {
  while (true) {
    const size_t at = text.find(kSpaceSign, from);
    if (at == text.npos) return text.size();
    if (at > 0 && !text.substr(0, at).ends_with(kSpaceSign)) return at;
    from = at + kSpaceSign.size();
  }
}

std::string signs_as_spaces(std::string text) {
  for (size_t at = 0; (at = text.find(kSpaceSign, at)) != std::string::npos; ++at)
    text.replace(at, kSpaceSign.size(), " ");
  return text;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeModel model);
  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  std::string token_bytes(int32_t id) const override { return spelled(id); }
  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  const SpecialTokens& special_tokens() const override { return special_; }
  std::optional<int32_t> token_id(std::string_view text) const override;
  std::string fingerprint() const override { return fingerprint_; }
  std::string description() const override { return description_; }

 private:
  void add_tokens(const BpeModel& model, Problems& problems);
  void add_added(const BpeModel& model, Problems& problems);
  void describe(const BpeModel& model);
  bool words_end_before_signs(const BpeModel& model) const;
  void encode_words(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  const std::string& spelled(int32_t id) const;

  std::string source_;
  bool characters_ = false;
  std::vector<std::string> bytes_;  ///< by id; "" where there is no such id
  TextMap<int32_t> id_of_;          ///< by spelling, without added tokens
  TextMap<int32_t> added_;          ///< by spelling
  TextMap<int32_t> id_of_bytes_;    ///< only with ignore_merges
  bool ignore_merges_ = false;
  bool cuts_at_signs_ = false;
  Normalizer normalizer_;
  Cutter cutter_;
  std::unique_ptr<WordEncoder> words_;
  AddedMatcher raw_;
  AddedMatcher normalized_;
  Decoding decoding_;
  std::optional<int32_t> end_of_text_;
  SpecialTokens special_;
  std::string fingerprint_;
  std::string description_;

  class Borrowed;
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

/// Takes an idle scratch for the life of one call.
class BpeTokenizer::Borrowed {
 public:
  explicit Borrowed(const BpeTokenizer& owner) : owner_(owner) {
    std::lock_guard lock(owner.scratch_mutex_);
    if (owner.idle_.empty()) {
      scratch_ = std::make_unique<Scratch>();
    } else {
      scratch_ = std::move(owner.idle_.back());
      owner.idle_.pop_back();
    }
  }
  ~Borrowed() {
    std::lock_guard lock(owner_.scratch_mutex_);
    owner_.idle_.push_back(std::move(scratch_));
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Scratch& operator*() { return *scratch_; }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<Scratch> scratch_;
};

BpeTokenizer::BpeTokenizer(BpeModel model)
    : source_(model.source),
      characters_(model.characters),
      ignore_merges_(model.ignore_merges),
      normalizer_(model.normal_steps),
      cutter_(model.steps),
      decoding_(model.decoding) {
  Problems problems("tokenizer");
  add_tokens(model, problems);
  words_ = make_word_encoder(model, id_of_, problems);
  add_added(model, problems);
  problems.raise();
  cuts_at_signs_ = words_end_before_signs(model);
  describe(model);
  fingerprint_ = model_fingerprint(model);
  special_ = std::move(model.special);
  if (special_.end) end_of_text_ = special_.end->id;
  for (const char* name : kEndOfTextNames)
    if (!end_of_text_) end_of_text_ = token_id(name);
}

void BpeTokenizer::add_tokens(const BpeModel& model, Problems& problems) {
  bytes_.resize(model.tokens.size());
  for (size_t i = 0; i < model.tokens.size(); ++i) {
    const std::string& spelling = model.tokens[i];
    auto id = static_cast<int32_t>(i);
    if (spelling.empty()) continue;
    auto [place, fresh] = id_of_.emplace(spelling, id);
    if (!fresh)
      problems.add(fmt::format("{}: token \"{}\" has two ids, {} and {}.", source_, spelling,
                               place->second, id));
    // What is not spelt in the alphabet (a special token with a space in it) stands for itself.
    const bool in_alphabet = !characters_ && from_byte_level(spelling, bytes_[i]);
    if (!in_alphabet) bytes_[i] = spelling;
    if (ignore_merges_ && (in_alphabet || characters_)) id_of_bytes_.emplace(bytes_[i], id);
    if (decoding_.space_signs) bytes_[i] = signs_as_spaces(bytes_[i]);
  }
  if (!decoding_.bytes) return;
  for (unsigned byte = 0; byte < 256; ++byte)
    if (auto found = id_of_.find(byte_spelling(static_cast<unsigned char>(byte)));
        found != id_of_.end())
      bytes_[static_cast<size_t>(found->second)] = static_cast<char>(byte);
}

void BpeTokenizer::add_added(const BpeModel& model, Problems& problems) {
  for (const AddedToken& token : model.added) {
    if (token.content.empty()) continue;
    auto id = static_cast<size_t>(token.id);
    auto known = id_of_.find(token.content);
    bool taken =
        id < model.tokens.size() && !model.tokens[id].empty() && model.tokens[id] != token.content;
    if (taken || (known != id_of_.end() && known->second != token.id)) {
      problems.add(fmt::format("{}: added token \"{}\" has id {}, but the vocabulary has {}.",
                               source_, token.content, token.id,
                               taken ? fmt::format("\"{}\" there", model.tokens[id])
                                     : fmt::format("it at {}", known->second)));
      continue;
    }
    if (id >= bytes_.size()) bytes_.resize(id + 1);
    // A byte that is also an added token is decoded as any token is.
    if (!characters_)
      bytes_[id] = token.content;
    else if (known == id_of_.end())
      bytes_[id] = decoding_.space_signs ? signs_as_spaces(token.content) : token.content;
    added_.emplace(token.content, token.id);
    AddedToken matched = token;
    std::string storage;
    if (token.normalized) matched.content = normalizer_(token.content, storage);
    if (!matched.content.empty()) (token.normalized ? normalized_ : raw_).add(matched);
  }
}

void BpeTokenizer::describe(const BpeModel& model) {
  if (characters_) {
    description_ = model.scores.empty()
                       ? fmt::format("SentencePiece-style BPE, {} entries, {} merges",
                                     bytes_.size(), model.merges.size())
                       : fmt::format("SentencePiece BPE, {} entries", bytes_.size());
    return;
  }
  size_t without = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    if (!id_of_.contains(to_byte_level({&character, 1}))) ++without;
  }
  description_ = fmt::format("BPE, {} entries, {} merges{}", bytes_.size(), model.merges.size(),
                             without == 0 || !model.unknown.empty()
                                 ? ""
                                 : fmt::format(", no token for {} of the 256 bytes", without));
}

/// No token goes on with a space sign after another character, and the sign itself is known, so
/// that no merge and no run of unknown characters reaches over such a place.
bool BpeTokenizer::words_end_before_signs(const BpeModel& model) const {
  if (!characters_ || ignore_merges_ || !id_of_.contains(kSpaceSign)) return false;
  return std::none_of(model.tokens.begin(), model.tokens.end(),
                      [](const std::string& token) { return next_word(token, 0) != token.size(); });
}

std::optional<int32_t> BpeTokenizer::token_id(std::string_view text) const {
  if (auto found = added_.find(text); found != added_.end()) return found->second;
  if (auto found = id_of_.find(text); found != id_of_.end()) return found->second;
  if (characters_) return std::nullopt;
  if (auto found = id_of_.find(to_byte_level(text)); found != id_of_.end()) return found->second;
  return std::nullopt;
}

void BpeTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  Borrowed borrowed(*this);
  Scratch& scratch = *borrowed;
  text = valid_utf8(text, scratch.storage);
  auto on_token = [&](int32_t id) { ids.push_back(id); };
  auto on_word = [&](std::string_view word) { encode_words(word, scratch, ids); };
  raw_.split(
      text,
      [&](std::string_view rest) {
        const bool first = rest.data() == text.data();
        const std::string_view normal = normalizer_(rest, scratch.normal_storage);
        normalized_.split(
            normal,
            [&](std::string_view piece) {
              cutter_(piece, first && piece.data() == normal.data(), on_word);
            },
            on_token);
      },
      on_token);
}

void BpeTokenizer::encode_words(std::string_view text, Scratch& scratch,
                                std::vector<int32_t>& ids) const {
  if (!cuts_at_signs_) return encode_word(text, scratch, ids);
  for (size_t begin = 0; begin < text.size();) {
    const std::string_view rest = text.substr(begin);
    const size_t length = next_word(rest, 0);
    encode_word(rest.substr(0, length), scratch, ids);
    begin += length;
  }
}

void BpeTokenizer::encode_word(std::string_view word, Scratch& scratch,
                               std::vector<int32_t>& ids) const {
  if (ignore_merges_)
    if (auto whole = id_of_bytes_.find(word); whole != id_of_bytes_.end()) {
      ids.push_back(whole->second);
      return;
    }
  bool cacheable = word.size() <= kCachedWordBytes;
  if (cacheable)
    if (auto hit = scratch.cache.find(word); hit != scratch.cache.end()) {
      auto from = scratch.cached_ids.begin() + static_cast<ptrdiff_t>(hit->second.begin);
      ids.insert(ids.end(), from, from + static_cast<ptrdiff_t>(hit->second.count));
      return;
    }
  size_t first = ids.size();
  words_->encode(word, scratch.word, ids);
  if (cacheable && scratch.cache.size() < kCachedWords) {
    scratch.cache.emplace(word, Scratch::Range{scratch.cached_ids.size(), ids.size() - first});
    scratch.cached_ids.insert(scratch.cached_ids.end(), ids.begin() + static_cast<ptrdiff_t>(first),
                              ids.end());
  }
}

const std::string& BpeTokenizer::spelled(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= bytes_.size() || bytes_[static_cast<size_t>(id)].empty())
    user_error("tokenizer", "{}: there is no token with id {} among {}.", source_, id,
               bytes_.size());
  return bytes_[static_cast<size_t>(id)];
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    text += spelled(ids[i]);
    if (i == 0 && decoding_.strip_first_token) std::erase(text, ' ');
  }
  const size_t spaces = std::min(text.find_first_not_of(' '), text.size());
  return text.substr(std::min(spaces, decoding_.strip));
}

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeModel model) {
  return std::make_unique<BpeTokenizer>(std::move(model));
}

}  // namespace weir
