#pragma once
// NumPy arrays: .npy (format versions 1 and 2, little-endian, C order) and .npz archives of them.
// Format: numpy.lib.format.
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/dtype.h"
#include "io/file.h"

namespace weir {

/// What every .npy file begins with.
inline constexpr std::string_view kNpyMagic = "\x93NUMPY";

/// An array in memory with its elements in C order.
struct NpyArray {
  FileDtype dtype = FileDtype::f32;
  std::vector<int64_t> shape;
  std::vector<std::byte> data;

  /// Typed access; sizeof(T) is the size of the element type.
  template <typename T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }
};

/// An array to be written, elsewhere in memory.
struct NpyView {
  FileDtype dtype = FileDtype::f32;
  std::span<const int64_t> shape;
  std::span<const std::byte> data;
};

/// Reads one array. UserError names the file and what is wrong with it: not .npy, version 3 (field
/// names in UTF-8), an element type or byte order that is not read, Fortran order, wrong size.
NpyArray read_npy(const std::string& path);
/// The same for bytes in memory; `where` names them in messages.
NpyArray parse_npy(std::string_view bytes, const std::string& where);

/// Writes atomically. bf16, which NumPy lacks, is a UserError: widen it with to_f32 first.
void write_npy(const std::string& path, const NpyView& array);
void write_npy(const std::string& path, std::span<const int64_t> shape,
               std::span<const float> data);

/// Name and array of every entry of an .npz archive (stored or deflated), in its order.
std::vector<std::pair<std::string, NpyArray>> read_npz(const std::string& path);
std::vector<std::pair<std::string, NpyArray>> read_npz(const MappedFile& file);

/// Writes a stored archive atomically; 4 GiB or more would need zip64 and is a UserError.
void write_npz(const std::string& path, const std::vector<std::pair<std::string, NpyView>>& arrays);

}  // namespace weir
