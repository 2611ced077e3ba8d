#include "passes/identities.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "ir/attention_identities.h"
#include "ir/edit.h"
#include "ir/hook_name.h"
#include "passes/attention_probes.h"
#include "passes/autodiff.h"
#include "passes/identity_formulas.h"
#include "support/error.h"

namespace weir {
namespace {

// Names of operands and results of sites; "tap.attention.3.q".
constexpr std::string_view kTap = "tap.";

std::string tap_name(const IdentitySite& site, const char* operand) {
  return fmt::format("{}{}.{}.{}", kTap, site_kind_name(site.kind), site.index, operand);
}

// Of a value named "blocks.3.attn.hook_z": "blocks.3.attn".
std::string hook_of(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (const size_t dot = name.rfind(".hook_"); dot != std::string::npos)
      return name.substr(0, dot);
  return names.empty() ? "" : names.front();
}

std::optional<IdentitySiteKind> kind_of(Op op) {
  if (op == Op::attention) return IdentitySiteKind::attention;
  if (op == Op::rms_norm || op == Op::layer_norm) return IdentitySiteKind::norm;
  if (op == Op::v_scale) return IdentitySiteKind::v_scale;
  return std::nullopt;
}

void describe(const Graph& graph, const Node& node, IdentitySite& site) {
  const Shape& shape = node.types[0].shape;
  switch (site.kind) {
    case IdentitySiteKind::attention:
      site.queries = shape[1];
      site.heads = shape[2];
      site.key_heads = graph.type(node.inputs[1]).shape[2];
      site.normalizer = normalizer_of(node.attrs);
      site.causal = node.attrs.get_bool("causal");
      site.capped = node.attrs.has("cap");
      if (site.layer < 0) site.layer = site.index;
      break;
    case IdentitySiteKind::v_scale:
      site.variant = node.attrs.get_string("variant");
      site.heads = site.key_heads = shape[shape.size() - 2];
      break;
    case IdentitySiteKind::norm:
      if (shape.size() > 3) site.heads = site.key_heads = shape[2];
      break;
  }
}

// The operand of a site that is differentiated, under the name that it is tapped by, and the
// result's.
struct Taps {
  std::vector<const char*> operands;
  const char* result;
};

// The row statistics of an attention, named where a gradient arrives at them.
constexpr const char* kRowsTap = "rows";

Taps taps_of(IdentitySiteKind kind) {
  switch (kind) {
    case IdentitySiteKind::attention:
      return {{"q", "k", "v"}, "out"};
    case IdentitySiteKind::norm:
    case IdentitySiteKind::v_scale:
      return {{"x"}, "out"};
  }
  internal_error_at("unknown kind of site");
}

// Adds the formulas of a site behind the last value that they need.
class IdentityAdder {
 public:
  IdentityAdder(const GraphPtr& graph, int64_t sink) : graph_(*graph), sink_(sink) {}

  GraphPtr run() {
    for (IdentitySiteKind kind :
         {IdentitySiteKind::attention, IdentitySiteKind::norm, IdentitySiteKind::v_scale})
      for (int64_t index = 0;; ++index) {
        IdentitySite site;
        site.kind = kind;
        site.index = index;
        if (!graph_.find(tap_name(site, "out"))) break;
        place(site);
      }
    Rewriter rewriter(graph_);
    for (int32_t id = 0; id < graph_.size(); ++id) {
      if (graph_.node(id).op != Op::input) rewriter.copy(id);
      const auto [first, last] = sites_.equal_range(id);
      for (auto site = first; site != last; ++site) add(rewriter, site->second);
    }
    return rewriter.finish_copy();
  }

 private:
  // A value of a site in the graph that is copied.
  Value at(const IdentitySite& site, const char* tap) const {
    return expect(graph_.find(tap_name(site, tap)));
  }
  Value gradient(const IdentitySite& site, const char* tap) const {
    return expect(graph_.find(gradient_name(tap_name(site, tap))));
  }

  void place(const IdentitySite& site) {
    const Taps taps = taps_of(site.kind);
    int32_t last = gradient(site, taps.result).node;
    if (graph_.find(tap_name(site, kRowsTap))) last = std::max(last, gradient(site, kRowsTap).node);
    for (const char* operand : taps.operands) {
      last = std::max(last, gradient(site, operand).node);
      last = std::max(last, at(site, operand).node);
    }
    sites_.emplace(last, site);
  }

  void add(Rewriter& rewriter, const IdentitySite& site) const {
    const OpBuilder e(rewriter, "identities");
    for (const auto& [name, value] : formulas(e, rewriter, site))
      rewriter.name(e.identity(value), identity_value(site, name.c_str()));
  }

