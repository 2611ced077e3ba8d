// weir convert: a checkpoint, GGUF or not, as a folder of Hugging Face.
#include <fmt/format.h>

#include "io/tokenizer_files.h"
#include "lab/measure/model_source.h"
#include "models/hugging_face_writer.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"
#include "tools/command.h"

namespace weir {
namespace {

struct ConvertArguments {
  std::string from, to, dtype = "f32";
  double shard_gigabytes = 5;
};

FileDtype dtype_of(const std::string& name) {
  if (name == "f32") return FileDtype::f32;
  return name == "f16" ? FileDtype::f16 : FileDtype::bf16;
}

// What keeps the copy from being measured, though its own parameters are whole: a rewrite that it
// was trained with is wrong, or has lost its states.
std::string rewrites_problem(const Checkpoint& checkpoint) {
  try {
    trained_rewrites(checkpoint);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

// The weights of the model, and the states of the rewrites that it was trained with.
Model with_states(const Checkpoint& checkpoint, Model model) {
  Rewrites rewrites;
  try {
    rewrites = trained_rewrites(checkpoint);
  } catch (const UserError&) {  // which rewrites_problem tells
    return model;
  }
  rewrites.sink_gradient = {};  // adds no state, and its token may lie behind the one built here
  const GraphPtr rewritten = apply_rewrites(model.graph, rewrites);
  for (const AddedState& state : added_states(*model.graph, *rewritten))
    if (const Parameter parameter{state.name, state.type}; checkpoint.has(parameter))
      model.parameters.push_back(parameter);
  return model;
}

int run_convert(const ConvertArguments& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.from);
  const Model model = with_states(checkpoint, checkpoint.build(1, 1));
  const TokenizerCopy tokenizer = copy_tokenizer(options.from);
  HuggingFaceOptions writing{.dtype = dtype_of(options.dtype),
                             .shard_bytes = static_cast<uint64_t>(options.shard_gigabytes * 1e9),
                             .texts = tokenizer.texts};
  write_hugging_face(
      options.to, checkpoint.config(), model.parameters,
      [&](const Parameter& parameter, float* out) { checkpoint.read(parameter, out); }, writing);
  for (const std::string& line : checkpoint.not_finite()) log_warning("copied as it is: {}", line);
  if (const std::string wrong = rewrites_problem(checkpoint); !wrong.empty())
    log_warning("copied as it is: {}", wrong);
  fmt::print("{}: {} parameters of {} as {}, {}\n", printable(options.to), model.parameter_count(),
             printable(checkpoint.name()), options.dtype,
             writing.texts.empty() ? "without a tokenizer" : "with its tokenizer");
  if (!tokenizer.missing.empty())
    log_warning(
        "the tokenizer is not converted: {} The weights are whole; put the model's own "
        "tokenizer.json into {}.",
        tokenizer.missing, options.to);
  return 0;
}

}  // namespace

void add_convert(Commands& commands) {
  auto options = std::make_shared<ConvertArguments>();
  OptionTable& table = add_command(
      commands, "convert",
      "write a GGUF file or a Hugging Face folder as safetensors that transformers loads");
  table.add("from", &options->from, input_path(), "a .gguf file, or a folder with config.json")
      .needed();
  table.add("to", &options->to, output_folder(), "the folder to write").needed();
  table.add("--dtype", &options->dtype, one_of({"f32", "f16", "bf16"}), "of the weights")
      .with_default();
  table.add("--shard", &options->shard_gigabytes, within(1e-6, 1e6), "largest file, in gigabytes")
      .with_default();
  table.footer(
      "Examples:\n  weir convert SmolLM2-135M-Instruct.Q4_1.gguf smollm2\n"
      "  weir convert smollm2 smollm2-bf16 --dtype bf16");
  table.action([options] { return run_convert(*options); });
}

}  // namespace weir
