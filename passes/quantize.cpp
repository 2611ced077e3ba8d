#include "passes/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "passes/op_builder.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr double kActivationLimit = 127;
// Whole numbers up to 128 x 128 a product: so many products sum up to 2^24 at most, below which f32
// holds every whole number.
constexpr int64_t kExactProducts = 1024;
// More than these and a sum may leave i32.
constexpr int64_t kMostProducts = std::numeric_limits<int32_t>::max() / (128 * 128);

void need_built(const Graph& graph) {
  if (graph.stage() != Stage::built)
    user_error("quantize", "graph {} is {}, but products are quantised in a built graph.",
               graph.name(), stage_name(graph.stage()));
}

// The state behind a weight as the product takes it; whether it lies [K, N].
struct WeightOperand {
  Value state;
  bool transposed;
};

std::optional<WeightOperand> weight_of(const Graph& graph, const Node& product) {
  Value weight = product.inputs[1];
  if (graph.type(weight).rank() != 2) return std::nullopt;
  bool transposed = !product.attrs.get_bool("transpose_b");
  while (graph.node(weight).op == Op::transpose || graph.node(weight).op == Op::identity) {
    if (graph.node(weight).op == Op::transpose) transposed = !transposed;
    weight = graph.node(weight).inputs[0];
    if (graph.type(weight).rank() != 2) return std::nullopt;
  }
  const Node& input = graph.node(weight);
  if (input.op != Op::input || !input.attrs.get_bool("state")) return std::nullopt;
  return WeightOperand{weight, transposed};
}

// Products whose results become logits: found behind the logits of every cross entropy.
std::set<int32_t> head_products(const Graph& graph) {
  std::set<int32_t> heads;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::cross_entropy) continue;
    Value value = node.inputs[0];
    while (graph.node(value).op != Op::matmul && !graph.node(value).inputs.empty())
      value = graph.node(value).inputs[0];
    if (graph.node(value).op == Op::matmul) heads.insert(value.node);
  }
  return heads;
}

// "model.layers.3.self_attn.q_proj.weight": 3.
int64_t layer_of(const std::string& name) {
  for (const std::string& word : split(name, '.'))
    if (!word.empty() && word.size() < 10 &&
        std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; }))
      return std::stoll(word);
  return -1;
}

// The last word but "weight".
std::string part_of(const std::string& name) {
  std::vector<std::string> words = split(name, '.');
  if (words.size() > 1 && words.back() == "weight") words.pop_back();
  return words.back();
}

struct BatchSize {
  int64_t batch = 0, tokens = 0;
};
BatchSize batch_of(const Graph& graph) {
  const auto tokens = graph.find_input("tokens");
  if (!tokens || graph.type(*tokens).rank() != 2)
    user_error("quantize", "graph {} has no input tokens i32[batch, length].", graph.name());
  const Shape& shape = graph.type(*tokens).shape;
  return {shape[0], shape[1]};
}

// What is quantised, with its places in the graph.
struct Found {
  QuantizedParts parts;
  BatchSize batch;
  std::vector<Value> activations;                       ///< by site
  std::map<int32_t, size_t> weight_of_product;          ///< by node
  std::map<int32_t, WeightOperand> operand_of_product;  ///< by node
};

void check_rows(const Graph& graph, Value x, const BatchSize& batch, const std::string& weight,
                Problems& problems) {
  const Shape& shape = graph.type(x).shape;
  const bool is_whole = shape.size() == 3 && shape[0] == batch.batch && shape[1] == batch.tokens;
  const bool is_flat = shape.size() == 2 && shape[0] == batch.batch * batch.tokens;
  if (!is_whole && !is_flat)
    problems.add(
        fmt::format("the product with {} reads {}, but [{}, {}, features] is needed, so "
                    "that rows are those of tokens.",
                    weight, to_string(graph.type(x)), batch.batch, batch.tokens));
}

bool is_mlp_post(const std::string& name) { return name.ends_with(".mlp.hook_post"); }

