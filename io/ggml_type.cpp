#include "io/ggml_type.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "io/dtype.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr std::array kRead = {GgmlType::f32,   GgmlType::f16,    GgmlType::bf16,   GgmlType::q4_0,
                              GgmlType::q4_1,  GgmlType::q5_0,   GgmlType::q5_1,   GgmlType::q8_0,
                              GgmlType::q2_k,  GgmlType::q3_k,   GgmlType::q4_k,   GgmlType::q5_k,
                              GgmlType::q6_k,  GgmlType::iq4_nl, GgmlType::iq4_xs, GgmlType::tq1_0,
                              GgmlType::tq2_0, GgmlType::mxfp4};

/// Types of the format that are not read.
constexpr std::array<std::pair<uint32_t, const char*>, 17> kOthers = {{
    {4, "Q4_2"},
    {5, "Q4_3"},
    {9, "Q8_1"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {40, "NVFP4"},
}};

/// What the 4 bits of IQ4_NL and IQ4_XS stand for, and those of MXFP4 (twice the value of E2M1).
constexpr std::array<int8_t, 16> kCurved = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};
constexpr std::array<int8_t, 16> kTwiceE2m1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                               0, -1, -2, -3, -4, -6, -8, -12};

/// Reads little-endian fields of a block.
class Block {
 public:
  explicit Block(const std::byte* at) : at_(reinterpret_cast<const uint8_t*>(at)) {}
  const uint8_t* bytes(size_t offset) const { return at_ + offset; }
  float half(size_t offset) const { return f16_to_f32(word(offset)); }
  uint16_t word(size_t offset) const {
    return static_cast<uint16_t>(at_[offset] | at_[offset + 1] << 8);
  }
  uint32_t double_word(size_t offset) const {
    return word(offset) | static_cast<uint32_t>(word(offset + 2)) << 16;
  }

 private:
  const uint8_t* at_;
};

/// 32 integers of 4 bits: the first 16 are the low halves of 16 bytes, the others the high ones.
/// `fifth` has a fifth bit for each. Calls store(i, integer).
template <typename Store>
void for_nibbles(const uint8_t* bytes, Store store) {
  for (size_t i = 0; i < 16; ++i) store(i, bytes[i] & 0xF);
  for (size_t i = 0; i < 16; ++i) store(i + 16, bytes[i] >> 4);
}
template <typename Store>
void for_nibbles(const uint8_t* bytes, uint32_t fifth, Store store) {
  for_nibbles(bytes,
              [&](size_t i, int four) { store(i, four | static_cast<int>(fifth >> i & 1U) << 4); });
}

void q4_0(const Block& block, float* out) {
  const float scale = block.half(0);
  for_nibbles(block.bytes(2), [&](size_t i, int q) { out[i] = scale * static_cast<float>(q - 8); });
}

void q4_1(const Block& block, float* out) {
  const float scale = block.half(0), minimum = block.half(2);
  for_nibbles(block.bytes(4),
              [&](size_t i, int q) { out[i] = scale * static_cast<float>(q) + minimum; });
}

void q5_0(const Block& block, float* out) {
  const float scale = block.half(0);
  for_nibbles(block.bytes(6), block.double_word(2),
              [&](size_t i, int q) { out[i] = scale * static_cast<float>(q - 16); });
}

void q5_1(const Block& block, float* out) {
  const float scale = block.half(0), minimum = block.half(2);
  for_nibbles(block.bytes(8), block.double_word(4),
              [&](size_t i, int q) { out[i] = scale * static_cast<float>(q) + minimum; });
}

void q8_0(const Block& block, float* out) {
  const float scale = block.half(0);
  for (size_t i = 0; i < 32; ++i)
    out[i] = static_cast<float>(static_cast<int8_t>(*block.bytes(2 + i))) * scale;
}

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

