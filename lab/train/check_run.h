#pragma once
// Whether a run has all that it should have by now, before a report is made of it.
#include <filesystem>

namespace weir {

/// One user error lists what is wrong, with the way out: configurations that are damaged or
/// contradict each other, arms that run.json lacks; of each arm that has begun, steps that it has
/// done without a line in loss.jsonl, measured ones without one in metrics.jsonl or, where text is
/// held out, validation.jsonl, other lines in these, probes and maps that are damaged or missing.
void check_run(const std::filesystem::path& run);

}  // namespace weir
