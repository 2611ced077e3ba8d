#include "ir/op.h"

#include <unordered_map>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

std::vector<AttrSpec> parse_attributes(const char* text) {
  static const std::unordered_map<std::string, AttrKind> kinds = {
      {"int", AttrKind::Int},       {"float", AttrKind::Float}, {"bool", AttrKind::Bool},
      {"string", AttrKind::String}, {"ints", AttrKind::Ints},   {"dtype", AttrKind::Dtype}};
  std::vector<AttrSpec> specs;
  for (const std::string& part : split(text, ' ')) {
    if (part.empty()) continue;
    size_t colon = part.find(':');
    bool optional = part.back() == '?';
    std::string kind = part.substr(colon + 1, part.size() - colon - 1 - (optional ? 1 : 0));
    specs.push_back({part.substr(0, colon), kinds.at(kind), optional});
  }
  return specs;
}

const std::vector<OpInfo>& table() {
  static const std::vector<OpInfo> rows = [] {
    using namespace op_trait;
    return std::vector<OpInfo>{
#define OP(name, op_class, builder, lo, hi, results, traits, low, high, attributes, meaning, \
           operands, cost, instructions)                                                     \
  {#name,                                                                                    \
   OpClass::op_class,                                                                        \
   lo,                                                                                       \
   hi,                                                                                       \
   results,                                                                                  \
   traits,                                                                                   \
   low,                                                                                      \
   high,                                                                                     \
   meaning,                                                                                  \
   parse_attributes(attributes),                                                             \
   OperandKind::operands,                                                                    \
   OpCost::cost,                                                                             \
   instructions},
#include "ir/ops.def"
    };
  }();
  return rows;
}

}  // namespace

const AttrSpec* OpInfo::find_attribute(std::string_view attribute) const {
  for (const AttrSpec& spec : attributes)
    if (spec.name == attribute) return &spec;
  return nullptr;
}

const OpInfo& info(Op op) { return table()[static_cast<size_t>(op)]; }

std::optional<Op> parse_op(std::string_view name) {
  static const std::unordered_map<std::string_view, Op> by_name = [] {
    std::unordered_map<std::string_view, Op> names;
    for (Op op : all_ops()) names[op_name(op)] = op;
    names["surrogate"] = Op::straight_through;  // graphs of earlier versions
    return names;
  }();
  auto found = by_name.find(name);
  if (found == by_name.end()) return std::nullopt;
  return found->second;
}

const std::vector<Op>& all_ops() {
  static const std::vector<Op> ops = [] {
    std::vector<Op> list;
    for (size_t i = 0; i < table().size(); ++i) list.push_back(static_cast<Op>(i));
    return list;
  }();
  return ops;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (Op op : all_ops()) names.emplace_back(op_name(op));
  return names;
}

}  // namespace weir