/// The 6-bit scale and minimum of part `part` (0..7) of a block of 256, packed in 12 bytes.
ScaleAndMinimum unpack(const uint8_t* packed, size_t part) {
  if (part < 4)
    return {static_cast<float>(packed[part] & 63), static_cast<float>(packed[part + 4] & 63)};
  const int scale = (packed[part + 4] & 0xF) | (packed[part - 4] >> 6) << 4;
  const int minimum = packed[part + 4] >> 4 | (packed[part] >> 6) << 4;
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

/// Eight parts of 32 elements, 4 bits each; of two neighbouring parts, one is the low and the
/// other the high halves of the same 32 bytes. `high` (null for 4-bit types) holds in bit `part` of
/// byte i the fifth bit of element i of that part.
void q4_or_q5_k(const Block& block, const uint8_t* high, const uint8_t* low, float* out) {
  const float d = block.half(0);
  const float d_minimum = block.half(2);
  for (size_t part = 0; part < 8; ++part) {
    const ScaleAndMinimum packed = unpack(block.bytes(4), part);
    const float scale = d * packed.scale;
    const float minimum = d_minimum * packed.minimum;
    for (size_t i = 0; i < 32; ++i) {
      int q = low[32 * (part / 2) + i] >> (part % 2 == 0 ? 0 : 4) & 0xF;
      if (high != nullptr) q |= (high[i] >> part & 1) << 4;
      out[32 * part + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

/// Two halves of 128 elements; in each, element 32 * k + i has its low 4 bits in byte i or 32 + i
/// and its high 2 bits in bits 2k of byte i. Sixteen elements share a signed 8-bit scale.
void q6_k(const Block& block, float* out) {
  const float d = block.half(208);
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* low = block.bytes(64 * half);
    const uint8_t* high = block.bytes(128 + 32 * half);
    const uint8_t* scales = block.bytes(192 + 8 * half);
    for (size_t k = 0; k < 4; ++k)
      for (size_t i = 0; i < 32; ++i) {
        const int four = low[32 * (k % 2) + i] >> (k < 2 ? 0 : 4) & 0xF;
        const int q = (four | (high[i] >> (2 * k) & 3) << 4) - 32;
        const auto scale = static_cast<float>(static_cast<int8_t>(scales[2 * k + i / 16]));
        out[128 * half + 32 * k + i] = d * scale * static_cast<float>(q);
      }
  }
}

/// Two halves of 128 elements; of each, element 32 * k + i is bits 2k of byte i. Calls
/// store(element, integer).
template <typename Store>
void for_pairs(const uint8_t* bytes, Store store) {
  for (size_t half = 0; half < 2; ++half)
    for (size_t k = 0; k < 4; ++k)
      for (size_t i = 0; i < 32; ++i)
        store(128 * half + 32 * k + i, bytes[32 * half + i] >> (2 * k) & 3);
}

/// Sixteen elements share a scale and a minimum of 4 bits each.
void q2_k(const Block& block, float* out) {
  const float d = block.half(80), d_minimum = block.half(82);
  for_pairs(block.bytes(16), [&](size_t i, int q) {
    const uint8_t packed = *block.bytes(i / 16);
    const float scale = d * static_cast<float>(packed & 0xF);
    const float minimum = d_minimum * static_cast<float>(packed >> 4);
    out[i] = scale * static_cast<float>(q) - minimum;
  });
}

/// A third bit in bit i / 32 of byte i % 32, 4 less where it is not set. Sixteen elements share a
/// scale of 6 bits: four low ones, by halves of eight bytes, and two high ones in four bytes.
void q3_k(const Block& block, float* out) {
  const float d = block.half(108);
  const uint8_t *high = block.bytes(0), *scales = block.bytes(96);
  for_pairs(block.bytes(32), [&](size_t i, int q) {
    const size_t part = i / 16;
    const int low = scales[part % 8] >> (part < 8 ? 0 : 4) & 0xF;
    const int scale = (low | (scales[8 + part % 4] >> (2 * (part / 4)) & 3) << 4) - 32;
    const int third = high[i % 32] >> (i / 32) & 1;
    out[i] = d * static_cast<float>(scale) * static_cast<float>(q - (third != 0 ? 0 : 4));
  });
}

void iq4_nl(const Block& block, float* out) {
  const float d = block.half(0);
  for_nibbles(block.bytes(2),
              [&](size_t i, int q) { out[i] = d * static_cast<float>(kCurved[q]); });
}

/// Eight parts of 32 elements, each with a scale of 6 bits: four low ones in half a byte, two high
/// ones of a word.
void iq4_xs(const Block& block, float* out) {
  const float d = block.half(0);
  for (size_t part = 0; part < 8; ++part) {
    const int low = *block.bytes(4 + part / 2) >> (part % 2 == 0 ? 0 : 4) & 0xF;
    const int scale = (low | (block.word(2) >> (2 * part) & 3) << 4) - 32;
    const float part_scale = d * static_cast<float>(scale);
    for_nibbles(block.bytes(8 + 16 * part), [&](size_t i, int q) {
      out[32 * part + i] = part_scale * static_cast<float>(kCurved[q]);
    });
  }
}

/// The ternary digits of `count` bytes, the n-th of all bytes first: a byte is a fraction of 256 in
/// base 3, so multiplied by a power of 3 its integer part is a digit.
float* ternary(const uint8_t* bytes, size_t count, size_t digits, float d, float* out) {
  uint8_t power = 1;
  for (size_t n = 0; n < digits; ++n, power = static_cast<uint8_t>(3 * power))
    for (size_t i = 0; i < count; ++i) {
      const auto shifted = static_cast<uint8_t>(bytes[i] * power);
      *out++ = d * static_cast<float>((shifted * 3 >> 8) - 1);
    }
  return out;
}

void tq1_0(const Block& block, float* out) {
  const float d = block.half(52);
  out = ternary(block.bytes(0), 32, 5, d, out);
  out = ternary(block.bytes(32), 16, 5, d, out);
  ternary(block.bytes(48), 4, 4, d, out);
}

void tq2_0(const Block& block, float* out) {
  const float d = block.half(64);
  for_pairs(block.bytes(0), [&](size_t i, int q) { out[i] = d * static_cast<float>(q - 1); });
}

/// Half of a power of two, whose exponent is the first byte (E8M0).
void mxfp4(const Block& block, float* out) {
  const uint32_t exponent = *block.bytes(0);
  const auto d =
      std::bit_cast<float>(exponent < 2 ? 0x00200000U << exponent : (exponent - 1) << 23);
  for_nibbles(block.bytes(1),
              [&](size_t i, int q) { out[i] = d * static_cast<float>(kTwiceE2m1[q]); });
}

void dequantise_block(GgmlType type, const Block& block, float* out) {
  switch (type) {
    case GgmlType::f32: {
      const uint32_t bits = block.double_word(0);
      std::memcpy(out, &bits, sizeof bits);
      return;
    }
    case GgmlType::f16:
      *out = block.half(0);
      return;
    case GgmlType::bf16:
      *out = bf16_to_f32(block.word(0));
      return;
    case GgmlType::q4_0:
      return q4_0(block, out);
    case GgmlType::q4_1:
      return q4_1(block, out);
    case GgmlType::q5_0:
      return q5_0(block, out);
    case GgmlType::q5_1:
      return q5_1(block, out);
    case GgmlType::q8_0:
      return q8_0(block, out);
    case GgmlType::q4_k:
      return q4_or_q5_k(block, nullptr, block.bytes(16), out);
    case GgmlType::q5_k:
      return q4_or_q5_k(block, block.bytes(16), block.bytes(48), out);
    case GgmlType::q6_k:
      return q6_k(block, out);
    case GgmlType::q2_k:
      return q2_k(block, out);
    case GgmlType::q3_k:
      return q3_k(block, out);
    case GgmlType::iq4_nl:
      return iq4_nl(block, out);
    case GgmlType::iq4_xs:
      return iq4_xs(block, out);
    case GgmlType::tq1_0:
      return tq1_0(block, out);
    case GgmlType::tq2_0:
      return tq2_0(block, out);
    case GgmlType::mxfp4:
      return mxfp4(block, out);
  }
  WEIR_CHECK(false, "type {}", static_cast<uint32_t>(type));
}

}  // namespace

GgmlBlock ggml_block(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return {1, 4};
    case GgmlType::f16:
    case GgmlType::bf16:
      return {1, 2};
    case GgmlType::q4_0:
      return {32, 18};
    case GgmlType::q4_1:
      return {32, 20};
    case GgmlType::q5_0:
      return {32, 22};
    case GgmlType::q5_1:
      return {32, 24};
    case GgmlType::q8_0:
      return {32, 34};
    case GgmlType::q4_k:
      return {256, 144};
    case GgmlType::q5_k:
      return {256, 176};
    case GgmlType::q6_k:
      return {256, 210};
    case GgmlType::q2_k:
      return {256, 84};
    case GgmlType::q3_k:
      return {256, 110};
    case GgmlType::iq4_nl:
      return {32, 18};
    case GgmlType::iq4_xs:
      return {256, 136};
    case GgmlType::tq1_0:
      return {256, 54};
    case GgmlType::tq2_0:
      return {256, 66};
    case GgmlType::mxfp4:
      return {32, 17};
  }
  WEIR_CHECK(false, "type {}", static_cast<uint32_t>(type));
  return {};
}

std::string_view ggml_name(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return "F32";
    case GgmlType::f16:
      return "F16";
    case GgmlType::bf16:
      return "BF16";
    case GgmlType::q4_0:
      return "Q4_0";
    case GgmlType::q4_1:
      return "Q4_1";
    case GgmlType::q5_0:
      return "Q5_0";
    case GgmlType::q5_1:
      return "Q5_1";
    case GgmlType::q8_0:
      return "Q8_0";
    case GgmlType::q4_k:
      return "Q4_K";
    case GgmlType::q5_k:
      return "Q5_K";
    case GgmlType::q6_k:
      return "Q6_K";
    case GgmlType::q2_k:
      return "Q2_K";
    case GgmlType::q3_k:
      return "Q3_K";
    case GgmlType::iq4_nl:
      return "IQ4_NL";
    case GgmlType::iq4_xs:
      return "IQ4_XS";
    case GgmlType::tq1_0:
      return "TQ1_0";
    case GgmlType::tq2_0:
      return "TQ2_0";
    case GgmlType::mxfp4:
      return "MXFP4";
  }
  WEIR_CHECK(false, "type {}", static_cast<uint32_t>(type));
  return "";
}

std::optional<GgmlType> ggml_type(uint32_t number) {
  for (GgmlType type : kRead)
    if (static_cast<uint32_t>(type) == number) return type;
  return std::nullopt;
}

std::string ggml_number_name(uint32_t number) {
  if (std::optional<GgmlType> type = ggml_type(number)) return std::string(ggml_name(*type));
  for (const auto& [other, name] : kOthers)
    if (other == number) return name;
  return fmt::format("number {}", number);
}

std::string ggml_names() {
  std::string text;
  for (GgmlType type : kRead) text += (text.empty() ? "" : ", ") + std::string(ggml_name(type));
  return text;
}

void dequantise(GgmlType type, std::span<const std::byte> bytes, float* out) {
  const GgmlBlock block = ggml_block(type);
  const auto stride = static_cast<size_t>(block.bytes);
  WEIR_CHECK(bytes.size() % stride == 0, "{} bytes of {}", bytes.size(), ggml_name(type));
  for (size_t at = 0; at < bytes.size(); at += stride, out += block.elements)
    dequantise_block(type, Block(bytes.data() + at), out);
}

}  // namespace weir
