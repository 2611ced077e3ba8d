#include "lab/tensor_memory.h"

#include "io/dtype.h"
#include "support/error.h"

namespace weir {
namespace {

template <typename T, typename Widen>
void read_as(const void* data, std::vector<double>& values, Widen widen) {
  const T* stored = static_cast<const T*>(data);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(widen(stored[i]));
}

template <typename T, typename Narrow>
void write_as(const std::vector<double>& values, void* data, Narrow narrow) {
  T* stored = static_cast<T*>(data);
  for (size_t i = 0; i < values.size(); ++i) stored[i] = narrow(values[i]);
}

}  // namespace

HostTensor read_tensor(const Type& type, const void* data) {
  HostTensor tensor{type, std::vector<double>(static_cast<size_t>(type.elements()))};
  auto same = [](auto value) { return value; };
  switch (type.dtype) {
    case DType::f64:
      read_as<double>(data, tensor.data, same);
      break;
    case DType::f32:
      read_as<float>(data, tensor.data, same);
      break;
    case DType::bf16:
      read_as<uint16_t>(data, tensor.data, bf16_to_f32);
      break;
    case DType::f16:
      read_as<uint16_t>(data, tensor.data, f16_to_f32);
      break;
    case DType::i32:
      read_as<int32_t>(data, tensor.data, same);
      break;
    case DType::i8:
      read_as<int8_t>(data, tensor.data, same);
      break;
    case DType::u8:
    case DType::boolean:
      read_as<uint8_t>(data, tensor.data, same);
      break;
  }
  return tensor;
}

void write_tensor(const HostTensor& tensor, void* data) {
  const DType dtype = tensor.type.dtype;
  WEIR_CHECK(static_cast<int64_t>(tensor.data.size()) == tensor.type.elements(),
             "{} elements of {}", tensor.data.size(), to_string(tensor.type));
  auto stored = [dtype](double value) { return round_to(dtype, value); };
  switch (dtype) {
    case DType::f64:
      write_as<double>(tensor.data, data, [](double value) { return value; });
      break;
    case DType::f32:
      write_as<float>(tensor.data, data, [](double value) { return static_cast<float>(value); });
      break;
    case DType::bf16:  // exact after round_to, which rounds once
      write_as<uint16_t>(tensor.data, data,
                         [&](double v) { return f32_to_bf16(static_cast<float>(stored(v))); });
      break;
    case DType::f16:
      write_as<uint16_t>(tensor.data, data,
                         [&](double v) { return f32_to_f16(static_cast<float>(stored(v))); });
      break;
    case DType::i32:
      write_as<int32_t>(tensor.data, data,
                        [&](double v) { return static_cast<int32_t>(stored(v)); });
      break;
    case DType::i8:
      write_as<int8_t>(tensor.data, data, [&](double v) { return static_cast<int8_t>(stored(v)); });
      break;
    case DType::u8:
    case DType::boolean:
      write_as<uint8_t>(tensor.data, data,
                        [&](double v) { return static_cast<uint8_t>(stored(v)); });
      break;
  }
}

}  // namespace weir
