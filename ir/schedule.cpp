#include "ir/schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/error.h"

namespace weir {
namespace {

struct Row {
  const char* name;
  std::vector<Op> anchors;
};

const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
#define SCHEDULE(name, rule, ...) {#name, {__VA_ARGS__}},
#include "ir/schedules.def"
  };
  return rows;
}

const Row& row(Schedule schedule) { return table()[static_cast<size_t>(schedule)]; }

template <typename Wanted>
std::optional<Schedule> find(const Wanted& wanted) {
  const auto found = std::find_if(table().begin(), table().end(), wanted);
  if (found == table().end()) return std::nullopt;
  return static_cast<Schedule>(found - table().begin());
}

}  // namespace

const char* schedule_name(Schedule schedule) { return row(schedule).name; }

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const Row& row : table()) names.emplace_back(row.name);
  return names;
}

std::optional<Schedule> parse_schedule(std::string_view name) {
  return find([&](const Row& row) { return row.name == name; });
}

Schedule schedule_of(const Node& kernel) {
  const std::string& name = kernel.attrs.get_string("schedule");
  const std::optional<Schedule> schedule = parse_schedule(name);
  WEIR_CHECK(schedule.has_value(), "a kernel of schedule '{}'", name);
  return *schedule;
}

const std::vector<Op>& anchors_of(Schedule schedule) { return row(schedule).anchors; }

std::optional<Schedule> schedule_of_anchor(Op op) {
  return find([&](const Row& row) {
    return std::find(row.anchors.begin(), row.anchors.end(), op) != row.anchors.end();
  });
}

}  // namespace weir