  identity_formulas::Named formulas(const OpBuilder& e, Rewriter& to,
                                    const IdentitySite& site) const {
    const auto value = [&](const char* tap) { return to[at(site, tap)]; };
    const auto gradient_of = [&](const char* tap) { return to[gradient(site, tap)]; };
    const Node& node = graph_.node(at(site, "out"));
    switch (site.kind) {
      case IdentitySiteKind::attention:
        WEIR_CHECK(node.op == Op::attention, "{} has become {}", site.label(), op_name(node.op));
        check_sink(node);
        return identity_formulas::attention(e, {.operands = to[node.inputs],
                                                .out = value("out"),
                                                .dout = gradient_of("out"),
                                                .dq = gradient_of("q"),
                                                .dk = gradient_of("k"),
                                                .dv = gradient_of("v"),
                                                .dlse = lse_gradient_of(to, site),
                                                .attrs = node.attrs,
                                                .sink = sink_});
      case IdentitySiteKind::norm:
        WEIR_CHECK(kind_of(node.op) == IdentitySiteKind::norm, "{} has become {}", site.label(),
                   op_name(node.op));
        return identity_formulas::norm(e, {.centred = node.op == Op::layer_norm,
                                           .eps = node.attrs.get_float("eps"),
                                           .x = to[node.inputs[0]],
                                           .gamma = to[node.inputs[1]],
                                           .dout = gradient_of("out"),
                                           .dx = gradient_of("x")});
      case IdentitySiteKind::v_scale: {
        const std::optional<Value> constant = graph_.find(tap_name(site, "c"));
        return identity_formulas::v_scale(e, {.v = value("x"),
                                              .dout = gradient_of("out"),
                                              .dv = gradient_of("x"),
                                              .constant = constant ? to[*constant] : Value{}});
      }
    }
    internal_error_at("unknown kind of site");
  }

  // Not valid where the loss does not depend on the log-sum-exp.
  Value lse_gradient_of(Rewriter& to, const IdentitySite& site) const {
    if (!graph_.find(tap_name(site, kRowsTap))) return {};
    return lse_gradient(to, to[gradient(site, kRowsTap)]);
  }

  void check_sink(const Node& attention) const {
    const int64_t keys = graph_.type(attention.inputs[1]).shape[1];
    if (sink_ < 0 || sink_ >= keys)
      user_error("check", "the sink token {} is not one of the {} of a sequence.", sink_, keys);
  }

