#include "lab/measure/token_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/npy.h"
#include "io/utf8.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t kIdsListed = 5;

struct TypeName {
  const char* name;
  FileDtype dtype;
};
constexpr TypeName kTypes[] = {{"uint8", FileDtype::u8},   {"uint16", FileDtype::u16},
                               {"uint32", FileDtype::u32}, {"uint64", FileDtype::u64},
                               {"int8", FileDtype::i8},    {"int16", FileDtype::i16},
                               {"int32", FileDtype::i32},  {"int64", FileDtype::i64}};

std::optional<FileDtype> dtype_of(const std::string& type) {
  for (const TypeName& each : kTypes)
    if (type == each.name) return each.dtype;
  return std::nullopt;
}

// The header of the token files of llm.c: 256 numbers of 32 bits, the first of which says what it
// is.
bool has_llm_c_header(std::string_view bytes) {
  uint32_t magic = 0;
  if (bytes.size() < sizeof magic) return false;
  std::memcpy(&magic, bytes.data(), sizeof magic);
  return magic == 20240520 || magic == 20240801;
}

// Numbers of half the width of those that were written: the upper halves are 0.
template <typename Id>
bool every_second_is_zero(std::span<const Id> ids) {
  constexpr size_t certain = 16;
  bool upper = ids.size() >= certain, lower = true;
  for (size_t i = 0; i < ids.size() && upper; ++i) (i % 2 == 1 ? upper : lower) &= ids[i] == 0;
  return upper && !lower;
}

NpyArray read_headerless(const TokenFile& file, size_t wanted) {
  const MappedFile mapped(file.path);
  const std::string_view bytes = mapped.text();
  if (bytes.starts_with(kNpyMagic))
    user_error("tokens", "{} is a .npy file, which says itself what it holds. Leave :{} out.",
               file.path, file.type);
  if (has_llm_c_header(bytes))
    user_error("tokens",
               "{} begins with the header of llm.c, 1024 bytes, before its ids. Take them alone: "
               "tail -c +1025 {} > ids.bin",
               file.path, file.path);
  NpyArray array;
  array.dtype = expect(dtype_of(file.type));
  const size_t width = dtype_bytes(array.dtype);
  if (bytes.size() % width != 0)
    user_error("tokens",
               "{} has {} bytes, but ids of {} have {} each: the last is cut off, or the type is "
               "another one.",
               file.path, bytes.size(), file.type, width);
  size_t count = bytes.size() / width;
  if (wanted > 0) count = std::min(count, wanted);
  array.shape = {static_cast<int64_t>(count)};
  array.data.resize(count * width);
  if (count > 0) std::memcpy(array.data.data(), bytes.data(), array.data.size());
  const bool halves = array.dtype == FileDtype::u8    ? every_second_is_zero(array.as<uint8_t>())
                      : array.dtype == FileDtype::u16 ? every_second_is_zero(array.as<uint16_t>())
                      : array.dtype == FileDtype::u32 ? every_second_is_zero(array.as<uint32_t>())
                                                      : false;
  if (halves)
    user_error("tokens",
               "every second id of {} is 0 if they are {}: the file holds numbers of twice that "
               "width. Give {}:uint{}.",
               file.path, file.type, file.path, 16 * width);
  return array;
}

std::string type_hint(const std::string& path) {
  return fmt::format(
      " If it holds ids without a header, as nanoGPT's train.bin, say their type: {}:uint16 (or "
      "{}).",
      path, token_types());
}

