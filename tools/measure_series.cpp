// weir measure of several checkpoints: one compiled program, filled with the weights of one after
// the other.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "io/file.h"
#include "lab/experiments/checkpoint_series.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/progress.h"
#include "lab/report/measure_report.h"
#include "lab/report/series_report.h"
#include "support/error.h"
#include "support/text.h"
#include "tools/measure_arguments.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

// What all measurements have in common.
struct SeriesInput {
  TokenBatch batch;
  MeasureTask task;
};

SeriesInput read_input(const MeasureArguments& options, const CheckpointSeries& series,
                       const ModelSource& source, const std::optional<TextInput>& text) {
  SeriesInput input;
  input.task.probes = options.probes;
  input.task.run = options.checkpoint.run_settings();
  input.task.keep_loaded = true;
  Provenance provenance = options.checkpoint.provenance(*series.last().checkpoint);
  UsageProblems problems("measure");
  check_heads(options.heads(), source.sizes, problems);
  problems.collect(
      [&] { input.task.options = options.checkpoint.compile_options(*series.last().checkpoint); });
  problems.collect([&] {
    input.batch = options.input.read(series.last().path, source.sizes.vocabulary, text, provenance);
  });
  const int64_t length = input.batch.length > 0 ? input.batch.length : options.input.length;
  problems.collect([&] { check_probes(source, length, input.task.options, options.probes); });
  if (input.batch.length > 0) check_sink(options, input.batch.length, problems);
  problems.raise();
  input.task.provenance = provenance_json(
      provenance, ids_of_batch(input.batch.tokens, input.batch.targets, input.batch.length));
  return input;
}

// What the page is called: the words that named the checkpoints.
std::string title_of(const std::vector<std::string>& models) {
  constexpr size_t shown = 3;
  std::vector<std::string> names(
      models.begin(), models.begin() + static_cast<ptrdiff_t>(std::min(shown, models.size())));
  return join(names, ", ") +
         (models.size() > shown ? fmt::format(" and {} more", models.size() - shown) : "");
}

// Measures the members in turn; records go to the file as they come, so that memory does not grow
// with their number but for what the report shows.
class SeriesRun {
 public:
  SeriesRun(const MeasureArguments& options, CheckpointSeries& series, const ModelSource& source,
            const SeriesInput& input)
      : options_(options),
        series_(series),
        input_(input),
        measurer_(source, input.batch, input.task) {
    if (!options.json.empty()) file_.emplace(options.json);
  }

  /// Reports the records of the members that can be measured; user error at the end for the others.
  void measure_all(SeriesReport& report) {
    print_plan(measurer_.run());
    for (const SeriesMember& member : series_.members())
      // A checkpoint that cannot be used after all does not take the others with it.
      problems_.collect([&] { measure(member, report); });
    if (file_ && last_) file_->commit();
    if (!last_) problems_.raise();
    fmt::print("\n{}", report.table());
    print_costs(measurer_.run(), load_seconds_, run_seconds_,
                measured_ * input_.batch.batch * input_.batch.length);
  }
  /// Gives back the memory of weights and programs.
  void unload() { measurer_.unload(); }
  /// The last one that was measured, and its record.
  const SeriesMember& last() const { return *last_; }
  const std::string& last_record() const { return last_record_; }
  /// The exit status; user error where a member could not be measured.
  int status() const {
    problems_.raise();
    return status_;
  }

 private:
  void measure(const SeriesMember& member, SeriesReport& report) {
    series_.choose(member);
    Provenance model;
    model.model = member.path;
    model.weight_files = member.checkpoint->weight_files();
    measurer_.take(
        {member.checkpoint->name(), member.step, with_model(input_.task.provenance, model)});
    const MeasureResult result = measurer_.measure();
    report.add(result.record);
    if (file_) file_->write(result.record + "\n");
    last_ = &member;
    last_record_ = result.record;
    ++measured_;
    load_seconds_ += result.load_seconds;
    run_seconds_ += result.run_seconds;
    fmt::print("step {}: load {:.2f} s, run {:.2f} s\n", member.step, result.load_seconds,
               result.run_seconds);
    std::fflush(stdout);
    const std::string topic = fmt::format("measure, step {}", member.step);
    status_ = std::max({status_, finite_status(measurer_.run().not_finite(), topic),
                        status_of(result.record, topic)});
  }

  const MeasureArguments& options_;
  CheckpointSeries& series_;
  const SeriesInput& input_;
  Measurer measurer_;
  std::optional<AtomicFile> file_;
  UsageProblems problems_{"measure"};
  const SeriesMember* last_ = nullptr;
  std::string last_record_;
  int64_t measured_ = 0;
  double load_seconds_ = 0, run_seconds_ = 0;
  int status_ = 0;
};

}  // namespace

int run_series(const MeasureArguments& options) {
  std::unique_ptr<CheckpointSeries> series;
  std::optional<TextInput> text;
  UsageProblems opening("measure");
  opening.collect([&] {
    const Activity activity("checking the checkpoints");
    series = std::make_unique<CheckpointSeries>("measure", options.checkpoint.models);
  });
  // The tokenizer is that of the last one, where none is given.
  const std::vector<std::string> first = models_behind(options.checkpoint.models.front());
  if (series || !first.empty())
    opening.collect([&] { options.input.open(series ? series->last().path : first[0], text); });
  opening.raise();
  const ModelSource source = series->source();
  SeriesInput input = read_input(options, *series, source, text);
  const TokenBatch& batch = input.batch;
  if (text) text->print_tokens();
  const MeasuredModel& sizes = source.sizes;
  const auto count = std::ssize(series->members());
  fmt::print("{} checkpoint{}, steps {} to {}: {} layers, {} heads; {} x {} tokens\n", count,
             count == 1 ? "" : "s", series->members().front().step, series->last().step,
             sizes.layers, sizes.heads, batch.batch, batch.length);
  choose_sink(options, source, batch, input.task);
  std::vector<MapHead> heads = options.heads();
  const std::string html = options.report_path();
  SeriesReport report;
  input.task.kept = SeriesReport::bytes(count, sizes.layers, sizes.heads, batch.length);
  if (!html.empty())
    input.task.kept += measure_report_bytes(batch.batch, batch.length,
                                            std::max<int64_t>(std::ssize(heads), kHeadsShown));
  SeriesRun run(options, *series, source, input);
  run.measure_all(report);
  if (!options.json.empty()) fmt::print("Records: {}\n", printable(options.json));
  if (!html.empty()) {
    run.unload();
    series->choose(run.last());
    if (heads.empty()) heads = heads_to_show(run.last_record());
    report.set_maps(attention_maps(source, batch, input.task, heads),
                    token_texts(options, *run.last().checkpoint, batch));
    report.write(html, title_of(options.checkpoint.models), command_line());
    fmt::print("Report: {}\n",
               printable(std::filesystem::absolute(html).lexically_normal().string()));
  }
  return run.status();
}

}  // namespace weir
