// weir tokens: text to token ids in a .npy file, and back.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "io/encoded_text.h"
#include "io/file.h"
#include "io/npy.h"
#include "io/text_kind.h"
#include "lab/measure/token_input.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/command.h"
#include "tools/outputs.h"
#include "tools/text_options.h"

namespace weir {
namespace {

struct TokensArguments {
  std::string tokenizer, out, decode, separator = "auto", begin_token = "none", key = "text";
  std::vector<std::string> text;
  int64_t batch = 0, length = 0;
  bool overwrite = false;
};

std::string read_standard_input() {
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (size_t got = std::fread(buffer.data(), 1, buffer.size(), stdin))
    text.append(buffer.data(), got);
  return text;
}

/// Documents until there are `wanted` ids (0: all of them).
EncodedText encode(const TokensArguments& options, const Tokenizer& tokenizer,
                   const TextTokens& around, size_t wanted) {
  if (!options.text.empty() && options.text != std::vector<std::string>{"-"})
    return encode_text(TextSource(options.text, options.key), tokenizer, around, wanted);
  const std::string given = read_standard_input();
  const std::string reason = why_no_text(std::string_view(given).substr(0, kTextHead));
  if (!reason.empty()) user_error("text", "standard input {}.", reason);
  EncodedText text;
  text.add(given, tokenizer, around);
  return text;
}

/// [N], or [B,T] of the first ids; everything that fills whole rows when only T is given. A begin
/// token stands first, in every row.
std::vector<int64_t> cut(const TokensArguments& options, const std::optional<int32_t>& begin,
                         std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  const int64_t given = begin ? 1 : 0;
  if (options.length == 0) {
    if (begin) ids.insert(ids.begin(), *begin);
    return {count + given};
  }
  const int64_t of_text = options.length - given;  // ids of the text in a row
  const int64_t rows = options.batch > 0 ? options.batch : count / of_text;
  if (rows == 0 || count / of_text < rows)
    user_error("tokens",
               "the text has {} tokens, but {} rows of {} need {}. Give more text, or a smaller "
               "--batch or --length.",
               count, std::max<int64_t>(rows, 1), options.length,
               std::max<int64_t>(rows, 1) * of_text);
  ids.resize(static_cast<size_t>(rows * of_text));
  if (begin)
    for (int64_t row = rows - 1; row >= 0; --row) ids.insert(ids.begin() + row * of_text, *begin);
  return {rows, options.length};
}

int run_encode(const TokensArguments& options, const Tokenizer& tokenizer) {
  const TextTokens around = choose_text_tokens(
      tokenizer, options.tokenizer, {.separator = options.separator, .begin = options.begin_token});
  if (around.begin.id && options.length == 1)
    user_error("tokens", "--length is 1, but a begin token and one of the text are 2.");
  EncodedText encoding =
      encode(options, tokenizer, around, static_cast<size_t>(options.batch * options.length));
  const std::vector<int64_t> shape = cut(options, around.begin.id, encoding.ids);
  if (options.out.empty()) {
    const auto row = static_cast<size_t>(std::max<int64_t>(shape.back(), 1));
    for (size_t i = 0; i < encoding.ids.size(); ++i)
      fmt::print("{}{}", encoding.ids[i], (i + 1) % row == 0 ? "\n" : " ");
  } else {
    write_npy(options.out, {FileDtype::i32, shape, std::as_bytes(std::span(encoding.ids))});
    fmt::print("{}: i32 {} from {} in {} document{}; {}\n", printable(options.out),
               shape_text(shape), human_bytes(static_cast<double>(encoding.bytes)),
               encoding.documents, encoding.documents == 1 ? "" : "s", tokenizer.description());
    fmt::print("Separator {}, begin token {}\n", to_string(around.separator),
               to_string(around.begin));
  }
  if (const std::string note = changed_note(encoding); !note.empty())
    fmt::print(stderr, "note: {}\n", printable_message(note));
  return 0;
}

int run_decode(const TokensArguments& options, const Tokenizer& tokenizer) {
  const std::string text =
      tokenizer.decode(read_token_ids(options.decode, tokenizer.vocabulary_size()).ids);
  if (options.out.empty())
    std::fwrite(text.data(), 1, text.size(), stdout);
  else
    write_file(options.out, text);
  return 0;
}

int run_tokens(const TokensArguments& options) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(options.tokenizer);
  return options.decode.empty() ? run_encode(options, *tokenizer) : run_decode(options, *tokenizer);
}

}  // namespace

void add_tokens(Commands& commands) {
  auto options = std::make_shared<TokensArguments>();
  OptionTable& table = add_command(commands, "tokens", "turn text into token ids, and back");
  table
      .add("--tokenizer", &options->tokenizer, tokenizer_path_rule(),
           "bytes, a tokenizer.json, a vocab.json beside its merges.txt, a tokenizer.model of "
           "SentencePiece, a .gguf file, or a folder with one of these")
      .needed();
  table
      .add("--text", &options->text, text_files_rule(),
           "files, folders or globs of plain text or JSON Lines, also .gz and .zst; - or nothing "
           "reads standard input")
      .many();
  Option& out =
      table.add("--out", &options->out, tokens_file(),
                "the .npy file (i32) to write, or the text with --decode; else standard output");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.add("--length", &options->length, within(1, 1 << 30),
            "cut the ids into rows of this many, [batch, length]");
  table.add("--batch", &options->batch, within(1, 1 << 30),
            "as many rows from the begin of the text; all that fill up if not given");
  table.add("--separator", &options->separator, some_text(), kSeparatorMeaning).with_default();
  table.add("--begin-token", &options->begin_token, some_text(), kBeginMeaning).with_default();
  table.add("--text-key", &options->key, some_text(), kTextKeyMeaning).with_default();
  table.add(
      "--decode", &options->decode, token_file_rule(),
      "a .npy file of ids to turn into text; or FILE:uint16, ids without a header of that type");
  for (const char* other :
       {"--text", "--length", "--batch", "--separator", "--begin-token", "--text-key"})
    table.exclude("--decode", other);
  table.check([options, &table, &out](UsageProblems& problems) {
    if (table.given("--decode")) out.rule = decoded_file();
    if (table.given("--batch") && !table.given("--length"))
      problems.add(fmt::format("--batch {} needs --length too.", options->batch));
    const bool standard_input = options->text.empty() || options->text[0] == "-";
    if (options->text.size() > 1 &&
        std::find(options->text.begin(), options->text.end(), "-") != options->text.end())
      problems.add("--text - reads standard input; it stands alone.");
    else if (!standard_input)
      problems.collect([&] { TextSource source(options->text, options->key); });
  });
  table.footer(
      "The ids are those of Hugging Face's tokenizers. A begin token stands at the begin of every "
      "row,\nwithout --length once.\n\nExamples:\n"
      "  weir tokens --tokenizer model.gguf --text book.txt --out ids.npy\n"
      "  weir tokens --tokenizer gpt2/ --text 'c4/*.json.gz' --batch 4 --length 256 --out ids.npy\n"
      "  weir tokens --tokenizer gpt2/ --decode ids.npy\n"
      "  echo 'Hello world' | weir tokens --tokenizer gpt2/");
  table.action([options] { return run_tokens(*options); });
}

}  // namespace weir
