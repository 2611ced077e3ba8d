#include "lab/text_batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "io/token_cache.h"
#include "io/tokenizer_files.h"
#include "lab/token_input.h"
#include "runtime/random.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr int kFeistelRounds = 8;

class TextBatches : public BatchSource {
 public:
  explicit TextBatches(const TextBatchOptions& options)
      : tokenizer_(load_tokenizer(options.tokenizer)),
        tokenizer_files_(weir::tokenizer_files(options.tokenizer)),
        seed_(options.seed) {
    TextSource source(options.files);
    stream_ = open_tokens(source, *tokenizer_, options.cache);
    files_ = source.files().size();
  }

  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    if (stream_.size() < static_cast<size_t>(T) + 1)
      user_error("data",
                 "the text has {} tokens, but a sequence of length {} needs {}. Give more text, or "
                 "a smaller length.",
                 stream_.size(), T, T + 1);
    const uint64_t windows = (stream_.size() - 1) / static_cast<uint64_t>(T);
    std::vector<int32_t> ids(static_cast<size_t>(T) + 1);
    for (int64_t row = 0; row < rows; ++row) {
      const auto sequence = static_cast<uint64_t>(first + row);
      const uint64_t window =
          permuted_index(sequence % windows, windows, seed_, sequence / windows);
      stream_.copy(window * static_cast<uint64_t>(T), ids);
      std::copy(ids.begin(), ids.end() - 1, tokens + row * T);
      std::copy(ids.begin() + 1, ids.end(), targets + row * T);
    }
  }

  int64_t vocabulary() const override { return stream_.vocabulary_size(); }

  int32_t largest_id() const override {
    int32_t largest = 0;
    for (size_t i = 0; i < stream_.size(); ++i) largest = std::max(largest, stream_[i]);
    return largest;
  }

  std::string token_text(int32_t id) const override { return printable_token(*tokenizer_, id); }

  std::map<std::string, std::string> tokenizer_files() const override { return tokenizer_files_; }

  std::string fingerprint() const override { return stream_.key(); }

  std::string describe() const override {
    return fmt::format("text: {} documents of {} file{}, {} tokens, {}", stream_.document_count(),
                       files_, files_ == 1 ? "" : "s", stream_.size(), tokenizer_->description());
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::map<std::string, std::string> tokenizer_files_;
  uint64_t seed_;
  TokenStream stream_;
  size_t files_ = 0;
};

}  // namespace

std::unique_ptr<BatchSource> make_text_batches(const TextBatchOptions& options) {
  return std::make_unique<TextBatches>(options);
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
