#include "interpret/tensor_memory.h"

#include <bit>
#include <cstring>

#include "support/error.h"

namespace weir {
namespace {

template <typename T>
void put(char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

template <typename T>
T get(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// `value` is one that the dtype holds exactly.
void store(DType dtype, double value, char* at) {
  switch (dtype) {
    case DType::f64:
      return put(at, value);
    case DType::f32:
      return put(at, static_cast<float>(value));
    case DType::bf16:  // the upper half of a float
      return put(at,
                 static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
    case DType::f16:
      return put(at, static_cast<_Float16>(value));
    case DType::i32:
      return put(at, static_cast<int32_t>(value));
    case DType::i8:
      return put(at, static_cast<int8_t>(value));
    case DType::u8:
    case DType::boolean:
      return put(at, static_cast<uint8_t>(value));
  }
}

double load(DType dtype, const char* at) {
  switch (dtype) {
    case DType::f64:
      return get<double>(at);
    case DType::f32:
      return get<float>(at);
    case DType::bf16:
      return std::bit_cast<float>(static_cast<uint32_t>(get<uint16_t>(at)) << 16);
    case DType::f16:
      return get<_Float16>(at);
    case DType::i32:
      return get<int32_t>(at);
    case DType::i8:
      return get<int8_t>(at);
    case DType::u8:
    case DType::boolean:
      return get<uint8_t>(at);
  }
  return 0;
}

}  // namespace

HostTensor read_tensor(const Type& type, const void* data) {
  HostTensor tensor = zeros(type);
  const char* at = static_cast<const char*>(data);
  for (double& value : tensor.data) {
    value = load(type.dtype, at);
    at += dtype_size(type.dtype);
  }
  return tensor;
}

void write_tensor(const HostTensor& tensor, void* data) {
  DType dtype = tensor.type.dtype;
  WEIR_CHECK(static_cast<int64_t>(tensor.data.size()) == tensor.type.elements(),
             "{} elements of {}", tensor.data.size(), to_string(tensor.type));
  char* at = static_cast<char*>(data);
  for (double value : tensor.data) {
    store(dtype, round_to(dtype, value), at);
    at += dtype_size(dtype);
  }
}

}  // namespace weir
