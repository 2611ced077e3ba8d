#include "io/tokenizer_json_writer.h"

#include <nlohmann/json.hpp>

#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

Json split(const std::string& pattern, const char* behavior, bool invert) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", invert}};
}

Json byte_level(bool prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", false}};
}

Json pre_tokenizer(const BpeModel& model) {
  Json steps = Json::array();
  bool prefix_space = false;
  for (const SplitStep& step : model.steps) {
    if (prefix_space)
      user_error("tokenizer",
                 "{}: a space is put before pieces that are cut again, which cannot be written as "
                 "tokenizer.json.",
                 model.source);
    switch (step.kind) {
      case SplitStep::Kind::keep_all:
        steps.push_back(split(step.pattern, "Isolated", false));
        break;
      case SplitStep::Kind::keep_matches:
        steps.push_back(split(step.pattern, "Removed", true));
        break;
      case SplitStep::Kind::keep_gaps:
        steps.push_back(split(step.pattern, "Removed", false));
        break;
      case SplitStep::Kind::prefix_space:
        prefix_space = true;
        break;
    }
  }
  steps.push_back(byte_level(prefix_space));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
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

Json bpe(const BpeModel& model) {
  Json vocabulary = Json::object(), merges = Json::array();
  for (size_t id = 0; id < model.tokens.size(); ++id)
    if (!model.tokens[id].empty()) vocabulary.push_back({model.tokens[id], id});
  for (const auto& [left, right] : model.merges) merges.push_back(Json::array({left, right}));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.unknown.empty() ? Json() : Json(model.unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", model.fuse_unknown},
          {"byte_fallback", false},
          {"ignore_merges", model.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string tokenizer_json(const BpeModel& model) {
  Json json = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", added_tokens(model)},
               {"normalizer", model.normal_form_c ? Json{{"type", "NFC"}} : Json()},
               {"pre_tokenizer", pre_tokenizer(model)},
               {"post_processor", nullptr},
               {"decoder", byte_level(true)},
               {"model", bpe(model)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string tokenizer_config_json(const std::string& end_of_text) {
  Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"clean_up_tokenization_spaces", false}};
  if (!end_of_text.empty()) json["eos_token"] = end_of_text;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace weir
