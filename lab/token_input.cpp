#include "lab/token_input.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/npy.h"
#include "io/token_cache.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t kListed = 5;

template <typename Id>
std::vector<int32_t> checked_ids(const NpyArray& array, const std::string& path,
                                 int64_t vocabulary) {
  const auto given = array.as<Id>();
  std::vector<int32_t> ids;
  std::vector<std::string> bad;
  size_t bad_count = 0;
  for (size_t i = 0; i < given.size(); ++i) {
    const auto width = static_cast<size_t>(array.shape[1]);
    if (given[i] < 0 || given[i] >= vocabulary) {
      if (++bad_count <= kListed)
        bad.push_back(fmt::format("{} at [{},{}]", given[i], i / width, i % width));
      continue;
    }
    ids.push_back(static_cast<int32_t>(given[i]));
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

}  // namespace

TokenBatch read_token_array(const std::string& path, int64_t vocabulary) {
  const NpyArray array = read_npy(path);
  if (array.dtype != FileDtype::i32 && array.dtype != FileDtype::i64)
    user_error("tokens", "{} holds {}, but token ids are int32 or int64.", path,
               safetensors_name(array.dtype));
  if (array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < 2)
    user_error("tokens",
               "{} has the shape [{}], but [batch, length + 1] is needed: the input and, one "
               "further, the targets.",
               path, fmt::join(array.shape, ","));
  return token_batch(array.shape[0], array.shape[1] - 1,
                     array.dtype == FileDtype::i32 ? checked_ids<int32_t>(array, path, vocabulary)
                                                   : checked_ids<int64_t>(array, path, vocabulary));
}

std::vector<int32_t> text_ids(const std::vector<std::string>& files, const Tokenizer& tokenizer) {
  const TokenStream stream = open_tokens(TextSource(files), tokenizer, "");
  std::vector<int32_t> ids(stream.size());
  stream.copy(0, ids);
  return ids;
}

TokenBatch first_windows(const std::vector<int32_t>& ids, int64_t batch, int64_t length) {
  const auto windows = ids.empty() ? 0 : (static_cast<int64_t>(ids.size()) - 1) / length;
  if (windows < batch)
    user_error("tokens",
               "the text has {} tokens, which make {} sequence{} of {}, but {} {} asked for. Give "
               "more text, or a smaller --batch or --length.",
               ids.size(), windows, windows == 1 ? "" : "s", length, batch,
               batch == 1 ? "is" : "are");
  std::vector<int32_t> all;
  for (int64_t b = 0; b < batch; ++b)
    all.insert(all.end(), ids.begin() + b * length, ids.begin() + (b + 1) * length + 1);
  return token_batch(batch, length, all);
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
