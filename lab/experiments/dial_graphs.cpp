#include "lab/experiments/dial_graphs.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/edit.h"
#include "passes/cut.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr const char* kWeightsProbe = kDialWeights;

DialRewrite rewrite_of(const DialTask& task) {
  switch (task.dial) {
    case Dial::mass:
      return task.form == DialForm::multiply ? DialRewrite::key_weights : DialRewrite::key_logits;
    case Dial::norm:
      return DialRewrite::token_scale;
    case Dial::value:
      return DialRewrite::key_value;
    case Dial::position:
      return DialRewrite::key_exchange;
    case Dial::mask:
      return DialRewrite::key_logits;
  }
  internal_error_at("unknown dial");
}

bool wants(const DialTask& task, Upstream upstream) {
  return std::find(task.upstream.begin(), task.upstream.end(), upstream) != task.upstream.end();
}

Value named(const Graph& graph, const std::string& name) {
  const auto value = graph.find(name);
  if (value) return *value;
  std::vector<std::string> names;
  for (const auto& [known, at] : graph.names()) names.push_back(known);
  user_error("dial", "the model has no value named {}, which this dial needs.{}", name,
             did_you_mean(name, names));
}

// The operands of the layer's attention.
std::vector<CutPoint> operands(const Graph& graph, const DialNames& names) {
  return {{named(graph, names.q), kQueries},
          {named(graph, names.k), kKeyRows},
          {named(graph, names.v), kValueRows}};
}

}  // namespace

std::string raw_id(const std::string& name) { return name + ":raw"; }
std::string token_request(const std::string& name, int64_t token) {
  return fmt::format("{} : slice(token,{},{})", name, token, token + 1);
}
std::string token_id(const std::string& name, int64_t token) {
  return fmt::format("{}:slice(token,{},{})", name, token, token + 1);
}

DialNames::DialNames(int64_t layer, DialBranch branch) {
  const std::string own = fmt::format("dial.{}.", layer), hooks = fmt::format("blocks.{}.", layer);
  stream = own + "stream", q = own + "q", k = own + "k", v = own + "v", z = own + "z";
  const bool attention = branch == DialBranch::attention;
  const std::string norm = hooks + (attention ? "ln1." : "ln2.");
  norm_in = norm + "hook_in", norm_out = norm + "hook_normalized";
  scaled_hook = hooks + (attention ? "hook_resid_pre" : "hook_resid_mid");
}

GraphPtr dial_model(const ModelSource& source, const DialTask& task, int64_t rows, int64_t length,
                    std::vector<AddedState>* added) {
  const Model model = source.build(rows, length);
  check_model(model, rows, length);
  CompileOptions options = task.options;
  options.probes.clear();
  options.stop = Stage::built;
  const GraphPtr graph = run_pipeline(model.graph, options).graph;
  if (added) *added = added_states(*model.graph, *graph);
  Rewriter to(*graph);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) to.copy(id);
  for (int64_t layer : task.layers) {
    const DialNames names(layer, task.branch);
    to.name(to[named(*graph, fmt::format("blocks.{}.hook_resid_pre", layer))], names.stream);
    if (task.dial == Dial::norm) continue;
    const int32_t attention = find_attention(*graph, layer);
    const std::vector<Value>& operands = graph->node(attention).inputs;
    to.name(to[operands[0]], names.q);
    to.name(to[operands[1]], names.k);
    to.name(to[operands[2]], names.v);
    to.name(to[Value{attention, 0}], names.z);
  }
  return to.finish_copy();
}

DialOptions dial_options(const DialTask& task, const DialNames& names, int64_t attention) {
  DialOptions options{.rewrite = rewrite_of(task), .layer = attention};
  if (task.dial == Dial::norm)
    options.hook = task.form == DialForm::stream ? names.scaled_hook : names.norm_in;
  for (const DialValue& value : task.values)
    options.keys = std::max<int64_t>(options.keys, std::ssize(value.keys));
  return options;
}

