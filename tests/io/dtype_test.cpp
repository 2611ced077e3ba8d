#include "io/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace weir {
namespace {

constexpr std::array kAll = {FileDtype::f64,    FileDtype::f32, FileDtype::f16, FileDtype::bf16,
                             FileDtype::i64,    FileDtype::i32, FileDtype::i16, FileDtype::i8,
                             FileDtype::u64,    FileDtype::u32, FileDtype::u16, FileDtype::u8,
                             FileDtype::boolean};

TEST(Dtype, NamesReadBack) {
  for (FileDtype dtype : kAll) {
    EXPECT_EQ(dtype_from_safetensors(safetensors_name(dtype)), dtype);
    if (npy_name(dtype)) {
      EXPECT_EQ(dtype_from_npy(*npy_name(dtype)), dtype);
    }
  }
  EXPECT_EQ(dtype_from_npy(">f4"), std::nullopt);
  EXPECT_EQ(dtype_from_npy("<u1"), FileDtype::u8);
  EXPECT_EQ(dtype_from_npy("<c8"), std::nullopt);
  EXPECT_EQ(dtype_from_safetensors("F8_E4M3"), std::nullopt);
}

TEST(Dtype, CountsRefuseOverflow) {
  EXPECT_EQ(element_count(std::vector<int64_t>{}), 1U);
  EXPECT_EQ(element_count(std::vector<int64_t>{2, 3}), 6U);
  EXPECT_EQ(element_count(std::vector<int64_t>{int64_t{1} << 62, 4, 0}), 0U);
  EXPECT_EQ(element_count(std::vector<int64_t>{int64_t{1} << 32, int64_t{1} << 31}), std::nullopt);
  EXPECT_EQ(element_count(std::vector<int64_t>{2, -1}), std::nullopt);
  EXPECT_EQ(array_bytes(FileDtype::f32, std::vector<int64_t>{int64_t{1} << 62}), std::nullopt);
  EXPECT_EQ(array_bytes(FileDtype::i8, std::vector<int64_t>{int64_t{1} << 62}), uint64_t{1} << 62);
}

// The value of a half by its definition: (-1)^s 2^(e-15) (1 + m/1024), subnormals 2^-14 m/1024.
double half_by_definition(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  double mantissa = (bits & 1023) / 1024.0;
  double value =
      exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
  return (bits & 0x8000) != 0 ? -value : value;
}

TEST(Dtype, EveryHalfIsExactAndRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    float value = f16_to_f32(half);
    if ((bits & 0x7C00) == 0x7C00) {
      EXPECT_EQ((bits & 0x3FF) == 0, std::isinf(value));
      EXPECT_EQ((bits & 0x3FF) != 0, std::isnan(value));
    } else {
      EXPECT_EQ(static_cast<double>(value), half_by_definition(half));
    }
    EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0);
    if (!std::isnan(value)) {
      EXPECT_EQ(f32_to_f16(value), half);
    }
  }
}

TEST(Dtype, NarrowingRoundsToNearestEven) {
  // Between neighbouring halves a and b the midpoint goes to the even one, others to the nearer.
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    float low = f16_to_f32(static_cast<uint16_t>(bits));
    float high = f16_to_f32(static_cast<uint16_t>(bits + 1));
    float middle = low + (high - low) / 2;
    EXPECT_EQ(f32_to_f16(middle), bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), bits);
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, 1e9F)), bits + 1);
  }
  EXPECT_EQ(f32_to_f16(65519.0F), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xFC00);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::numeric_limits<float>::quiet_NaN()))));

  EXPECT_EQ(f32_to_bf16(1.0F), 0x3F80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808000U)), 0x3F80);  // tie, even below
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F818000U)), 0x3F82);  // tie, even above
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7F800001U)))));
  EXPECT_EQ(bf16_to_f32(0xC040), -3.0F);
}

template <typename T>
std::vector<float> widen(FileDtype dtype, std::vector<T> values) {
  // One byte off, as tensors in files may lie anywhere.
  std::vector<std::byte> bytes(values.size() * sizeof(T) + 1);
  std::memcpy(bytes.data() + 1, values.data(), values.size() * sizeof(T));
  return to_f32(dtype, std::span<const std::byte>(bytes).subspan(1));
}

TEST(Dtype, ToF32WidensEveryType) {
  std::vector<float> expected = {0.0F, 1.0F, -2.0F};
  EXPECT_EQ(widen<double>(FileDtype::f64, {0, 1, -2}), expected);
  EXPECT_EQ(widen<float>(FileDtype::f32, {0, 1, -2}), expected);
  EXPECT_EQ(widen<uint16_t>(FileDtype::f16, {0, 0x3C00, 0xC000}), expected);
  EXPECT_EQ(widen<uint16_t>(FileDtype::bf16, {0, 0x3F80, 0xC000}), expected);
  EXPECT_EQ(widen<int64_t>(FileDtype::i64, {0, 1, -2}), expected);
  EXPECT_EQ(widen<int32_t>(FileDtype::i32, {0, 1, -2}), expected);
  EXPECT_EQ(widen<int8_t>(FileDtype::i8, {0, 1, -2}), expected);
  EXPECT_EQ(widen<uint8_t>(FileDtype::u8, {0, 1, 255}), (std::vector<float>{0, 1, 255}));
  EXPECT_EQ(widen<int16_t>(FileDtype::i16, {0, 1, -2}), expected);
  EXPECT_EQ(widen<uint16_t>(FileDtype::u16, {0, 1, 65535}), (std::vector<float>{0, 1, 65535}));
  EXPECT_EQ(widen<uint32_t>(FileDtype::u32, {0, 1, 1U << 31}), (std::vector<float>{0, 1, 0x1p31F}));
  EXPECT_EQ(widen<uint64_t>(FileDtype::u64, {0, 1, 1ULL << 63}),
            (std::vector<float>{0, 1, 0x1p63F}));
  EXPECT_EQ(widen<uint8_t>(FileDtype::boolean, {0, 1, 255}), (std::vector<float>{0, 1, 1}));
}

}  // namespace
}  // namespace weir
