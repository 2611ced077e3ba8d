#pragma once
// The files of tests/data/reference, which tests/reference/ writes from PyTorch in f64.
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "interpret/host_tensor.h"

namespace weir::test {

/// All tensors of `tests/data/reference/FILE.safetensors`. F64 and F32 become f32 tensors, whose
/// elements keep the precision of the file; I32 becomes i32.
Tensors read_reference(const std::string& file);
/// The JSON under the metadata key `reference`.
nlohmann::json read_reference_metadata(const std::string& file);

/// One case of an op file.
struct ReferenceCase {
  nlohmann::json attributes;
  Tensors in;        ///< operands
  Tensors out;       ///< results
  Tensors upstream;  ///< the gradient that came to each result; results without one have none
  Tensors grad;      ///< the gradient of each operand that this gives
};

/// The cases of `op_NAME.safetensors`.
std::map<std::string, ReferenceCase> read_cases(const std::string& name);

/// The folders of tests/data/models that hold a file of this name (a glob), in order.
std::vector<std::string> model_cases(const std::string& file);

}  // namespace weir::test
