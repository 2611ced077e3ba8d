#include "lab/train/text_batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "io/hash.h"
#include "io/token_cache.h"
#include "io/tokenizer_files.h"
#include "lab/measure/token_input.h"
#include "runtime/random.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr int kFeistelRounds = 8;

// What training and validation share.
struct TextVocabulary {
  std::unique_ptr<Tokenizer> tokenizer;
  std::map<std::string, std::string> files;
  TextTokens tokens;
};

// The ids from `first` to before `last` of a row.
class TextBatches : public BatchSource {
 public:
  TextBatches(std::shared_ptr<const TextVocabulary> vocabulary,
              std::shared_ptr<const TokenStream> stream, size_t first, size_t last, size_t files,
              uint64_t seed)
      : vocabulary_(std::move(vocabulary)),
        stream_(std::move(stream)),
        first_(first),
        size_(last - first),
        files_(files),
        seed_(seed) {}

  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    const auto windows = static_cast<uint64_t>(sequences(T));
    const std::optional<int32_t> begin = vocabulary_->tokens.begin.id;
    if (windows == 0)
      user_error("data",
                 "the text has {} tokens, but a sequence of length {} needs {}. Give more text, or "
                 "a smaller length.",
                 size_, T, T + !begin);
    std::vector<int32_t> ids(static_cast<size_t>(T) + 1);
    // A begin token takes the place of the id before the first target.
    const size_t given = begin ? 1 : 0;
    if (begin) ids[0] = *begin;
    for (int64_t row = 0; row < rows; ++row) {
      const auto sequence = static_cast<uint64_t>(first + row);
      const uint64_t window =
          permuted_index(sequence % windows, windows, seed_, sequence / windows);
      stream_->copy(first_ + window * static_cast<uint64_t>(T), std::span(ids).subspan(given));
      std::copy(ids.begin(), ids.end() - 1, tokens + row * T);
      std::copy(ids.begin() + 1, ids.end(), targets + row * T);
    }
  }

  int64_t sequences(int64_t T) const override {
    const size_t before = vocabulary_->tokens.begin.id ? 0 : 1;  // ids that are no target
    return size_ <= before ? 0 : static_cast<int64_t>(size_ - before) / T;
  }

  int64_t vocabulary() const override { return stream_->vocabulary_size(); }

  int32_t largest_id() const override {
    int32_t largest = vocabulary_->tokens.begin.id.value_or(0);
    for (size_t i = first_; i < first_ + size_; ++i) largest = std::max(largest, (*stream_)[i]);
    return largest;
  }

  std::string token_text(int32_t id) const override {
    return printable_token(*vocabulary_->tokenizer, id);
  }

  std::map<std::string, std::string> tokenizer_files() const override { return vocabulary_->files; }

  std::string describe() const override {
    const TextTokens& tokens = vocabulary_->tokens;
    return fmt::format("text: {} tokens of {} documents in {} file{}, {}, separator {}, begin {}",
                       size_, stream_->document_count(), files_, files_ == 1 ? "" : "s",
                       vocabulary_->tokenizer->description(), to_string(tokens.separator),
                       to_string(tokens.begin));
  }

  DataFacts facts() const override {
    Hasher hasher;
    hasher.add(stream_->key());
    if (const auto begin = vocabulary_->tokens.begin.id) hasher.add(fmt::format(" {}", *begin));
    return {.hash = hasher.hex_128(),
            .what = describe(),
            .tokens = static_cast<int64_t>(size_),
            .documents = static_cast<int64_t>(stream_->document_count()),
            .around = vocabulary_->tokens};
  }

 private:
  std::shared_ptr<const TextVocabulary> vocabulary_;
  std::shared_ptr<const TokenStream> stream_;
  size_t first_, size_, files_;
  uint64_t seed_;
};

}  // namespace

std::optional<double> validation_fraction(const std::vector<std::string>& validation) {
  if (validation.size() != 1) return std::nullopt;
  const std::string& text = validation[0];
  double fraction = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fraction);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return fraction;
}

TextBatchPair make_text_batches(const TextBatchOptions& options) {
  TextSource source(options.files, options.key);
  const auto vocabulary = std::make_shared<TextVocabulary>();
  vocabulary->tokenizer = load_tokenizer(options.tokenizer);
  vocabulary->files = tokenizer_files(options.tokenizer);
  vocabulary->tokens =
      choose_text_tokens(*vocabulary->tokenizer, options.tokenizer, options.wishes);
  const auto open = [&](const TextSource& text) {
    return std::make_shared<const TokenStream>(open_tokens(
        text, *vocabulary->tokenizer, options.cache, vocabulary->tokens, options.wishes));
  };
  const auto part = [&](const std::shared_ptr<const TokenStream>& stream, const TextSource& text,
                        size_t first, size_t last) {
    return std::make_unique<TextBatches>(vocabulary, stream, first, last, text.files().size(),
                                         options.seed);
  };
  const std::optional<double> fraction = validation_fraction(options.validation);
  if (options.validation.empty() || fraction) {
    const auto stream = open(source);
    const size_t size = stream->size();
    if (!fraction) return {part(stream, source, 0, size), nullptr};
    const auto held = static_cast<size_t>(std::llround(*fraction * static_cast<double>(size)));
    const size_t cut = size - std::clamp<size_t>(held, 1, std::max<size_t>(size, 2) - 1);
    return {part(stream, source, 0, cut), part(stream, source, cut, size)};
  }
  const TextSource held_out(options.validation, options.key);
  for (const std::string& path : source.leave_out(held_out))
    log_info("{} is left out of the training text, since it is validation text", path);
  const auto training = open(source), validation = open(held_out);
  return {part(training, source, 0, training->size()),
          part(validation, held_out, 0, validation->size())};
}

uint64_t permuted_index(uint64_t index, uint64_t count, uint64_t seed, uint64_t epoch) {
  WEIR_CHECK(index < count && count <= uint64_t{1} << 62, "element {} of {}", index, count);
  if (count == 1) return 0;
  const int half = (std::bit_width(count - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint32_t round = 0; round < kFeistelRounds; ++round) {
      const auto words = philox({static_cast<uint32_t>(right), round, static_cast<uint32_t>(epoch),
                                 static_cast<uint32_t>(epoch >> 32)},
                                seed);
      const uint64_t next = left ^ (words[0] & mask);
      left = right;
      right = next;
    }
    index = left << half | right;
  } while (index >= count);
  return index;
}

}  // namespace weir
