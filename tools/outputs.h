#pragma once
// What commands write, each recognised by its content: a file that Weir has written before is
// replaced, anything else is not.
#include <string>

#include "support/value_rule.h"

namespace weir {

/// A JSON document whose first member is "format", of this name without its version: "weir.eval".
ValueRule record_file(const std::string& format);
/// A report as HTML, of a run or a measurement.
ValueRule report_file();
/// The table of `weir compare` as CSV.
ValueRule compare_csv_file();
/// Values of probes as .npz, under their names, or as safetensors.
ValueRule probes_file();
/// Whether a file has values of probes as safetensors: no weights, though it looks like them.
bool holds_probe_tensors(const std::string& path);
/// Numbers as `weir export` writes them.
ValueRule csv_file();
/// Token ids as .npy.
ValueRule tokens_file();
/// Decoded text, which nothing tells from other text.
ValueRule decoded_file();

inline constexpr const char* kOverwriteMeaning =
    "replace files that stand where outputs go, whatever they are; without it only those that Weir "
    "wrote before";

}  // namespace weir
