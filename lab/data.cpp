#include "lab/data.h"

#include "io/file.h"
#include "lab/text_batches.h"
#include "support/cache_folder.h"
#include "support/error.h"

namespace weir {

std::unique_ptr<BatchSource> make_batches(const DataConfig& data, uint64_t seed) {
  if (data.kind == "text")
    return make_text_batches({data.files, data.tokenizer, cache_subfolder("tokens"), seed});
  std::string bigrams;
  if (!data.bigrams.empty()) {
    bigrams = read_text(data.bigrams);
    if (bigrams.empty())
      user_error("data",
                 "data.bigrams: {} is empty. Give a text, or leave data.bigrams out for the "
                 "synthetic source.",
                 data.bigrams);
  }
  return make_backcopy({.seed = seed,
                        .triggers = data.triggers,
                        .text = std::move(bigrams),
                        .symbols = data.symbols,
                        .concentration = data.concentration});
}

RunConfig resolve_vocabulary(RunConfig config, const BatchSource& source) {
  int64_t& vocabulary = config.model.vocabulary;
  if (vocabulary == 0) vocabulary = source.vocabulary();
  if (vocabulary >= source.vocabulary()) return config;
  const int32_t largest = source.largest_id();
  if (largest >= vocabulary)
    user_error("data",
               "model.vocabulary is {}, but the data has id {} ('{}'), so at least {} is needed. "
               "Leave model.vocabulary out to take what the data needs ({}).",
               vocabulary, largest, source.token_text(largest), largest + 1, source.vocabulary());
  return config;
}

}  // namespace weir
