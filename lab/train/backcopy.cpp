#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "io/hash.h"
#include "lab/train/batches.h"
#include "runtime/random.h"
#include "support/error.h"

namespace weir {
namespace {

// Streams of the seed: sequences count from 0 upwards, the source itself lies far away from them.
constexpr uint64_t kSourceStream = uint64_t{1} << 63;

using Row = std::vector<double>;

int32_t draw(const Row& cumulative, Random& random) {
  double u = random.uniform() * cumulative.back();
  auto found = std::upper_bound(cumulative.begin(), cumulative.end(), u);
  return static_cast<int32_t>(std::min<ptrdiff_t>(found - cumulative.begin(),
                                                  static_cast<ptrdiff_t>(cumulative.size()) - 1));
}

Row cumulative(const Row& weights) {
  Row sums(weights.size());
  std::partial_sum(weights.begin(), weights.end(), sums.begin());
  return sums;
}

double entropy(const Row& weights) {
  double total = std::accumulate(weights.begin(), weights.end(), 0.0), sum = 0;
  for (double w : weights)
    if (w > 0) sum -= w / total * std::log(w / total);
  return sum;
}

// A Markov source: unigram weights and a row of weights for each symbol.
struct Markov {
  Row unigram;
  std::vector<Row> rows;
  std::vector<std::string> names;
};

Markov synthetic_source(const BackcopyOptions& options) {
  Markov source;
  Random random(options.seed, kSourceStream);
  for (int64_t i = 0; i < options.symbols; ++i) {
    source.unigram.push_back(1.0 / static_cast<double>(i + 1));
    source.names.push_back(i < 26   ? std::string(1, static_cast<char>('a' + i))
                           : i < 52 ? std::string(1, static_cast<char>('A' + i - 26))
                                    : fmt::format("{}", i - 52));
  }
  double total = std::accumulate(source.unigram.begin(), source.unigram.end(), 0.0);
  for (double& weight : source.unigram) weight /= total;
  for (int64_t i = 0; i < options.symbols; ++i) {
    Row row;
    for (double weight : source.unigram)
      row.push_back(random.gamma(options.concentration * weight));
    source.rows.push_back(row);
  }
  return source;
}

std::string byte_name(unsigned char byte) {
  if (byte == '\n') return "\\n";
  if (byte == '\t') return "\\t";
  if (byte < 32 || byte > 126) return fmt::format("\\x{:02x}", byte);
  return std::string(1, static_cast<char>(byte));
}

Markov text_source(const std::string& text) {
  std::array<int32_t, 256> id_of;
  id_of.fill(-1);
  for (char c : text) id_of[static_cast<unsigned char>(c)] = 0;
  Markov source;
  for (size_t byte = 0; byte < id_of.size(); ++byte) {
    if (id_of[byte] < 0) continue;
    id_of[byte] = static_cast<int32_t>(source.names.size());
    source.names.push_back(byte_name(static_cast<unsigned char>(byte)));
  }
  size_t n = source.names.size();
  source.unigram.assign(n, 0);
  source.rows.assign(n, Row(n, 0));
  for (size_t i = 0; i < text.size(); ++i) {
    auto id = [&](size_t at) {
      return static_cast<size_t>(id_of[static_cast<unsigned char>(text[at])]);
    };
    source.unigram[id(i)] += 1;
    if (i > 0) source.rows[id(i - 1)][id(i)] += 1;
  }
  // A symbol that only ends the text has no successor; it is followed by the unigram law.
  for (Row& row : source.rows)
    if (std::accumulate(row.begin(), row.end(), 0.0) == 0) row = source.unigram;
  return source;
}

class Backcopy : public BatchSource {
 public:
  explicit Backcopy(const BackcopyOptions& options) : options_(options) {
    Markov source = options.text.empty() ? synthetic_source(options) : text_source(options.text);
    names_ = source.names;
    size_t n = names_.size();
    if (static_cast<size_t>(options.triggers) + 2 > n)
      user_error(
          "backcopy",
          "{} triggers leave fewer than two ordinary symbols of {}. Use at most {} triggers.",
          options.triggers, n, n < 2 ? 0 : n - 2);
    std::vector<size_t> ranked(n);
    std::iota(ranked.begin(), ranked.end(), size_t{0});
    std::stable_sort(ranked.begin(), ranked.end(),
                     [&](size_t a, size_t b) { return source.unigram[a] > source.unigram[b]; });
    is_trigger_.assign(n + 1, false);
    Row first = source.unigram;
    for (int64_t k = 0; k < options.triggers; ++k) {
      is_trigger_[ranked[static_cast<size_t>(k)]] = true;
      first[ranked[static_cast<size_t>(k)]] = 0;
    }
    first_ = cumulative(first);
    first_entropy_ = entropy(first);
    for (const Row& row : source.rows) {
      rows_.push_back(cumulative(row));
      entropies_.push_back(entropy(row));
    }
  }

  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    std::vector<int32_t> sequence(static_cast<size_t>(T) + 1 + left_out());
    for (int64_t row = 0; row < rows; ++row) {
      generate(first + row, sequence, nullptr);
      const auto begin = sequence.begin() + static_cast<ptrdiff_t>(left_out());
      std::copy(begin, sequence.end() - 1, tokens + row * T);
      std::copy(begin + 1, sequence.end(), targets + row * T);
    }
  }

