#include "lab/train/event_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "io/event_file.h"
#include "io/file.h"
#include "lab/report/report_data.h"

namespace weir {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

double seconds_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

// Lines spell what JSON does not have.
float scalar_of(const json& value) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (value.is_number()) return value.get<float>();
  if (value == "Infinity") return infinity;
  return value == "-Infinity" ? -infinity : std::numeric_limits<float>::quiet_NaN();
}

ScalarEvent event_of_step(const json& line) { return {line.at("step").get<int64_t>(), {}}; }

ScalarEvent loss_event(const json& line) {
  ScalarEvent event = event_of_step(line);
  for (const char* key : {"loss", "lr", "grad_norm", "tokens_per_second"})
    if (line.contains(key))
      event.scalars.emplace_back(fmt::format("train/{}", key), scalar_of(line[key]));
  return event;
}

ScalarEvent validation_event(const json& line) {
  ScalarEvent event = event_of_step(line);
  for (const char* key : {"loss", "recalled"})
    if (line.contains(key))
      event.scalars.emplace_back(fmt::format("validation/{}", key), scalar_of(line[key]));
  return event;
}

ScalarEvent record_event(const json& line) {
  ScalarEvent event = event_of_step(line);
  event.scalars.emplace_back("summary/loss", scalar_of(line.at("loss")));
  if (line.contains("summary"))
    for (const auto& [key, value] : line["summary"].items())
      if (!value.is_array()) event.scalars.emplace_back("summary/" + key, scalar_of(value));
  const ReportArm arm = arm_of_record(line, "record");
  const auto layers = arm.model.at("layers").get<size_t>();
  for (const auto& [key, values] : arm.measured[0].by_layer)
    if (values.size() == layers)  // what a model of one's own names in all layers
      for (size_t l = 0; l < layers; ++l)
        event.scalars.emplace_back(fmt::format("layers/{}/{}", l, key),
                                   static_cast<float>(values[l]));
  return event;
}

using EventOfLine = ScalarEvent (*)(const json&);

// Takes the events of a file of lines one by one.
class Lines {
 public:
  Lines(std::string_view text, EventOfLine event) : text_(text), event_of_(event) { next(); }

  bool done() const { return done_; }
  const ScalarEvent& event() const { return now_; }
  void next() {
    done_ = text_.empty();
    if (done_) return;
    const size_t end = std::min(text_.find('\n'), text_.size() - 1);
    now_ = event_of_(json::parse(text_.substr(0, end + 1)));
    text_.remove_prefix(end + 1);
  }

 private:
  std::string_view text_;
  EventOfLine event_of_;
  ScalarEvent now_;
  bool done_ = false;
};

// The whole file of the lines, in the order in which a run writes them. `time_of` says when an
// event of this content was written.
std::string events_of(const KeptLines& kept,
                      const std::function<double(std::string_view)>& time_of) {
  std::string content = version_content();
  std::string file = event_record(time_of(content), content);
  std::vector<Lines> sources;
  sources.emplace_back(kept.validations, validation_event);
  sources.emplace_back(kept.losses, loss_event);
  sources.emplace_back(kept.records, record_event);
  while (true) {
    Lines* first = nullptr;
    for (Lines& source : sources)
      if (!source.done() && (!first || source.event().step < first->event().step)) first = &source;
    if (!first) return file;
    content = event_content(first->event());
    file += event_record(time_of(content), content);
    first->next();
  }
}

std::string events_in_place_of(const fs::path& file, const KeptLines& kept) {
  std::optional<MappedFile> before;
  if (file_exists(file.string())) before.emplace(file.string());
  std::unordered_map<std::string_view, double> times;
  if (before)
    for (const StoredEvent& event : read_events(before->text()))
      times.emplace(event.content, event.wall_time);
  return events_of(kept, [&, time = seconds_now()](std::string_view content) {
    const auto found = times.find(content);
    return found == times.end() ? time : found->second;
  });
}

}  // namespace

EventLog::EventLog(const fs::path& file, const KeptLines& kept)
    : file_(file, events_in_place_of(file, kept), true) {}

void EventLog::add_loss(const std::string& line) {
  file_.append(event_record(seconds_now(), event_content(loss_event(json::parse(line)))));
}

void EventLog::add_validation(const std::string& line) {
  file_.append(event_record(seconds_now(), event_content(validation_event(json::parse(line)))));
}

void EventLog::add_record(const std::string& line) {
  file_.append(event_record(seconds_now(), event_content(record_event(json::parse(line)))));
}

}  // namespace weir
