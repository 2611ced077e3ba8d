#include "io/bpe.h"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <mutex>
#include <unordered_map>

#include "io/added_tokens.h"
#include "io/hash.h"
#include "io/merge_table.h"
#include "io/normal_form.h"
#include "io/split_pattern.h"
#include "io/utf8.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr size_t kCachedWordBytes = 64;
constexpr size_t kCachedWords = 1 << 18;
constexpr std::array kEndOfTextNames = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return hash_64(text); }
};
template <typename Value>
using TextMap = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;  ///< -1 at the end
  bool alive;
};

struct Candidate {
  MergeTable::Merge merge;
  int32_t at;
  /// The heap's top is the least rank and, among equals, the leftmost.
  bool operator<(const Candidate& other) const {
    return std::pair(merge.rank, at) > std::pair(other.merge.rank, other.at);
  }
};

/// What one thread needs while encoding; kept between calls for its memory and its cache.
struct Scratch {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::string storage;
  std::string normal_storage;
  struct Range {
    size_t begin;
    size_t count;
  };
  TextMap<Range> cache;
  std::vector<int32_t> cached_ids;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeModel model);
  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  const SpecialTokens& special_tokens() const override { return special_; }
  std::optional<int32_t> token_id(std::string_view text) const override;
  std::string fingerprint() const override { return fingerprint_; }
  std::string description() const override {
    const auto without = std::count(byte_id_.begin(), byte_id_.end(), -1);
    return fmt::format(
        "BPE, {} entries, {} merges{}", bytes_.size(), merge_count_,
        without == 0 || unknown_ ? "" : fmt::format(", no token for {} of the 256 bytes", without));
  }

 private:
  void add_tokens(const BpeModel& model, Problems& problems);
  void add_merges(const BpeModel& model, Problems& problems);
  void add_added(const BpeModel& model, Problems& problems);
  void encode_piece(std::string_view piece, size_t step, Scratch& scratch,
                    std::vector<int32_t>& ids) const;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  void merge_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  void propose(Scratch& scratch, int32_t at) const;

  std::string source_;
  std::vector<std::string> bytes_;  ///< by id; "" where there is no such id
  TextMap<int32_t> id_of_;          ///< by spelling
  TextMap<int32_t> id_of_bytes_;    ///< only with ignore_merges
  std::array<int32_t, 256> byte_id_{};
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  bool normal_form_c_ = false;
  MergeTable merges_;
  size_t merge_count_ = 0;
  AddedMatcher raw_;
  AddedMatcher normalized_;
  std::vector<std::pair<SplitStep::Kind, std::optional<SplitPattern>>> steps_;
  std::optional<int32_t> end_of_text_;
  SpecialTokens special_;
  std::string fingerprint_;

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