  int64_t vocabulary() const override { return static_cast<int64_t>(names_.size()) + 1; }
  std::string token_text(int32_t id) const override {
    return id == start() ? "<s>" : names_.at(static_cast<size_t>(id));
  }
  DataFacts facts() const override {
    Hasher hasher;
    hasher.add(options_.text);
    return {.hash = options_.text.empty() ? "" : hasher.hex_128(), .what = describe()};
  }

  std::string describe() const override {
    return fmt::format(
        "Bigram-Backcopy{}, {} triggers, {} symbols from {}",
        options_.begin ? "" : " without a begin token", options_.triggers, names_.size(),
        options_.text.empty()
            ? fmt::format("a synthetic Markov source (Zipf, concentration {}, seed {})",
                          options_.concentration, options_.seed)
            : fmt::format("the bigrams of {} bytes of text", options_.text.size()));
  }

  BackcopyOracle oracle(int64_t sequences, int64_t T) const {
    std::vector<int32_t> sequence(static_cast<size_t>(T) + 1 + left_out());
    double sum = 0;
    int64_t copied = 0;
    for (int64_t i = 0; i < sequences; ++i) {
      Tally tally;
      generate(i, sequence, &tally);
      sum += tally.entropy;
      copied += tally.copied;
    }
    double positions = static_cast<double>(sequences * T), copies = static_cast<double>(copied);
    return {sum / positions, sum / (positions - copies), copies / positions};
  }

 private:
  struct Tally {
    double entropy = 0;
    int64_t copied = 0;
  };

  int32_t start() const { return static_cast<int32_t>(names_.size()); }
  // Tokens of what is generated that a sequence does not have.
  size_t left_out() const { return options_.begin ? 0 : 1; }

  void generate(int64_t index, std::vector<int32_t>& sequence, Tally* tally) const {
    Random random(options_.seed, static_cast<uint64_t>(index));
    sequence[0] = start();
    for (size_t t = 1; t < sequence.size(); ++t) {
      int32_t current = sequence[t - 1];
      if (is_trigger_[static_cast<size_t>(current)]) {
        sequence[t] = sequence[t - 2];
        if (tally) ++tally->copied;
        continue;
      }
      bool at_start = current == start();
      sequence[t] = draw(at_start ? first_ : rows_[static_cast<size_t>(current)], random);
      if (tally && t > left_out())  // the first token of a sequence is predicted from nothing
        tally->entropy += at_start ? first_entropy_ : entropies_[static_cast<size_t>(current)];
    }
  }

  BackcopyOptions options_;
  std::vector<std::string> names_;
  std::vector<bool> is_trigger_;
  Row first_;
  double first_entropy_ = 0;
  std::vector<Row> rows_;
  std::vector<double> entropies_;
};

void check(const BackcopyOptions& options) {
  Problems problems("backcopy");
  if (options.triggers < 0)
    problems.add(fmt::format("triggers is {}, but at least 0 is needed.", options.triggers));
  if (options.text.empty() && options.symbols < 2)
    problems.add(fmt::format("symbols is {}, but at least 2 are needed.", options.symbols));
  if (!(options.concentration > 0))
    problems.add(
        fmt::format("concentration is {}, but a number > 0 is needed.", options.concentration));
  problems.raise();
}

}  // namespace

std::unique_ptr<BatchSource> make_backcopy(const BackcopyOptions& options) {
  check(options);
  return std::make_unique<Backcopy>(options);
}

BackcopyOracle backcopy_oracle(const BackcopyOptions& options, int64_t sequences, int64_t T) {
  check(options);
  return Backcopy(options).oracle(sequences, T);
}

}  // namespace weir
