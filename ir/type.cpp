#include "ir/type.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

namespace weir {
namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  int64_t size;
  bool floating;
};

constexpr std::array<DTypeRow, 8> kDTypes = {{{DType::f64, "f64", 8, true},
                                              {DType::f32, "f32", 4, true},
                                              {DType::bf16, "bf16", 2, true},
                                              {DType::f16, "f16", 2, true},
                                              {DType::i32, "i32", 4, false},
                                              {DType::i8, "i8", 1, false},
                                              {DType::u8, "u8", 1, false},
                                              {DType::boolean, "bool", 1, false}}};

const DTypeRow& row(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

}  // namespace

const char* dtype_name(DType dtype) { return row(dtype).name; }

std::optional<DType> parse_dtype(std::string_view text) {
  for (const DTypeRow& candidate : kDTypes)
    if (text == candidate.name) return candidate.dtype;
  return std::nullopt;
}

std::vector<std::string> dtype_names() {
  std::vector<std::string> names;
  for (const DTypeRow& candidate : kDTypes) names.emplace_back(candidate.name);
  return names;
}

int64_t dtype_size(DType dtype) { return row(dtype).size; }
bool is_float(DType dtype) { return row(dtype).floating; }

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return std::numeric_limits<int64_t>::max();
  return count;
}

bool is_valid_shape(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (extent < 1 || extent > kMaxElements / count) return false;
    count *= extent;
  }
  return true;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
  Shape result(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < result.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) return std::nullopt;
    result[result.size() - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

std::string to_string(const Type& type) { return dtype_name(type.dtype) + to_string(type.shape); }

}  // namespace weir
