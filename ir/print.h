#pragma once
// The canonical text of a graph. parse_graph (ir/parse.h) reads it back to an equal graph:
//
//   graph mlp (x: f32[4,8], gain: f32[8], w: f32[8,8] state) stage=built
//     A = rms_norm x, gain {eps=1e-05} : f32[4,8] as blocks.0.ln1.hook_normalized at mlp.cpp:41
//     B = matmul A, w : f32[4,8]
//     return y = B
//
// `as` lists the names of a value (of the first result; `as 1:name` of another one), `at` the place
// in the source that built it. A kernel's line ends with `region` and the region's graph, indented.
// Letters A, B .. Z, AA label values in order. The whole grammar is in ir/README.md.
#include <string>

#include "ir/graph.h"

namespace weir {

struct PrintOptions {
  bool names = true;      ///< hook names and source places
  bool signature = true;  ///< name of the graph and of its inputs; off for structural keys
};

/// What a region is called, and its stage, unless the text says otherwise.
inline constexpr std::string_view kRegionName = "region";
inline constexpr Stage kRegionStage = Stage::lowered;

std::string print_graph(const Graph& graph, const PrintOptions& options = {});

/// The line of one node, as print_graph has it, without its region.
std::string print_node(const Graph& graph, int32_t node);

/// The text that two graphs share exactly if they compute the same in the same order, whatever
/// their names: the key under which kernels are deduplicated and cached.
std::string structural_key(const Graph& graph);

}  // namespace weir
