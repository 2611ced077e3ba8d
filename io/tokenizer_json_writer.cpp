#include "io/tokenizer_json_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "io/split_pattern.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Json byte_level(bool prefix_space, bool cut_as_gpt2) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", cut_as_gpt2}};
}

Json split_step(const SplitStep& step) {
  using Kind = SplitStep::Kind;
  const char* behavior = step.kind == Kind::keep_all      ? "Isolated"
                         : step.kind == Kind::join_before ? "MergedWithPrevious"
                         : step.kind == Kind::join_after  ? "MergedWithNext"
                         : step.kind == Kind::join_equal  ? "Contiguous"
                                                          : "Removed";
  return {{"type", "Split"},
          {"pattern", {{"Regex", step.pattern}}},
          {"behavior", behavior},
          {"invert", step.invert || step.kind == Kind::keep_matches}};
}

Json metaspace(SplitStep::Kind kind) {
  const bool never = kind == SplitStep::Kind::space_sign;
  const bool first = kind == SplitStep::Kind::space_sign_first;
  return {{"type", "Metaspace"},
          {"replacement", kSpaceSign},
          {"prepend_scheme", never   ? "never"
                             : first ? "first"
                                     : "always"},
          {"split", false}};
}

// The last step of a chain over bytes, which may also put a space before each piece and then cut it
// by GPT-2's pattern. Nothing else can follow such a space.
Json last_step(const BpeModel& model, size_t first) {
  const size_t left = model.steps.size() - first;
  if (left == 0) return byte_level(false, false);
  if (left == 1) return byte_level(true, false);
  const SplitStep& cut = model.steps[first + 1];
  if (left > 2 || cut.kind != SplitStep::Kind::keep_all || cut.pattern != kGpt2Pattern)
    user_error("tokenizer",
               "{}: a space is put before pieces that are cut again, which cannot be written as "
               "tokenizer.json.",
               model.source);
  return byte_level(true, true);
}

Json pre_tokenizer(const BpeModel& model) {
  using Kind = SplitStep::Kind;
  Json steps = Json::array();
  size_t next = 0;
  for (; next < model.steps.size() && model.steps[next].kind != Kind::prefix_space; ++next) {
    const SplitStep& step = model.steps[next];
    steps.push_back(step.kind > Kind::prefix_space ? metaspace(step.kind) : split_step(step));
  }
  if (!model.characters) steps.push_back(last_step(model, next));
  if (steps.empty()) return nullptr;
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json normalizer(const BpeModel& model) {
  Json steps = Json::array();
  for (const NormalStep& step : model.normal_steps) switch (step.kind) {
      case NormalStep::Kind::form_c:
        steps.push_back({{"type", "NFC"}});
        break;
      case NormalStep::Kind::prepend:
        steps.push_back({{"type", "Prepend"}, {"prepend", step.content}});
        break;
      case NormalStep::Kind::replace:
        steps.push_back({{"type", "Replace"},
                         {"pattern", {{"Regex", step.pattern}}},
                         {"content", step.content}});
        break;
    }
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json decoder(const BpeModel& model) {
  if (!model.characters) return byte_level(true, true);
  const Decoding& how = model.decoding;
  Json steps = Json::array();
  if (how.strip_first_token)
    steps.push_back({{"type", "Metaspace"},
                     {"replacement", kSpaceSign},
                     {"prepend_scheme", "always"},
                     {"split", true}});
  else if (how.space_signs)
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpaceSign}}}, {"content", " "}});
  if (how.bytes) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (how.strip > 0)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", how.strip}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

Json added_tokens(const BpeModel& model) {
  Json tokens = Json::array();
  for (const AddedToken& token : model.added)
    tokens.push_back({{"id", token.id},
                      {"content", token.content},
                      {"single_word", token.single_word},
                      {"lstrip", token.strip_left},
                      {"rstrip", token.strip_right},
                      {"normalized", token.normalized},
                      {"special", !token.normalized}});
  return tokens;
}

/// Merges that join tokens in the order of their scores: every way to cut a token in two tokens.
Json merges_of_scores(const BpeModel& model) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < model.tokens.size(); ++id) ids.emplace(model.tokens[id], id);
  std::vector<size_t> order;
  for (size_t id = 0; id < model.tokens.size(); ++id) order.push_back(id);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return model.scores[a] > model.scores[b]; });
  Json merges = Json::array();
  const size_t none = model.tokens.size();
  size_t before = none;
  for (size_t id : order) {
    const std::string_view token = model.tokens[id];
    std::vector<std::pair<size_t, size_t>> parts;
    for (size_t at = 1; at < token.size(); ++at) {
      const auto left = ids.find(token.substr(0, at)), right = ids.find(token.substr(at));
      if (left != ids.end() && right != ids.end()) parts.emplace_back(left->second, right->second);
    }
    if (parts.empty()) continue;
    if (before != none && model.scores[before] == model.scores[id])
      user_error("tokenizer",
                 "{}: the tokens \"{}\" and \"{}\" have the same score {}, so that their place in "
                 "the text decides; tokenizer.json cannot say that.",
                 model.source, model.tokens[before], token, model.scores[id]);
    before = id;
    std::sort(parts.begin(), parts.end());
    for (const auto& [left, right] : parts)
      merges.push_back(Json::array({model.tokens[left], model.tokens[right]}));
  }
  return merges;
}

Json bpe(const BpeModel& model) {
  Json vocabulary = Json::object(), merges = Json::array();
  for (size_t id = 0; id < model.tokens.size(); ++id)
    if (!model.tokens[id].empty()) vocabulary.push_back({model.tokens[id], id});
  for (const auto& [left, right] : model.merges) merges.push_back(Json::array({left, right}));
  if (!model.scores.empty()) merges = merges_of_scores(model);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.unknown.empty() ? Json() : Json(model.unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", model.fuse_unknown},
          {"byte_fallback", model.byte_fallback},
          {"ignore_merges", model.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string tokenizer_json(const BpeModel& model) {
  if (!model.whole.empty() || !model.never.empty())
    user_error("tokenizer",
               "{}: tokens that are found in text or never made by joining cannot be written as "
               "tokenizer.json; hand on the file itself.",
               model.source);
  Json json = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", added_tokens(model)},
               {"normalizer", normalizer(model)},
               {"pre_tokenizer", pre_tokenizer(model)},
               {"post_processor", nullptr},
               {"decoder", decoder(model)},
               {"model", bpe(model)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string tokenizer_config_json(const SpecialTokens& special) {
  Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"clean_up_tokenization_spaces", false}};
  if (special.begin) json["bos_token"] = special.begin->text;
  if (special.end) json["eos_token"] = special.end->text;
  if (special.pad) json["pad_token"] = special.pad->text;
  if (!special.adds_source.empty()) {
    json["add_bos_token"] = special.adds_begin;
    json["add_eos_token"] = special.adds_end;
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace weir
