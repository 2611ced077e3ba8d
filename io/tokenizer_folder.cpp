#include "io/tokenizer_folder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "io/file.h"
#include "io/hash.h"
#include "io/json_member.h"
#include "io/json_text.h"
#include "io/tokenizer_json.h"
#include "io/tokenizer_steps_json.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

/// What a class of transformers does with text.
struct TokenizerClass {
  std::string_view name;
  const char* pattern;
  bool prefix_first;  ///< a prefix space is put before the text is cut, not before every piece
  bool normal_form_c;
  bool begins;  ///< "<|endoftext|>" is its begin token, too
};
constexpr const char* kEndOfText = "<|endoftext|>";

const std::array<TokenizerClass, 3>& classes() {
  static const std::array<TokenizerClass, 3> table = {{
      {"GPT2Tokenizer", kGpt2Pattern, true, false, true},
      {"CodeGenTokenizer", kGpt2Pattern, true, false, true},
      {"Qwen2Tokenizer", kQwen2Pattern, false, true, false},
  }};
  return table;
}

/// The class that transformers takes for a model whose folder names none.
std::string class_of_model_type(const std::string& type) {
  for (const char* gpt2 : {"gpt2", "gpt_neo", "gptj", "opt", "codegen"})
    if (type == gpt2) return "GPT2Tokenizer";
  for (const char* qwen : {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe"})
    if (type == qwen) return "Qwen2Tokenizer";
  return "";
}

Json read_if_there(const fs::path& path) {
  return file_exists(path) ? parse_json<Json>(read_file(path), "tokenizer", path) : Json();
}

/// The files beside the vocabulary; null where one is absent.
struct Folder {
  fs::path path;
  Json tokenizer_config, config, special_tokens_map, added_tokens;

  explicit Folder(fs::path folder)
      : path(std::move(folder)),
        tokenizer_config(read_if_there(path / "tokenizer_config.json")),
        config(read_if_there(path / "config.json")),
        special_tokens_map(read_if_there(path / "special_tokens_map.json")),
        added_tokens(read_if_there(path / "added_tokens.json")) {}
};

bool is_gpt2_vocabulary(const BpeModel& model) {
  if (model.tokens.size() != 50257 || model.merges.size() != 50000) return false;
  Hasher hasher;
  for (const std::string& token : model.tokens) {
    hasher.add(token);
    hasher.add("\n");
  }
  return hasher.hex_128() == "250ac884e9e86b1eb6e84ed34422333a";
}

std::string without_fast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

const TokenizerClass& class_of(const Folder& folder, const BpeModel& model) {
  std::string said, where;
  if (said = text_of(member(folder.tokenizer_config, "tokenizer_class")); !said.empty())
    where = "tokenizer_config.json: tokenizer_class";
  else if (said = text_of(member(folder.config, "tokenizer_class")); !said.empty())
    where = "config.json: tokenizer_class";
  const std::string type = text_of(member(folder.config, "model_type"));
  std::string name = said.empty() ? class_of_model_type(type) : without_fast(said);
  if (name.empty() && type.empty() && is_gpt2_vocabulary(model)) name = "GPT2Tokenizer";
  for (const TokenizerClass& known : classes())
    if (known.name == name) return known;
  const std::string why =
      !said.empty()   ? fmt::format("{} is {}", where, said)
      : !type.empty() ? fmt::format("config.json says model_type {} and no tokenizer_class", type)
                      : "nothing says whose they are, and they are not GPT-2's own";
  user_error("tokenizer",
             "{}: how the text of vocab.json and merges.txt is cut is known for GPT2Tokenizer, "
             "CodeGenTokenizer and Qwen2Tokenizer; {}. Name one of these as tokenizer_class in "
             "tokenizer_config.json if it is one, or put the model's tokenizer.json there "
             "(save_pretrained of transformers' AutoTokenizer writes it).",
             folder.path.string(), why);
}

/// Adds a token unless its text is added already; one that only a name says needs an id in the
/// vocabulary.
void add_named(const Json& value, BpeModel& model) {
  const std::string text = text_of(value.is_object() ? member(value, "content") : value);
  for (const AddedToken& token : model.added)
    if (token.content == text) return;
  const std::optional<int32_t> id = token_id(model, text);
  if (!id) return;
  if (value.is_object())
    model.added.push_back(added_token(value, *id));
  else
    model.added.push_back({.id = *id, .content = text});
}

/// added_tokens_decoder: id as text, then the token.
void add_decoder(const Json& decoder, BpeModel& model, Problems& problems) {
  for (const auto& [key, value] : decoder.items()) {
    int32_t id = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    AddedToken token = added_token(value, id);
    if (error != std::errc() || stop != key.data() + key.size() || id < 0 || id >= 1 << 24 ||
        token.content.empty())
      problems.add(
          fmt::format("{}: tokenizer_config.json has the added token \"{}\": {}; an id "
                      "and content are needed.",
                      model.source, key, value.dump()));
    else
      model.added.push_back(std::move(token));
  }
}

/// special_tokens_map.json and added_tokens.json, as transformers reads folders of old.
void add_old(const Folder& folder, BpeModel& model, Problems& problems) {
  std::vector<std::string> special;
  auto note = [&](const Json& value) {
    special.push_back(text_of(value.is_object() ? member(value, "content") : value));
  };
  for (const Json* source : {&folder.tokenizer_config, &folder.special_tokens_map})
    for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                            "cls_token", "mask_token", "additional_special_tokens"}) {
      const Json& value = member(*source, key);
      if (value.is_array())
        for (const Json& one : value) note(one);
      else
        note(value);
    }
  for (const auto& [text, id] : folder.added_tokens.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= 1U << 24 || text.empty()) {
      problems.add(fmt::format("{}: added_tokens.json has \"{}\": {}; an id is needed.",
                               model.source, text, id.dump()));
      continue;
    }
    const bool is_special = std::find(special.begin(), special.end(), text) != special.end();
    model.added.push_back({.id = id.get<int32_t>(), .content = text, .normalized = !is_special});
  }
  for (const auto& [key, value] : folder.special_tokens_map.items())
    if (value.is_array())
      for (const Json& one : value) add_named(one, model);
    else
      add_named(value, model);
}

}  // namespace

