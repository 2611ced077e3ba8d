#pragma once
// Values of probes as safetensors, for programs that read tensors by hook name.
#include <map>
#include <string>
#include <vector>

#include "interpret/host_tensor.h"
#include "io/dtype.h"

namespace weir {

/// What the metadata of such a file say of its format, under "format".
inline constexpr const char* kProbeTensorsFormat = "weir.probes/1";

/// What the tensors of probes are called, by the ids of the probes ("HOOK:REDUCTIONS"): as their
/// hooks ("blocks.0.attn.hook_v", "blocks.0.ln2.hook_in.grad"). Of a hook that has several probes
/// each keeps its id.
std::map<std::string, std::string> probe_tensor_names(const std::vector<std::string>& ids);

/// Writes the values of all probes, one tensor each, as f32, f16 or bf16 (rounded to nearest, ties
/// to even), whole or not at all. Beside `values` one tensor at a time is in memory. The metadata,
/// which are texts, have "format", the hook and the reductions of each tensor as JSON ("probes"),
/// and of the record `weir.measure/1` that was measured with them "model", "tokens", "settings",
/// "loss" and "provenance" as JSON. User error if the file cannot be written.
void write_probe_tensors(const std::string& path, const Tensors& values, FileDtype dtype,
                         const std::string& record);

}  // namespace weir