DialSetting dial_setting(const DialTask& task, const DialValue& value, int64_t heads, bool turned) {
  const DialInputs inputs = dial_inputs(dial_options(task, DialNames(0, task.branch), 0));
  std::vector<int64_t> keys = {task.sink_token};
  double neutral = 1, amount = value.number;
  switch (task.dial) {
    case Dial::mass:
      if (task.form == DialForm::logit) neutral = 0;
      break;
    case Dial::norm:
    case Dial::value:
      break;
    case Dial::position:
      keys.push_back(static_cast<int64_t>(value.number));
      neutral = 0, amount = 1;
      break;
    case Dial::mask:
      keys = value.keys;
      neutral = 0, amount = kBlocked;
      break;
  }
  keys.resize(static_cast<size_t>(inputs.keys), -1);
  const HostTensor all_keys = {i32({inputs.keys}), {keys.begin(), keys.end()}};
  if (task.dial == Dial::norm) return {all_keys, filled(f32({1, 1}), turned ? amount : neutral)};
  DialSetting setting = {all_keys, filled(f32({heads, inputs.amounts}), neutral)};
  if (turned)
    for (int64_t h : task.heads)
      std::fill_n(setting.amount.data.begin() + h * inputs.amounts, inputs.amounts, amount);
  return setting;
}

bool is_neutral(const DialTask& task, const DialValue& value) {
  switch (task.dial) {
    case Dial::mass:
      return value.number == (task.form == DialForm::logit ? 0 : 1);
    case Dial::norm:
    case Dial::value:
      return value.number == 1;
    case Dial::position:
      return value.number == static_cast<double>(task.sink_token);
    case Dial::mask:
      return value.keys.empty();
  }
  internal_error_at("unknown dial");
}

int64_t measured_key(const DialTask& task, const DialValue& value) {
  return task.dial == Dial::position ? static_cast<int64_t>(value.number) : task.sink_token;
}

int64_t measured_place(const DialTask& task) { return task.dial == Dial::position ? 1 : 0; }

SetProgram base_program(const GraphPtr& model, const DialTask& task,
                        const std::vector<int64_t>& layers) {
  SetProgram program{model, {}, true};
  for (int64_t layer : layers) {
    const DialNames names(layer, task.branch);
    if (wants(task, Upstream::recomputed) || task.dial == Dial::norm)
      program.probes.push_back(names.stream);
    if (task.dial == Dial::norm) {
      if (wants(task, Upstream::frozen)) program.probes.push_back(names.norm_out + ".grad");
      continue;
    }
    for (const std::string& operand : {names.q, names.k, names.v})
      program.probes.push_back(operand);
    if (task.dial != Dial::mask) program.probes.push_back(names.z + ".grad");
  }
  return program;
}

SetProgram suffix_program(const GraphPtr& model, const DialTask& task, int64_t layer) {
  const DialNames names(layer, task.branch);
  std::vector<CutPoint> points = {{named(*model, names.stream), kStream}};
  if (task.dial != Dial::norm)  // which changes what attention reads
    for (const CutPoint& operand : operands(*model, names)) points.push_back(operand);
  const GraphPtr rest = cut(model, points);
  SetProgram program{apply_dial(rest, dial_options(task, names, 0)), {}, true};
  if (task.dial == Dial::norm)
    for (const std::string& value :
         {names.norm_in, names.norm_in + ".grad", names.norm_out + ".grad"})
      program.probes.push_back(token_request(value, task.sink_token));
  else if (task.dial != Dial::mask)
    program.probes.push_back(names.z + ".grad");
  return program;
}

SetProgram layer_program(const GraphPtr& model, const DialTask& task, int64_t layer) {
  const DialNames names(layer, task.branch);
  SetProgram program;
  if (task.dial == Dial::norm) {
    const GraphPtr norm = with_upstream(model, named(*model, names.norm_out), kUpstream);
    const GraphPtr alone = cut(norm, {{named(*norm, names.stream), kStream}});
    program.graph = apply_dial(alone, dial_options(task, names, 0));
    for (const std::string& value :
         {names.norm_in, names.norm_in + ".grad", names.norm_out + ".grad"})
      program.probes.push_back(token_request(value, task.sink_token));
    return program;
  }
  const GraphPtr attention = with_upstream(model, named(*model, names.z), kUpstream);
  const GraphPtr alone = cut(attention, operands(*attention, names));
  program.graph = apply_dial(alone, dial_options(task, names, 0));
  program.probes.push_back(kWeightsProbe);
  if (task.dial != Dial::mask) program.probes.push_back(std::string(kDialValues) + ".grad");
  return program;
}

double norm_eps(const Graph& model, const std::string& name, bool* centred) {
  const Node& node = model.node(named(model, name));
  if (node.op != Op::rms_norm && node.op != Op::layer_norm)
    user_error("dial", "{} is made by {}, but the norm dial needs rms_norm or layer_norm.", name,
               op_name(node.op));
  if (centred) *centred = node.op == Op::layer_norm;
  return node.attrs.get_float("eps");
}

}  // namespace weir
