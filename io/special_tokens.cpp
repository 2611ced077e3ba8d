#include "io/special_tokens.h"

#include <filesystem>

#include "io/file.h"
#include "io/json_member.h"

namespace weir {
namespace {

using Json = nlohmann::json;

Json read_if_there(const std::filesystem::path& path) {
  return file_exists(path) ? parse_tokenizer_text(read_file(path), path) : Json();
}

/// A token as its text, or as the object of an added token.
std::string token_text(const Json& value) {
  return value.is_object() ? text_of(member(value, "content")) : text_of(value);
}

}  // namespace

void read_special_tokens(const std::string& folder, const TokenIds& ids, SpecialTokens& tokens) {
  const std::filesystem::path path = folder;
  const Json config = read_if_there(path / "tokenizer_config.json");
  const Json map = read_if_there(path / "special_tokens_map.json");
  auto name = [&](const char* key, std::optional<NamedToken>& token) {
    const bool in_config = config.is_object() && config.contains(key);
    const std::string text = token_text(member(in_config ? config : map, key));
    if (text.empty()) return;
    if (const std::optional<int32_t> id = ids(text))
      token = NamedToken{
          *id, text,
          fmt::format("{}: {}", in_config ? "tokenizer_config.json" : "special_tokens_map.json",
                      key)};
  };
  name("bos_token", tokens.begin);
  name("eos_token", tokens.end);
  name("pad_token", tokens.pad);
  if (!member(config, "add_bos_token").is_boolean() &&
      !member(config, "add_eos_token").is_boolean())
    return;
  tokens.adds_begin = flag(config, "add_bos_token") && tokens.begin;
  tokens.adds_end = flag(config, "add_eos_token") && tokens.end;
  tokens.adds_source = "tokenizer_config.json: add_bos_token, add_eos_token";
}

}  // namespace weir
