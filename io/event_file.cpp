#include "io/event_file.h"

#include <array>
#include <bit>
#include <cstring>

#include "support/error.h"

namespace weir {
namespace {

constexpr std::string_view kVersion = "brain.Event:2";

// How a field is stored, in the low three bits of its key.
enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// Of all values of a byte, by the reflected polynomial.
constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t rest = i;
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ (rest & 1 ? 0x82F63B78U : 0U);
    table[i] = rest;
  }
  return table;
}

// TFRecord stores a rotated sum, so that the sum of bytes that have a sum in them says something.
uint32_t masked(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U; }

template <typename T>
void put_fixed(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
T fixed_at(std::string_view text, size_t at) {
  T value;
  std::memcpy(&value, text.data() + at, sizeof(T));
  return value;
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::string& out, int field, Wire wire) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}

void put_bytes(std::string& out, int field, std::string_view value) {
  put_key(out, field, Wire::bytes);
  put_varint(out, value.size());
  out += value;
}

constexpr size_t kTimeBytes = 1 + sizeof(double);  // of the field wall_time, which comes first

// Walks over the fields of a message.
class Fields {
 public:
  explicit Fields(std::string_view text) : rest_(text) {}

  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = take_varint();
    field = static_cast<int>(key >> 3);
    switch (static_cast<Wire>(key & 7)) {
      case Wire::varint:
        number = take_varint();
        return true;
      case Wire::fixed64:
        value = take(8);
        return true;
      case Wire::bytes:
        value = take(take_varint());
        return true;
      case Wire::fixed32:
        value = take(4);
        return true;
    }
    damaged();
  }

  int field = 0;
  uint64_t number = 0;
  std::string_view value;

 private:
  [[noreturn]] static void damaged() {
    user_error("events", "an event is damaged: it is no protocol buffer of the form needed.");
  }
  uint64_t take_varint() {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      result |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return result;
    }
    damaged();
  }
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) damaged();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
};

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> table = crc_table();
  uint32_t sum = ~0U;
  for (char c : bytes) sum = sum >> 8 ^ table[(sum ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~sum;
}

std::string event_content(const ScalarEvent& event) {
  std::string summary;
  for (const auto& [tag, scalar] : event.scalars) {
    std::string value;
    put_bytes(value, 1, tag);
    put_key(value, 2, Wire::fixed32);
    put_fixed(value, scalar);
    put_bytes(summary, 1, value);
  }
  std::string content;
  if (event.step != 0) {  // as protocol buffers leave out what is zero
    put_key(content, 2, Wire::varint);
    put_varint(content, static_cast<uint64_t>(event.step));
  }
  put_bytes(content, 5, summary);
  return content;
}

std::string version_content() {
  std::string content;
  put_bytes(content, 3, kVersion);
  return content;
}

std::string event_record(double wall_time, std::string_view content) {
  std::string event;
  put_key(event, 1, Wire::fixed64);
  put_fixed(event, wall_time);
  event += content;
  std::string record;
  put_fixed(record, static_cast<uint64_t>(event.size()));
  put_fixed(record, masked(record));
  record += event;
  put_fixed(record, masked(event));
  return record;
}

std::vector<StoredEvent> read_events(std::string_view bytes) {
  constexpr size_t head = sizeof(uint64_t) + sizeof(uint32_t), tail = sizeof(uint32_t);
  std::vector<StoredEvent> events;
  while (bytes.size() >= head) {
    const auto length = fixed_at<uint64_t>(bytes, 0);
    if (fixed_at<uint32_t>(bytes, sizeof(uint64_t)) != masked(bytes.substr(0, sizeof(uint64_t))) ||
        length < kTimeBytes || length > bytes.size() - head || bytes.size() - head - length < tail)
      break;
    const std::string_view event = bytes.substr(head, length);
    if (fixed_at<uint32_t>(bytes, head + length) != masked(event) ||
        event[0] != static_cast<char>(1 << 3 | static_cast<int>(Wire::fixed64)))
      break;
    events.push_back({fixed_at<double>(event, 1), event.substr(kTimeBytes)});
    bytes.remove_prefix(head + length + tail);
  }
  return events;
}

ScalarEvent parse_event(std::string_view content) {
  ScalarEvent event;
  for (Fields fields(content); fields.next();) {
    if (fields.field == 2) event.step = static_cast<int64_t>(fields.number);
    if (fields.field != 5) continue;
    for (Fields values(fields.value); values.next();) {
      auto& [tag, scalar] = event.scalars.emplace_back();
      for (Fields parts(values.value); parts.next();) {
        if (parts.field == 1) tag = parts.value;
        if (parts.field == 2 && parts.value.size() == sizeof(float))
          scalar = fixed_at<float>(parts.value, 0);
      }
    }
  }
  return event;
}

}  // namespace weir
