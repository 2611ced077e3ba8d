#pragma once
// The canonical text of a graph. parse_graph (ir/parse.h) reads it back to an equal graph:
//
//   graph block (x: f32[4,128,256], gamma: f32[256], w: f32[256,256] state) stage=built
//     A = rms_norm x, gamma {eps=1e-05} : f32[4,128,256] as blocks.0.ln1.hook_normalized at
//     llama.cpp:41 B, C = attention q, k, v {causal=true, scale=0.125} : f32[2,8,4,64], f32[2,4,8]
//     D, E = kernel A, w {schedule="matmul"} : f32[4,128,256], f32[4,128,1] region (a: ..., b: ...)
//       ...
//       return ...
//     return loss = B, w = D
//
// `as` lists the names of a value (of the first result; `as 1:name` of another one), `at` the place
// in the source that built it, `#` starts a comment. Letters A, B .. Z, AA name values in order.
#include <string>

#include "ir/graph.h"

namespace weir {

struct PrintOptions {
  bool names = true;      ///< hook names and source places
  bool signature = true;  ///< name of the graph and of its inputs; off for structural keys
};

std::string print_graph(const Graph& graph, const PrintOptions& options = {});

/// The text that two graphs share exactly if they compute the same in the same order, whatever
/// their names: the key under which kernels are deduplicated and cached.
std::string structural_key(const Graph& graph);

}  // namespace weir