BpeModel load_vocabulary_folder(const std::string& vocab_path) {
  const Folder folder(fs::path(vocab_path).parent_path());
  BpeModel model = load_vocab_and_merges(vocab_path, (folder.path / "merges.txt").string());
  const TokenizerClass& known = class_of(folder, model);
  Problems problems("tokenizer");
  const Json& decoder = member(folder.tokenizer_config, "added_tokens_decoder");
  if (decoder.is_object())
    add_decoder(decoder, model, problems);
  else
    add_old(folder, model, problems);
  problems.raise();
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    add_named(member(folder.tokenizer_config, key), model);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    for (const Json& value : member(folder.tokenizer_config, key)) add_named(value, model);
  add_named(kEndOfText, model);
  if (const std::optional<int32_t> id = token_id(model, kEndOfText)) {
    const NamedToken token{*id, kEndOfText, fmt::format("{}'s default", known.name)};
    model.special.end = token;
    if (known.begins) model.special.begin = token;
  }
  const bool prefix = flag(folder.tokenizer_config, "add_prefix_space");
  if (prefix && known.prefix_first) model.steps.push_back({SplitStep::Kind::prefix_space, ""});
  model.steps.push_back({SplitStep::Kind::keep_all, known.pattern});
  if (prefix && !known.prefix_first) model.steps.push_back({SplitStep::Kind::prefix_space, ""});
  if (known.normal_form_c) model.normal_steps.push_back({NormalStep::Kind::form_c, "", ""});
  return model;
}

void add_tokens_past_vocabulary(const std::string& path, BpeModel& model) {
  const Folder folder{fs::path(path)};
  BpeModel stated;
  stated.source = path;
  Problems problems("tokenizer");
  const Json& decoder = member(folder.tokenizer_config, "added_tokens_decoder");
  if (decoder.is_object())
    add_decoder(decoder, stated, problems);
  else
    add_old(folder, stated, problems);
  problems.raise();
  for (AddedToken& token : stated.added)
    if (static_cast<size_t>(token.id) >= model.tokens.size())
      model.added.push_back(std::move(token));
}

}  // namespace weir
