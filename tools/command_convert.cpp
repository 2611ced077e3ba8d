// weir convert: a checkpoint, GGUF or not, as a folder of Hugging Face.
#include <fmt/format.h>

#include "io/tokenizer_files.h"
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

int run_convert(const ConvertArguments& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.from);
  const Model model = checkpoint.build(1, 1);
  HuggingFaceOptions writing{.dtype = dtype_of(options.dtype),
                             .shard_bytes = static_cast<uint64_t>(options.shard_gigabytes * 1e9),
                             .texts = tokenizer_files(options.from)};
  write_hugging_face(
      options.to, checkpoint.config(), model.parameters,
      [&](const Parameter& parameter, float* out) { checkpoint.read(parameter, out); }, writing);
  for (const std::string& line : checkpoint.not_finite()) log_warning("copied as it is: {}", line);
  fmt::print("{}: {} parameters of {} as {}, {}\n", options.to, model.parameter_count(),
             checkpoint.name(), options.dtype,
             writing.texts.empty() ? "without a tokenizer" : "with its tokenizer");
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto options = std::make_shared<ConvertArguments>();
  CLI::App* command = app.add_subcommand(
      "convert",
      "write a GGUF file or a Hugging Face folder as safetensors that transformers loads");
  command->add_option("from", options->from, "a .gguf file, or a folder with config.json")
      ->required();
  command->add_option("to", options->to, "the folder to write")->required();
  command->add_option("--dtype", options->dtype, "of the weights: f32, f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  command->add_option("--shard", options->shard_gigabytes, "largest file, in gigabytes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->footer(
      "Examples:\n  weir convert SmolLM2-135M-Instruct.Q4_1.gguf smollm2\n"
      "  weir convert smollm2 smollm2-bf16 --dtype bf16");
  command->callback([options, &action] { action = [options] { return run_convert(*options); }; });
}

}  // namespace weir
