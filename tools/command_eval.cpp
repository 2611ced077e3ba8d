// weir eval: perplexity of a checkpoint on a text.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "lab/evaluate.h"
#include "lab/model_source.h"
#include "lab/nonfinite.h"
#include "lab/token_input.h"
#include "support/text.h"
#include "tools/checkpoint_options.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct EvalArguments {
  CheckpointOptions checkpoint;
  std::vector<std::string> text;
  std::string json;
  int64_t context = 0, stride = 0;
};

// A window beyond the text would be computed on padding.
void check_windows(const EvalArguments& options, const EvaluateTask& task, int64_t ids) {
  UsageProblems problems("eval");
  if (options.context >= std::max<int64_t>(ids, 2))
    problems.add(fmt::format(
        "--context is {}, but the text has only {} tokens, of which {} have one before "
        "them. Give at most {}, or more text.",
        options.context, ids, std::max<int64_t>(ids - 1, 0), std::max<int64_t>(ids - 1, 1)));
  if (task.stride > task.context)
    problems.add(fmt::format("--stride is {}, but at most the context of {} leaves no token out.",
                             task.stride, task.context));
  problems.raise();
}

// Records spell numbers that JSON does not have as texts.
nlohmann::ordered_json record_number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

int run_eval(const EvalArguments& options) {
  const auto checkpoint = options.checkpoint.open();
  const ModelSource source = checkpoint_source(checkpoint);
  const auto tokenizer = checkpoint->tokenizer();
  EvaluateTask task{.context = options.context,
                    .stride = options.stride,
                    .options = options.checkpoint.compile_options(*checkpoint),
                    .run = options.checkpoint.run_settings()};
  if (task.context == 0) task.context = std::min<int64_t>(1024, checkpoint->config().context);
  if (task.stride == 0) task.stride = task.context;
  Provenance provenance = options.checkpoint.provenance(*checkpoint);
  const std::vector<std::string> files = text_files(options.text);
  add_text(provenance, files, *tokenizer);
  const std::vector<int32_t> ids = text_ids(files, *tokenizer);
  const auto origin = nlohmann::ordered_json::parse(provenance_json(provenance, ids));
  check_windows(options, task, static_cast<int64_t>(ids.size()));
  Evaluator evaluator(source, ids, task);
  print_plan(evaluator.run());
  const auto start = std::chrono::steady_clock::now();
  const Evaluation result = evaluator.evaluate();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print(
      "perplexity {:.4f} (loss {:.6f} nats), {} tokens counted once\n"
      "{} windows of {} tokens, stride {}: after the first window a token has {} to {} before it\n",
      result.perplexity, result.loss, result.tokens, result.windows, task.context, task.stride,
      task.context - task.stride, task.context - 1);
  fmt::print("{:.1f} s, {:.0f} tokens/s\n", seconds,
             static_cast<double>(result.windows * task.context) / seconds);
  if (!options.json.empty()) {
    const nlohmann::ordered_json record = {
        {"format", "weir.eval/1"},
        {"provenance", origin},
        {"model", source.sizes.name},
        {"text", join(options.text, ",")},
        {"tokenizer", tokenizer->description()},
        {"context", task.context},
        {"stride", task.stride},
        {"windows", result.windows},
        {"tokens", result.tokens},
        {"v_scale", v_scale_variant_name(task.options.v_scale.variant)},
        {"attention", normalizer_name(task.options.attention)},
        {"loss", record_number(result.loss)},
        {"perplexity", record_number(result.perplexity)}};
    write_file(options.json, record.dump() + "\n");
    fmt::print("Record: {}\n", options.json);
  }
  if (result.first_not_finite < 0) return 0;
  const int64_t begin = result.first_not_finite * task.stride;
  print_error(fmt::format(
      "[eval] the loss is {}; first not finite is that of window {}, tokens {} to {}. "
      "`weir measure` on that text names the layer.",
      nonfinite_text(result.loss), result.first_not_finite, begin, begin + task.context - 1));
  return 1;
}

}  // namespace

void add_eval(Commands& commands) {
  auto options = std::make_shared<EvalArguments>();
  OptionTable& table = add_command(commands, "eval", "perplexity of a checkpoint on a text");
  options->checkpoint.add_to(table);
  table.add("--text", &options->text, some_text(), kTextMeaning).needed();
  table.add("--context", &options->context, within(1, kMaxLength),
            "tokens of a window; 1024, or what the model has if that is less, if not given");
  table.add("--stride", &options->stride, within(1, kMaxLength),
            "from one window to the next; the context, windows side by side, if not given");
  table.add("--json", &options->json, output_file(), "write the result here");
  table.check([options, &table](UsageProblems& problems) {
    if (table.given("--context") && options->stride > options->context)
      problems.add(fmt::format("--stride is {}, but at most the context of {} leaves no token out.",
                               options->stride, options->context));
    check_text(options->text, problems);
  });
  table.footer(
      "Every token but the first is counted once, in the first window that has it. The last window "
      "is\npadded, its padding not counted. Examples:\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt --context 1024 --stride 512 --json "
      "out.json");
  table.action([options] { return run_eval(*options); });
}

}  // namespace weir
