#include "tools/checkpoint_options.h"

#include <fmt/format.h>

#include "codegen/object_cache.h"
#include "io/text_source.h"
#include "lab/memory.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
void CheckpointOptions::add_to(CLI::App& command) {
  command
      .add_option("--model", model,
                  "folder with config.json and safetensors, a .gguf file, or a folder with one")
      ->required();
  command.add_option(
      "--v-scale", v_scale,
      "rewrite the model: none, full, learned, backward or forward; default: as it was "
      "trained");
  std::vector<std::string> normalizers;
  for (AttentionNormalizer n : all_normalizers()) normalizers.push_back(normalizer_name(n));
  command.add_option("--attention", attention,
                     "attention normaliser: " + join(normalizers, ", ") + "; default: as trained");
  command.add_option("--memory", memory,
                     "memory that the process may take in all, e.g. 8GiB; default: what is free");
  command.add_option("--threads", threads, "worker threads; default: WEIR_THREADS, else all cores");
  command.add_flag("--interpret", interpret,
                   "compute in f64 by the definition of every op instead of compiled code; slow");
}

std::shared_ptr<const Checkpoint> CheckpointOptions::open() const {
  return std::make_shared<const Checkpoint>(Checkpoint::open(model));
}

CompileOptions CheckpointOptions::compile_options(const Checkpoint& checkpoint) const {
  CompileOptions options = trained_rewrites(checkpoint);
  options.target = chosen_target(!interpret);
  if (!v_scale.empty()) options.v_scale.variant = parse_v_scale_variant(v_scale);
  if (!attention.empty()) options.attention = parse_normalizer(attention);
  return options;
}

RunSettings CheckpointOptions::run_settings() const {
  RunSettings settings{
      .threads = chosen_threads(threads), .cache = default_object_cache(), .interpret = interpret};
  if (!memory.empty()) {
    const auto bytes = parse_bytes(memory);
    if (!bytes)
      user_error("memory", "--memory is '{}', but a size such as 8GiB or 500M is needed.", memory);
    settings.memory = *bytes;
  }
  return settings;
}

Provenance CheckpointOptions::provenance(const Checkpoint& checkpoint) const {
  return {.command = command_line(),
          .target = interpret ? "interpreter, f64" : print(chosen_target(true)),
          .model = checkpoint.path(),
          .weight_files = checkpoint.weight_files()};
}

void add_text(Provenance& provenance, const std::vector<std::string>& inputs,
              const Tokenizer& tokenizer) {
  provenance.input_kind = "text";
  provenance.input_files = TextSource(inputs).files();
  provenance.tokenizer = tokenizer.description();
  provenance.tokenizer_fingerprint = tokenizer.fingerprint();
  provenance.separator = tokenizer.end_of_text();
}

std::vector<std::string> text_files(const std::string& option) {
  std::vector<std::string> files;
  for (const std::string& part : split(option, ','))
    if (!trim(part).empty()) files.emplace_back(trim(part));
  return files;
}

void print_plan(const ModelRun& run) {
  if (run.interpreted()) {
    fmt::print("Interpreted in f64, the batch in one part.\n");
    return;
  }
  fmt::print("Peak memory {}\n", to_string(run.memory()));
  if (run.parts() > 1)
    fmt::print("The batch is computed in {} parts of {} sequence{}.\n", run.parts(), run.rows(),
               run.rows() == 1 ? "" : "s");
  const CompileReport report = run.compile_report();
  fmt::print("{} kernels, {} distinct, {} from the cache, compiled in {:.1f} s\n", report.kernels,
             report.distinct, report.from_cache, report.seconds);
  std::fflush(stdout);
}

void print_costs(const ModelRun& run, double load_seconds, double run_seconds, int64_t tokens) {
  fmt::print("load {:.2f} s, run {:.2f} s ({:.0f} tokens/s)", load_seconds, run_seconds,
             static_cast<double>(tokens) / run_seconds);
  if (!run.interpreted())
    fmt::print("; memory {} used of {} stated",
               human_bytes(static_cast<double>(peak_resident_memory())),
               human_bytes(static_cast<double>(run.memory().total())));
  fmt::print("\n");
}

}  // namespace weir
