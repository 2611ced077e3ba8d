#pragma once
#include <string>

namespace weir {

/// Now, UTC, ISO 8601: "2026-01-31T12:00:00Z".
std::string utc_now();

}  // namespace weir
