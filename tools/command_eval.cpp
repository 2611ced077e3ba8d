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
#include "tools/checkpoint_options.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

struct EvalArguments {
  CheckpointOptions checkpoint;
  std::string text, json;
  int64_t context = 0, stride = 0;
};

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
  Evaluator evaluator(source, text_ids(text_files(options.text), *tokenizer), task);
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
        {"model", source.sizes.name},
        {"text", options.text},
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

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand("eval", "perplexity of a checkpoint on a text");
  options->checkpoint.add_to(*command);
  command->add_option("--text", options->text, "files, folders or globs, divided by commas")
      ->required();
  command->add_option("--context", options->context,
                      "tokens of a window; default: 1024, or what the model has if that is less");
  command->add_option("--stride", options->stride,
                      "from one window to the next; default: the context, windows side by side");
  command->add_option("--json", options->json, "write the result here");
  command->footer(
      "Every token but the first is counted once, in the first window that has it. The last window "
      "is\npadded, its padding not counted. Examples:\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt --context 1024 --stride 512 --json "
      "out.json");
  command->callback([options, &action] { action = [options] { return run_eval(*options); }; });
}

}  // namespace weir
