#pragma once
// Quantised products as a rewrite of any built graph: what an integer engine would compute from the
// weights and activations that the model has, with its rounding, in the arithmetic of the graph.
//
// The products are those of an activation x [.., K] with a weight w [N, K] that is a state of the
// graph, but for the one that makes the logits. Activations that several products read are one
// *site*. With s [K] the smoothing of a site (ones: none):
//
//   xs = x / s,  ws = w s
//   scale of numbers: max |.| / L in f32, L the limit of the levels (127 for 8 bits, 7 for 4)
//   q(v) = clamp(round(v / scale), -L - 1, L), to nearest, halves to even; 0 where the scale is 0
//
// Weights alone: y = x . (q(ws) scale / s), scales by output channel or by groups of inputs of one.
// Weights and activations, L = 127 for x: the sum over k of q(xs) q(ws) is exact (whole numbers;
// in parts of 1024 products it stays below 2^24 in f32, and parts are added as i32), then
// y = (sum as f32 * scale of x) * scale of w. So any engine with i32 sums gives the same bits.
//
// One token of each sequence can be kept exact: its rows have no part in a scale that is computed
// here, and its products are xs . (q(ws) scale).
#include <cstdint>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// Where the scale of activations comes from.
enum class ActivationScale : uint8_t {
  none,    ///< activations stay as they are
  token,   ///< a scale a token
  tensor,  ///< one scale, of the whole tensor at hand
  given    ///< one scale, an input of the program
};

/// A weight that is quantised.
struct QuantizedWeight {
  std::string name;  ///< of the state
  int64_t layer;     ///< the first number in its name; -1 if there is none
  std::string part;  ///< "q_proj" of "model.layers.3.self_attn.q_proj.weight"
  int64_t outputs, inputs;
  int64_t site;
};

/// An activation that quantised products read.
struct QuantizedSite {
  int64_t layer;
  std::string part;       ///< those of its weights: "q_proj, k_proj, v_proj"
  int64_t features;       ///< K
  bool mlp_down = false;  ///< whether it is the input of the last projection of an MLP
  std::vector<size_t> weights;
};

/// What is quantised in a built graph, in the order of the program.
struct QuantizedParts {
  std::vector<QuantizedSite> sites;
  std::vector<QuantizedWeight> weights;
};
/// User errors: a graph that is not built; one without such products; an activation of which the
/// input `tokens` [B, T] does not tell the rows of a token.
QuantizedParts quantized_parts(const Graph& graph);

/// What is done at a site and with its weights.
struct SiteQuantization {
  ActivationScale activations = ActivationScale::none;
  /// Inputs that share a scale of weights with their output channel; 0: all of them. The last
  /// group may be smaller. Weights of quantised activations have 0.
  int64_t group = 0;
  /// Products of bytes, u8 (levels of x + 128) by i8, instead of whole numbers in f32, where K is a
  /// multiple of 4: the same bits, fast where the target has instructions for it. Of quantised
  /// activations.
  bool bytes = false;
};

/// Whether compiled products of bytes are fast.
bool multiplies_bytes(const Target& target);

/// The graph with the products quantised as `sites` says, one a site of quantized_parts. New
/// inputs: kQuantizeLimit f32[], L of weights; kQuantizeSink i32[], the token that is kept exact,
/// -1 for none (where activations are quantised); of site i smooth_input(i) f32[K], s, and where
/// the scale is given scale_input(i) f32[]. New names: those of QuantizeNames. User errors: those
/// of quantized_parts; groups where activations are quantised; sums of products that i32 cannot
/// hold.
GraphPtr apply_quantize(const GraphPtr& graph, const std::vector<SiteQuantization>& sites);

/// The graph with a name on the activation of every site, activation_name(i), and nothing else.
GraphPtr name_sites(const GraphPtr& graph);

inline constexpr const char* kQuantizeLimit = "quantize.limit";
inline constexpr const char* kQuantizeSink = "quantize.sink";
std::string smooth_input(size_t site);
std::string scale_input(size_t site);
std::string activation_name(size_t site);

/// Sums by row that tell what rounding did: of xs by token [B,T,1] of a site whose activations are
/// quantised, of ws by output channel [N,1] of a weight. `error` is the sum of squares of what was
/// rounded away, `energy` that of the values, `lost` counts numbers other than 0 that became 0.
struct QuantizeNames {
  std::string error, energy, lost;
  static QuantizeNames of_site(size_t site);
  static QuantizeNames of_weight(size_t weight);
};

}  // namespace weir
