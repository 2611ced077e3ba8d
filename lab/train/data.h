#pragma once
// The batches that a configuration asks for, and the vocabulary that they need.
#include "lab/train/batches.h"
#include "lab/train/config.h"

namespace weir {

/// What a run trains on and, where sequences are held out, what it is validated on.
struct RunData {
  std::unique_ptr<BatchSource> training, validation;
};

/// User errors: those of the sources, e.g. a file that is not there.
RunData make_run_data(const DataConfig& data, uint64_t seed);
/// The options of data.kind=recall.
RecallOptions recall_options(const DataConfig& data, uint64_t seed);
/// Sequences that are not trained on: of recall and backcopy of the same source far behind those of
/// training, of text those of data.validation. Of recall their targets are answers. User error for
/// a text of which nothing is held out.
std::unique_ptr<BatchSource> make_held_out(const DataConfig& data, uint64_t seed);
/// Only what is trained on.
std::unique_ptr<BatchSource> make_batches(const DataConfig& data, uint64_t seed);

/// `config` with model.vocabulary as the data need it where it is 0. A user error names the
/// vocabulary and the id in the data that is beyond it.
RunConfig resolve_vocabulary(RunConfig config, const BatchSource& source);

}  // namespace weir