Found find(const Graph& graph) {
  need_built(graph);
  Found found;
  found.batch = batch_of(graph);
  const std::set<int32_t> heads = head_products(graph);
  const auto names = graph.names_by_value();
  std::map<Value, size_t> sites;
  Problems problems("quantize");
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op != Op::matmul || node.inputs.size() != 2 || heads.contains(id) ||
        node.attrs.get_bool("transpose_a"))
      continue;
    const auto operand = weight_of(graph, node);
    if (!operand) continue;
    const Value x = node.inputs[0];
    const std::string& name = graph.input_name(operand->state.node);
    check_rows(graph, x, found.batch, name, problems);
    const auto [site, is_new] = sites.emplace(x, sites.size());
    const int64_t features = graph.type(x).shape.back();
    if (is_new) {
      found.activations.push_back(x);
      found.parts.sites.push_back({layer_of(name), "", features, false, {}});
      if (auto known = names.find(x); known != names.end())
        found.parts.sites.back().mlp_down =
            std::any_of(known->second.begin(), known->second.end(), is_mlp_post);
    }
    QuantizedSite& at = found.parts.sites[site->second];
    at.part += (at.part.empty() ? "" : ", ") + part_of(name);
    at.weights.push_back(found.parts.weights.size());
    found.weight_of_product[id] = found.parts.weights.size();
    found.operand_of_product[id] = *operand;
    found.parts.weights.push_back({name, layer_of(name), part_of(name),
                                   graph.type(Value{id, 0}).shape.back(), features,
                                   static_cast<int64_t>(site->second)});
  }
  problems.raise();
  if (found.parts.weights.empty())
    user_error("quantize",
               "graph {} has no product of activations with a weight but that of the logits, so "
               "that there is nothing to quantise.",
               graph.name());
  return found;
}

// The formulas, on the graph in the making.
class Formulas {
 public:
  Formulas(GraphEditor& editor, const BatchSize& batch) : e(editor, "quantize"), batch_(batch) {}

  OpBuilder e;

  // 1 where there is no scale: all values are 0 then, and stay it.
  Value safe(Value scale) const { return e.select(e.gt(scale, 0.0), scale, e.scalar(1, scale)); }

  // Levels of x as whole numbers in f32; `limit` is a scalar.
  Value levels(Value x, Value scale, Value limit) const {
    const Value low = e.neg(e.add(limit, 1.0));
    return e.minimum(e.maximum(e.round(e.div(x, safe(scale))), low), limit);
  }

  // 1 in rows of the token that is kept exact: bool [1,T,1].
  Value is_sink(Value sink) const {
    return e.eq(e.editor().iota(1, i32({1, batch_.tokens, 1})), sink);
  }

  Value by_token(Value x) const {
    return e.reshape(x, {batch_.batch, batch_.tokens, e.shape(x).back()});
  }

  // Sums along the last axis of what rounding did to x.
  void name_losses(Value x, Value levels, Value scale, const QuantizeNames& names) const {
    const Value zero = e.scalar(0, x), one = e.scalar(1, x);
    const Value away = e.sub(x, e.mul(levels, scale));
    const auto both = e.logical_and(e.eq(levels, zero), e.ne(x, zero));
    e.editor().name(e.sum_last(e.mul(away, away)), names.error);
    e.editor().name(e.sum_last(e.mul(x, x)), names.energy);
    e.editor().name(e.sum_last(e.select(both, one, zero)), names.lost);
  }

 private:
  BatchSize batch_;
};

// Weights [N, K] as levels with their scales.
struct Levels {
  Value levels, scale;
};

class Quantizer {
 public:
  Quantizer(const GraphPtr& graph, const std::vector<SiteQuantization>& options)
      : graph_(graph), options_(options), found_(find(*graph)) {}

  GraphPtr run() {
    check();
    Rewriter rewriter(*graph_);
    add_inputs(rewriter);
    for (int32_t id = 0; id < graph_->size(); ++id) {
      if (graph_->node(id).op == Op::input) continue;
      if (const auto weight = found_.weight_of_product.find(id);
          weight != found_.weight_of_product.end())
        rewriter.replace(id, {product(rewriter, id, weight->second)});
      else
        rewriter.copy(id);
    }
    return rewriter.finish_copy();
  }

 private:
  // An activation as its products take it.
  struct Activation {
    Value smoothed;            ///< xs [B,T,K]
    Value levels, scale;       ///< where it is quantised
    Value sink_rows, is_sink;  ///< xs of the exact token [B,1,K]; bool [1,T,1]
  };

