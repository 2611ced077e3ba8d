#include "io/tokenizer_steps_json.h"

#include <algorithm>

#include "io/json_member.h"
#include "io/split_pattern.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::json;

// What a part of Unicode's annex 18 counts as a character of a word; as in added_tokens.cpp.
const char* const kWords = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+)"
                           R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\s]+)";

/// The regular expression of {"Regex": text} or {"String": text}; "" and a problem otherwise.
std::string pattern_of(const Json& json, const char* part, BpeModel& model, Problems& problems) {
  const Json& pattern = member(json, "pattern");
  if (const Json& regex = member(pattern, "Regex"); regex.is_string()) return regex;
  const std::string text = literal_pattern(text_of(member(pattern, "String")));
  if (text.empty())
    problems.add(
        fmt::format("{}: a {} has the pattern {}; {{\"Regex\": text}} or {{\"String\": "
                    "text}} is needed.",
                    model.source, part, pattern.dump()));
  return text;
}

void read_split(const Json& json, BpeModel& model, Problems& problems) {
  using Kind = SplitStep::Kind;
  SplitStep step;
  step.pattern = pattern_of(json, "Split", model, problems);
  const std::string behavior = text_of(member(json, "behavior"));
  const bool invert = flag(json, "invert");
  if (behavior == "Isolated") {
    step.kind = Kind::keep_all;
  } else if (behavior == "Removed") {
    step.kind = invert ? Kind::keep_matches : Kind::keep_gaps;
  } else if (behavior == "MergedWithPrevious" || behavior == "MergedWithNext" ||
             behavior == "Contiguous") {
    step.kind = behavior == "MergedWithPrevious" ? Kind::join_before
                : behavior == "MergedWithNext"   ? Kind::join_after
                                                 : Kind::join_equal;
    step.invert = invert;
  } else {
    problems.add(
        fmt::format("{}: a Split has the behavior \"{}\"; Isolated, Removed, MergedWithPrevious, "
                    "MergedWithNext or Contiguous is needed.",
                    model.source, behavior));
  }
  model.steps.push_back(std::move(step));
}

/// Whether the sign of a Metaspace is the usual one.
bool has_space_sign(const Json& json, BpeModel& model, Problems& problems) {
  const Json& sign = member(json, "replacement");
  if (sign.is_null() || text_of(sign) == kSpaceSign) return true;
  problems.add(fmt::format("{}: a Metaspace has the replacement {}; \"\u2581\" is needed.",
                           model.source, sign.dump()));
  return false;
}

/// "always", "first" or "never".
std::string prepend_scheme(const Json& json) {
  const std::string scheme = text_of(member(json, "prepend_scheme"));
  if (!flag(json, "add_prefix_space", true)) return "never";
  return scheme.empty() ? "always" : scheme;
}

void read_metaspace(const Json& json, BpeModel& model, Problems& problems) {
  using Kind = SplitStep::Kind;
  if (!has_space_sign(json, model, problems)) return;
  const std::string scheme = prepend_scheme(json);
  model.steps.push_back({scheme == "always"  ? Kind::space_sign_prefixed
                         : scheme == "first" ? Kind::space_sign_first
                                             : Kind::space_sign,
                         ""});
  if (flag(json, "split", true)) model.steps.push_back({Kind::join_after, std::string(kSpaceSign)});
}

/// One part of a chain. ByteLevel ends it, since what follows would see its alphabet instead of
/// text.
void read_part(const Json& json, bool last, BpeModel& model, Problems& problems) {
  using Kind = SplitStep::Kind;
  const std::string type = text_of(member(json, "type"));
  if (type == "ByteLevel" && last) {
    model.characters = false;
    if (flag(json, "add_prefix_space", true)) model.steps.push_back({Kind::prefix_space, ""});
    if (flag(json, "use_regex", true)) model.steps.push_back({Kind::keep_all, kGpt2Pattern});
  } else if (type == "Split") {
    read_split(json, model, problems);
  } else if (type == "Digits") {
    model.steps.push_back({Kind::keep_all, flag(json, "individual_digits")
                                               ? digit_pattern()
                                               : digit_pattern() + "+"});
  } else if (type == "Metaspace") {
    read_metaspace(json, model, problems);
  } else if (type == "Whitespace") {
    model.steps.push_back({Kind::keep_matches, kWords});
  } else if (type == "WhitespaceSplit") {
    model.steps.push_back({Kind::keep_gaps, R"(\s)"});
  } else if (type == "Sequence") {
    const Json& parts = member(json, "pretokenizers");
    for (size_t i = 0; i < parts.size(); ++i)
      read_part(parts[i], last && i + 1 == parts.size(), model, problems);
  } else {
    problems.add(fmt::format(
        "{}: the pre-tokenizer has \"{}\" {}; ByteLevel at the end, Split, Digits, Metaspace, "
        "Whitespace, WhitespaceSplit, or a Sequence of them is needed.",
        model.source, type.empty() ? json.dump() : type, last ? "at its end" : "before its end"));
  }
}

bool is_id(const Json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() < (1U << 24);
}

