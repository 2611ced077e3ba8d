#pragma once
// Element types, static shapes, and their text form "f32[4,128]".
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// f64 exists for the interpreter; compiled arithmetic is f32 and i32, and bf16, f16, i8, u8 are
/// storage. `boolean` prints as "bool" and is stored as one byte, 0 or 1.
enum class DType : uint8_t { f64, f32, bf16, f16, i32, i8, u8, boolean };

const char* dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view text);
/// All names, for messages.
std::vector<std::string> dtype_names();
/// Bytes of one stored element.
int64_t dtype_size(DType dtype);
bool is_float(DType dtype);

using Shape = std::vector<int64_t>;

/// More elements than any program can hold; shapes up to this never overflow 64-bit arithmetic.
inline constexpr int64_t kMaxElements = int64_t{1} << 48;

/// The product of the extents; int64 max if it does not fit.
int64_t element_count(const Shape& shape);
/// Whether every extent is positive and there are at most kMaxElements elements.
bool is_valid_shape(const Shape& shape);
std::string to_string(const Shape& shape);

/// The NumPy broadcast of two shapes; nothing if they do not fit.
std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b);

struct Type {
  DType dtype = DType::f32;
  Shape shape;

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t elements() const { return element_count(shape); }
  int64_t bytes() const { return elements() * dtype_size(dtype); }
  bool operator==(const Type&) const = default;
};

std::string to_string(const Type& type);

inline Type f32(Shape shape) { return {DType::f32, std::move(shape)}; }
inline Type i32(Shape shape) { return {DType::i32, std::move(shape)}; }

}  // namespace weir
