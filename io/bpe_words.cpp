#include "io/bpe_words.h"

#include <algorithm>
#include <array>
#include <optional>

#include "io/utf8.h"
#include "support/error.h"

namespace weir {
namespace {

std::optional<int32_t> find_id(const TextMap<int32_t>& ids, std::string_view spelling) {
  auto found = ids.find(spelling);
  return found == ids.end() ? std::nullopt : std::optional(found->second);
}

/// What stands for characters without a token.
struct Fallback {
  std::optional<int32_t> unknown;
  bool fuse = false;
  bool by_bytes = false;
  std::array<int32_t, 256> byte{};

  Fallback(const BpeModel& model, const TextMap<int32_t>& ids, Problems& problems)
      : fuse(model.fuse_unknown), by_bytes(model.byte_fallback) {
    for (unsigned i = 0; i < 256; ++i)
      byte[i] = find_id(ids, byte_spelling(static_cast<unsigned char>(i))).value_or(-1);
    if (model.unknown.empty()) return;
    unknown = find_id(ids, model.unknown);
    if (!unknown) unknown = token_id(model, model.unknown);
    if (!unknown)
      problems.add(fmt::format("{}: the unknown token \"{}\" is not in the vocabulary.",
                               model.source, model.unknown));
  }

  bool has_bytes(std::string_view text) const {
    return by_bytes && std::all_of(text.begin(), text.end(), [&](char c) {
             return byte[static_cast<unsigned char>(c)] >= 0;
           });
  }
};

class RankedWords final : public WordEncoder {
 public:
  RankedWords(const BpeModel& model, const TextMap<int32_t>& ids, Problems& problems)
      : characters_(model.characters), fallback_(model, ids, problems) {
    byte_id_.fill(-1);
    for (unsigned byte = 0; byte < (characters_ ? 128U : 256U); ++byte) {
      const char character = static_cast<char>(byte);
      const std::string_view text(&character, 1);
      byte_id_[byte] =
          find_id(ids, characters_ ? std::string(text) : to_byte_level(text)).value_or(-1);
    }
    if (characters_)
      for (const auto& [spelling, id] : ids)
        if (spelling.size() > 1 && first_character(spelling).length == spelling.size())
          character_id_.emplace(spelling, id);
    add_merges(model, ids, problems);
  }

  void encode(std::string_view word, WordScratch& scratch,
              std::vector<int32_t>& ids) const override;

 private:
  using Symbol = WordScratch::Symbol;
  void add_merges(const BpeModel& model, const TextMap<int32_t>& ids, Problems& problems);
  void begin(std::string_view word, std::vector<Symbol>& symbols) const;
  void propose(WordScratch& scratch, int32_t at) const;
  int32_t id_of(std::string_view unit) const {
    if (unit.size() == 1) return byte_id_[static_cast<unsigned char>(unit[0])];
    return find_id(character_id_, unit).value_or(-1);
  }

  bool characters_;
  Fallback fallback_;
  std::array<int32_t, 256> byte_id_{};  ///< of single bytes, or of ASCII characters
  TextMap<int32_t> character_id_;       ///< of the other characters
  MergeTable merges_;
};

void RankedWords::add_merges(const BpeModel& model, const TextMap<int32_t>& ids,
                             Problems& problems) {
  merges_.reserve(model.merges.size());
  size_t bad = 0;
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto& [left, right] = model.merges[rank];
    const auto a = find_id(ids, left), b = find_id(ids, right), both = find_id(ids, left + right);
    if (a && b && both) {
      merges_.set(*a, *b, {static_cast<int32_t>(rank), *both});
      continue;
    }
    if (++bad <= kMaxListed)
      problems.add(
          fmt::format("{}: merge {} \"{} {}\" needs the token \"{}\", which the vocabulary "
                      "lacks. Are vocabulary and merges of one model?",
                      model.source, rank + 1, left, right,
                      !a   ? left
                      : !b ? right
                           : left + right));
  }
  if (bad > kMaxListed)
    problems.add(fmt::format("{}: and {} further merges.", model.source, bad - kMaxListed));
}

/// The symbols before any merge, as tokenizers 0.23 has them: an unknown token waits for the next
/// known symbol or the end of the word, and bytes do not end its wait.
void RankedWords::begin(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.clear();
  auto push = [&](int32_t id) {
    const auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({.id = id, .previous = at - 1, .next = at + 1});
  };
  bool waits = false;
  for (size_t at = 0; at < word.size();) {
    const size_t length = characters_ ? first_character(word.substr(at)).length : 1;
    const std::string_view unit = word.substr(at, length);
    at += length;
    if (const int32_t id = id_of(unit); id >= 0) {
      if (waits) push(expect(fallback_.unknown));
      waits = false;
      push(id);
    } else if (const std::string spelt = characters_ ? std::string(unit) : to_byte_level(unit);
               fallback_.has_bytes(spelt)) {
      for (char byte : spelt) push(fallback_.byte[static_cast<unsigned char>(byte)]);
    } else if (fallback_.unknown) {
      if (waits && !fallback_.fuse) push(expect(fallback_.unknown));
      waits = true;
    }
  }
  if (waits) push(expect(fallback_.unknown));
  if (!symbols.empty()) symbols.back().next = -1;
}

/// Puts the merge of the symbol at `at` with its successor, if there is one, into the heap.
void RankedWords::propose(WordScratch& scratch, int32_t at) const {
  const Symbol& symbol = scratch.symbols[static_cast<size_t>(at)];
  if (symbol.next < 0) return;
  const Symbol& next = scratch.symbols[static_cast<size_t>(symbol.next)];
  if (const MergeTable::Merge* merge = merges_.find(symbol.id, next.id)) {
    scratch.ranked.push_back({*merge, at});
    std::push_heap(scratch.ranked.begin(), scratch.ranked.end());
  }
}

/// Merges the least rank first, the leftmost among equals, until no merge applies.
void RankedWords::encode(std::string_view word, WordScratch& scratch,
                         std::vector<int32_t>& ids) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  auto& heap = scratch.ranked;
  heap.clear();
  begin(word, symbols);
  if (symbols.empty()) return;
  for (size_t at = 0; at < symbols.size(); ++at) propose(scratch, static_cast<int32_t>(at));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const WordScratch::Ranked best = heap.back();
    heap.pop_back();
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

/// SentencePiece's BPE (bpe_model.cc), which is llama.cpp's for the tokenizer model "llama".
class ScoredWords final : public WordEncoder {
 public:
  ScoredWords(const BpeModel& model, const TextMap<int32_t>& ids, Problems& problems)
      : ids_(ids), scores_(model.scores), fallback_(model, ids, problems) {
    if (scores_.size() != model.tokens.size()) {
      problems.add(fmt::format("{}: there are {} scores for {} tokens.", model.source,
                               scores_.size(), model.tokens.size()));
      scores_.resize(model.tokens.size());
    }
    never_.resize(scores_.size());
    for (int32_t id : model.never) never_.at(static_cast<size_t>(id)) = true;
    for (int32_t id : model.whole) {
      const std::string& spelling = model.tokens.at(static_cast<size_t>(id));
      if (!spelling.empty()) whole_[static_cast<unsigned char>(spelling[0])].push_back(spelling);
    }
    for (auto& spellings : whole_)
      std::stable_sort(spellings.begin(), spellings.end(),
                       [](const auto& a, const auto& b) { return a.size() > b.size(); });
  }