std::string model_fingerprint(const BpeModel& model) {
  Hasher hasher;
  auto number = [&](uint64_t value) {
    hasher.add(std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
  };
  auto text = [&](std::string_view value) {
    number(value.size());
    hasher.add(value);
  };
  text("bpe, Unicode 16");
  number(model.tokens.size());
  for (const std::string& token : model.tokens) text(token);
  number(model.merges.size());
  for (const auto& [left, right] : model.merges) {
    text(left);
    text(right);
  }
  number(model.added.size());
  for (const AddedToken& token : model.added) {
    number(static_cast<uint64_t>(token.id));
    text(token.content);
    number((token.normalized ? 1 : 0) | (token.single_word ? 2 : 0) | (token.strip_left ? 4 : 0) |
           (token.strip_right ? 8 : 0));
  }
  number(model.steps.size());
  for (const SplitStep& step : model.steps) {
    number(static_cast<uint64_t>(step.kind));
    text(step.pattern);
  }
  number((model.ignore_merges ? 1 : 0) | (model.fuse_unknown ? 2 : 0) |
         (model.normal_form_c ? 4 : 0));
  text(model.unknown);
  return hasher.hex_128();
}

BpeTokenizer::BpeTokenizer(BpeModel model) : source_(model.source) {
  Problems problems("tokenizer");
  add_tokens(model, problems);
  add_merges(model, problems);
  add_added(model, problems);
  if (!model.unknown.empty()) {
    unknown_ = token_id(model.unknown);
    if (!unknown_)
      problems.add(fmt::format("{}: the unknown token \"{}\" is not in the vocabulary.", source_,
                               model.unknown));
  }
  problems.raise();
  fuse_unknown_ = model.fuse_unknown;
  ignore_merges_ = model.ignore_merges;
  normal_form_c_ = model.normal_form_c;
  if (ignore_merges_)
    for (size_t id = 0; id < bytes_.size(); ++id)
      if (!bytes_[id].empty()) id_of_bytes_.emplace(bytes_[id], static_cast<int32_t>(id));
  for (const SplitStep& step : model.steps) {
    bool has_pattern = step.kind != SplitStep::Kind::prefix_space;
    steps_.emplace_back(step.kind,
                        has_pattern ? std::optional<SplitPattern>(step.pattern) : std::nullopt);
  }
  special_ = std::move(model.special);
  if (special_.end) end_of_text_ = special_.end->id;
  for (const char* name : kEndOfTextNames)
    if (!end_of_text_) end_of_text_ = token_id(name);
  fingerprint_ = model_fingerprint(model);
}

void BpeTokenizer::add_tokens(const BpeModel& model, Problems& problems) {
  bytes_.resize(model.tokens.size());
  byte_id_.fill(-1);
  for (size_t i = 0; i < model.tokens.size(); ++i) {
    const std::string& spelling = model.tokens[i];
    auto id = static_cast<int32_t>(i);
    if (spelling.empty()) continue;
    auto [place, fresh] = id_of_.emplace(spelling, id);
    if (!fresh)
      problems.add(fmt::format("{}: token \"{}\" has two ids, {} and {}.", source_, spelling,
                               place->second, id));
    // What is not spelt in the alphabet (a special token with a space in it) stands for itself.
    if (!from_byte_level(spelling, bytes_[i])) bytes_[i] = spelling;
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    char character = static_cast<char>(byte);
    if (auto found = id_of_.find(to_byte_level({&character, 1})); found != id_of_.end())
      byte_id_[byte] = found->second;
  }
}

void BpeTokenizer::add_merges(const BpeModel& model, Problems& problems) {
  merges_.reserve(model.merges.size());
  merge_count_ = model.merges.size();
  size_t bad = 0;
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto& [left, right] = model.merges[rank];
    auto a = id_of_.find(left);
    auto b = id_of_.find(right);
    auto merged = id_of_.find(left + right);
    if (a != id_of_.end() && b != id_of_.end() && merged != id_of_.end()) {
      merges_.set(a->second, b->second, {static_cast<int32_t>(rank), merged->second});
      continue;
    }
    if (++bad <= kMaxListed)
      problems.add(
          fmt::format("{}: merge {} \"{} {}\" needs the token \"{}\", which the vocabulary "
                      "lacks. Are vocabulary and merges of one model?",
                      source_, rank + 1, left, right,
                      a == id_of_.end()   ? left
                      : b == id_of_.end() ? right
                                          : left + right));
  }
  if (bad > kMaxListed)
    problems.add(fmt::format("{}: and {} further merges.", source_, bad - kMaxListed));
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
    bytes_[id] = token.content;
    id_of_.emplace(token.content, token.id);
    AddedToken matched = token;
    std::string storage;
    if (token.normalized && model.normal_form_c)
      matched.content = normal_form_c(token.content, storage);
    (token.normalized ? normalized_ : raw_).add(matched);
  }
}

std::optional<int32_t> BpeTokenizer::token_id(std::string_view text) const {
  if (auto found = id_of_.find(text); found != id_of_.end()) return found->second;
  if (auto found = id_of_.find(to_byte_level(text)); found != id_of_.end()) return found->second;
  return std::nullopt;
}

void BpeTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  Borrowed borrowed(*this);
  Scratch& scratch = *borrowed;
  auto on_token = [&](int32_t id) { ids.push_back(id); };
  raw_.split(
      valid_utf8(text, scratch.storage),
      [&](std::string_view rest) {
        if (normal_form_c_) rest = normal_form_c(rest, scratch.normal_storage);
        normalized_.split(
            rest, [&](std::string_view piece) { encode_piece(piece, 0, scratch, ids); }, on_token);
      },
      on_token);
}

