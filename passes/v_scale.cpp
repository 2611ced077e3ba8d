#include "passes/v_scale.h"

#include <fmt/format.h>

#include <map>

#include "ir/edit.h"
#include "passes/attention_layers.h"
#include "passes/projection.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"

namespace weir {
namespace {

// Beside the weight of the projection; of others a name of its own.
std::string theta_name(const Projection& projection, int64_t layer) {
  if (projection.weight.ends_with("v_proj.weight"))
    return state_prefix(projection, layer) + "v_scale.theta";
  return fmt::format("v_scale.{}.theta", layer);
}

struct ValueSite {
  int64_t layer = 0;
  double c = 0;
  std::string theta;               ///< name of the new state, "" without one
  std::vector<std::string> names;  ///< of the scaled value
};

class VScale {
 public:
  VScale(const GraphPtr& graph, const VScaleOptions& options) : graph_(graph), options_(options) {}

  GraphPtr run() {
    check_options();
    find_sites();
    Rewriter rewriter(*graph_);
    std::map<Value, Value> thetas;
    for (const auto& [v, site] : sites_)
      if (!site.theta.empty()) thetas[v] = rewriter.input(site.theta, theta_type(v), true);
    std::map<Value, Value> scaled;
    for (int32_t id = 0; id < graph_->size(); ++id) {
      const Node& node = graph_->node(id);
      if (node.op == Op::input) continue;
      auto site = node.op == Op::attention && chosen_.contains(id) ? sites_.find(node.inputs[2])
                                                                   : sites_.end();
      if (site == sites_.end()) {
        rewriter.copy(id);
        continue;
      }
      std::vector<Value> inputs = rewriter[node.inputs];
      Value& value = scaled[node.inputs[2]];
      if (!value.valid()) value = scale(rewriter, inputs[2], site->second, thetas, site->first);
      inputs[2] = value;
      rewriter.replace(id, rewriter.add_node(Op::attention, inputs, node.attrs, node.where));
    }
    return rewriter.finish_copy();
  }

 private:
  void check_options() const {
    need_built_attention(*graph_, {"v_scale", "v_scale at none"});
    Problems problems("v_scale");
    if (!(options_.sigma > 0))
      problems.add(
          fmt::format("sigma is {}, but a positive standard deviation is needed, such as "
                      "0.02.",
                      shortest(options_.sigma)));
    if (!(options_.lambda > 0))
      problems.add(fmt::format("lambda is {}, but a positive factor is needed, such as 1.",
                               shortest(options_.lambda)));
    problems.raise();
  }

  void find_sites() {
    Problems problems("v_scale");
    chosen_ = chosen_attention(*graph_, options_.layers, problems);
    for (const auto& [node, layer] : chosen_) {
      Value v = graph_->node(node).inputs[2];
      if (graph_->node(v).op == Op::v_scale)
        problems.add(
            fmt::format("the value of attention layer {} is scaled already. Apply V-scale "
                        "once.",
                        layer));
      if (!sites_.contains(v)) sites_[v] = make_site(v, layer);
    }
    problems.raise();
  }

  ValueSite make_site(Value v, int64_t layer) const {
    const Shape& shape = graph_->type(v).shape;
    const Projection projection = find_projection(*graph_, v);
    int64_t d_model = options_.d_model ? options_.d_model : projection.d_model;
    if (d_model == 0) {
      d_model = shape[2] * shape[3];
      log_info(
          "v_scale: no value projection found before attention layer {}; d_model is taken as "
          "{} value heads x {} features = {}.",
          layer, shape[2], shape[3], d_model);
    }
    ValueSite site;
    site.layer = layer;
    site.c = static_cast<double>(d_model) * static_cast<double>(shape[3]) * options_.sigma *
             options_.sigma * options_.lambda;
    if (options_.variant == VScaleVariant::learned) site.theta = theta_name(projection, layer);
    auto names = names_.find(v);
    if (names != names_.end())
      for (const std::string& name : names->second)
        if (name == "hook_v" || name.ends_with(".hook_v")) site.names.push_back(name + "_scaled");
    return site;
  }

  Value scale(Rewriter& rewriter, Value v, const ValueSite& site,
              const std::map<Value, Value>& thetas, Value old) const {
    std::vector<Value> operands = {v};
    if (!site.theta.empty()) operands.push_back(thetas.at(old));
    const char* variant = info(options_.variant).op_variant;
    Value scaled =
        rewriter.add(Op::v_scale, operands, {{"c", site.c}, {"variant", std::string(variant)}},
                     fmt::format("v_scale.{}", site.layer));
    for (const std::string& name : site.names) rewriter.name(scaled, name);
    return scaled;
  }

  Type theta_type(Value v) const { return {graph_->type(v).dtype, {graph_->type(v).shape[2]}}; }

  const GraphPtr& graph_;
  const VScaleOptions& options_;
  const std::map<Value, std::vector<std::string>> names_ = graph_->names_by_value();
  std::map<Value, ValueSite> sites_;   ///< by the value operand
  std::map<int32_t, int64_t> chosen_;  ///< attention nodes and their layers
};

}  // namespace

const std::vector<VScaleInfo>& v_scale_variants() {
  static const std::vector<VScaleInfo> table = {
      {VScaleVariant::none, "none", "none", ""},
      {VScaleVariant::full, "full", "full", "full"},
      {VScaleVariant::learned, "learned", "learned", "full"},
      {VScaleVariant::backward, "backward-only", "backward", "backward"},
      {VScaleVariant::forward, "forward-only", "forward", "forward"},
  };
  return table;
}

const VScaleInfo& info(VScaleVariant variant) {
  return v_scale_variants()[static_cast<size_t>(variant)];
}

VScaleVariant parse_v_scale_variant(const std::string& text) {
  std::vector<std::string> known;
  for (const VScaleInfo& row : v_scale_variants()) {
    if (text == row.name || text == row.short_form) return row.variant;
    known.emplace_back(row.name);
  }
  user_error("v_scale", "unknown variant '{}'.{} The variants are {}.", text,
             did_you_mean(text, known), join(known, ", "));
}

GraphPtr apply_v_scale(const GraphPtr& graph, const VScaleOptions& options) {
  if (options.variant == VScaleVariant::none) return graph;
  return VScale(graph, options).run();
}

std::vector<AddedState> added_states(const Graph& before, const Graph& after) {
  std::vector<AddedState> added;
  for (int32_t id : after.inputs())
    if (after.node(id).attrs.get_bool("state") && !before.find_input(after.input_name(id)))
      added.push_back({after.input_name(id), after.node(id).types[0]});
  return added;
}

}  // namespace weir
