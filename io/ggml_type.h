#pragma once
// Element types of tensors in GGUF files: plain ones, and blocks of 32 or 256 small integers with
// scales. Formulas and layouts: ggml-quants.c and gguf-py's quants.py of llama.cpp.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace weir {

/// The types that are read; each has the number that stands for it in files.
enum class GgmlType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
};

/// How a type is stored: `elements` neighbours of a row share `bytes` bytes.
struct GgmlBlock {
  int64_t elements = 1;
  int64_t bytes = 1;
};
GgmlBlock ggml_block(GgmlType type);

/// "F32", "Q4_1", "Q6_K" ...
std::string_view ggml_name(GgmlType type);
/// Nothing for a number that is not read.
std::optional<GgmlType> ggml_type(uint32_t number);
/// The spelling of any number of the format, also of one that is not read: "IQ2_XS", or "number
/// 77".
std::string ggml_number_name(uint32_t number);
/// All types that are read, for messages: "F32, F16, ...".
std::string ggml_names();

/// Whole blocks to f32, in the arithmetic of the reference implementation (f32, one rounding an
/// operation). `bytes` needs no alignment and is a multiple of the block; `out` has room for all
/// elements.
void dequantise(GgmlType type, std::span<const std::byte> bytes, float* out);

}  // namespace weir
