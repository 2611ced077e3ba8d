#pragma once
// The report of a training run: one self-contained HTML file that opens offline, and a summary
// table for the terminal. Both are made from the run's folder alone:
//   run.json          arms (name, folder, overrides, data), command, versions, target, seed,
//   resumed,
//                     seconds
//   config.json       the resolved configuration
//   ARM/metrics.jsonl one measured step a line: the record of `weir measure` plus "step"
//   ARM/loss.jsonl    step, loss, lr, grad_norm, tokens_per_second of every training step
//   ARM/validation.jsonl  of a run with data.validation: step, loss, tokens of every measured step
//   ARM/not_finite.json  of an arm that met a value that is not finite: which was the first
//   ARM/profile.json  of a run with --profile: where the time of its steps went, kernel by kernel
//   ARM/maps.json     optional: attention maps, [{step, layer, head, length, start, tokens, map}]
//                     (lab/measure/attention_map.h); without length and start a row is one token
#include <filesystem>
#include <string>

#include "lab/report/onset_settings.h"

namespace weir {

/// Writes the report of a run. The file is written whole or not at all. User errors: a missing or
/// damaged file of the run, named with its line. `onset`: how its timeline defines an onset.
void write_report(const std::filesystem::path& run_directory, const std::filesystem::path& html,
                  const OnsetSettings& onset = {});

/// One row an arm: final loss, sink score (mean and largest head), sink mass against its null, the
/// gradient-sink ratio (last, and median over measured steps), and the norm of the sink token over
/// that of tokens 1..15 for the residual stream and the values. Errors as write_report.
std::string summary_table(const std::filesystem::path& run_directory);

}  // namespace weir
