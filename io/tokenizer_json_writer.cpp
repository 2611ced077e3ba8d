#include "io/tokenizer_json_writer.h"

#include <nlohmann/json.hpp>

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

// The last step of every chain, which may also put a space before each piece and then cut it by
// GPT-2's pattern. Nothing else can follow such a space.
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
  Json steps = Json::array();
  size_t next = 0;
  for (; next < model.steps.size(); ++next) {
    const SplitStep& step = model.steps[next];
    if (step.kind == SplitStep::Kind::prefix_space) break;
    const bool keep_all = step.kind == SplitStep::Kind::keep_all;
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", step.pattern}}},
                     {"behavior", keep_all ? "Isolated" : "Removed"},
                     {"invert", step.kind == SplitStep::Kind::keep_matches}});
  }
  steps.push_back(last_step(model, next));
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
               {"decoder", byte_level(true, true)},
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
