// weir eval: perplexity of a checkpoint on a text.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "lab/measure/evaluate.h"
#include "lab/measure/model_source.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/rewrite_json.h"
#include "lab/measure/token_input.h"
#include "support/text.h"
#include "tools/checkpoint_options.h"
#include "tools/outputs.h"
#include "tools/standard_output.h"
#include "tools/text_options.h"

namespace weir {
namespace {

struct EvalArguments {
  CheckpointOptions checkpoint;
  TextOptions text;
  std::string tokens, json;
  int64_t context = 0, stride = 0;
  bool overwrite = false;
};

// What is evaluated, and the tokenizer of text.
struct EvalInput {
  EvaluationIds ids;
  std::optional<TextInput> text;
  TextTokens around_ids = {};  // where there is no text

  // Ids of one text that have a token before them.
  int64_t targets() const {
    const size_t length = ids.text_length > 0 ? ids.text_length : ids.ids.size();
    return static_cast<int64_t>(length) - (ids.begin ? 0 : 1);
  }
};

EvaluationIds array_ids(const std::string& file, int64_t vocabulary, std::optional<int32_t> begin) {
  TokenArray array = read_token_ids(file, vocabulary);
  const std::vector<int64_t>& shape = array.shape;
  const int64_t least = begin ? 1 : 2;
  if (shape.empty() || shape.size() > 2 || shape.back() < least)
    user_error("tokens",
               "{} has the shape {}, but [tokens] or [texts, tokens] is needed, with at least {} "
               "token{}.",
               file, shape_text(shape), least, least == 1 ? "" : "s");
  return {.ids = std::move(array.ids),
          .text_length = static_cast<size_t>(shape.back()),
          .begin = begin};
}

// A window beyond the text would be computed on padding.
void check_windows(const EvalArguments& options, const EvaluateTask& task, const EvalInput& input) {
  UsageProblems problems("eval");
  const int64_t targets = input.targets();
  if (options.context > std::max<int64_t>(targets, 1))
    problems.add(
        fmt::format("--context is {}, but the text has only {} tokens, of which {} have one before "
                    "them. Give at most {}, or more text.",
                    options.context, targets + (input.ids.begin ? 0 : 1),
                    std::max<int64_t>(targets, 0), std::max<int64_t>(targets, 1)));
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

void write_record(const EvalArguments& options, const EvaluateTask& task, const EvalInput& input,
                  const std::string& model, const Provenance& provenance,
                  const Evaluation& result) {
  nlohmann::ordered_json record = {
      {"format", "weir.eval/1"},
      {"provenance", nlohmann::ordered_json::parse(provenance_json(provenance, input.ids.ids))},
      {"model", model}};
  if (input.text) {
    record["text"] = join(options.text.text, ",");
    record["tokenizer"] = input.text->tokenizer().description();
    record.update(nlohmann::ordered_json::parse(tokens_json(input.text->tokens())));
  } else {
    record["token_array"] = options.tokens;
    if (input.ids.begin)
      record.update(nlohmann::ordered_json::parse(tokens_json(input.around_ids)));
  }
  record.update({{"context", task.context},
                 {"stride", task.stride},
                 {"windows", result.windows},
                 {"tokens", result.tokens},
                 {"v_scale", v_scale_variant_name(task.options.rewrites.v_scale.variant)},
                 {"attention", normalizer_name(task.options.rewrites.attention)},
                 {"loss", record_number(result.loss)},
                 {"perplexity", record_number(result.perplexity)}});
  state_rewrites(task.options.rewrites, record);
  write_file(options.json, record.dump() + "\n");
  fmt::print("Record: {}\n", printable(options.json));
}

int run_eval(const EvalArguments& options) {
  std::shared_ptr<const Checkpoint> checkpoint;
  EvalInput input;
  UsageProblems problems("eval");
  problems.collect([&] { checkpoint = options.checkpoint.open(); });
  if (!options.text.text.empty())
    problems.collect([&] { input.text.emplace(options.text, options.checkpoint.model); });
  problems.raise();
  const ModelSource source = checkpoint_source(checkpoint);
  EvaluateTask task{.context = options.context,
                    .stride = options.stride,
                    .options = options.checkpoint.compile_options(*checkpoint),
                    .run = options.checkpoint.run_settings()};
  if (input.text) {
    EncodedText text = input.text->encode(checkpoint->config().vocabulary);
    input.ids = {.ids = std::move(text.ids),
                 .uncounted = std::move(text.separators),
                 .begin = input.text->tokens().begin.id};
  } else {
    const int64_t vocabulary = checkpoint->config().vocabulary;
    input.around_ids = options.text.around_ids(options.checkpoint.model, vocabulary);
    input.ids = array_ids(options.tokens, vocabulary, input.around_ids.begin.id);
  }
  if (task.context == 0)
    task.context = std::min(
        {int64_t{1024}, checkpoint->config().context, std::max<int64_t>(input.targets(), 1)});
  if (task.stride == 0) task.stride = task.context;
  check_windows(options, task, input);
  if (input.text) input.text->print_tokens();
  Evaluator evaluator(source, input.ids, task);
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
    Provenance provenance = options.checkpoint.provenance(*checkpoint);
    if (input.text) {
      add_text(provenance, options.text, *input.text);
    } else {
      provenance.input_kind = "tokens";
      provenance.input_files = {token_file(options.tokens).path};
      provenance.begin_token = input.ids.begin;
    }
    write_record(options, task, input, source.sizes.name, provenance, result);
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
  options->text.add_to(table);
  table.add(
      "--tokens", &options->tokens, token_file_rule(),
      "NumPy array of token ids, [tokens] or [texts, tokens], int8 to uint64, instead of text; or "
      "FILE:uint16, ids without a header of that type; each text behind --begin-token, if given");
  table.add("--context", &options->context, within(1, kMaxLength),
            "tokens of a window; 1024, or what the model has if that is less, if not given");
  table.add("--stride", &options->stride, within(1, kMaxLength),
            "from one window to the next; the context, windows side by side, if not given");
  table.add("--json", &options->json, record_file("weir.eval"), "write the result here");
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.check([options, &table](UsageProblems& problems) {
    if (table.given("--context") && !table.refused("--context") &&
        options->stride > options->context)
      problems.add(fmt::format("--stride is {}, but at most the context of {} leaves no token out.",
                               options->stride, options->context));
    options->text.check(table, problems);
  });
  table.footer(
      "Every token of the text is counted once, in the first window that has it, but the first one "
      "where\nno begin token stands before it. A begin token begins every window. Separators are "
      "put between\ndocuments and are not counted; the last window is padded, its padding not "
      "counted. Examples:\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt\n"
      "  weir eval --model SmolLM2-135M/ --text book.txt --context 1024 --stride 512 --json "
      "out.json");
  table.action([options] { return run_eval(*options); });
}

}  // namespace weir
