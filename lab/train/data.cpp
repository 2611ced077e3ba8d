#include "lab/train/data.h"

#include <fmt/format.h>

#include "io/line_reader.h"
#include "io/text_source.h"
#include "lab/train/text_batches.h"
#include "support/cache_folder.h"
#include "support/error.h"

namespace weir {

namespace {

// The text whose bigrams are the source of backcopy; its content is checked as that of any text.
std::string bigram_text(const std::string& file) {
  if (file.empty()) return "";
  if (read_head(file, 1).empty())
    user_error(
        "data",
        "data.bigrams: {} is empty. Give a text, or leave data.bigrams out for the synthetic "
        "source.",
        file);
  DocumentReader reader{TextSource({file})};
  std::string all, document;
  while (reader.next(document)) all += document;
  if (all.empty()) user_error("data", "data.bigrams: there is no text in {}.", file);
  return all;
}

}  // namespace

RunData make_run_data(const DataConfig& data, uint64_t seed) {
  if (data.kind == "text") {
    TextBatchPair pair = make_text_batches({.files = data.files,
                                            .tokenizer = data.tokenizer,
                                            .cache = cache_subfolder("tokens"),
                                            .seed = seed,
                                            .key = data.text_key,
                                            .wishes = {.separator = data.separator,
                                                       .begin = data.begin_token,
                                                       .separator_name = "data.separator",
                                                       .begin_name = "data.begin_token"},
                                            .validation = data.validation});
    return {std::move(pair.training), std::move(pair.validation)};
  }
  if (data.kind == "recall")
    return {make_recall(recall_options(data, seed)), make_held_out(data, seed)};
  return {make_backcopy({.seed = seed,
                         .triggers = data.triggers,
                         .text = bigram_text(data.bigrams),
                         .symbols = data.symbols,
                         .concentration = data.concentration,
                         .begin = data.begin_token != "none"}),
          nullptr};
}

RecallOptions recall_options(const DataConfig& data, uint64_t seed) {
  return {.seed = seed,
          .pairs = data.pairs,
          .keys = data.keys,
          .values = data.values,
          .queries = data.queries,
          .fillers = data.fillers,
          .answers_only = data.targets == "answers",
          .begin = data.begin_token != "none"};
}

std::unique_ptr<BatchSource> make_held_out(const DataConfig& data, uint64_t seed) {
  if (data.kind == "recall") {
    RecallOptions options = recall_options(data, seed);
    options.answers_only = true;
    return held_out(make_recall(options));
  }
  RunData made = make_run_data(data, seed);
  if (data.kind == "backcopy") return held_out(std::move(made.training));
  if (!made.validation)
    user_error("data",
               "the run holds nothing out of its text (data.validation), so that there are no "
               "held-out sequences. Give a text (--text), or take the first batch that was trained "
               "on (--data training).");
  return std::move(made.validation);
}

std::unique_ptr<BatchSource> make_batches(const DataConfig& data, uint64_t seed) {
  return make_run_data(data, seed).training;
}

RunConfig resolve_vocabulary(RunConfig config, const BatchSource& source) {
  int64_t& vocabulary = config.model.vocabulary;
  if (vocabulary == 0) vocabulary = source.vocabulary();
  if (vocabulary >= source.vocabulary()) return config;
  const int32_t largest = source.largest_id();
  if (largest >= vocabulary)
    user_error(
        "data",
        "model.vocabulary is {}, but the data has id {} ('{}'), so at least {} is needed. {}",
        vocabulary, largest, source.token_text(largest), largest + 1,
        config.init.empty()
            ? fmt::format("Leave model.vocabulary out to take what the data needs ({}).",
                          source.vocabulary())
            : fmt::format("The weights of init={} have rows for {} ids: take the tokenizer "
                          "that they were trained with (data.tokenizer).",
                          config.init, vocabulary));
  return config;
}

}  // namespace weir
