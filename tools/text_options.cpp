#include "tools/text_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "io/file.h"
#include "io/tokenizer_files.h"
#include "lab/measure/token_input.h"
#include "support/log.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {

namespace {

// Of a folder all files are kept (paths.cpp).
std::vector<std::string> with_company(const std::string& path) {
  std::error_code error;
  std::vector<std::string> files = {path};
  if (std::filesystem::is_directory(path, error)) return files;
  for (std::string& file : files_read_with(path))
    if (file != path) files.push_back(std::move(file));
  return files;
}

}  // namespace

ValueRule model_path_rule() {
  ValueRule rule = input_path();
  rule.reads = with_company;
  return rule;
}

ValueRule tokenizer_path_rule() {
  ValueRule rule = of_form("bytes, a file or a folder", [](const std::string& text) {
    std::error_code error;
    return text == "bytes" || (!text.empty() && std::filesystem::exists(text, error));
  });
  rule.reads = [](const std::string& text) {
    return text == "bytes" ? std::vector<std::string>{} : with_company(text);
  };
  return rule;
}

ValueRule token_file_rule() {
  ValueRule rule = input_path();
  rule.form = fmt::format("a .npy file, or FILE:TYPE for ids without a header with a type of {},",
                          token_types());
  rule.fits = [](const std::string& text) {
    const std::string before = text.substr(0, text.rfind(':'));
    if (token_file(text).path.empty()) return false;
    return token_file(text).headerless() || file_exists(text) || before == text ||
           !file_exists(before);  // said to be absent as it is
  };
  rule.reads = [](const std::string& text) { return std::vector{token_file(text).path}; };
  return rule;
}

ValueRule text_files_rule() {
  ValueRule rule = some_text();
  rule.reads = [](const std::string& text) {
    std::vector<std::string> files;
    try {
      const TextSource source(split_inputs(text));
      for (const TextFile& file : source.files()) files.push_back(file.path);
    } catch (const UserError&) {
      files.clear();  // what is wrong is said where the text is read
    }
    return files;
  };
  return rule;
}

void TextOptions::add_to(OptionTable& table) {
  table.add("--text", &text, text_files_rule(),
            "text to tokenise: files, folders or globs of plain text or JSON Lines, also .gz and "
            ".zst, divided by commas; repeatable");
  table.add("--tokenizer", &tokenizer, tokenizer_path_rule(),
            "bytes, or the file or folder of a tokenizer; the model's own if not given");
  table.add("--separator", &separator, some_text(), kSeparatorMeaning).with_default();
  table
      .add("--begin-token", &begin_token, some_text(),
           std::string(kBeginMeaning) + "; before ids of --tokens none, unless one is named")
      .with_default();
  table.add("--text-key", &key, some_text(), kTextKeyMeaning).with_default();
}

void TextOptions::check(const OptionTable& table, UsageProblems& problems) const {
  if (table.given("--tokens") == table.given("--text"))
    problems.add("give either --tokens FILE.npy or --text FILE.");
  for (const char* name : {"--separator", "--text-key"})
    if (table.given("--tokens") && table.given(name))
      problems.add(fmt::format("{} is of --text; the array of --tokens is taken as it is.", name));
  if (!text.empty()) problems.collect([&] { TextSource source(files(), key); });
}

std::vector<std::string> TextOptions::files() const {
  std::vector<std::string> files;
  for (const std::string& word : text)
    for (std::string& input : split_inputs(word)) files.push_back(std::move(input));
  return files;
}

TextTokens TextOptions::around_ids(const std::string& model, int64_t vocabulary) const {
  const char* as_they_are = "ids are taken as they are";
  TextTokens around;
  around.separator.source = around.begin.source = as_they_are;
  if (begin_token == "auto" || begin_token == "none" || begin_token.empty()) return around;
  int32_t id = -1;
  const char* end = begin_token.data() + begin_token.size();
  const auto [stop, error] = std::from_chars(begin_token.data(), end, id);
  if (stop == end && error == std::errc()) {  // needs no tokenizer
    around.begin = {id, "", "--begin-token"};
  } else {
    const std::string& what = tokenizer.empty() ? model : tokenizer;
    around.begin = choose_text_tokens(*load_tokenizer(what), what, {.begin = begin_token}).begin;
  }
  if (const int32_t chosen = around.begin.id.value_or(-1); chosen < 0 || chosen >= vocabulary)
    user_error("tokens",
               "--begin-token is {}, the id {}, but the model has a vocabulary of {}: ids 0 to {}.",
               begin_token, chosen, vocabulary, vocabulary - 1);
  return around;
}

TextInput::TextInput(const TextOptions& options, const std::string& model) : options_(&options) {
  const std::string& what = options.tokenizer.empty() ? model : options.tokenizer;
  tokenizer_ = load_tokenizer(what);
  tokens_ = choose_text_tokens(*tokenizer_, what, options.wishes());
}

void TextInput::need_vocabulary(const std::vector<int32_t>& ids, int64_t vocabulary) const {
  auto bad = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id >= vocabulary; });
  const int32_t id = bad != ids.end() ? *bad : tokens_.begin.id.value_or(-1);
  if (id < vocabulary) return;
  user_error("text",
             "the tokenizer ({}) gives the id {} ('{}'), but the model has a vocabulary of {}. {}.",
             tokenizer_->description(), id, printable_token(*tokenizer_, id), vocabulary,
             options_->tokenizer.empty()
                 ? "Give the tokenizer that the model was trained with (--tokenizer)"
                 : "Give the tokenizer that the model was trained with, or leave --tokenizer out "
                   "where the model has its own");
}

void TextInput::print_tokens() const {
  fmt::print("Separator {}, begin token {}\n", printable(to_string(tokens_.separator)),
             printable(to_string(tokens_.begin)));
}

EncodedText TextInput::encode(int64_t vocabulary, size_t wanted) const {
  const TextSource source(options_->files(), options_->key);
  EncodedText text = encode_text(source, *tokenizer_, tokens_, wanted);
  need_vocabulary(text.ids, vocabulary);
  if (const std::string note = changed_note(text); !note.empty()) log_warning("{}", note);
  return text;
}

}  // namespace weir
