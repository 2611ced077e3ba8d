#include "lab/token_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/npy.h"
#include "io/utf8.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t kListed = 5;

// "[1,2]" of an element of an array of that shape.
std::string place_text(size_t element, const std::vector<int64_t>& shape) {
  std::vector<int64_t> place(shape.size());
  for (size_t axis = shape.size(); axis-- > 0;) {
    place[axis] = static_cast<int64_t>(element) % shape[axis];
    element /= static_cast<size_t>(shape[axis]);
  }
  return shape_text(place);
}

template <typename Id>
std::vector<int32_t> checked_ids(const NpyArray& array, const std::string& path,
                                 int64_t vocabulary) {
  std::vector<int32_t> ids;
  std::vector<std::string> bad;
  size_t bad_count = 0;
  const auto given = array.as<Id>();
  ids.reserve(given.size());
  for (size_t i = 0; i < given.size(); ++i) {
    if (std::cmp_greater_equal(given[i], 0) && std::cmp_less(given[i], vocabulary))
      ids.push_back(static_cast<int32_t>(given[i]));
    else if (++bad_count <= kListed)
      bad.push_back(fmt::format("{} at {}", given[i], place_text(i, array.shape)));
  }
  if (bad_count > 0)
    user_error("tokens",
               "{} id{} of {} {} outside the vocabulary of {}: {}{}. Tokenise the text with the "
               "model's own tokenizer (--text does).",
               bad_count, bad_count == 1 ? "" : "s", path, bad_count == 1 ? "is" : "are",
               vocabulary, join(bad, ", "),
               bad_count > kListed ? fmt::format(" and {} more", bad_count - kListed) : "");
  return ids;
}

nlohmann::ordered_json token_json(const ChosenToken& token) {
  nlohmann::ordered_json json = {{"id", nullptr}};
  if (token.id) json["id"] = *token.id;
  // A token may be a part of a character, which no JSON text may hold.
  std::string storage;
  if (!token.text.empty() && valid_utf8(token.text, storage) == token.text)
    json["token"] = token.text;
  json["source"] = token.source;
  return json;
}

}  // namespace

TokenArray read_token_ids(const std::string& path, int64_t vocabulary) {
  const NpyArray array = read_npy(path);
  const auto ids = [&]() -> std::vector<int32_t> {
    switch (array.dtype) {
      case FileDtype::i64:
        return checked_ids<int64_t>(array, path, vocabulary);
      case FileDtype::i32:
        return checked_ids<int32_t>(array, path, vocabulary);
      case FileDtype::i16:
        return checked_ids<int16_t>(array, path, vocabulary);
      case FileDtype::i8:
        return checked_ids<int8_t>(array, path, vocabulary);
      case FileDtype::u64:
        return checked_ids<uint64_t>(array, path, vocabulary);
      case FileDtype::u32:
        return checked_ids<uint32_t>(array, path, vocabulary);
      case FileDtype::u16:
        return checked_ids<uint16_t>(array, path, vocabulary);
      case FileDtype::u8:
        return checked_ids<uint8_t>(array, path, vocabulary);
      default:
        user_error("tokens", "{} holds {}, but token ids are whole numbers (int8 to uint64).", path,
                   safetensors_name(array.dtype));
    }
  }();
  return {array.shape, ids};
}

TokenBatch read_token_array(const std::string& path, int64_t vocabulary) {
  const TokenArray array = read_token_ids(path, vocabulary);
  if (array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < 2)
    user_error("tokens",
               "{} has the shape {}, but [batch, length + 1] is needed: the input and, one "
               "further, the targets.",
               path, shape_text(array.shape));
  return token_batch(array.shape[0], array.shape[1] - 1, array.ids);
}

size_t ids_of_windows(int64_t batch, int64_t length, const TextTokens& tokens) {
  return static_cast<size_t>(batch * length) + (tokens.begin.id ? 0 : 1);
}

TokenBatch first_windows(const std::vector<int32_t>& ids, int64_t batch, int64_t length,
                         const TextTokens& tokens) {
  const size_t before = ids_of_windows(0, length, tokens);  // ids that are no target
  const auto windows = ids.size() < before ? 0 : static_cast<int64_t>(ids.size() - before) / length;
  if (windows < batch)
    user_error("tokens",
               "the text has {} tokens, which make {} sequence{} of {}, but {} {} asked for. Give "
               "more text, or a smaller --batch or --length.",
               ids.size(), windows, windows == 1 ? "" : "s", length, batch,
               batch == 1 ? "is" : "are");
  std::vector<int32_t> all;
  for (int64_t b = 0; b < batch; ++b) {
    if (tokens.begin.id) all.push_back(*tokens.begin.id);
    const auto first = ids.begin() + b * length;
    all.insert(all.end(), first, first + length + static_cast<int64_t>(before));
  }
  return token_batch(batch, length, all);
}

std::string tokens_json(const TextTokens& tokens) {
  const nlohmann::ordered_json json = {{"separator", token_json(tokens.separator)},
                                       {"begin_token", token_json(tokens.begin)}};
  return json.dump();
}

std::string printable_token(const Tokenizer& tokenizer, int32_t id) {
  std::string shown;
  for (char c : tokenizer.token_bytes(id)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      shown += "\\n";
    else if (byte < 32 || byte == 127)
      shown += fmt::format("\\x{:02x}", byte);
    else
      shown += c;
  }
  // A token may be a part of a character, which no UTF-8 file may hold.
  const bool ascii = std::all_of(shown.begin(), shown.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 128; });
  if (!ascii) return fmt::format("#{}", id);
  if (shown.find_first_not_of(' ') != std::string::npos) return shown;
  std::string boxes;
  for (size_t i = 0; i < shown.size(); ++i) boxes += "\u2423";
  return boxes;
}

}  // namespace weir
