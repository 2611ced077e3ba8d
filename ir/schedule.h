#pragma once
// The schedules of kernels as C++: enum, names and anchors, all from schedules.def. A kernel node
// carries the name as its attribute `schedule`.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace weir {

enum class Schedule : uint8_t {
#define SCHEDULE(name, ...) name,
#include "ir/schedules.def"
};

const char* schedule_name(Schedule schedule);
std::vector<std::string> schedule_names();
/// Nothing if there is no schedule of that name.
std::optional<Schedule> parse_schedule(std::string_view name);
/// Of a kernel node of a verified graph.
Schedule schedule_of(const Node& kernel);

/// The ops that a kernel of this schedule is built around, one of them a kernel; none for loops.
const std::vector<Op>& anchors_of(Schedule schedule);
/// The schedule of kernels built around this op; nothing if loops compute it.
std::optional<Schedule> schedule_of_anchor(Op op);

}  // namespace weir
