#include "io/gguf_tokenizer.h"

#include <array>

#include "io/split_pattern.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr int64_t kControl = 3;  // types of tokens: the numbers are the format's
constexpr int64_t kUserDefined = 4;
constexpr size_t kMaxTokens = 1 << 24;

/// How text is cut under a name of tokenizer.ggml.pre: what the tokenizer.json of that model says.
struct Cutting {
  std::string_view name;
  bool digits_first;  ///< every digit is a piece of its own before the pattern is asked
  const char* pattern;
  bool ignore_merges;
  bool normal_form_c;
};

const char* const kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const std::array<Cutting, 11>& cuttings() {
  static const std::array<Cutting, 11> table = {{
      {"gpt-2", false, kGpt2Pattern, false, false},
      {"smollm", true, kGpt2Pattern, false, false},
      {"starcoder", true, kGpt2Pattern, false, false},
      {"llama-bpe", false, kLlama3, true, false},
      {"llama3", false, kLlama3, true, false},
      {"llama-v3", false, kLlama3, true, false},
      {"smaug-bpe", false, kLlama3, false, false},
      {"dbrx", false, kLlama3, false, false},
      {"qwen2", false, kQwen2, false, true},
      {"deepseek-r1-qwen", false, kQwen2, false, true},
      {"tekken", false, kTekken, true, false},
  }};
  return table;
}

const Cutting& cutting(const GgufFile& file) {
  const GgufValue* value = file.find("tokenizer.ggml.pre");
  std::vector<std::string> names;
  for (const Cutting& known : cuttings()) names.emplace_back(known.name);
  if (value == nullptr)
    user_error("gguf",
               "{}: the metadata has no \"tokenizer.ggml.pre\", so how text is cut into words is "
               "not known. Give the model's tokenizer.json instead, or convert the model again.",
               file.path());
  for (const Cutting& known : cuttings())
    if (known.name == value->text()) return known;
  user_error("gguf",
             "{}: tokenizer.ggml.pre is \"{}\"; one of {} is needed.{} Give the model's "
             "tokenizer.json instead.",
             file.path(), value->text(), join(names, ", "), did_you_mean(value->text(), names));
}

void read_tokens(const GgufFile& file, BpeModel& model, Problems& problems) {
  const std::vector<std::string_view> tokens = file.at("tokenizer.ggml.tokens").texts();
  if (tokens.size() > kMaxTokens)
    user_error("gguf", "{}: there are {} tokens; at most {} are read.", file.path(), tokens.size(),
               kMaxTokens);
  model.tokens.assign(tokens.begin(), tokens.end());
  const GgufValue* types = file.find("tokenizer.ggml.token_type");
  if (types == nullptr) return;  // all tokens are normal
  const std::vector<int64_t> kinds = types->wholes();
  if (kinds.size() != tokens.size()) {
    problems.add(fmt::format("{}: there are {} token types for {} tokens.", file.path(),
                             kinds.size(), tokens.size()));
    return;
  }
  for (size_t id = 0; id < kinds.size(); ++id)
    if (kinds[id] == kControl || kinds[id] == kUserDefined)
      model.added.push_back({.id = static_cast<int32_t>(id), .content = model.tokens[id]});
}

void read_merges(const GgufFile& file, BpeModel& model, Problems& problems) {
  const std::vector<std::string_view> merges = file.at("tokenizer.ggml.merges").texts();
  for (std::string_view merge : merges) {
    // The parts are not empty, and a part may begin with a space of its own in no known model.
    const size_t space = merge.find(' ', 1);
    if (space == merge.npos || space + 1 == merge.size()) {
      problems.add(
          fmt::format("{}: merge {} is \"{}\"; two tokens and a space between them are "
                      "needed.",
                      file.path(), model.merges.size() + 1, merge));
      return;
    }
    model.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
}

/// The ids that the metadata states. Of a file that does not say whether a begin token is put
/// before texts, llama.cpp puts one before those of the Llama 3 and Tekken cuttings.
void read_special(const GgufFile& file, bool adds_begin, BpeModel& model, Problems& problems) {
  auto name = [&](const std::string& key, std::optional<NamedToken>& token) {
    const GgufValue* value = file.find("tokenizer.ggml." + key);
    if (value == nullptr) return;
    const int64_t id = value->whole();
    if (id >= 0 && static_cast<size_t>(id) < model.tokens.size())
      token =
          NamedToken{static_cast<int32_t>(id), model.tokens[static_cast<size_t>(id)], value->key()};
    else
      problems.add(fmt::format("{}: {} is {}, but there are {} tokens.", file.path(), value->key(),
                               id, model.tokens.size()));
  };
  SpecialTokens& special = model.special;
  name("bos_token_id", special.begin);
  name("eos_token_id", special.end);
  name("padding_token_id", special.pad);
  const GgufValue* begin = file.find("tokenizer.ggml.add_bos_token");
  const GgufValue* end = file.find("tokenizer.ggml.add_eos_token");
  special.adds_begin = special.begin && (begin ? begin->flag() : adds_begin);
  special.adds_end = special.end && end && end->flag();
  if (begin || end)
    special.adds_source = (begin ? begin : end)->key();
  else if (special.adds_begin)
    special.adds_source = "llama.cpp's default";
}

}  // namespace

BpeModel gguf_tokenizer(const GgufFile& file) {
  const std::string_view kind = file.at("tokenizer.ggml.model").text();
  if (kind != "gpt2")
    user_error("gguf", "{}: the tokenizer is of the model \"{}\"; gpt2 (byte-level BPE) is needed.",
               file.path(), kind);
  BpeModel model;
  model.source = file.path();
  const Cutting& how = cutting(file);
  Problems problems("gguf");
  read_tokens(file, model, problems);
  read_merges(file, model, problems);
  read_special(file, how.ignore_merges, model, problems);
  problems.raise();
  if (how.digits_first) model.steps.push_back({SplitStep::Kind::keep_all, digit_pattern()});
  model.steps.push_back({SplitStep::Kind::keep_all, how.pattern});
  model.ignore_merges = how.ignore_merges;
  model.normal_form_c = how.normal_form_c;
  return model;
}

}  // namespace weir
