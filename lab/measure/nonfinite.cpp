#include "lab/measure/nonfinite.h"

#include <fmt/format.h>

#include <cmath>

namespace weir {

nlohmann::ordered_json json_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

std::string nonfinite_text(double value) {
  return std::isnan(value) ? "nan" : fmt::format("{}", value);
}

std::string first_not_finite(const std::string& record) {
  using Json = nlohmann::json;
  const Json json = Json::parse(record);
  const auto numbers = [](const Json& layer, const char* key) {
    const Json norm = layer.value("norm", Json::object());
    return norm.value(key, Json::array());
  };
  for (const Json& layer : json.at("layers"))
    for (const char* key : {"resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"}) {
      const Json values = numbers(layer, key);
      for (size_t t = 0; t < values.size(); ++t)
        if (values[t].is_string())
          return fmt::format("first not finite is {} of layer {}: its norm is {} at token {}", key,
                             layer.at("layer").get<int64_t>(), values[t].get<std::string>(), t);
    }
  return "the residual stream of every layer is finite, so it comes from the logits";
}

}  // namespace weir
