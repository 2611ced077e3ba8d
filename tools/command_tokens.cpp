// weir tokens: text to token ids in a .npy file, and back.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <optional>

#include "io/file.h"
#include "io/npy.h"
#include "io/text_source.h"
#include "io/tokenizer.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/command.h"

namespace weir {
namespace {

struct TokensArguments {
  std::string tokenizer, out, decode, separator;
  std::vector<std::string> text;
  int64_t batch = 0, length = 0;
};

std::string read_standard_input() {
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (size_t got = std::fread(buffer.data(), 1, buffer.size(), stdin))
    text.append(buffer.data(), got);
  return text;
}

/// The id between documents: what the user said, else the end of text if there is one.
std::optional<int32_t> separator_of(const TokensArguments& options, const Tokenizer& tokenizer) {
  if (options.separator.empty()) return tokenizer.end_of_text();
  if (options.separator == "none") return std::nullopt;
  if (std::optional<int32_t> id = tokenizer.token_id(options.separator)) return id;
  int32_t id = -1;
  const char* end = options.separator.data() + options.separator.size();
  auto [stop, error] = std::from_chars(options.separator.data(), end, id);
  if (error != std::errc() || stop != end || id < 0 || id >= tokenizer.vocabulary_size())
    user_error("tokens", "--separator is '{}'; none, a token or an id below {} is needed.",
               options.separator, tokenizer.vocabulary_size());
  return id;
}

/// Encodes documents until `wanted` ids are there (0: all of them), and counts.
struct Encoding {
  std::vector<int32_t> ids;
  size_t documents = 0, bytes = 0, changed = 0;

