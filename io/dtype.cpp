#include "io/dtype.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "support/error.h"

namespace weir {
namespace {

constexpr std::array kAll = {FileDtype::f64,    FileDtype::f32, FileDtype::f16, FileDtype::bf16,
                             FileDtype::i64,    FileDtype::i32, FileDtype::i16, FileDtype::i8,
                             FileDtype::u64,    FileDtype::u32, FileDtype::u16, FileDtype::u8,
                             FileDtype::boolean};

template <typename Stored, typename Convert>
void widen(std::span<const std::byte> bytes, float* out, Convert convert) {
  for (size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored element;
    std::memcpy(&element, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(element);
  }
}

}  // namespace

size_t dtype_bytes(FileDtype dtype) {
  switch (dtype) {
    case FileDtype::f64:
    case FileDtype::i64:
    case FileDtype::u64:
      return 8;
    case FileDtype::f32:
    case FileDtype::i32:
    case FileDtype::u32:
      return 4;
    case FileDtype::f16:
    case FileDtype::bf16:
    case FileDtype::i16:
    case FileDtype::u16:
      return 2;
    case FileDtype::i8:
    case FileDtype::u8:
    case FileDtype::boolean:
      return 1;
  }
  WEIR_CHECK(false, "dtype {}", static_cast<int>(dtype));
  return 0;
}

std::string_view safetensors_name(FileDtype dtype) {
  switch (dtype) {
    case FileDtype::f64:
      return "F64";
    case FileDtype::f32:
      return "F32";
    case FileDtype::f16:
      return "F16";
    case FileDtype::bf16:
      return "BF16";
    case FileDtype::i64:
      return "I64";
    case FileDtype::i32:
      return "I32";
    case FileDtype::i16:
      return "I16";
    case FileDtype::i8:
      return "I8";
    case FileDtype::u64:
      return "U64";
    case FileDtype::u32:
      return "U32";
    case FileDtype::u16:
      return "U16";
    case FileDtype::u8:
      return "U8";
    case FileDtype::boolean:
      return "BOOL";
  }
  WEIR_CHECK(false, "dtype {}", static_cast<int>(dtype));
  return "";
}

std::optional<FileDtype> dtype_from_safetensors(std::string_view name) {
  for (FileDtype dtype : kAll)
    if (safetensors_name(dtype) == name) return dtype;
  return std::nullopt;
}

std::string safetensors_names() {
  std::string text;
  for (FileDtype dtype : kAll)
    text += (text.empty() ? "" : ", ") + std::string(safetensors_name(dtype));
  return text;
}

std::optional<std::string_view> npy_name(FileDtype dtype) {
  switch (dtype) {
    case FileDtype::f64:
      return "<f8";
    case FileDtype::f32:
      return "<f4";
    case FileDtype::f16:
      return "<f2";
    case FileDtype::bf16:
      return std::nullopt;
    case FileDtype::i64:
      return "<i8";
    case FileDtype::i32:
      return "<i4";
    case FileDtype::i16:
      return "<i2";
    case FileDtype::i8:
      return "|i1";
    case FileDtype::u64:
      return "<u8";
    case FileDtype::u32:
      return "<u4";
    case FileDtype::u16:
      return "<u2";
    case FileDtype::u8:
      return "|u1";
    case FileDtype::boolean:
      return "|b1";
  }
  WEIR_CHECK(false, "dtype {}", static_cast<int>(dtype));
  return std::nullopt;
}

std::optional<FileDtype> dtype_from_npy(std::string_view descr) {
  for (FileDtype dtype : kAll) {
    std::optional<std::string_view> name = npy_name(dtype);
    if (!name || descr.size() != 3 || descr.substr(1) != name->substr(1)) continue;
    // Byte order means nothing for one byte, so any mark is taken there.
    bool order_ok = dtype_bytes(dtype) == 1 ? std::string_view("|<>=").find(descr[0]) != descr.npos
                                            : descr[0] == '<';
    if (order_ok) return dtype;
  }
  return std::nullopt;
}

std::optional<uint64_t> element_count(std::span<const int64_t> shape) {
  // A size of 0 makes the array empty, however large the others are.
  bool empty = false;
  for (int64_t size : shape) {
    if (size < 0) return std::nullopt;
    empty |= size == 0;
  }
  if (empty) return 0;
  int64_t count = 1;
  for (int64_t size : shape)
    if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
  return static_cast<uint64_t>(count);
}

std::optional<uint64_t> array_bytes(FileDtype dtype, std::span<const int64_t> shape) {
  std::optional<uint64_t> count = element_count(shape);
  constexpr uint64_t limit = std::numeric_limits<int64_t>::max();
  if (!count || *count > limit / dtype_bytes(dtype)) return std::nullopt;
  return *count * dtype_bytes(dtype);
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

float f16_to_f32(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  uint32_t exponent = (bits >> 10) & 0x1FU;
  uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -magnitude : magnitude;
}

float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t f32_to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

uint16_t f32_to_f16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U)
    return static_cast<uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x477FF000U) return sign | 0x7C00U;  // 65520 and above round to infinity
  // Below the least normal number, an addition at the right scale makes the FPU do the rounding.
  if (magnitude < 0x38800000U) {
    float scaled = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(scaled) - 0x3F000000U));
  }
  uint32_t rounded = magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

