#include "io/event_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "testing/error_of.h"

namespace weir {
namespace {

std::string bytes_of(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2)
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

TEST(Crc32c, HasTheValuesOfRfc3720) {
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  for (int i = 31; i >= 0; --i) descending += static_cast<char>(i);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(crc32c(descending), 0x113FDB5CU);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

// What RecordWriter of tensorboard 2.21.0 writes of the same events.
const std::string kVersionRecord =
    bytes_of("1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
const std::string kScalarRecord = bytes_of(
    "3200000000000000241956ec09000000000000f83f10ac022a240a110a0a747261696e2f6c6f7373150000204"
    "00a0f0a08747261696e2f6c7215000080bed2f9f1c5");
const std::string kStepZeroRecord =
    bytes_of("1500000000000000d6ab6b2b09000000000000f83f2a0a0a080a016115000000007500f25f");

TEST(EventFile, WritesTheBytesThatTensorBoardWrites) {
  EXPECT_EQ(event_record(1.5, version_content()), kVersionRecord);
  const ScalarEvent event{300, {{"train/loss", 2.5F}, {"train/lr", -0.25F}}};
  EXPECT_EQ(event_record(1.5, event_content(event)), kScalarRecord);
  EXPECT_EQ(event_record(1.5, event_content({0, {{"a", 0}}})), kStepZeroRecord);
}

TEST(EventFile, ReadsBackWhatItWrote) {
  const ScalarEvent event{int64_t{1} << 40,
                          {{std::string(300, 'x'), INFINITY}, {"b", NAN}, {"", -1e-38F}}};
  const std::string file = kVersionRecord + kScalarRecord + event_record(7, event_content(event));
  const std::vector<StoredEvent> events = read_events(file);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].wall_time, 1.5);
  EXPECT_TRUE(parse_event(events[0].content).scalars.empty());
  EXPECT_EQ(parse_event(events[1].content).step, 300);
  EXPECT_EQ(events[2].wall_time, 7);
  const ScalarEvent read = parse_event(events[2].content);
  EXPECT_EQ(read.step, event.step);
  ASSERT_EQ(read.scalars.size(), 3U);
  EXPECT_EQ(read.scalars[0], event.scalars[0]);
  EXPECT_TRUE(std::isnan(read.scalars[1].second));
  EXPECT_EQ(read.scalars[2], event.scalars[2]);
}

// Whatever byte is changed or missing: what comes before is read, the damage and the rest are not.
TEST(EventFile, StopsAtDamage) {
  const std::string file = kVersionRecord + kScalarRecord + kStepZeroRecord;
  const size_t first = kVersionRecord.size(), second = first + kScalarRecord.size();
  for (size_t at = 0; at < file.size(); ++at) {
    const size_t sound = at < first ? 0 : at < second ? 1 : 2;
    std::string changed = file;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    EXPECT_EQ(read_events(changed).size(), sound) << at;
    EXPECT_EQ(read_events(std::string_view(file).substr(0, at)).size(), sound) << at;
  }
  EXPECT_EQ(test::error_of([] { parse_event("\x2a\x7f"); }),
            "[events] an event is damaged: it is no protocol buffer of the form needed.");
}

}  // namespace
}  // namespace weir
