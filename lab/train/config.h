#pragma once
// Everything that a training run can be told, as one table of keys (config.cpp): defaults, parsing
// from JSON and from key=value words, checks, and the resolved form that is kept with the run.
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lab/measure/model_source.h"
#include "models/llama.h"
#include "passes/rewrites.h"

namespace weir {

class UsageProblems;

struct DataConfig {
  std::string kind = "backcopy";    ///< backcopy, recall or text
  int64_t triggers = 3;             ///< backcopy: most frequent symbols that copy
  int64_t symbols = 64;             ///< backcopy: of the synthetic source
  double concentration = 8;         ///< backcopy: of its rows around the Zipf law
  std::string bigrams;              ///< backcopy: a text file whose bigrams replace the source
  int64_t pairs = 8;                ///< recall: of a key and its value in a sequence
  int64_t keys = 64, values = 64;   ///< recall: different keys, different values
  int64_t queries = 8;              ///< recall: keys that are asked for
  int64_t fillers = 32;             ///< recall: symbols between the pairs
  std::string targets = "answers";  ///< recall: answers, or all
  std::vector<std::string> files;   ///< text: files, folders or globs (io/text_source.h)
  std::string tokenizer = "bytes";  ///< text: bytes, a tokenizer.json, or a folder with one or with
                                    ///< vocab.json and merges.txt
  std::string text_key = "text";    ///< text: member of JSON Lines that is a document
  std::string separator = "auto";   ///< text: token between documents (io/text_tokens.h)
  /// Token at the begin of every sequence (io/text_tokens.h); of others <s>, or none.
  std::string begin_token = "auto";
  std::vector<std::string> validation;  ///< text: held out: a fraction, or files; none

  /// Whether sequences are held out, on which a run is validated.
  bool is_validated() const { return kind == "recall" || !validation.empty(); }
};

struct OptimizerConfig {
  std::string kind = "adamw";  ///< adamw, sgd or muon
  double rate = 1e-2;          ///< peak learning rate
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0.9;            ///< sgd, muon
  double decay = 0.1;               ///< decoupled, on matrices and embeddings
  double clip = 1.0;                ///< global gradient norm; 0 switches clipping off
  int64_t warmup = 100;             ///< steps of linear warm-up
  std::string schedule = "cosine";  ///< cosine or constant
  double final_rate = 0.1;          ///< at the last step, as a fraction of the peak
  int64_t restart = 0;              ///< step at which a second cosine begins; 0: there is one
  double restart_rate = 1;          ///< where it begins, as a fraction of the peak
};

struct MeasureConfig {
  bool metrics = true;         ///< the record of every layer on measured steps
  std::vector<int64_t> steps;  ///< measured steps; empty: 0, 1, 2, 4 ... 512, then every `every`
  int64_t every = 500;
  int64_t sink_token = 0;
  int64_t sink_window = 64;      ///< queries over which the sink score is averaged
  double sink_threshold = 0.3;   ///< sink rate counts heads above it
  int64_t gradient_window = 31;  ///< last token that the gradient-sink ratio compares with
  double massive_absolute = 100, massive_ratio = 1000;
  int64_t validation_batches = 8;       ///< batches held out that a loss is the mean of
  std::vector<std::string> probes;      ///< further selectors, kept as arrays
  int64_t map_layer = 0, map_head = 0;  ///< attention map of the report
};

/// One arm: the same run with some keys set otherwise.
struct ArmConfig {
  std::string name;
  std::vector<std::pair<std::string, std::string>> overrides;
};

struct RunConfig {
  std::string out = "runs/run";
  uint64_t seed = 42;
  int64_t steps = 500;
  int64_t batch = 32;         ///< sequences a step
  int64_t length = 128;       ///< tokens a sequence
  int64_t micro_batches = 1;  ///< parts that a step is computed in
  std::string memory;   ///< that the process may take in all, such as 2GiB; empty: what is free
  int64_t threads = 0;  ///< 0: all cores
  int64_t checkpoint_every = 0;  ///< 0: only at the end and on interruption
  int64_t keep_checkpoints = 0;  ///< the newest that are kept; 0: all
  bool tensorboard = false;      ///< an event file in the folder of each arm
  std::string init;              ///< checkpoint whose weights the run starts from; empty: random
  std::string on_nonfinite =
      "stop";         ///< at a loss or gradients that are not finite: stop, continue
  ModelConfig model;  ///< vocabulary 0: as the data needs
  DataConfig data;
  OptimizerConfig optimizer;
  MeasureConfig measure;
  Rewrites rewrites;
  std::vector<ArmConfig> arms;
  /// A model of one's own, which no key says, instead of that of the keys model.*: set_model.
  std::shared_ptr<const ModelDefinition> own_model;

  RunConfig();
};

/// A JSON text and what messages call it, such as the path of its file; both empty: none.
struct ConfigText {
  std::string text, source;
};

/// Reads a JSON object (nested, or with dotted keys) over `config`, then `key=value` words over
/// that. In each of them `model=NAME` sets the sizes of a named model before single keys are read,
/// whatever their order. What is wrong with keys and values is added to `problems`: unknown keys
/// with the nearest, values outside their range, and values that do not fit together. User error at
/// once for a text that is no JSON object.
RunConfig parse_config(const ConfigText& json, const std::vector<std::string>& words,
                       RunConfig config, UsageProblems& problems);
/// The same; one UsageError lists everything wrong.
RunConfig parse_config(const std::string& json, const std::vector<std::string>& words,
                       RunConfig config = {});
/// Makes the run train a model of one's own, whose sizes the keys model.* then have.
void set_model(RunConfig& config, const ModelDefinition& model);
/// What the run trains.
ModelDefinition model_of(const RunConfig& config);

/// The configuration of one arm.
RunConfig with_arm(const RunConfig& config, const ArmConfig& arm);
/// All keys with their values, nested, indented; parse_config reads it back to the same.
std::string config_json(const RunConfig& config);
/// The keys of `config_json` that rewrite the model (attention, v_scale.*), where they differ from
/// the default, as text; parse_config takes them as words.
std::map<std::string, std::string> rewrite_settings(const RunConfig& config);
/// A line a key: name, default, meaning, range; then the named models.
std::string config_help();
/// A line a named model: its sizes.
std::string named_model_help();

/// The model of models/llama.h by name; the demo's vocabulary is that of its data.
ModelConfig named_model(const std::string& name);
/// Whether a name can name a folder inside another one: not empty, neither '/' nor ".".
bool is_folder_name(const std::string& name);

/// A run of a model of models/llama.h by name, at the length that it is meant for and 4096 tokens a
/// step (or one sequence).
RunConfig standard_run(const std::string& model);

/// The steps to measure, ascending, all below `steps` + 1: known before the run starts.
std::vector<int64_t> measured_steps(const RunConfig& config);

/// The learning rate at a step, counted from 0: linear warm-up, then the schedule, which reaches
/// rate * final_rate at the last step, steps - 1. With `restart` that is so at step restart - 1
/// already, and a second cosine goes from rate * restart_rate at step `restart` to the last step.
double learning_rate(const OptimizerConfig& optimizer, int64_t step, int64_t steps);

}  // namespace weir