  void check() const {
    Problems problems("quantize");
    if (options_.size() != found_.parts.sites.size())
      problems.add(fmt::format("{} sites are described, but graph {} has {}.", options_.size(),
                               graph_->name(), found_.parts.sites.size()));
    for (size_t i = 0; i < std::min(options_.size(), found_.parts.sites.size()); ++i) {
      const QuantizedSite& site = found_.parts.sites[i];
      if (options_[i].activations == ActivationScale::none) continue;
      if (options_[i].group != 0)
        problems.add(
            fmt::format("layer {}, {}: groups of {} are asked for, but weights of "
                        "quantised activations have one scale an output channel.",
                        site.layer, site.part, options_[i].group));
      if (site.features > kMostProducts)
        problems.add(
            fmt::format("layer {}, {}: a sum of {} products may leave i32; at most {} "
                        "are possible.",
                        site.layer, site.part, site.features, kMostProducts));
    }
    problems.raise();
  }

  void add_inputs(Rewriter& rewriter) {
    limit_ = rewriter.input(kQuantizeLimit, f32({}));
    const auto quantised = [](const SiteQuantization& site) {
      return site.activations != ActivationScale::none;
    };
    if (std::any_of(options_.begin(), options_.end(), quantised))
      sink_ = rewriter.input(kQuantizeSink, i32({}));
    for (size_t i = 0; i < options_.size(); ++i) {
      smooth_.push_back(rewriter.input(smooth_input(i), f32({found_.parts.sites[i].features})));
      scale_.push_back(options_[i].activations == ActivationScale::given
                           ? rewriter.input(scale_input(i), f32({}))
                           : Value{});
    }
  }

  const Activation& activation(Rewriter& rewriter, size_t site) {
    auto [at, is_new] = activations_.try_emplace(site);
    Activation& a = at->second;
    if (!is_new) return a;
    const Formulas f(rewriter, found_.batch);
    const OpBuilder& e = f.e;
    a.smoothed = e.div(f.by_token(rewriter[found_.activations[site]]), smooth_[site]);
    if (options_[site].activations == ActivationScale::none) return a;
    a.is_sink = f.is_sink(sink_);
    const Value zero = e.scalar(0, a.smoothed), limit = e.scalar(kActivationLimit, a.smoothed);
    switch (options_[site].activations) {
      case ActivationScale::none:
        break;
      case ActivationScale::token:
        a.scale = e.div(e.max_last(e.abs(a.smoothed)), kActivationLimit);
        break;
      case ActivationScale::tensor: {
        const Value rows = e.select(a.is_sink, zero, e.max_last(e.abs(a.smoothed)));
        a.scale = e.div(e.reduce_max(rows, {0, 1, 2}), kActivationLimit);
        break;
      }
      case ActivationScale::given:
        a.scale = scale_[site];
        break;
    }
    a.levels = f.levels(a.smoothed, a.scale, limit);
    a.sink_rows = e.reduce_sum(e.select(a.is_sink, a.smoothed, zero), {1});
    f.name_losses(a.smoothed, a.levels, a.scale, QuantizeNames::of_site(site));
    return a;
  }

  Levels quantised_weight(const Formulas& f, Value ws, size_t weight, int64_t group) const {
    const OpBuilder& e = f.e;
    const int64_t N = e.shape(ws)[0], K = e.shape(ws)[1];
    const QuantizeNames names = QuantizeNames::of_weight(weight);
    if (group == 0 || group >= K) {
      const Value scale = e.div(e.max_last(e.abs(ws)), limit_);
      const Value levels = f.levels(ws, scale, limit_);
      f.name_losses(ws, levels, scale, names);
      return {levels, scale};
    }
    // Zeros behind the last group have no part in its maximum.
    const int64_t groups = (K + group - 1) / group, padded = groups * group;
    Value in = ws;
    if (padded != K)
      in = e.op(Op::pad, {ws}, {{"low", Shape{0, 0}}, {"high", Shape{0, padded - K}}});
    in = e.reshape(in, {N, groups, group});
    const Value scale = e.div(e.max_last(e.abs(in)), limit_);
    const auto whole = [&](Value by_group) {
      const Value flat = e.reshape(by_group, {N, padded});
      return padded == K ? flat : e.slice_axis(flat, 1, 0, K);
    };
    const Value levels = whole(f.levels(in, scale, limit_));
    const Value scales = whole(e.op(Op::broadcast, {scale}, {{"shape", Shape{N, groups, group}}}));
    f.name_losses(ws, levels, scales, names);
    return {levels, scales};
  }

