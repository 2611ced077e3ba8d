#include "io/text_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json_text.h"
#include "io/tokenizer_files.h"
#include "support/error.h"
#include "support/usage_error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

/// A token as the user names it: its id, or its text. Digits are an id, even where a token is
/// spelled so.
std::optional<int32_t> named_token(const Tokenizer& tokenizer, const std::string& wish) {
  int32_t id = -1;
  const char* end = wish.data() + wish.size();
  const auto [stop, error] = std::from_chars(wish.data(), end, id);
  if (stop != end) return tokenizer.token_id(wish);
  if (error != std::errc() || id < 0 || id >= tokenizer.vocabulary_size()) return std::nullopt;
  return id;
}

/// What the user said of one token; nothing when it is left to the files.
std::optional<ChosenToken> wished(const Tokenizer& tokenizer, const std::string& wish,
                                  const std::string& name, UsageProblems& problems) {
  if (wish.empty() || wish == "auto") return std::nullopt;
  if (wish == "none") return ChosenToken{std::nullopt, "", name};
  const std::optional<int32_t> id = named_token(tokenizer, wish);
  if (!id)
    problems.add(fmt::format("{} is '{}'; none, auto, a token or an id below {} is needed ({}).",
                             name, wish, tokenizer.vocabulary_size(), tokenizer.description()));
  return ChosenToken{id, "", name};
}

/// The folder whose config.json goes with the tokenizer.
fs::path folder_of(const std::string& what) {
  const std::optional<std::string> file = tokenizer_path(what);
  return file ? fs::path(*file).parent_path() : fs::path(what);
}

std::optional<int32_t> stated_id(const fs::path& file, int32_t vocabulary) {
  if (!file_exists(file)) return std::nullopt;
  const auto json = parse_json<nlohmann::json>(read_file(file), "tokenizer", file.string());
  if (!json.is_object() || !json.contains("eos_token_id")) return std::nullopt;
  const nlohmann::json& value = json["eos_token_id"];
  const nlohmann::json& first = value.is_array() && !value.empty() ? value[0] : value;
  if (!first.is_number_integer()) return std::nullopt;
  const auto id = first.get<int64_t>();
  if (id < 0 || id >= vocabulary) return std::nullopt;
  return static_cast<int32_t>(id);
}

ChosenToken chosen(const NamedToken& token) { return {token.id, token.text, token.source}; }

ChosenToken stated_separator(const Tokenizer& tokenizer, const std::string& what) {
  if (const auto& end = tokenizer.special_tokens().end) return chosen(*end);
  for (const char* name : {"config.json", "generation_config.json"})
    if (const auto id = stated_id(folder_of(what) / name, tokenizer.vocabulary_size()))
      return {id, "", fmt::format("{}: eos_token_id", name)};
  if (const auto id = tokenizer.end_of_text()) return {id, "", "a token of this name"};
  return {std::nullopt, "", "no file names one"};
}

ChosenToken stated_begin(const Tokenizer& tokenizer) {
  const SpecialTokens& tokens = tokenizer.special_tokens();
  if (!tokens.adds_begin || !tokens.begin) return {std::nullopt, "", "the tokenizer adds none"};
  ChosenToken begin = chosen(*tokens.begin);
  if (!tokens.adds_source.empty()) begin.source = tokens.adds_source;
  return begin;
}

/// The begin token that the tokenizer has, whether or not it puts it before a text.
ChosenToken own_begin(const Tokenizer& tokenizer, const std::string& name,
                      UsageProblems& problems) {
  if (const auto& begin = tokenizer.special_tokens().begin) return chosen(*begin);
  problems.add(
      fmt::format("{} is tokenizer, but the tokenizer ({}) names no begin token (bos_token of "
                  "tokenizer_config.json). Give a token, an id, or none.",
                  name, tokenizer.description()));
  return {};
}

void spell(const Tokenizer& tokenizer, ChosenToken& token) {
  if (token.id && token.text.empty()) token.text = tokenizer.decode(std::span(&*token.id, 1));
}

}  // namespace

std::string to_string(const ChosenToken& token) {
  std::string text = token.id ? fmt::format("{}", *token.id) : "none";
  const bool plain = std::all_of(token.text.begin(), token.text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 32 && static_cast<unsigned char>(c) != 127;
  });
  if (token.id && !token.text.empty() && plain) text += fmt::format(" '{}'", token.text);
  if (!token.source.empty()) text += fmt::format(" ({})", token.source);
  return text;
}

TextTokens choose_text_tokens(const Tokenizer& tokenizer, const std::string& what,
                              const TokenWishes& wishes) {
  UsageProblems problems("tokens");
  const auto separator = wished(tokenizer, wishes.separator, wishes.separator_name, problems);
  const auto begin = wishes.begin == kTokenizersOwn
                         ? own_begin(tokenizer, wishes.begin_name, problems)
                         : wished(tokenizer, wishes.begin, wishes.begin_name, problems);
  problems.raise();
  TextTokens tokens{separator ? *separator : stated_separator(tokenizer, what),
                    begin ? *begin : stated_begin(tokenizer), !separator};
  spell(tokenizer, tokens.separator);
  spell(tokenizer, tokens.begin);
  return tokens;
}

void raise_no_separator(const Tokenizer& tokenizer, const TokenWishes& wishes) {
  user_error("tokens",
             "there are several documents, but no file says which token of the tokenizer ({}) "
             "separates them (eos_token of tokenizer_config.json, or eos_token_id of config.json). "
             "Give {} with a token, an id, or none.",
             tokenizer.description(), wishes.separator_name);
}

}  // namespace weir
