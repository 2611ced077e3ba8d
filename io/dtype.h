#pragma once
// Element types of arrays in files, and their widening to f32. Shapes are row-major.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

enum class FileDtype { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

/// Size of one element in bytes.
size_t dtype_bytes(FileDtype dtype);

/// The spelling of safetensors: "F64", "BF16", "BOOL" ...
std::string_view safetensors_name(FileDtype dtype);
std::optional<FileDtype> dtype_from_safetensors(std::string_view name);
/// All spellings of safetensors that are read, for messages: "F64, F32, ...".
std::string safetensors_names();

/// The spelling of NumPy ("<f4"); nothing for bf16, which NumPy lacks.
std::optional<std::string_view> npy_name(FileDtype dtype);
std::optional<FileDtype> dtype_from_npy(std::string_view descr);

/// Product of the sizes (1 for rank 0); nothing when it is beyond 63 bits or a size is negative.
std::optional<uint64_t> element_count(std::span<const int64_t> shape);
/// Bytes of an array; nothing when beyond 63 bits.
std::optional<uint64_t> array_bytes(FileDtype dtype, std::span<const int64_t> shape);

/// "[2,3]".
std::string shape_text(std::span<const int64_t> shape);

/// Elements as f32: exact for f16, bf16, i16, u16, i8, u8 and boolean (any nonzero byte is 1),
/// rounded to nearest for the others. `bytes` needs no alignment; its size is a multiple of the
/// element.
std::vector<float> to_f32(FileDtype dtype, std::span<const std::byte> bytes);
/// The same into memory with room for all elements.
void to_f32(FileDtype dtype, std::span<const std::byte> bytes, float* out);
/// Elements as f32, f16 or bf16 (rounded to nearest, ties to even) into memory with room for them.
void from_f32(std::span<const float> values, FileDtype dtype, std::byte* out);

/// One value of each storage form; f16 is IEEE binary16 (subnormals, infinities and NaN included).
float f16_to_f32(uint16_t bits);
float bf16_to_f32(uint16_t bits);
/// Rounds to nearest, ties to even; NaN stays NaN.
uint16_t f32_to_bf16(float value);
uint16_t f32_to_f16(float value);

}  // namespace weir