/// A token that a post-processor puts around a text, e.g. ["<s>", 0].
std::optional<NamedToken> around(const Json& token) {
  if (!token.is_array() || token.size() != 2 || !is_id(token[1])) return std::nullopt;
  return NamedToken{token[1].get<int32_t>(), text_of(token[0]), "tokenizer.json: post_processor"};
}

/// The tokens that a TemplateProcessing puts around one text.
void read_template(const Json& json, SpecialTokens& special) {
  bool before = true;
  for (const Json& piece : member(json, "single")) {
    if (!member(piece, "Sequence").is_null()) before = false;
    const std::string name = text_of(member(member(piece, "SpecialToken"), "id"));
    const Json& ids = member(member(member(json, "special_tokens"), name.c_str()), "ids");
    if (name.empty() || ids.size() != 1 || !is_id(ids[0])) continue;
    std::optional<NamedToken>& token = before ? special.begin : special.end;
    if (!token) token = NamedToken{ids[0].get<int32_t>(), name, "tokenizer.json: post_processor"};
    (before ? special.adds_begin : special.adds_end) = true;
  }
}

}  // namespace

AddedToken added_token(const Json& json, int32_t id) {
  return {.id = id,
          .content = text_of(member(json, "content")),
          .normalized = flag(json, "normalized"),
          .single_word = flag(json, "single_word"),
          .strip_left = flag(json, "lstrip"),
          .strip_right = flag(json, "rstrip")};
}

void read_normalizer(const Json& json, BpeModel& model, Problems& problems) {
  using Kind = NormalStep::Kind;
  if (json.is_null()) return;
  const std::string type = text_of(member(json, "type"));
  const std::string content = text_of(member(json, "content"));
  if (type == "Sequence") {
    for (const Json& part : member(json, "normalizers")) read_normalizer(part, model, problems);
  } else if (type == "NFC") {
    model.normal_steps.push_back({Kind::form_c, "", ""});
  } else if (type == "Prepend") {
    model.normal_steps.push_back({Kind::prepend, "", text_of(member(json, "prepend"))});
  } else if (type == "Replace" && content.find('$') == std::string::npos) {
    model.normal_steps.push_back(
        {Kind::replace, pattern_of(json, "Replace", model, problems), content});
  } else {
    problems.add(
        fmt::format("{}: the normalizer \"{}\" is not implemented; NFC, Prepend, Replace (without "
                    "$ in its content), a Sequence of them or null is needed.",
                    model.source, type));
  }
}

void read_pre_tokenizer(const Json& json, BpeModel& model, Problems& problems) {
  model.characters = true;
  if (!json.is_null()) read_part(json, true, model, problems);
  // Which pieces then begin the text is a question of where their characters came from.
  const bool moves =
      std::any_of(model.normal_steps.begin(), model.normal_steps.end(), [](const NormalStep& step) {
        return step.kind == NormalStep::Kind::prepend ||
               (step.kind == NormalStep::Kind::replace && step.content.empty());
      });
  for (const SplitStep& step : model.steps)
    if (moves && step.kind == SplitStep::Kind::space_sign_first)
      problems.add(
          fmt::format("{}: the normalizer adds or removes text and a Metaspace has the "
                      "prepend_scheme \"first\"; one of both is needed.",
                      model.source));
}

void read_decoder(const Json& json, BpeModel& model, Problems& problems) {
  if (!model.characters) return;
  const std::string type = text_of(member(json, "type"));
  Decoding& decoding = model.decoding;
  if (type == "Sequence") {
    for (const Json& part : member(json, "decoders")) read_decoder(part, model, problems);
  } else if (type == "Replace" &&
             text_of(member(member(json, "pattern"), "String")) == kSpaceSign &&
             text_of(member(json, "content")) == " ") {
    decoding.space_signs = true;
  } else if (type == "ByteFallback") {
    decoding.bytes = true;
  } else if (type == "Metaspace") {
    if (!has_space_sign(json, model, problems)) return;
    decoding.space_signs = true;
    decoding.strip_first_token = prepend_scheme(json) != "never";
  } else if (type == "Strip" && text_of(member(json, "content")) == " " &&
             member(json, "start").is_number_unsigned() && member(json, "stop") == 0) {
    decoding.strip = member(json, "start").get<size_t>();
  } else if (type != "Fuse") {
    problems.add(
        fmt::format("{}: the decoder has {}; Replace (\"\u2581\" by a space), ByteFallback, Fuse, "
                    "Strip (spaces at the begin), Metaspace or a Sequence of them is needed.",
                    model.source, json.dump()));
  }
}

void read_post_processor(const Json& json, SpecialTokens& special) {
  const std::string type = text_of(member(json, "type"));
  if (type == "Sequence")
    for (const Json& part : member(json, "processors")) read_post_processor(part, special);
  if (type == "TemplateProcessing") read_template(json, special);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    special.begin = around(member(json, "cls"));
    special.end = around(member(json, "sep"));
    special.adds_begin = special.begin.has_value();
    special.adds_end = special.end.has_value();
  }
  if (special.adds_begin || special.adds_end)
    special.adds_source = "tokenizer.json: post_processor";
}

}  // namespace weir
