// Values of GGUF metadata. Their bytes were checked when the file was opened.
#include <cstring>

#include "io/gguf.h"
#include "io/gguf_kind.h"
#include "support/error.h"

namespace weir {
namespace {

template <typename T>
T load(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace

std::string_view gguf_kind_name(GgufKind kind) {
  switch (kind) {
    case GgufKind::u8:
      return "u8";
    case GgufKind::i8:
      return "i8";
    case GgufKind::u16:
      return "u16";
    case GgufKind::i16:
      return "i16";
    case GgufKind::u32:
      return "u32";
    case GgufKind::i32:
      return "i32";
    case GgufKind::f32:
      return "f32";
    case GgufKind::boolean:
      return "boolean";
    case GgufKind::text:
      return "text";
    case GgufKind::list:
      return "list";
    case GgufKind::u64:
      return "u64";
    case GgufKind::i64:
      return "i64";
    case GgufKind::f64:
      return "f64";
  }
  WEIR_CHECK(false, "kind {}", static_cast<uint32_t>(kind));
  return "";
}

size_t gguf_kind_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::u8:
    case GgufKind::i8:
    case GgufKind::boolean:
      return 1;
    case GgufKind::u16:
    case GgufKind::i16:
      return 2;
    case GgufKind::u32:
    case GgufKind::i32:
    case GgufKind::f32:
      return 4;
    case GgufKind::u64:
    case GgufKind::i64:
    case GgufKind::f64:
      return 8;
    case GgufKind::text:
    case GgufKind::list:
      return 0;
  }
  WEIR_CHECK(false, "kind {}", static_cast<uint32_t>(kind));
  return 0;
}

void GgufValue::wrong(std::string_view needed) const {
  std::string found(gguf_kind_name(kind_));
  if (kind_ == GgufKind::list)
    found = fmt::format("list of {} {}", size_, gguf_kind_name(element_kind_));
  user_error("gguf", "{}: \"{}\" is a {}; {} is needed.", *source_, key_, found, needed);
}

int64_t GgufValue::whole_at(GgufKind kind, size_t offset) const {
  switch (kind) {
    case GgufKind::u8:
      return load<uint8_t>(bytes_, offset);
    case GgufKind::i8:
      return load<int8_t>(bytes_, offset);
    case GgufKind::u16:
      return load<uint16_t>(bytes_, offset);
    case GgufKind::i16:
      return load<int16_t>(bytes_, offset);
    case GgufKind::u32:
      return load<uint32_t>(bytes_, offset);
    case GgufKind::i32:
      return load<int32_t>(bytes_, offset);
    case GgufKind::i64:
      return load<int64_t>(bytes_, offset);
    case GgufKind::u64: {
      const auto value = load<uint64_t>(bytes_, offset);
      if (value >> 63 != 0)
        user_error("gguf", "{}: \"{}\" has the value {}; at most 63 bits are needed.", *source_,
                   key_, value);
      return static_cast<int64_t>(value);
    }
    case GgufKind::f32:
    case GgufKind::f64:
    case GgufKind::boolean:
    case GgufKind::text:
    case GgufKind::list:
      break;
  }
  wrong("a whole number");
}

double GgufValue::number_at(GgufKind kind, size_t offset) const {
  if (kind == GgufKind::f32) return static_cast<double>(load<float>(bytes_, offset));
  if (kind == GgufKind::f64) return load<double>(bytes_, offset);
  if (kind == GgufKind::boolean || kind == GgufKind::text || kind == GgufKind::list)
    wrong("a number");
  return static_cast<double>(whole_at(kind, offset));
}

int64_t GgufValue::whole() const { return whole_at(kind_, 0); }
double GgufValue::number() const { return number_at(kind_, 0); }

bool GgufValue::flag() const {
  if (kind_ != GgufKind::boolean) wrong("a boolean");
  return bytes_[0] != 0;
}

std::string_view GgufValue::text() const {
  if (kind_ != GgufKind::text) wrong("a text");
  return bytes_.substr(8);
}

std::vector<int64_t> GgufValue::wholes() const {
  if (kind_ != GgufKind::list) return {whole()};
  std::vector<int64_t> out;
  for (size_t i = 0; i < size_; ++i)
    out.push_back(whole_at(element_kind_, i * gguf_kind_bytes(element_kind_)));
  return out;
}

std::vector<double> GgufValue::numbers() const {
  if (kind_ != GgufKind::list) wrong("a list of numbers");
  std::vector<double> out;
  for (size_t i = 0; i < size_; ++i)
    out.push_back(number_at(element_kind_, i * gguf_kind_bytes(element_kind_)));
  return out;
}

std::vector<std::string_view> GgufValue::texts() const {
  if (kind_ != GgufKind::list || element_kind_ != GgufKind::text) wrong("a list of texts");
  std::vector<std::string_view> out;
  out.reserve(size_);
  for (std::string_view rest = bytes_; out.size() < size_;) {
    const auto length = load<uint64_t>(rest, 0);
    out.push_back(rest.substr(8, length));
    rest.remove_prefix(8 + length);
  }
  return out;
}

}  // namespace weir
