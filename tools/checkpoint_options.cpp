#include "tools/checkpoint_options.h"

#include <fmt/format.h>

#include <set>

#include "codegen/llvm/object_cache.h"
#include "engine/memory.h"
#include "ir/rewrite_state.h"
#include "lab/experiments/checkpoint_series.h"
#include "support/log.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "tools/standard_output.h"

namespace weir {
namespace {

// Of weights that the rewrites bring and the checkpoint does not have; theta has its own words.
void warn_of_first_values(const Checkpoint& checkpoint, const Rewrites& rewrites) {
  const Model model = checkpoint.build(1, 1);
  const GraphPtr rewritten = apply_rewrites(model.graph, rewrites);
  std::set<const RewriteState*> told;
  for (const AddedState& state : added_states(*model.graph, *rewritten)) {
    const RewriteState* row = find_rewrite_state(state.name);
    if (!row || checkpoint.has({state.name, state.type}) || state.name.ends_with("v_scale.theta") ||
        !told.insert(row).second)
      continue;
    log_warning("{} has no {}, which begins at {}: {}.", checkpoint.path(), state.name, row->first,
                row->meaning);
  }
}

// Of words that may name several checkpoints.
ValueRule models_rule() {
  ValueRule rule = model_path_rule();
  const auto files_with = rule.reads;
  rule.reads = [files_with](const std::string& text) {
    std::vector<std::string> files;
    for (const std::string& model : models_behind(text))
      for (std::string& file : files_with(model)) files.push_back(std::move(file));
    return files;
  };
  return rule;
}

}  // namespace

void CheckpointOptions::add_to(OptionTable& table, bool several) {
  const std::string meaning =
      "folder with config.json and safetensors, a .gguf file, or a folder with one";
  if (several)
    table
        .add("--model", &models, models_rule(),
             meaning +
                 "; of a series of checkpoints a glob in quotes, a folder of step folders, or "
                 "several paths")
        .needed()
        .many();
  else
    table.add("--model", &model, model_path_rule(), meaning).needed();
  rewrites.add_to(table);
  table.add("--memory", &memory, memory_size(),
            "memory that the process may take in all, e.g. 8GiB; what is free if not given");
  table.add("--threads", &threads, thread_count(),
            "worker threads; WEIR_THREADS, else all cores, if not given");
  table.flag("--interpret", interpret,
             "compute in f64 by the definition of every op instead of compiled code; slow");
  table.flag("--check-finite", check_finite, kCheckFiniteMeaning);
  table.exclude("--check-finite", "--interpret",
                "The check looks at the results of compiled kernels.");
  table.exclude("--memory", "--interpret", kInterpreterMemory);
}

std::shared_ptr<const Checkpoint> CheckpointOptions::open() const {
  return std::make_shared<const Checkpoint>(Checkpoint::open(model));
}

CompileOptions CheckpointOptions::compile_options(const Checkpoint& checkpoint) const {
  CompileOptions options{.target = chosen_target(!interpret),
                         .rewrites = trained_rewrites(checkpoint)};
  const Rewrites trained = options.rewrites;
  rewrites.apply(options.rewrites, checkpoint.config().layers);
  if (options.rewrites.v_scale.variant == VScaleVariant::learned &&
      trained.v_scale.variant != VScaleVariant::learned)
    log_warning(
        "{} has no theta, with which learned V-scale begins at 0: the result is that of full.",
        checkpoint.path());
  const Rewrites& all = options.rewrites;
  if (brings_states(all.attention) || all.attention_gate != AttentionGate::none || all.qk_norm ||
      all.value_gate.variant != ValueGate::none)
    warn_of_first_values(checkpoint, all);
  return options;
}

CompileOptions CheckpointOptions::compile_options(const RunConfig& config) const {
  CompileOptions options{.target = chosen_target(!interpret), .rewrites = config.rewrites};
  rewrites.apply(options.rewrites, config.model.layers);
  return options;
}

RunSettings CheckpointOptions::run_settings() const {
  RunSettings settings{.threads = chosen_threads(threads),
                       .cache = default_object_cache(),
                       .interpret = interpret,
                       .check_finite = check_finite};
  if (!memory.empty()) settings.memory = expect(parse_bytes(memory));
  return settings;
}

Provenance CheckpointOptions::provenance(const Checkpoint& checkpoint) const {
  return provenance(checkpoint.path(), checkpoint.weight_files());
}

Provenance CheckpointOptions::provenance(const std::string& path,
                                         std::vector<std::string> weight_files) const {
  Provenance provenance;
  provenance.command = command_line();
  provenance.target = interpret ? "interpreter, f64" : print(chosen_target(true));
  provenance.model = path;
  provenance.weight_files = std::move(weight_files);
  return provenance;
}

void add_text(Provenance& provenance, const TextOptions& options, const TextInput& input) {
  provenance.input_kind = "text";
  const TextSource source(options.files(), options.key);
  for (const TextFile& file : source.files()) provenance.input_files.push_back(file.path);
  provenance.tokenizer = input.tokenizer().description();
  provenance.tokenizer_fingerprint = input.tokenizer().fingerprint();
  provenance.separator = input.tokens().separator.id;
  provenance.begin_token = input.tokens().begin.id;
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

int finite_status(const std::optional<NotFinite>& found, const std::string& topic) {
  if (!found) return 0;
  print_error(fmt::format("[{}] {}.", topic, to_string(*found)));
  return 1;
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
