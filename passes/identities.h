#pragma once
// Identities and bounds of gradients as values of the compiled program (passes/identities.def).
// What a model computes, its own backward kernels included, is one side; the other is computed by
// definition from operands and upstream gradients: of attention by op attention_identities, which
// has no array of [queries, keys], of norms and V-scale by formulas of primitives.
//
// Sites are the attention, rms_norm, layer_norm and v_scale nodes of a built graph on which the
// loss depends, numbered by kind in the order of the program. The work is two passes:
//
//   tap_identities   (built)           names operands and results of sites, each use on its own, so
//                                      that differentiation names the gradient of that use alone
//   add_identities   (differentiated)  adds both sides of every identity, as named values
//
// For an identity of site n these are `identity.<site>.<n>.<id>.<part>`. Parts are left and right;
// and scale, that of rounding errors: relative to it an error is judged, since terms may cancel; of
// exact identities also error, the norm of the difference of both sides. Of attention they are
// [B,heads,tokens]: gradients of keys and values by key head (of a group the sum), bounds and the
// rest by query head; of norms they have the shape of x without its last axis; of V-scale they are
// [B,tokens,heads].
//
// Further values of attention, for the bounds from mean and noise of upstream gradients (6):
// `identity.attention.<n>.mass` and `.square` [B,H,S], sums over queries of a_ts and a_ts^2;
// `.value_norm` [B,H,S], norms of sum_t a_ts g_t; `.gradient_square` [B,H,S], sums of |g_t|^2 and
// `.gradient_sum` [B,1,H,d], the sum of g_t, both over the queries that see a key, the latter of
// the key `sink`.
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/normalizer.h"

namespace weir {

enum class IdentityId : uint8_t {
#define IDENTITY(id, ...) id,
#include "passes/identities.def"
};

enum class IdentitySiteKind : uint8_t { attention, norm, v_scale };
enum class IdentityKind : uint8_t { exact, zero, bound };

struct IdentityInfo {
  IdentityId id;
  const char* key;  ///< in names and records
  int number;       ///< of the theorem
  IdentitySiteKind site;
  IdentityKind kind;
  const char *name, *left, *right;
};

/// In the order of reports.
const std::vector<IdentityInfo>& all_identities();
const IdentityInfo& info(IdentityId id);
const char* site_kind_name(IdentitySiteKind kind);

struct IdentitySite {
  IdentitySiteKind kind = IdentitySiteKind::attention;
  int64_t index = 0;      ///< among those of its kind
  std::string hook = {};  ///< of its result, as "blocks.3.attn"; "" if that has no name
  int64_t layer = -1;     ///< by the hook, or of attention the index; -1 of what is in no layer
  int64_t heads = 1,
          key_heads = 1;  ///< of attention; of V-scale and norms within heads: of the value
  int64_t queries = 0;    ///< of attention
  AttentionNormalizer normalizer = AttentionNormalizer::softmax;  ///< of attention
  bool causal = false, capped = false;                            ///< of attention
  bool lse_gradient = false;  ///< of attention: the loss also depends on its row log-sum-exps
  std::string variant = {};   ///< of V-scale: of the op
  int32_t node = -1;          ///< in the graph that was given

  /// "blocks.3.attn", or by number, such as "attention 3".
  std::string label() const;
};

/// The sites of a graph of stage built, in the order of the program.
std::vector<IdentitySite> identity_sites(const GraphPtr& built, const std::string& loss = "loss");

/// "" if the identity holds at the site by definition, else why not.
std::string not_applicable(const IdentityInfo& identity, const IdentitySite& site);

/// "identity.attention.3.value_gradient.left".
std::string identity_value(const IdentitySite& site, const IdentityInfo& identity,
                           const char* part);
std::string identity_value(const IdentitySite& site, const char* name);

GraphPtr tap_identities(const GraphPtr& built, const std::string& loss);
/// The names of a tapped graph whose gradients are needed.
std::vector<std::string> identity_gradients(const Graph& tapped);
/// `sink`: the key of the bounds from mean and noise; user error if there is no such key.
GraphPtr add_identities(const GraphPtr& differentiated, int64_t sink);

}  // namespace weir
