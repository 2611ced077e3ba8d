#include "ir/verify.h"

#include <fmt/format.h>

#include <set>

#include "ir/infer.h"
#include "ir/normalizer.h"
#include "ir/print.h"
#include "ir/schedule_rules.h"
#include "support/align.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t kMaxShown = 10;

class StageRules {
 public:
  StageRules(const Graph& graph, RuleReport report, bool is_region)
      : graph_(graph), report_(std::move(report)), is_region_(is_region) {}

  void check() {
    // Printing and inference need a sound structure, so the rest waits for it.
    if (!structure()) return;
    for (int32_t id = 0; id < graph_.size(); ++id) node(id);
    state_outputs();
    const AttrValue* arena = graph_.attrs().find("arena");
    if ((arena != nullptr) != (graph_.stage() == Stage::planned))
      report_(-1, "a graph has an arena from planned on");
    if (arena && (!std::get_if<int64_t>(arena) || *std::get_if<int64_t>(arena) < 0))
      report_(-1, "an arena is a number of bytes, unlike " + to_string(*arena));
  }

 private:
  bool exists(Value value, int32_t before) const {
    return value.node >= 0 && value.node < before && value.result >= 0 &&
           value.result < static_cast<int32_t>(graph_.node(value).types.size());
  }

  bool structure() {
    bool sound = true;
    auto broken = [&](int32_t id, const std::string& rule) {
      report_(id, rule);
      sound = false;
    };
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const Node& n = graph_.node(id);
      for (Value input : n.inputs)
        if (!exists(input, id))
          broken(-1, fmt::format("operand {}.{} of node {} ({}) comes before it", input.node,
                                 input.result, id, op_name(n.op)));
      if ((n.op == Op::kernel) != (n.region != nullptr))
        broken(-1, fmt::format("a kernel and nothing else has a region, unlike node {} ({})", id,
                               op_name(n.op)));
      bool listed = id < static_cast<int32_t>(graph_.inputs().size()) && graph_.inputs()[id] == id;
      if ((n.op == Op::input) != listed)
        broken(-1, fmt::format("inputs come first, unlike node {} ({})", id, op_name(n.op)));
      if (n.op == Op::input && !n.attrs.has("name"))
        broken(-1, fmt::format("input {} has a name", id));
      if (info(n.op).op_class == OpClass::Source && n.types.size() != 1)
        broken(-1, fmt::format("a source has one type, unlike node {} ({})", id, op_name(n.op)));
    }
    for (const Output& output : graph_.outputs())
      if (!exists(output.value, graph_.size()))
        broken(-1, fmt::format("output {} refers to a value that exists", quoted(output.name)));
    for (const auto& [name, value] : graph_.names())
      if (!exists(value, graph_.size()))
        broken(-1, fmt::format("name {} refers to a value that exists", quoted(name)));
    if (sound) unique_names();
    return sound;
  }

  void unique_names() {
    std::set<std::string> inputs, outputs;
    for (int32_t id : graph_.inputs())
      if (!inputs.insert(graph_.input_name(id)).second)
        report_(id, "every input has a name of its own");
    for (const Output& output : graph_.outputs())
      if (!output.name.empty() && !outputs.insert(output.name).second)
        report_(output.value.node,
                "every named output has a name of its own, unlike " + output.name);
  }

  void state_outputs() {
    for (const Output& output : graph_.outputs()) {
      auto input = graph_.find_input(output.name);
      if (input && graph_.node(*input).attrs.get_bool("state") &&
          graph_.type(output.value) != graph_.type(*input))
        report_(output.value.node,
                fmt::format("output {} has the type of the state that it updates, {}", output.name,
                            to_string(graph_.type(*input))));
    }
  }

  void node(int32_t id) {
    const Node& n = graph_.node(id);
    if (!has_known_attributes(id)) return;
    types(id);
    offsets(id);
    if (n.op == Op::probe && n.attrs.get_string("id").empty()) report_(id, "a probe has an id");
    if (info(n.op).find_attribute(kNormalizer) || n.op == Op::attention_head_gate)
      same_normalizer(id);
    if (is_region_) in_region(id);
    switch (graph_.stage()) {
      case Stage::built:
      case Stage::differentiated:
        if (n.op == Op::probe) report_(id, "probes exist from instrumented on");
        [[fallthrough]];
      case Stage::instrumented:
        if (n.op == Op::kernel) report_(id, "kernels exist from fused on");
        break;
      case Stage::lowered:
        lowered(id);
        break;
      case Stage::fused:
      case Stage::planned:
        if (n.op != Op::input && n.op != Op::kernel && n.op != Op::reshape && n.op != Op::probe)
          report_(id, "only inputs, kernels, reshapes and probes are left");
        break;
    }
    if (n.op == Op::kernel) region(id);
  }

  bool has_known_attributes(int32_t id) {
    try {
      check_attributes(graph_.node(id).op, graph_.node(id).attrs);
      return true;
    } catch (const UserError& error) {
      report_(id, fmt::format("attributes are those of the op's row: {}", error.what()));
      return false;
    }
  }

  // What the rows of an attention say of its weights depends on its normaliser and its cap.
  void same_normalizer(int32_t id) {
    const Node& n = graph_.node(id);
    for (Value input : n.inputs) {
      const Node& from = graph_.node(input);
      if (from.op != Op::attention || input.result != 1) continue;
      const char *of = normalizer_name(normalizer_of(from.attrs)),
                 *own = normalizer_name(normalizer_of(n.attrs));
      if (std::string_view(of) != own)
        report_(id, fmt::format("{} has the normalizer {} of the attention whose rows it takes, "
                                "not {}",
                                op_name(n.op), of, own));
      const auto cap = [](const Attrs& attrs) {
        return attrs.has("cap") ? attrs.get_float("cap") : 0;
      };
      if (cap(from.attrs) != cap(n.attrs))
        report_(id, fmt::format("{} has the cap {} of the attention whose rows it takes, not {}",
                                op_name(n.op), cap(from.attrs), cap(n.attrs)));
    }
  }

  void types(int32_t id) {
    const Node& n = graph_.node(id);
    if (n.op == Op::kernel) return;
    try {
      if (info(n.op).op_class == OpClass::Source) return check_source(n.op, n.types.at(0), n.attrs);
      std::vector<const Type*> operands;
      operands.reserve(n.inputs.size());
      for (Value input : n.inputs) operands.push_back(&graph_.type(input));
      std::vector<Type> inferred = infer_types(n.op, operands, n.attrs);
      if (inferred == n.types.list()) return;
      std::vector<std::string> texts;
      for (const Type& type : inferred) texts.push_back(to_string(type));
      report_(id, "types are as inferred: " + (texts.empty() ? "none" : join(texts, ", ")));
    } catch (const UserError& error) {
      report_(id, fmt::format("operands fit the op: {}", error.what()));
    }
  }

  void offsets(int32_t id) {
    const Node& n = graph_.node(id);
    const AttrValue* attribute = n.attrs.find(kOffset);
    bool planned = graph_.stage() == Stage::planned;
    if (attribute && (!planned || (n.op != Op::kernel && n.op != Op::input)))
      return report_(id, "only kernels and inputs of planned graphs have an offset");
    if (!planned || n.op != Op::kernel) return;
    const auto* offsets = attribute ? std::get_if<std::vector<int64_t>>(attribute) : nullptr;
    if (!offsets || offsets->size() != n.types.size())
      return report_(id,
                     fmt::format("a planned kernel has one offset a result, {}", n.types.size()));
    for (size_t r = 0; r < offsets->size(); ++r)
      check_offset(id, (*offsets)[r], n.types[r].bytes());
  }

  void check_offset(int32_t id, int64_t offset, int64_t bytes) {
    if (offset >= 0) {
      const AttrValue* attribute = graph_.attrs().find("arena");
      const auto* arena = attribute ? std::get_if<int64_t>(attribute) : nullptr;
      if (offset % kAlignment)
        report_(id, fmt::format("offset {} is a multiple of {}", offset, kAlignment));
      if (arena && (bytes > *arena || offset > *arena - bytes))
        report_(id, fmt::format("offset {} and {} bytes end inside the arena of {}", offset, bytes,
                                *arena));
      return;
    }
    int64_t input = -(offset + 1);
    if (input >= static_cast<int64_t>(graph_.inputs().size()) ||
        !graph_.node(graph_.inputs()[input]).attrs.get_bool("state") ||
        graph_.node(graph_.inputs()[input]).types[0].bytes() != bytes)
      report_(id, fmt::format("offset {} is the state input {} of {} bytes", offset, input, bytes));
  }

  void lowered(int32_t id) {
    const Node& n = graph_.node(id);
    if (n.op == Op::kernel) report_(id, "kernels exist from fused on");
    if (n.op == Op::identity || n.op == Op::straight_through || n.op == Op::stop_gradient)
      report_(id, "identity, straight_through and stop_gradient are gone once lowered");
    if (info(n.op).op_class == OpClass::Composite && !info(n.op).has(op_trait::OwnKernel))
      report_(id, "composites without a kernel of their own are decomposed once lowered");
    if (info(n.op).find_attribute("key_block") && n.attrs.get_int_or("key_block", 0) < 1)
      report_(id, "attention carries a positive key_block once lowered");
    if (info(n.op).op_class != OpClass::Reduction) return;
    const std::vector<int64_t>& axes = n.attrs.get_ints("axes");
    int64_t last = graph_.type(n.inputs[0]).rank() - 1;
    bool alone = axes == std::vector<int64_t>{last};
    if (!alone && !axes.empty() && axes.back() == last)
      report_(id, "a reduction over the last and other axes is split once lowered");
    else if (alone != n.attrs.has("lanes"))
      report_(id, "a reduction has lanes exactly if it is over the last axis, once lowered");
  }

  void in_region(int32_t id) {
    const Node& n = graph_.node(id);
    if (n.op == Op::input && n.attrs.get_bool("state")) report_(id, "a region has no state");
    if (n.op == Op::probe || n.op == Op::reshape)
      report_(id, fmt::format("a region has no {}", op_name(n.op)));
  }

  void region(int32_t id) {
    const Node& n = graph_.node(id);
    const Graph& body = *n.region;
    std::vector<Type> operands, inputs, outputs;
    for (Value input : n.inputs) operands.push_back(graph_.type(input));
    for (int32_t input : body.inputs()) inputs.push_back(body.node(input).types[0]);
    size_t before = reported_in_region_;
    RuleReport report = [&](int32_t node, const std::string& rule) {
      ++reported_in_region_;
      report_(id, node < 0 ? rule
                           : fmt::format("{}, unlike node {} of the region: {}", rule, node,
                                         print_node(body, node)));
    };
    if (body.stage() != Stage::lowered) report(-1, "a region is of stage lowered");
    StageRules(body, report, true).check();
    if (reported_in_region_ != before) return;
    for (const Output& output : body.outputs()) outputs.push_back(body.type(output.value));
    if (operands != inputs) report(-1, "the region's inputs have the types of the operands");
    if (outputs != n.types) report(-1, "the region's outputs have the types of the results");
    if (outputs.empty()) report(-1, "a kernel has a result");
    if (static_cast<int>(operands.size()) > info(Op::kernel).inputs_max)
      report(-1, fmt::format("a kernel has at most {} operands", info(Op::kernel).inputs_max));
    check_schedule(body, n.attrs.get_string("schedule"), report);
  }

  const Graph& graph_;
  RuleReport report_;
  bool is_region_;
  size_t reported_in_region_ = 0;
};

// One paragraph a broken rule, or "" if none is.
std::string broken_rules(const Graph& graph) {
  std::vector<std::string> texts;
  size_t count = 0;
  RuleReport report = [&](int32_t node, const std::string& rule) {
    if (++count > kMaxShown) return;
    texts.push_back(node < 0 ? "\n  - " + rule
                             : fmt::format("\n  - {}, unlike node {}:\n      {}", rule, node,
                                           print_node(graph, node)));
  };
  StageRules(graph, report, false).check();
  if (count == 0) return "";
  std::string head = fmt::format("graph {} breaks {} of stage {}:", graph.name(),
                                 count == 1 ? "a rule" : fmt::format("{} rules", count),
                                 stage_name(graph.stage()));
  return head + join(texts, "") + (count > kMaxShown ? "\n  - ..." : "");
}

}  // namespace

void verify(const Graph& graph) {
  std::string broken = broken_rules(graph);
  if (!broken.empty()) internal_error_at(broken + "\n");
}

void verify_user(const Graph& graph, const std::string& file) {
  std::string broken = broken_rules(graph);
  if (!broken.empty())
    user_error("verify",
               "{}: {}\nCorrect the text, or give an earlier stage and let the passes do the rest.",
               file, broken);
}

}  // namespace weir
