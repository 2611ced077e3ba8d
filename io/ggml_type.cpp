#include "io/ggml_type.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "io/dtype.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr std::array kRead = {GgmlType::f32,  GgmlType::f16,  GgmlType::bf16, GgmlType::q4_0,
                              GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0,
                              GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k};

/// Types of the format that are not read.
constexpr std::array<std::pair<uint32_t, const char*>, 24> kOthers = {{
    {4, "Q4_2"},     {5, "Q4_3"},    {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
    {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},
    {28, "F64"},     {29, "IQ1_M"},  {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},  {40, "NVFP4"},
}};

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