  void add(const std::string& text, const Tokenizer& tokenizer, std::optional<int32_t> separator) {
    if (documents++ > 0 && separator) ids.push_back(*separator);
    const size_t first = ids.size();
    tokenizer.encode(text, ids);
    bytes += text.size();
    if (tokenizer.decode(std::span(ids).subspan(first)) != text) ++changed;
  }
};

Encoding encode(const TokensArguments& options, const Tokenizer& tokenizer, size_t wanted) {
  const std::optional<int32_t> separator = separator_of(options, tokenizer);
  Encoding encoding;
  if (options.text.empty() || options.text == std::vector<std::string>{"-"}) {
    encoding.add(read_standard_input(), tokenizer, separator);
    return encoding;
  }
  DocumentReader reader{TextSource(options.text)};
  std::string text;
  while ((wanted == 0 || encoding.ids.size() < wanted) && reader.next(text))
    encoding.add(text, tokenizer, separator);
  return encoding;
}

/// [N], or [B,T] of the first ids; everything that fills whole rows when only T is given.
std::vector<int64_t> cut(const TokensArguments& options, std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  if (options.length == 0) return {count};
  const int64_t rows = options.batch > 0 ? options.batch : count / options.length;
  if (rows == 0 || count / options.length < rows)
    user_error("tokens",
               "the text has {} tokens, but {} rows of {} need {}. Give more text, or a smaller "
               "--batch or --length.",
               count, std::max<int64_t>(rows, 1), options.length,
               std::max<int64_t>(rows, 1) * options.length);
  ids.resize(static_cast<size_t>(rows * options.length));
  return {rows, options.length};
}

int run_encode(const TokensArguments& options, const Tokenizer& tokenizer) {
  Encoding encoding =
      encode(options, tokenizer, static_cast<size_t>(options.batch * options.length));
  const std::vector<int64_t> shape = cut(options, encoding.ids);
  if (options.out.empty()) {
    const auto row = static_cast<size_t>(std::max<int64_t>(shape.back(), 1));
    for (size_t i = 0; i < encoding.ids.size(); ++i)
      fmt::print("{}{}", encoding.ids[i], (i + 1) % row == 0 ? "\n" : " ");
  } else {
    write_npy(options.out, {FileDtype::i32, shape, std::as_bytes(std::span(encoding.ids))});
    fmt::print("{}: i32 {} from {} in {} document{}; {}\n", options.out, shape_text(shape),
               human_bytes(static_cast<double>(encoding.bytes)), encoding.documents,
               encoding.documents == 1 ? "" : "s", tokenizer.description());
  }
  if (encoding.changed > 0)
    fmt::print(stderr,
               "note: {} of {} documents do not decode to the same bytes; they are not UTF-8, not "
               "in the tokenizer's normal form, or hold bytes that it has no token for.\n",
               encoding.changed, encoding.documents);
  return 0;
}

std::vector<int32_t> read_ids(const std::string& path) {
  const NpyArray array = read_npy(path);
  std::vector<int32_t> ids;
  auto add = [&](auto values) {
    for (auto value : values) {
      if (value < 0 || value > INT32_MAX)
        user_error("tokens", "{} holds {}, which is no token id.", path, value);
      ids.push_back(static_cast<int32_t>(value));
    }
  };
  if (array.dtype == FileDtype::i32)
    add(array.as<int32_t>());
  else if (array.dtype == FileDtype::i64)
    add(array.as<int64_t>());
  else
    user_error("tokens", "{} is an array of {}; whole numbers (<i4 or <i8) are needed.", path,
               npy_name(array.dtype).value_or("?"));
  return ids;
}

int run_decode(const TokensArguments& options, const Tokenizer& tokenizer) {
  const std::string text = tokenizer.decode(read_ids(options.decode));
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
      .add("--tokenizer", &options->tokenizer,
           of_form("bytes, a file or a folder",
                   [](const std::string& text) {
                     std::error_code error;
                     return text == "bytes" ||
                            (!text.empty() && std::filesystem::exists(text, error));
                   }),
           "bytes, a tokenizer.json, a vocab.json beside its merges.txt, a tokenizer.model of "
           "SentencePiece, a .gguf file, or a folder with one of these")
      .needed();
  table
      .add("--text", &options->text, some_text(),
           "files, folders or globs of plain text or JSON Lines (with \"text\"), gzip or not; - or "
           "nothing reads standard input")
      .many();
  table.add("--out", &options->out, output_file(),
            "the .npy file (i32) to write, or the text with --decode; else standard output");
  table.add("--length", &options->length, within(1, 1 << 30),
            "cut the ids into rows of this many, [batch, length]");
  table.add("--batch", &options->batch, within(1, 1 << 30),
            "as many rows from the begin of the text; all that fill up if not given");
  table.add("--separator", &options->separator, some_text(),
            "token or id between documents, or none; the end of text if not given");
  table.add("--decode", &options->decode, input_path(), "a .npy file of ids to turn into text");
  for (const char* other : {"--text", "--length", "--batch", "--separator"})
    table.exclude("--decode", other);
  table.check([options, &table](UsageProblems& problems) {
    if (table.given("--batch") && !table.given("--length"))
      problems.add(fmt::format("--batch {} needs --length too.", options->batch));
    const bool standard_input = options->text.empty() || options->text[0] == "-";
    if (options->text.size() > 1 &&
        std::find(options->text.begin(), options->text.end(), "-") != options->text.end())
      problems.add("--text - reads standard input; it stands alone.");
    else if (!standard_input)
      problems.collect([&] { TextSource source(options->text); });
  });
  table.footer(
      "The ids are those of Hugging Face's tokenizers; no begin token is added.\n\nExamples:\n"
      "  weir tokens --tokenizer model.gguf --text book.txt --out ids.npy\n"
      "  weir tokens --tokenizer gpt2/ --text 'c4/*.json.gz' --batch 4 --length 256 --out ids.npy\n"
      "  weir tokens --tokenizer gpt2/ --decode ids.npy\n"
      "  echo 'Hello world' | weir tokens --tokenizer gpt2/");
  table.action([options] { return run_tokens(*options); });
}

}  // namespace weir
