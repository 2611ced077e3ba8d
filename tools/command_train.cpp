// weir train: a run from a configuration.
#include <fmt/format.h>

#include <filesystem>

#include "io/file.h"
#include "lab/initial_weights.h"
#include "lab/report.h"
#include "lab/train.h"
#include "support/error.h"
#include "tools/command.h"

namespace weir {
namespace {

struct TrainArguments {
  std::vector<std::string> words;
  bool resume = false, overwrite = false, profile = false;
};

// Words that choose the run to go on with, and those of its configuration.
RunConfig config_of(TrainArguments& options) {
  std::vector<std::string> words;
  RunConfig base;
  for (const std::string& word : options.words) {
    if (word.starts_with("resume=")) {
      options.resume = true;
      base = config_of_run(word.substr(7));
    } else {
      words.push_back(word);
    }
  }
  return config_of_words("train", words, base);
}

int run_train(TrainArguments& options) {
  if (options.resume && options.overwrite)
    user_error("train", "--resume and --overwrite exclude each other.");
  RunConfig config = config_of(options);
  config.threads = chosen_threads(static_cast<int>(config.threads));
  TrainOptions train_options{.target = chosen_target(true), .command = command_line()};
  train_options.resume = options.resume;
  train_options.overwrite = options.overwrite;
  train_options.profile = options.profile;
  return finish_run(config, train(config, train_options));
}

}  // namespace

RunConfig config_of_words(const std::string& command, const std::vector<std::string>& words,
                          const RunConfig& base) {
  std::string json;
  std::vector<std::string> assignments;
  for (const std::string& word : words) {
    if (word.find('=') != std::string::npos) {
      assignments.push_back(word);
    } else if (json.empty()) {
      json = read_file(word);
    } else {
      user_error(command, "'{}' is a second configuration file; give one, then key=value.", word);
    }
  }
  const std::string init = init_named_in(json, assignments);
  if (init.empty() || init == base.init) return parse_config(json, assignments, base);
  return parse_config(json, assignments, with_model_of(init, base));
}

int finish_run(const RunConfig& config, const TrainOutcome& outcome) {
  if (outcome.signal != 0) {
    fmt::print(
        "Interrupted at step {} of arm {}; a checkpoint is written. Continue with\n\n"
        "  weir train resume={}\n",
        outcome.step, outcome.arm, config.out);
    return 128 + outcome.signal;
  }
  if (!config.measure.metrics) {
    fmt::print("Finished: {}\n", config.out);
    return 0;
  }
  const std::filesystem::path report = std::filesystem::path(config.out) / "report.html";
  write_report(config.out, report);
  fmt::print("{}\nReport: {}\n", summary_table(config.out),
             std::filesystem::absolute(report).lexically_normal().string());
  return 0;
}

void add_train(CLI::App& app, Action& action) {
  auto options = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "train one or several arms and measure them");
  command->add_option(
      "config", options->words,
      "a JSON file, key=value words that go before it; resume=RUN for those of a run");
  command->add_flag("--resume", options->resume,
                    "continue the run in the folder `out` at its newest checkpoint");
  command->add_flag("--overwrite", options->overwrite,
                    "replace the run in the folder `out`; files that Weir did not write stay");
  command->add_flag("--profile", options->profile,
                    "time every kernel; table in the report, ARM/profile.json in the run's folder");
  command->footer(
      "Keys, their defaults and meaning:\n" + config_help() +
      "\nExamples:\n"
      "  weir train out=runs/first steps=200\n"
      "  weir train out=runs/arms 'arms=baseline; learned: v_scale.variant=learned'\n"
      "  weir train out=runs/text data.kind=text data.files=text/ data.tokenizer=gpt2/ \\\n"
      "      model.layers=4 model.d_model=256 model.heads=4 model.d_ff=704 \\\n"
      "      length=256 batch=16 steps=300 optimizer.rate=1e-3 "
      "checkpoint_every=100\n"
      "  weir train run.json optimizer.rate=3e-3 out=runs/hot\n"
      "  weir train out=runs/probed 'measure.probes=blocks.*.attn.hook_v.grad : batch_sum, "
      "norm(feature)'\n"
      "  weir train resume=runs/text\n"
      "  weir train resume=runs/text steps=600 optimizer.restart=300\n"
      "  weir train init=runs/text/run/checkpoints/step000300 data.kind=text data.files=other/ \\\n"
      "      data.tokenizer=gpt2/ length=256 batch=16 steps=100 out=runs/tuned");
  command->callback([options, &action] { action = [options] { return run_train(*options); }; });
}

}  // namespace weir