  const Graph& graph_;
  int64_t sink_;
  std::multimap<int32_t, IdentitySite> sites_;  // by the node behind which they are added
};

}  // namespace

const std::vector<IdentityInfo>& all_identities() {
  static const std::vector<IdentityInfo> rows = {
#define IDENTITY(id, number, site, kind, name, left, right) \
  {IdentityId::id, #id, number, IdentitySiteKind::site, IdentityKind::kind, name, left, right},
#include "passes/identities.def"
  };
  return rows;
}

const IdentityInfo& info(IdentityId id) { return all_identities().at(static_cast<size_t>(id)); }

const char* site_kind_name(IdentitySiteKind kind) {
  switch (kind) {
    case IdentitySiteKind::attention:
      return "attention";
    case IdentitySiteKind::norm:
      return "norm";
    case IdentitySiteKind::v_scale:
      return "v_scale";
  }
  internal_error_at("unknown kind of site");
}

std::string IdentitySite::label() const {
  return hook.empty() ? fmt::format("{} {}", site_kind_name(kind), index) : hook;
}

std::vector<IdentitySite> identity_sites(const GraphPtr& built, const std::string& loss) {
  const std::string of_rows = ".rows";
  // The loss depends on a site if it does so on its first operand, differentiably. Names are of
  // values, so a copy of the graph names every candidate.
  Rewriter named(*built);
  std::map<int32_t, std::string> candidates;
  for (int32_t id = 0; id < built->size(); ++id) {
    if (built->node(id).op == Op::input) continue;
    named.copy(id);
    if (!kind_of(built->node(id).op)) continue;
    candidates[id] = fmt::format("{}{}", kTap, id);
    named.name(named[{id, 0}], candidates[id]);
    if (built->node(id).op == Op::attention) named.name(named[{id, 1}], candidates[id] + of_rows);
  }
  const std::set<std::string> reached = differentiable_names(named.finish_copy(), loss);
  const auto names = built->names_by_value();
  std::map<IdentitySiteKind, int64_t> counts;
  std::vector<IdentitySite> sites;
  for (const auto& [id, name] : candidates) {
    if (!reached.contains(name)) continue;
    IdentitySite site;
    site.kind = expect(kind_of(built->node(id).op));
    site.index = counts[site.kind]++;
    site.node = id;
    if (const auto found = names.find({id, 0}); found != names.end())
      site.hook = hook_of(found->second);
    site.layer = block_of(site.hook).value_or(-1);
    describe(*built, built->node(id), site);
    site.lse_gradient = reached.contains(name + of_rows);
    sites.push_back(std::move(site));
  }
  return sites;
}

std::string not_applicable(const IdentityInfo& identity, const IdentitySite& site) {
  const NormalizerInfo& normalizer = info(site.normalizer);
  const auto needs_exponentials = [&]() -> std::string {
    if (normalizer.exponential) return "";
    return fmt::format("dL/dscore of {} is not a_ts (dL/da_ts - <g_t, y_t>)", normalizer.name);
  };
  switch (identity.id) {
    case IdentityId::key_gradient:
    case IdentityId::query_gradient:
    case IdentityId::row_sum:
    case IdentityId::key_bound:
      return needs_exponentials();
    case IdentityId::first_query:
      if (!needs_exponentials().empty()) return needs_exponentials();
      if (!normalizer.rows_sum_to_one)
        return fmt::format("the first row of {} weighs something besides its key", normalizer.name);
      if (!site.causal) return "the first query sees all keys, as there is no causal mask";
      if (site.lse_gradient)
        return "the gate across heads also depends on the score of the first query";
      return "";
    case IdentityId::query_bound:
      if (!needs_exponentials().empty()) return needs_exponentials();
      if (!normalizer.rows_sum_to_one)
        return fmt::format("score gradients of a row of {} do not sum to zero", normalizer.name);
      if (site.capped) return "score gradients behind a soft cap do not sum to zero";
      if (site.lse_gradient)
        return "score gradients do not sum to zero where a gate across heads depends on their row";
      return "";
    case IdentityId::v_scale_bound:
      if (site.variant == "forward") return "the gradient of forward-only V-scale is the identity";
      return "";
    case IdentityId::value_gradient:
    case IdentityId::value_triangle:
    case IdentityId::value_mass:
    case IdentityId::value_moment:
    case IdentityId::norm_gradient:
    case IdentityId::norm_bound:
    case IdentityId::norm_radial:
    case IdentityId::v_scale_gradient:
      return "";
  }
  internal_error_at("unknown identity");
}

std::string identity_value(const IdentitySite& site, const IdentityInfo& identity,
                           const char* part) {
  return fmt::format("identity.{}.{}.{}.{}", site_kind_name(site.kind), site.index, identity.key,
                     part);
}
std::string identity_value(const IdentitySite& site, const char* name) {
  return fmt::format("identity.{}.{}.{}", site_kind_name(site.kind), site.index, name);
}

GraphPtr tap_identities(const GraphPtr& built, const std::string& loss) {
  const std::vector<IdentitySite> sites = identity_sites(built, loss);
  std::map<int32_t, const IdentitySite*> by_node;
  for (const IdentitySite& site : sites) by_node[site.node] = &site;
  Rewriter rewriter(*built);
  for (int32_t id = 0; id < built->size(); ++id) {
    const Node& node = built->node(id);
    if (node.op == Op::input) continue;
    const auto found = by_node.find(id);
    if (found == by_node.end()) {
      rewriter.copy(id);
      continue;
    }
    const IdentitySite& site = *found->second;
    const Taps taps = taps_of(site.kind);
    std::vector<Value> operands = rewriter[node.inputs];
    // An identity for this use: its gradient is that of no other.
    for (size_t i = 0; i < taps.operands.size(); ++i) {
      operands[i] = rewriter.add(Op::identity, {operands[i]});
      rewriter.name(operands[i], tap_name(site, taps.operands[i]));
    }
    const std::vector<Value> results = rewriter.add_node(node.op, operands, node.attrs, node.where);
    rewriter.name(results[0], tap_name(site, taps.result));
    if (site.lse_gradient) rewriter.name(results[1], tap_name(site, kRowsTap));
    // What is left of V-scale when the node is decomposed: its constant, unless its gradient is
    // the identity.
    if (site.kind == IdentitySiteKind::v_scale && site.variant != "forward")
      rewriter.name(identity_formulas::v_scale_constant(rewriter, operands, node.attrs),
                    tap_name(site, "c"));
    rewriter.replace(id, results);
  }
  return rewriter.finish_copy();
}

std::vector<std::string> identity_gradients(const Graph& tapped) {
  std::vector<std::string> names;
  for (const auto& [name, value] : tapped.names())
    if (name.starts_with(kTap) && !name.ends_with(".c")) names.push_back(name);
  return names;
}

GraphPtr add_identities(const GraphPtr& differentiated, int64_t sink) {
  return IdentityAdder(differentiated, sink).run();
}

}  // namespace weir
