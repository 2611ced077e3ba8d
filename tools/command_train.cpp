// weir train: a run from a configuration.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "io/file.h"
#include "io/text_source.h"
#include "lab/report/report.h"
#include "lab/train/config_keys.h"
#include "lab/train/initial_weights.h"
#include "lab/train/train.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/command.h"
#include "tools/paths.h"

namespace weir {
namespace {

struct TrainArguments {
  std::vector<std::string> words;
  bool resume = false, overwrite = false, profile = false, check_finite = false;
};

// Words that choose the run to go on with, and those of its configuration.
RunConfig config_of(TrainArguments& options) {
  std::vector<std::string> words;
  std::string resumed;
  for (const std::string& word : options.words) {
    if (!word.starts_with("resume="))
      words.push_back(word);
    else if (resumed.empty())
      resumed = word;
    else
      throw UsageError("[train] resume is given twice; give it once.");
  }
  RunConfig base;
  if (!resumed.empty()) {
    options.resume = true;
    base = config_of_run(resumed.substr(7));
  }
  if (options.resume && options.overwrite)
    throw UsageError("[train] resume= and --overwrite exclude each other.");
  return config_of_words("train", words, base, true);
}

int run_train(TrainArguments& options) {
  RunConfig config = config_of(options);
  config.threads = chosen_threads(static_cast<int>(config.threads));
  for (ArmConfig& arm : config.arms)
    for (auto& [key, value] : arm.overrides)
      if (key == "threads") value = fmt::format("{}", chosen_threads(std::stoi(value)));
  TrainOptions train_options{.target = chosen_target(true), .command = command_line()};
  train_options.resume = options.resume;
  train_options.overwrite = options.overwrite;
  train_options.profile = options.profile;
  train_options.check_finite = options.check_finite;
  return finish_run(config, train(config, train_options));
}

}  // namespace

void check_data(const DataConfig& data, UsageProblems& problems) {
  std::error_code error;
  const auto exists = [&](const std::string& path) { return std::filesystem::exists(path, error); };
  if (data.kind == "text") {
    if (!data.files.empty()) problems.collect([&] { TextSource source(data.files); });
    if (data.tokenizer != "bytes" && !exists(data.tokenizer))
      problems.add_failure(fmt::format(
          "data.tokenizer: there is no {}. Give bytes, a tokenizer.json or the folder of one.",
          data.tokenizer));
  } else if (!data.bigrams.empty() && !exists(data.bigrams)) {
    problems.add_failure(fmt::format("data.bigrams: there is no {}.", data.bigrams));
  }
}

std::string key_of_option(const std::string& name) {
  std::string key = name.substr(std::min(name.size(), name.find_first_not_of('-')));
  std::replace(key.begin(), key.end(), '-', '_');
  if (find_config_key(key) || key == "arms" || key == "model")
    return fmt::format(" Keys are given as key=value: {}=VALUE.", key);
  return "";
}

RunConfig config_of_words(const std::string& command, const std::vector<std::string>& words,
                          const RunConfig& base, bool writes) {
  UsageProblems problems(command);
  ConfigText json;
  std::vector<std::string> assignments;
  for (const std::string& word : words) {
    if (word.find('=') != std::string::npos)
      assignments.push_back(word);
    else if (json.source.empty())
      json.source = word;
    else
      problems.add(
          fmt::format("'{}' is a second configuration file; give one, then key=value.", word));
  }
  if (!json.source.empty()) {
    problems.collect([&] { json.text = read_file(json.source); });
    if (!problems.empty()) json.source.clear();
  }
  RunConfig start = base;
  problems.collect([&] {
    const std::string init = init_named_in(json.text, assignments);
    if (!init.empty() && init != base.init) start = with_model_of(init, base);
  });
  const RunConfig config = parse_config(json, assignments, start, problems);
  check_data(config.data, problems);
  if (problems.empty())
    for (const ArmConfig& arm : config.arms) check_data(with_arm(config, arm).data, problems);
  if (writes)
    if (const std::string wrong = output_problem(config.out, true); !wrong.empty())
      problems.add_failure("out: " + wrong);
  problems.raise();
  return config;
}

int finish_run(const RunConfig& config, const TrainOutcome& outcome) {
  if (outcome.signal != 0) {
    fmt::print(
        "Interrupted at step {} of arm {}; a checkpoint is written. Continue with\n\n"
        "  weir train resume={}\n",
        outcome.step, outcome.arm, printable(config.out));
    return 128 + outcome.signal;
  }
  if (!config.measure.metrics) {
    fmt::print(
        "Finished: {}\nThere is no report, since measure.metrics is false: no step was recorded. "
        "Losses are in {}/ARM/loss.jsonl.\n",
        printable(config.out), printable(config.out));
    return 0;
  }
  const std::filesystem::path report = std::filesystem::path(config.out) / "report.html";
  write_report(config.out, report);
  fmt::print("{}\nReport: {}\n", summary_table(config.out),
             printable(std::filesystem::absolute(report).lexically_normal().string()));
  return 0;
}

void add_train(Commands& commands) {
  auto options = std::make_shared<TrainArguments>();
  OptionTable& table = add_command(commands, "train", "train one or several arms and measure them");
  table.add("config", &options->words, some_text(),
            "a JSON file, key=value words that go before it; resume=RUN for those of a run");
  table.flag("--resume", options->resume,
             "continue the run in the folder `out` at its newest checkpoint");
  table.flag("--overwrite", options->overwrite,
             "replace the run in the folder `out`; files that Weir did not write stay");
  table.flag("--check-finite", options->check_finite, kCheckFiniteMeaning);
  table.flag("--profile", options->profile,
             "time every kernel; table in the report, ARM/profile.json in the run's folder");
  table.exclude("--resume", "--overwrite");
  table.hint(key_of_option);
  table.footer(
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
  table.action([options] { return run_train(*options); });
}

}  // namespace weir
