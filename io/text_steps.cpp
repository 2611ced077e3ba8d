#include "io/text_steps.h"

#include <algorithm>

#include "io/normal_form.h"
#include "support/error.h"

namespace weir {
namespace {

std::string replaced(std::string_view text, const SplitPattern& pattern,
                     const std::string& content) {
  std::string out;
  pattern.split(text, [&](std::string_view piece, bool is_match) {
    out += is_match ? std::string_view(content) : piece;
  });
  return out;
}

std::string spaces_as_signs(std::string_view text) {
  std::string out;
  for (char character : text)
    if (character == ' ')
      out += kSpaceSign;
    else
      out += character;
  return out;
}

struct Piece {
  std::string_view text;
  bool is_match;
};

std::string_view joined(std::string_view left, std::string_view right) {
  return {left.begin(), right.end()};
}

/// Matches joined with their neighbours: of several that touch, only the one next to a gap joins.
void join(SplitStep::Kind kind, std::vector<Piece>& pieces) {
  const bool after = kind == SplitStep::Kind::join_after;
  if (after) std::reverse(pieces.begin(), pieces.end());
  std::vector<Piece> out;
  bool previous = false;
  for (const Piece& piece : pieces) {
    const bool joins = kind == SplitStep::Kind::join_equal ? piece.is_match == previous
                                                           : piece.is_match && !previous;
    if (joins && !out.empty())
      out.back().text =
          after ? joined(piece.text, out.back().text) : joined(out.back().text, piece.text);
    else
      out.push_back(piece);
    previous = piece.is_match;
  }
  if (after) std::reverse(out.begin(), out.end());
  pieces = std::move(out);
}

}  // namespace

Normalizer::Normalizer(const std::vector<NormalStep>& steps) {
  for (const NormalStep& step : steps)
    steps_.emplace_back(step, step.kind == NormalStep::Kind::replace
                                  ? std::optional<SplitPattern>(step.pattern)
                                  : std::nullopt);
}

std::string_view Normalizer::operator()(std::string_view text, std::string& storage) const {
  std::string next;
  for (const auto& [step, pattern] : steps_) {
    switch (step.kind) {
      case NormalStep::Kind::form_c: {
        const std::string_view changed = normal_form_c(text, next);
        if (changed.data() != next.data()) continue;
        break;
      }
      case NormalStep::Kind::prepend:
        if (text.empty()) continue;
        next = step.content;
        next += text;
        break;
      case NormalStep::Kind::replace:
        WEIR_CHECK(pattern.has_value(), "a step that replaces has no pattern");
        next = replaced(text, *pattern, step.content);
        break;
    }
    storage.swap(next);
    text = storage;
  }
  return text;
}

Cutter::Cutter(const std::vector<SplitStep>& steps) {
  for (const SplitStep& step : steps)
    steps_.emplace_back(step, step.kind < SplitStep::Kind::prefix_space
                                  ? std::optional<SplitPattern>(step.pattern)
                                  : std::nullopt);
}

void Cutter::operator()(std::string_view text, bool first, const Visit& visit) const {
  cut(text, first, 0, visit);
}

void Cutter::cut(std::string_view piece, bool first, size_t at, const Visit& visit) const {
  using Kind = SplitStep::Kind;
  if (piece.empty()) return;
  if (at == steps_.size()) return visit(piece);
  const auto& [step, pattern] = steps_[at];
  if (step.kind >= Kind::prefix_space) {
    std::string changed;
    if (step.kind == Kind::prefix_space) {
      if (piece.starts_with(' ')) return cut(piece, first, at + 1, visit);
      changed = " " + std::string(piece);
    } else {
      changed = spaces_as_signs(piece);
      if ((step.kind == Kind::space_sign_prefixed ||
           (step.kind == Kind::space_sign_first && first)) &&
          !changed.starts_with(kSpaceSign))
        changed.insert(0, kSpaceSign);
    }
    return cut(changed, first, at + 1, visit);
  }
  WEIR_CHECK(pattern.has_value(), "a step that splits has no pattern");
  auto next = [&, at = at](std::string_view part) {
    cut(part, first && part.data() == piece.data(), at + 1, visit);
  };
  if (step.kind <= Kind::keep_gaps) {
    pattern->split(piece, [&, &step = step](std::string_view part, bool is_match) {
      if (step.kind == Kind::keep_all ||
          (is_match != step.invert) == (step.kind == Kind::keep_matches))
        next(part);
    });
    return;
  }
  std::vector<Piece> pieces;
  pattern->split(piece, [&, &step = step](std::string_view part, bool is_match) {
    pieces.push_back({part, is_match != step.invert});
  });
  join(step.kind, pieces);
  for (const Piece& part : pieces) next(part.text);
}

}  // namespace weir