  void encode(std::string_view word, WordScratch& scratch,
              std::vector<int32_t>& ids) const override;

 private:
  using Symbol = WordScratch::Symbol;
  void begin(std::string_view word, std::vector<Symbol>& symbols) const;
  void propose(std::string_view word, WordScratch& scratch, int32_t at) const;
  void put(std::string_view text, bool& after_unknown, std::vector<int32_t>& ids) const;

  const TextMap<int32_t>& ids_;
  std::vector<float> scores_;
  Fallback fallback_;
  std::vector<bool> never_;
  std::array<std::vector<std::string>, 256> whole_;  ///< by first byte, the longest first
};

void ScoredWords::begin(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.clear();
  for (size_t at = 0; at < word.size();) {
    Symbol symbol;
    size_t length = first_character(word.substr(at)).length;
    for (const std::string& spelling : whole_[static_cast<unsigned char>(word[at])])
      if (word.substr(at).starts_with(spelling)) {
        length = spelling.size();
        symbol.whole = true;
        break;
      }
    const auto place = static_cast<int32_t>(symbols.size());
    symbol.previous = place - 1;
    symbol.next = place + 1;
    symbol.begin = at;
    symbol.end = at += length;
    symbols.push_back(symbol);
  }
  symbols.back().next = -1;
}

void ScoredWords::propose(std::string_view word, WordScratch& scratch, int32_t at) const {
  const Symbol& symbol = scratch.symbols[static_cast<size_t>(at)];
  if (symbol.next < 0 || symbol.whole) return;
  const Symbol& next = scratch.symbols[static_cast<size_t>(symbol.next)];
  if (next.whole) return;
  const size_t bytes = next.end - symbol.begin;
  const auto id = find_id(ids_, word.substr(symbol.begin, bytes));
  if (!id || never_[static_cast<size_t>(*id)]) return;
  scratch.scored.push_back({scores_[static_cast<size_t>(*id)], at, bytes});
  std::push_heap(scratch.scored.begin(), scratch.scored.end());
}

void ScoredWords::put(std::string_view text, bool& after_unknown, std::vector<int32_t>& ids) const {
  const auto id = find_id(ids_, text);
  if (!id && fallback_.has_bytes(text)) {
    for (char byte : text) ids.push_back(fallback_.byte[static_cast<unsigned char>(byte)]);
  } else if (id || (fallback_.unknown && !(after_unknown && fallback_.fuse))) {
    ids.push_back(id ? *id : *fallback_.unknown);
  }
  after_unknown = !id && !fallback_.has_bytes(text);
}

void ScoredWords::encode(std::string_view word, WordScratch& scratch,
                         std::vector<int32_t>& ids) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  auto& heap = scratch.scored;
  heap.clear();
  begin(word, symbols);
  for (size_t at = 0; at < symbols.size(); ++at) propose(word, scratch, static_cast<int32_t>(at));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const WordScratch::Scored best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.at)];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.end - left.begin != best.bytes) continue;  // a part has grown since
    left.end = right.end;
    left.next = right.next;
    right.alive = false;
    if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = best.at;
    if (left.previous >= 0) propose(word, scratch, left.previous);
    propose(word, scratch, best.at);
  }
  bool after_unknown = false;
  for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].next) {
    const Symbol& symbol = symbols[static_cast<size_t>(at)];
    put(word.substr(symbol.begin, symbol.end - symbol.begin), after_unknown, ids);
  }
}

}  // namespace

std::unique_ptr<WordEncoder> make_word_encoder(const BpeModel& model, const TextMap<int32_t>& ids,
                                               Problems& problems) {
  if (!model.scores.empty()) return std::make_unique<ScoredWords>(model, ids, problems);
  return std::make_unique<RankedWords>(model, ids, problems);
}

}  // namespace weir
