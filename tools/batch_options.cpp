#include "tools/batch_options.h"

#include <fmt/format.h>

#include <charconv>

#include "lab/measure/token_input.h"
#include "support/usage_error.h"
#include "tools/checkpoint_options.h"

namespace weir {

std::optional<int64_t> sink_position(const std::string& text) {
  int64_t position = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), position);
  if (error != std::errc() || end != text.data() + text.size() || position < 0) return std::nullopt;
  return position;
}

ValueRule sink_rule() {
  return of_form("a position or auto",
                 [](const std::string& text) { return text == kAutoSink || sink_position(text); });
}

void BatchOptions::add_to(OptionTable& table) {
  table.add("--tokens", &tokens, token_file_rule(),
            "NumPy array [batch, length + 1] of token ids, int8 to uint64, [batch, length] behind "
            "a --begin-token; or FILE:uint16, ids without a header of that type, cut by --batch "
            "and --length");
  text.add_to(table);
  table
      .add("--batch", &batch, within(1, 1 << 20),
           "sequences of --text, or of held-out data of a run")
      .with_default();
  table.add("--length", &length, within(1, kMaxLength), "tokens of a sequence").with_default();
}

bool BatchOptions::is_shaped() const { return !tokens.empty() && !token_file(tokens).headerless(); }

void BatchOptions::check(const OptionTable& table, UsageProblems& problems) const {
  if (table.given("--tokens") && !table.refused("--tokens") && !table.given("--text") &&
      is_shaped()) {
    const std::string hint = headerless_hint(tokens);
    for (const char* name : {"--batch", "--length"})
      if (table.given(name))
        problems.add(
            hint.empty()
                ? fmt::format("{} cuts --text; the array of --tokens has its own shape.", name)
                : fmt::format("--tokens {} is taken for an array, which has a shape of its "
                              "own.{}",
                              tokens, hint));
  }
  text.check(table, problems);
}

void BatchOptions::open(const std::string& model, std::optional<TextInput>& input) const {
  if (!text.text.empty()) input.emplace(text, model);
}

TokenBatch BatchOptions::read_ids(const std::string& model, int64_t vocabulary,
                                  Provenance& provenance) const {
  const TokenFile file = token_file(tokens);
  const TextTokens around = text.around_ids(model, vocabulary);
  provenance.input_kind = "tokens";
  provenance.input_files = {file.path};
  provenance.begin_token = around.begin.id;
  TokenBatch result;
  if (file.headerless()) {
    const size_t wanted = ids_of_windows(sequences(), length, around);
    const TokenArray array = read_token_ids(tokens, vocabulary, wanted);
    result = first_windows(array.ids, sequences(), length, around);
  } else {
    result = read_token_array(tokens, vocabulary, around.begin.id);
  }
  if (around.begin.id) result.around = around;  // else nobody knows what stands there
  return result;
}

TokenBatch BatchOptions::read(const std::string& model, int64_t vocabulary,
                              const std::optional<TextInput>& input, Provenance& provenance) const {
  if (!input) return read_ids(model, vocabulary, provenance);
  add_text(provenance, text, *input);
  const TextTokens& around = input->tokens();
  const EncodedText encoded =
      input->encode(vocabulary, ids_of_windows(sequences(), length, around));
  TokenBatch result = first_windows(encoded.ids, sequences(), length, around);
  result.around = around;
  return result;
}

}  // namespace weir