  // Exact sums of whole numbers, as f32.
  static Value exact_product(const OpBuilder& e, Value x, Value w) {
    const int64_t K = e.shape(w)[1], axis = e.type(x).rank() - 1;
    if (K <= kExactProducts) return e.matmul(x, w, false, true);
    Value sum;
    for (int64_t k = 0; k < K; k += kExactProducts) {
      const int64_t end = std::min(K, k + kExactProducts);
      const Value part =
          e.op(Op::convert,
               {e.matmul(e.slice_axis(x, axis, k, end), e.slice_axis(w, 1, k, end), false, true)},
               {{"to", DType::i32}});
      sum = sum.valid() ? e.add(sum, part) : part;
    }
    return e.op(Op::convert, {sum}, {{"to", DType::f32}});
  }

  // The same from bytes: the levels of x shifted into u8, and what the shift adds taken off again.
  static Value byte_product(const OpBuilder& e, Value x, Value w) {
    constexpr double kShift = 128;
    const auto as = [&](Value value, DType dtype) {
      return e.op(Op::convert, {value}, {{"to", dtype}});
    };
    const Value bytes = as(w, DType::i8);
    const Value sums = e.matmul(as(e.add(x, kShift), DType::u8), bytes, false, true);
    const Value shifted = e.mul(e.sum_last(as(bytes, DType::i32)), kShift);
    return as(e.sub(sums, e.reshape(shifted, {e.shape(w)[0]})), DType::f32);
  }

  Value product(Rewriter& rewriter, int32_t id, size_t weight) {
    const Formulas f(rewriter, found_.batch);
    const OpBuilder& e = f.e;
    const auto site = static_cast<size_t>(found_.parts.weights[weight].site);
    const Activation& a = activation(rewriter, site);
    const WeightOperand& operand = found_.operand_of_product.at(id);
    Value w = rewriter[operand.state];
    if (operand.transposed) w = e.transpose(w, {1, 0});
    const Value ws = e.mul(w, smooth_[site]);
    const Levels q = quantised_weight(f, ws, weight, options_[site].group);
    const Shape result = graph_->type(Value{id, 0}).shape;
    if (options_[site].activations == ActivationScale::none) {
      const Value x = rewriter[found_.activations[site]];
      return e.matmul(x, e.div(e.mul(q.levels, q.scale), smooth_[site]), false, true);
    }
    const Value by_output = e.reshape(q.scale, {e.shape(w)[0]});
    const bool bytes = options_[site].bytes && e.shape(w)[1] % 4 == 0;
    const Value sums =
        bytes ? byte_product(e, a.levels, q.levels) : exact_product(e, a.levels, q.levels);
    const Value rounded = e.mul(e.mul(sums, a.scale), by_output);
    const Value exact = e.matmul(a.sink_rows, e.mul(q.levels, q.scale), false, true);
    return e.reshape(e.select(a.is_sink, exact, rounded), result);
  }

  const GraphPtr& graph_;
  const std::vector<SiteQuantization>& options_;
  const Found found_;
  Value limit_, sink_;
  std::vector<Value> smooth_, scale_;  ///< by site
  std::map<size_t, Activation> activations_;
};

}  // namespace

bool multiplies_bytes(const Target& target) {
  return (target.lanes() == 16 && target.has("avx512vnni")) ||
         (target.lanes() == 8 && target.has("avxvnni"));
}

std::string smooth_input(size_t site) { return fmt::format("quantize.{}.smooth", site); }
std::string scale_input(size_t site) { return fmt::format("quantize.{}.scale", site); }
std::string activation_name(size_t site) { return fmt::format("quantize.{}.activation", site); }

QuantizeNames QuantizeNames::of_site(size_t site) {
  const std::string own = fmt::format("quantize.{}.", site);
  return {own + "error", own + "energy", own + "lost"};
}
QuantizeNames QuantizeNames::of_weight(size_t weight) {
  const std::string own = fmt::format("quantize.weight.{}.", weight);
  return {own + "error", own + "energy", own + "lost"};
}

QuantizedParts quantized_parts(const Graph& graph) { return find(graph).parts; }

GraphPtr apply_quantize(const GraphPtr& graph, const std::vector<SiteQuantization>& sites) {
  return Quantizer(graph, sites).run();
}

GraphPtr name_sites(const GraphPtr& graph) {
  const Found found = find(*graph);
  Rewriter rewriter(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) rewriter.copy(id);
  const Formulas f(rewriter, found.batch);
  for (size_t i = 0; i < found.activations.size(); ++i)
    rewriter.name(f.by_token(rewriter[found.activations[i]]), activation_name(i));
  return rewriter.finish_copy();
}

}  // namespace weir
