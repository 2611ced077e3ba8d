#include "passes/v_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ir/edit.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"

namespace weir {
namespace {

// The projection that makes a value operand: the product found by walking back through what only
// moves, converts or shifts it.
struct Projection {
  int64_t d_model = 0;  ///< width of the product's input; 0 if there is no product
  std::string weight;   ///< name of the input that it multiplies with, or ""
};

Projection find_projection(const Graph& graph, Value value) {
  while (true) {
    const Node& node = graph.node(value);
    switch (info(node.op).op_class) {
      case OpClass::Contraction:
        if (node.op == Op::matmul) {
          const Shape& rows = graph.type(node.inputs[0]).shape;
          Projection found{rows[rows.size() - (node.attrs.get_bool("transpose_a") ? 2 : 1)], ""};
          Value weight = node.inputs[1];
          while (graph.node(weight).op == Op::convert || graph.node(weight).op == Op::transpose)
            weight = graph.node(weight).inputs[0];
          if (graph.is_input(weight)) found.weight = graph.input_name(weight.node);
          return found;
        }
        return {};
      case OpClass::Elementwise:
        if (node.op != Op::identity && node.op != Op::convert && node.op != Op::add) return {};
        break;
      case OpClass::Movement:
        break;
      case OpClass::Source:
      case OpClass::Reduction:
      case OpClass::Composite:
      case OpClass::Effect:
      case OpClass::Kernel:
        return {};
    }
    value = node.inputs[0];
  }
}

// "model.layers.3.self_attn.v_proj.weight" gives "model.layers.3.self_attn.v_scale.theta".
std::string theta_name(const std::string& weight, int64_t layer) {
  constexpr std::string_view suffix = "v_proj.weight";
  if (weight.size() >= suffix.size() && weight.ends_with(suffix))
    return weight.substr(0, weight.size() - suffix.size()) + "v_scale.theta";
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
    if (graph_->stage() != Stage::built)
      user_error("v_scale",
                 "graph {} is {} already; V-scale has a gradient, so it is applied to built "
                 "graphs only.",
                 graph_->name(), stage_name(graph_->stage()));
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
    std::vector<int32_t> attention;
    for (int32_t id = 0; id < graph_->size(); ++id)
      if (graph_->node(id).op == Op::attention) attention.push_back(id);
    int64_t count = static_cast<int64_t>(attention.size());
    if (count == 0)
      user_error("v_scale",
                 "graph {} has no attention node to rewrite. Use it on a model with attention, or "
                 "leave v_scale at none.",
                 graph_->name());
    std::vector<int64_t> layers = options_.layers;
    if (layers.empty())
      for (int64_t layer = 0; layer < count; ++layer) layers.push_back(layer);
    Problems problems("v_scale");
    for (int64_t layer : layers) {
      if (layer < 0 || layer >= count) {
        problems.add(
            fmt::format("layer {} is asked for, but graph {} has {} attention layer{}, "
                        "0 to {}.",
                        layer, graph_->name(), count, count == 1 ? "" : "s", count - 1));
        continue;
      }
      Value v = graph_->node(attention[layer]).inputs[2];
      if (graph_->node(v).op == Op::v_scale)
        problems.add(
            fmt::format("the value of attention layer {} is scaled already. Apply V-scale "
                        "once.",
                        layer));
      chosen_.emplace(attention[layer], layer);
      if (!sites_.contains(v)) sites_[v] = make_site(v, layer);
    }
    problems.raise();
  }

  ValueSite make_site(Value v, int64_t layer) const {
    const Shape& shape = graph_->type(v).shape;
    Projection projection = find_projection(*graph_, v);
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
    if (options_.variant == VScaleVariant::learned)
      site.theta = theta_name(projection.weight, layer);
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
