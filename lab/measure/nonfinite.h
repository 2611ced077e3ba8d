#pragma once
// What records and messages say of numbers that are not finite.
#include <nlohmann/json.hpp>
#include <string>

namespace weir {

/// JSON has no NaN; records write it, and infinities, as texts.
nlohmann::ordered_json json_number(double value);

/// "nan" whatever its sign, "inf", "-inf", or the number.
std::string nonfinite_text(double value);

/// The first value of a record `weir.measure/1` that is not finite, in the order of computation, by
/// the norms of its residual streams: layer, hook and token. A sentence without its full stop.
std::string first_not_finite(const std::string& record);

}  // namespace weir
