#pragma once
// Event files of TensorBoard: scalars by step. A file is a row of records of TFRecord (length,
// masked CRC-32C of the length, bytes, masked CRC-32C of the bytes; all little-endian), and the
// bytes of a record are a protocol buffer `tensorflow.Event`, of which these fields are used:
//   Event: wall_time (1, double), step (2, int64), file_version (3, string), summary (5)
//   Summary: value (1, repeated); Summary.Value: tag (1, string), simple_value (2, float)
// Sources: tensorboard/compat/proto/event.proto and summary.proto; TFRecord in the guide of
// TensorFlow; CRC-32C in RFC 3720, B.4.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {

/// The cyclic redundancy check of Castagnoli's polynomial.
uint32_t crc32c(std::string_view bytes);

struct ScalarEvent {
  int64_t step = 0;
  std::vector<std::pair<std::string, float>> scalars = {};  ///< by tag, such as "train/loss"
};

/// What an event says beside when it was written: two events are the same where this is.
std::string event_content(const ScalarEvent& event);
/// The first event of every file, which states the version of the format.
std::string version_content();
/// A record with an event of this content. `wall_time`: seconds since 1970, UTC.
std::string event_record(double wall_time, std::string_view content);

/// A record of a file.
struct StoredEvent {
  double wall_time = 0;
  std::string_view content;  ///< in the bytes that were read
};

/// The events at the begin of `bytes`, up to the first record that is damaged, cut off, or none
/// that event_record writes.
std::vector<StoredEvent> read_events(std::string_view bytes);

/// The scalars of a content of event_content; none for that of version_content. User error for
/// another one.
ScalarEvent parse_event(std::string_view content);

}  // namespace weir
