#include "ir/schedule_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/schedule.h"
#include "support/text.h"

namespace weir {
namespace {

class ScheduleRules {
 public:
  ScheduleRules(const Graph& region, Schedule schedule, const RuleReport& report)
      : region_(region),
        anchors_(anchors_of(schedule)),
        schedule_(schedule_name(schedule)),
        report_(report),
        reduced_(region.nodes().size()) {
    for (int32_t id = 0; id < region.size(); ++id) {
      if (is_class(id, OpClass::Reduction)) reductions_.push_back(id);
      reduced_[id] = is_class(id, OpClass::Reduction);
      for (Value input : region.node(id).inputs)
        reduced_[id] = reduced_[id] || reduced_[input.node];
    }
  }

  void elementwise() {
    allow({OpClass::Elementwise, OpClass::Movement});
    outputs_of_one_shape();
  }

  void row() {
    allow({OpClass::Elementwise, OpClass::Movement, OpClass::Reduction});
    if (reductions_.empty()) return report_(-1, "a row kernel has a reduction");
    Shape space = operand_shape(reductions_[0]), ends = space;
    if (!ends.empty()) ends.back() = 1;
    for (int32_t id : reductions_) {
      if (axes(id) != std::vector<int64_t>{static_cast<int64_t>(operand_shape(id).size()) - 1})
        report_(id, "a row kernel reduces the last axis alone");
      if (operand_shape(id) != space)
        report_(id, fmt::format("every reduction of a row kernel has operands of one shape, here "
                                "{}",
                                to_string(space)));
    }
    no_movement_after_reductions();
    for (const Output& output : region_.outputs()) {
      const Shape& shape = region_.type(output.value).shape;
      if (shape != space && shape != ends)
        report_(output.value.node, fmt::format("an output of this row kernel is {} or {}",
                                               to_string(space), to_string(ends)));
    }
  }

  void column() {
    allow({OpClass::Elementwise, OpClass::Movement, OpClass::Reduction});
    if (reductions_.empty()) return report_(-1, "a column kernel has a reduction");
    int32_t first = reductions_[0];
    const Shape& result = region_.node(first).types[0].shape;
    for (int32_t id : reductions_) {
      if (axes(id).back() == static_cast<int64_t>(operand_shape(id).size()) - 1)
        report_(id, "a column kernel does not reduce the last axis");
      if (axes(id) != axes(first) || operand_shape(id) != operand_shape(first))
        report_(id, "every reduction of a column kernel has the same axes and operand shape");
      if (reduced_[region_.node(id).inputs[0].node])
        report_(id, "a column kernel does not reduce what is reduced already");
    }
    no_movement_after_reductions();
    for (int32_t id = 0; id < region_.size(); ++id)
      if (reduced_[id] && region_.node(id).types[0].shape != result)
        report_(id, "after its reductions a column kernel works on the reduced shape " +
                        to_string(result));
    outputs_are(result);
  }

  void matmul() {
    allow({OpClass::Elementwise, OpClass::Contraction});
    int32_t anchor = the_only_anchor();
    if (anchor < 0) return;
    on_inputs(anchor);
    const Shape& shape = region_.node(anchor).types[0].shape;
    for (int32_t id = 0; id < region_.size(); ++id)
      if (is_class(id, OpClass::Elementwise) &&
          broadcast_shapes(region_.node(id).types[0].shape, shape) != shape)
        report_(id, fmt::format("an epilogue works on the shape of the product, {}, or on one that "
                                "broadcasts to it",
                                to_string(shape)));
    outputs_are(shape);
  }

  // One anchor and nothing else.
  void alone() {
    int32_t anchor = the_only_anchor();
    if (anchor >= 0) on_inputs(anchor);
  }

  void attention_grad() {
    int32_t anchor = the_only_anchor(Op::attention_stats);
    if (anchor < 0) return;
    on_inputs(anchor);
    const std::vector<Value>& of = region_.node(anchor).inputs;
    for (int32_t id = 0; id < region_.size(); ++id) {
      if (region_.node(id).op != Op::attention_stats) continue;
      Attrs attrs = region_.node(id).attrs;
      attrs.erase("sink");
      if (region_.node(id).inputs != std::vector<Value>{of[0], of[1], of[4]})
        report_(id, "statistics in the backward kernel are of its own q, k and rows");
      else if (attrs != region_.node(anchor).attrs)
        report_(id, "statistics in the backward kernel are of the same attention");
    }
  }

