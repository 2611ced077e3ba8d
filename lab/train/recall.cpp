#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lab/train/batches.h"
#include "runtime/random.h"
#include "support/error.h"

namespace weir {
namespace {

// Sequences of training count from 0; weights and sources have the streams from 2^62 on.
constexpr int64_t kHeldOut = int64_t{1} << 61;

// `count` different numbers below `below`, in random order.
std::vector<int64_t> choose(int64_t count, int64_t below, Random& random) {
  std::vector<int64_t> all(static_cast<size_t>(below));
  std::iota(all.begin(), all.end(), int64_t{0});
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    std::swap(all[i], all[i + random.below(all.size() - i)]);
  all.resize(static_cast<size_t>(count));
  return all;
}

// Ids: keys, values, fillers, <s>.
class Recall : public BatchSource {
 public:
  explicit Recall(const RecallOptions& options) : options_(options) {}

  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    Problems problems("recall");
    for (const std::string& problem : recall_problems(options_, T)) problems.add(problem);
    problems.raise();
    for (int64_t row = 0; row < rows; ++row)
      fill_sequence(first + row, T, tokens + row * T, targets + row * T);
  }

  int64_t vocabulary() const override { return start() + 1; }
  std::string token_text(int32_t id) const override {
    const RecallOptions& o = options_;
    if (id < o.keys) return fmt::format("k{}", id);
    if (id < o.keys + o.values) return fmt::format("v{}", id - o.keys);
    return id < start() ? fmt::format("f{}", id - o.keys - o.values) : "<s>";
  }
  std::string describe() const override {
    return fmt::format(
        "associative recall{}, {} pairs of {} keys and {} values, {} queries, {} fillers (seed {})",
        options_.begin ? "" : " without a begin token", options_.pairs, options_.keys,
        options_.values, options_.queries, options_.fillers, options_.seed);
  }

 private:
  int32_t start() const {
    return static_cast<int32_t>(options_.keys + options_.values + options_.fillers);
  }

  void fill_sequence(int64_t index, int64_t T, int32_t* tokens, int32_t* targets) const {
    const RecallOptions& o = options_;
    Random random(o.seed, static_cast<uint64_t>(index));
    const std::vector<int64_t> keys = choose(o.pairs, o.keys, random);
    std::vector<int64_t> values;
    for (int64_t i = 0; i < o.pairs; ++i)
      values.push_back(o.keys +
                       static_cast<int64_t>(random.below(static_cast<uint64_t>(o.values))));
    const int64_t begin = o.begin ? 1 : 0, fillers = T - begin - 2 * o.pairs - o.queries;
    // Of the places of pairs and single fillers those of the pairs.
    std::vector<int64_t> places = choose(o.pairs, o.pairs + fillers, random);
    std::sort(places.begin(), places.end());
    int32_t* next = tokens;
    if (o.begin) *next++ = start();
    size_t pair = 0;
    for (int64_t place = 0; place < o.pairs + fillers; ++place)
      if (pair < places.size() && places[pair] == place) {
        *next++ = static_cast<int32_t>(keys[pair]);
        *next++ = static_cast<int32_t>(values[pair++]);
      } else {
        *next++ = static_cast<int32_t>(
            o.keys + o.values +
            static_cast<int64_t>(random.below(static_cast<uint64_t>(o.fillers))));
      }
    const int64_t first_query = next - tokens;
    const std::vector<int64_t> asked = choose(o.queries, o.pairs, random);
    for (int64_t of : asked) *next++ = static_cast<int32_t>(keys[static_cast<size_t>(of)]);
    for (int64_t t = 0; t < first_query; ++t) targets[t] = o.answers_only ? -1 : tokens[t + 1];
    for (size_t q = 0; q < asked.size(); ++q)
      targets[first_query + static_cast<int64_t>(q)] =
          static_cast<int32_t>(values[static_cast<size_t>(asked[q])]);
  }

  RecallOptions options_;
};

class HeldOut : public BatchSource {
 public:
  explicit HeldOut(std::unique_ptr<BatchSource> source) : source_(std::move(source)) {}

  void fill(int64_t first, int64_t rows, int64_t T, int32_t* tokens,
            int32_t* targets) const override {
    source_->fill(kHeldOut + first, rows, T, tokens, targets);
  }
  int64_t sequences(int64_t /*T*/) const override { return kHeldOut; }
  int64_t vocabulary() const override { return source_->vocabulary(); }
  std::string token_text(int32_t id) const override { return source_->token_text(id); }
  DataFacts facts() const override {
    DataFacts facts = source_->facts();
    facts.what = describe();
    return facts;
  }
  std::string describe() const override { return "held-out sequences of " + source_->describe(); }

 private:
  std::unique_ptr<BatchSource> source_;
};

}  // namespace

std::vector<std::string> recall_problems(const RecallOptions& o, int64_t length) {
  std::vector<std::string> problems;
  const auto at_least_one = [&](const char* key, int64_t value) {
    if (value < 1)
      problems.push_back(fmt::format("{} is {}, but at least 1 is needed.", key, value));
  };
  at_least_one("data.pairs", o.pairs);
  at_least_one("data.keys", o.keys);
  at_least_one("data.values", o.values);
  at_least_one("data.queries", o.queries);
  at_least_one("data.fillers", o.fillers);
  if (o.pairs > o.keys)
    problems.push_back(
        fmt::format("data.pairs is {}, but the keys of a sequence differ and data.keys is {}: 1 to "
                    "{} are there.",
                    o.pairs, o.keys, o.keys));
  if (o.queries > o.pairs)
    problems.push_back(
        fmt::format("data.queries is {}, but each of data.pairs {} is asked for once at most: 1 to "
                    "{} are there.",
                    o.queries, o.pairs, o.pairs));
  const int64_t needed = (o.begin ? 1 : 0) + 2 * o.pairs + o.queries;
  if (length < needed)
    problems.push_back(fmt::format(
        "length is {}, but {} pairs of two tokens, {} queries{} need {}. Make length larger, or "
        "data.pairs or data.queries smaller.",
        length, o.pairs, o.queries, o.begin ? " and the begin token" : "", needed));
  return problems;
}

std::unique_ptr<BatchSource> make_recall(const RecallOptions& options) {
  constexpr int64_t any_length = int64_t{1} << 60;
  Problems problems("recall");
  for (const std::string& problem : recall_problems(options, any_length)) problems.add(problem);
  problems.raise();
  return std::make_unique<Recall>(options);
}

std::unique_ptr<BatchSource> held_out(std::unique_ptr<BatchSource> source) {
  return std::make_unique<HeldOut>(std::move(source));
}

}  // namespace weir