void to_f32(FileDtype dtype, std::span<const std::byte> bytes, float* out) {
  WEIR_CHECK(bytes.size() % dtype_bytes(dtype) == 0, "{} bytes of {}-byte elements", bytes.size(),
             dtype_bytes(dtype));
  auto cast = [](auto element) { return static_cast<float>(element); };
  switch (dtype) {
    case FileDtype::f64:
      return widen<double>(bytes, out, cast);
    case FileDtype::f32:
      return widen<float>(bytes, out, cast);
    case FileDtype::f16:
      return widen<uint16_t>(bytes, out, f16_to_f32);
    case FileDtype::bf16:
      return widen<uint16_t>(bytes, out, bf16_to_f32);
    case FileDtype::i64:
      return widen<int64_t>(bytes, out, cast);
    case FileDtype::i32:
      return widen<int32_t>(bytes, out, cast);
    case FileDtype::i16:
      return widen<int16_t>(bytes, out, cast);
    case FileDtype::i8:
      return widen<int8_t>(bytes, out, cast);
    case FileDtype::u64:
      return widen<uint64_t>(bytes, out, cast);
    case FileDtype::u32:
      return widen<uint32_t>(bytes, out, cast);
    case FileDtype::u16:
      return widen<uint16_t>(bytes, out, cast);
    case FileDtype::u8:
      return widen<uint8_t>(bytes, out, cast);
    case FileDtype::boolean:
      return widen<uint8_t>(bytes, out, [](uint8_t element) { return element != 0 ? 1.0F : 0.0F; });
  }
  WEIR_CHECK(false, "dtype {}", static_cast<int>(dtype));
}

std::vector<float> to_f32(FileDtype dtype, std::span<const std::byte> bytes) {
  std::vector<float> out(bytes.size() / dtype_bytes(dtype));
  to_f32(dtype, bytes, out.data());
  return out;
}

void from_f32(std::span<const float> values, FileDtype dtype, std::byte* out) {
  auto store = [&](auto convert) {
    for (float value : values) {
      auto element = convert(value);
      std::memcpy(out, &element, sizeof(element));
      out += sizeof(element);
    }
  };
  if (dtype == FileDtype::f32) return store([](float value) { return value; });
  if (dtype == FileDtype::bf16) return store(f32_to_bf16);
  WEIR_CHECK(dtype == FileDtype::f16, "from f32 to {}", safetensors_name(dtype));
  store(f32_to_f16);
}

}  // namespace weir