void BpeTokenizer::encode_piece(std::string_view piece, size_t step, Scratch& scratch,
                                std::vector<int32_t>& ids) const {
  if (step == steps_.size()) {
    encode_word(piece, scratch, ids);
    return;
  }
  const auto& [kind, pattern] = steps_[step];
  if (kind == SplitStep::Kind::prefix_space) {
    if (piece.starts_with(' '))
      encode_piece(piece, step + 1, scratch, ids);
    else
      encode_piece(" " + std::string(piece), step + 1, scratch, ids);
    return;
  }
  pattern->split(piece, [&, kind = kind](std::string_view part, bool is_match) {
    if (kind == SplitStep::Kind::keep_all || is_match == (kind == SplitStep::Kind::keep_matches))
      encode_piece(part, step + 1, scratch, ids);
  });
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
  merge_word(word, scratch, ids);
  if (cacheable && scratch.cache.size() < kCachedWords) {
    scratch.cache.emplace(word, Scratch::Range{scratch.cached_ids.size(), ids.size() - first});
    scratch.cached_ids.insert(scratch.cached_ids.end(), ids.begin() + static_cast<ptrdiff_t>(first),
                              ids.end());
  }
}

/// Puts the merge of the symbol at `at` with its successor, if there is one, into the heap.
void BpeTokenizer::propose(Scratch& scratch, int32_t at) const {
  const Symbol& symbol = scratch.symbols[static_cast<size_t>(at)];
  if (symbol.next < 0) return;
  const Symbol& next = scratch.symbols[static_cast<size_t>(symbol.next)];
  if (const MergeTable::Merge* merge = merges_.find(symbol.id, next.id)) {
    scratch.heap.push_back({*merge, at});
    std::push_heap(scratch.heap.begin(), scratch.heap.end());
  }
}

/// Merges the least rank first, the leftmost among equals, until no merge applies.
void BpeTokenizer::merge_word(std::string_view word, Scratch& scratch,
                              std::vector<int32_t>& ids) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  symbols.clear();
  scratch.heap.clear();
  bool after_unknown = false;
  for (char byte : word) {
    int32_t id = byte_id_[static_cast<unsigned char>(byte)];
    bool is_unknown = id < 0;
    if (is_unknown && !unknown_) continue;
    if (is_unknown && after_unknown && fuse_unknown_) continue;
    after_unknown = is_unknown;
    auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({is_unknown ? *unknown_ : id, at - 1, at + 1, true});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  for (size_t at = 0; at < symbols.size(); ++at) propose(scratch, static_cast<int32_t>(at));
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end());
    Candidate best = scratch.heap.back();
    scratch.heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.at)];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    // Either part may have changed since the candidate was proposed.
    const MergeTable::Merge* merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->id != best.merge.id) continue;
    left.id = merge->id;
    left.next = right.next;
    right.alive = false;
    if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = best.at;
    if (left.previous >= 0) propose(scratch, left.previous);
    propose(scratch, best.at);
  }
  for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].next)
    ids.push_back(symbols[static_cast<size_t>(at)].id);
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= bytes_.size() ||
        bytes_[static_cast<size_t>(id)].empty())
      user_error("tokenizer", "{}: there is no token with id {} among {}.", source_, id,
                 bytes_.size());
    text += bytes_[static_cast<size_t>(id)];
  }
  return text;
}

}  // namespace

BpeModel byte_model() {
  BpeModel model;
  model.source = "bytes";
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    model.tokens.push_back(to_byte_level({&character, 1}));
  }
  return model;
}

bool is_byte_model(const BpeModel& model) {
  return model.merges.empty() && model.added.empty() && model.steps.empty() &&
         !model.normal_form_c && model.tokens == byte_model().tokens;
}

std::optional<int32_t> token_id(const BpeModel& model, std::string_view text) {
  for (const AddedToken& token : model.added)
    if (token.content == text) return token.id;
  const auto found = std::find(model.tokens.begin(), model.tokens.end(), text);
  if (text.empty() || found == model.tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - model.tokens.begin());
}

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeModel model) {
  return std::make_unique<BpeTokenizer>(std::move(model));
}

}  // namespace weir