NpyArray read_array(const TokenFile& file, size_t wanted) {
  if (file.headerless()) return read_headerless(file, wanted);
  const MappedFile mapped(file.path);
  if (!mapped.text().starts_with(kNpyMagic))
    user_error("tokens", "{} is not a .npy file: it does not start with \\x93NUMPY.{}", file.path,
               type_hint(file.path));
  return parse_npy(mapped.text(), file.path);
}

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
std::vector<int32_t> checked_ids(const NpyArray& array, const TokenFile& file, int64_t vocabulary) {
  std::vector<int32_t> ids;
  std::vector<std::string> bad;
  size_t bad_count = 0;
  const auto given = array.as<Id>();
  ids.reserve(given.size());
  for (size_t i = 0; i < given.size(); ++i) {
    if (std::cmp_greater_equal(given[i], 0) && std::cmp_less(given[i], vocabulary))
      ids.push_back(static_cast<int32_t>(given[i]));
    else if (++bad_count <= kIdsListed)
      bad.push_back(fmt::format("{} at {}", given[i], place_text(i, array.shape)));
  }
  if (bad_count > 0)
    user_error(
        "tokens",
        "{} id{} of {} {} outside the vocabulary of {}: {}{}. {}Tokenise the text with the "
        "model's own tokenizer (--text does).",
        bad_count, bad_count == 1 ? "" : "s", file.path, bad_count == 1 ? "is" : "are", vocabulary,
        join(bad, ", "),
        bad_count > kIdsListed ? fmt::format(" and {} more", bad_count - kIdsListed) : "",
        file.headerless() ? fmt::format("If they are not {}, give their type. ", file.type) : "");
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

TokenFile token_file(const std::string& word) {
  const size_t colon = word.rfind(':');
  if (colon == std::string::npos || file_exists(word) || !dtype_of(word.substr(colon + 1)))
    return {word, ""};
  return {word.substr(0, colon), word.substr(colon + 1)};
}

std::string headerless_hint(const std::string& word) {
  const TokenFile file = token_file(word);
  return file.headerless() || file.path.ends_with(".npy") ? "" : type_hint(file.path);
}

std::string token_types() {
  std::vector<std::string> names;
  for (const TypeName& each : kTypes) names.emplace_back(each.name);
  return join(names, ", ");
}

TokenArray read_token_ids(const std::string& word, int64_t vocabulary, size_t wanted) {
  const TokenFile file = token_file(word);
  const NpyArray array = read_array(file, wanted);
  const auto ids = [&]() -> std::vector<int32_t> {
    switch (array.dtype) {
      case FileDtype::i64:
        return checked_ids<int64_t>(array, file, vocabulary);
      case FileDtype::i32:
        return checked_ids<int32_t>(array, file, vocabulary);
      case FileDtype::i16:
        return checked_ids<int16_t>(array, file, vocabulary);
      case FileDtype::i8:
        return checked_ids<int8_t>(array, file, vocabulary);
      case FileDtype::u64:
        return checked_ids<uint64_t>(array, file, vocabulary);
      case FileDtype::u32:
        return checked_ids<uint32_t>(array, file, vocabulary);
      case FileDtype::u16:
        return checked_ids<uint16_t>(array, file, vocabulary);
      case FileDtype::u8:
        return checked_ids<uint8_t>(array, file, vocabulary);
      case FileDtype::f64:
      case FileDtype::f32:
      case FileDtype::f16:
      case FileDtype::bf16:
      case FileDtype::boolean:
        user_error("tokens", "{} holds {}, but token ids are whole numbers (int8 to uint64).",
                   file.path, safetensors_name(array.dtype));
    }
    internal_error_at("unknown dtype");
  }();
  return {array.shape, ids};
}

TokenBatch read_token_array(const std::string& path, int64_t vocabulary,
                            std::optional<int32_t> begin) {
  const TokenArray array = read_token_ids(path, vocabulary);
  if (array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < (begin ? 1 : 2))
    user_error("tokens", "{} has the shape {}, but {} is needed: {}.", path,
               shape_text(array.shape), begin ? "[batch, length]" : "[batch, length + 1]",
               begin ? "the targets, before which the begin token stands"
                     : "the input and, one further, the targets");
  const int64_t columns = array.shape[1];
  if (!begin) return token_batch(array.shape[0], columns - 1, array.ids);
  std::vector<int32_t> ids;
  for (int64_t row = 0; row < array.shape[0]; ++row) {
    ids.push_back(*begin);
    const auto first = array.ids.begin() + row * columns;
    ids.insert(ids.end(), first, first + columns);
  }
  return token_batch(array.shape[0], columns, ids);
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
