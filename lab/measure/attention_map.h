#pragma once
// Attention maps: the weights of one head on one sequence, as a figure can show them. Long
// sequences come as means over cells of queries and keys (ir/map_cells.h), which the compiled
// program makes, so that a map costs the same memory for any length.
#include <cstdint>
#include <string>
#include <vector>

#include "interpret/host_tensor.h"
#include "ir/map_cells.h"

namespace weir {

/// Cells of a map's side at most.
inline constexpr int64_t kMapSide = kMaxMapSide;

struct AttentionMap {
  int64_t layer = 0, head = 0;
  MapCells cells;      ///< of queries and of keys
  HostTensor weights;  ///< [1,1,cells,cells], means over the pairs that causality allows
};

/// The map's probe as it is asked for, and the id under which its value arrives.
std::string map_request(int64_t layer, int64_t head);
std::string map_id(int64_t layer, int64_t head);

/// Bytes of a map's values, texts and JSON while it is written: for any length no more.
int64_t map_bytes(int64_t length);

/// One line of JSON, {step, layer, head, length, start, tokens, map}: `start` has the first token
/// of every cell, `tokens` their texts, `map` a row for each cell of queries.
std::string map_json(const AttentionMap& map, int64_t step, const std::vector<std::string>& tokens);

}  // namespace weir
