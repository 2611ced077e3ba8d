#include "lab/measure/attention_map.h"

#include <fmt/format.h>

#include <cstdlib>

#include "lab/measure/nonfinite.h"
#include "support/error.h"

namespace weir {

using Json = nlohmann::ordered_json;

namespace {

// The shortest decimal number that is read back as the same f32.
double shortest(double value) {
  return std::strtod(fmt::format("{}", static_cast<float>(value)).c_str(), nullptr);
}

}  // namespace

std::string map_request(int64_t layer, int64_t head) {
  return fmt::format("blocks.{}.attn.hook_pattern : slice(head,{},{}), slice(batch,0,1), map({})",
                     layer, head, head + 1, kMapSide);
}

std::string map_id(int64_t layer, int64_t head) {
  return fmt::format("blocks.{}.attn.hook_pattern:slice(head,{},{}),slice(batch,0,1),map({})",
                     layer, head, head + 1, kMapSide);
}

int64_t map_bytes(int64_t length) {
  // As f32, as f64, twice as JSON values of 16 bytes, and as text.
  constexpr int64_t a_weight = 4 + 8 + 2 * 16 + 24, a_token = 256;
  const int64_t cells = map_cells(length, kMapSide).count();
  return cells * (cells * a_weight + a_token);
}

std::string map_json(const AttentionMap& map, int64_t step,
                     const std::vector<std::string>& tokens) {
  const int64_t count = map.cells.count();
  WEIR_CHECK(static_cast<int64_t>(tokens.size()) == count && map.weights.shape().back() == count,
             "{} texts and a map of {} for {} cells", tokens.size(), map.weights.shape().back(),
             count);
  Json rows = Json::array(), start = Json::array();
  for (int64_t q = 0; q < count; ++q) {
    start.push_back(map.cells.start(q));
    Json row = Json::array();
    for (int64_t k = 0; k < count; ++k)
      row.push_back(json_number(shortest(map.weights.data[static_cast<size_t>(q * count + k)])));
    rows.push_back(std::move(row));
  }
  return Json{{"step", step},
              {"layer", map.layer},
              {"head", map.head},
              {"length", map.cells.length},
              {"start", std::move(start)},
              {"tokens", tokens},
              {"map", std::move(rows)}}
      .dump();
}

}  // namespace weir