 private:
  bool is_class(int32_t id, OpClass op_class) const {
    return info(region_.node(id).op).op_class == op_class;
  }
  const std::vector<int64_t>& axes(int32_t id) const {
    return region_.node(id).attrs.get_ints("axes");
  }
  const Shape& operand_shape(int32_t id) const {
    return region_.type(region_.node(id).inputs[0]).shape;
  }

  void allow(const std::vector<OpClass>& classes) {
    for (int32_t id = 0; id < region_.size(); ++id)
      if (!is_class(id, OpClass::Source) &&
          std::none_of(classes.begin(), classes.end(), [&](OpClass c) { return is_class(id, c); }))
        report_(id, fmt::format("{} does not belong into a kernel of schedule {}",
                                op_name(region_.node(id).op), schedule_));
  }

  // The one anchor of the kernel; every other node is a source, an epilogue of matmul or, once,
  // `companion`. -1 after a report.
  int32_t the_only_anchor(Op companion = Op::input) {
    int32_t anchor = -1, companions = 0;
    for (int32_t id = 0; id < region_.size(); ++id) {
      Op op = region_.node(id).op;
      bool fits = std::find(anchors_.begin(), anchors_.end(), op) != anchors_.end();
      if (fits && anchor < 0)
        anchor = id;
      else if (is_class(id, OpClass::Source) || (op == companion && companions++ == 0) ||
               (anchors_[0] == Op::matmul && is_class(id, OpClass::Elementwise)))
        continue;
      else
        report_(id,
                fmt::format("a kernel of schedule {} holds one {}", schedule_, names(anchors_)));
    }
    if (anchor < 0)
      report_(-1, fmt::format("a kernel of schedule {} holds one {}", schedule_, names(anchors_)));
    return anchor;
  }
  static std::string names(const std::vector<Op>& ops) {
    std::vector<std::string> texts;
    for (Op op : ops) texts.emplace_back(op_name(op));
    return join(texts, " or ");
  }

  void on_inputs(int32_t id) {
    for (Value input : region_.node(id).inputs)
      if (!region_.is_input(input))
        report_(id, fmt::format("{} works on inputs of its region", op_name(region_.node(id).op)));
  }

  void no_movement_after_reductions() {
    for (int32_t id = 0; id < region_.size(); ++id)
      if (is_class(id, OpClass::Movement) && reduced_[id])
        report_(id, "movement stands before every reduction");
  }

  void outputs_of_one_shape() {
    if (!region_.outputs().empty()) outputs_are(region_.type(region_.outputs()[0].value).shape);
  }
  void outputs_are(const Shape& shape) {
    for (const Output& output : region_.outputs())
      if (region_.type(output.value).shape != shape)
        report_(output.value.node, fmt::format("every output of a kernel of schedule {} has one "
                                               "shape, here {}",
                                               schedule_, to_string(shape)));
  }

  const Graph& region_;
  const std::vector<Op>& anchors_;
  const char* schedule_;  ///< its name
  const RuleReport& report_;
  std::vector<bool> reduced_;  ///< a reduction, or made from one
  std::vector<int32_t> reductions_;
};

}  // namespace

void check_schedule(const Graph& region, const std::string& name, const RuleReport& report) {
  const std::optional<Schedule> schedule = parse_schedule(name);
  if (!schedule)
    return report(
        -1, fmt::format("the schedule is one of {}, not {}.{}", join(schedule_names(), ", "), name,
                        name.size() > 80 ? "" : did_you_mean(name, schedule_names())));
  ScheduleRules rules(region, *schedule, report);
  switch (*schedule) {
#define SCHEDULE(name, rule, ...) \
  case Schedule::name:            \
    return rules.rule();
#include "ir/schedules.def"
  }
}

}  // namespace weir
