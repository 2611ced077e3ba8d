#pragma once
// The program as data: an immutable list of typed nodes in topological order. A pass takes a graph
// and returns a graph; one that changes nothing returns the same pointer. Graphs are made by
// GraphEditor (ir/edit.h), by the Builder that users call, or by the parser.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attrs.h"
#include "ir/op.h"
#include "ir/type.h"
#include "support/shared.h"

namespace weir {

class Graph;
using GraphPtr = std::shared_ptr<const Graph>;

/// What has been done to a graph; each stage has its own rules in ir/verify.
enum class Stage : uint8_t { built, differentiated, instrumented, lowered, fused, planned };

const char* stage_name(Stage stage);
std::optional<Stage> parse_stage(std::string_view name);
std::vector<std::string> stage_names();

/// One result of one node of a graph.
struct Value {
  int32_t node = -1;
  int32_t result = 0;

  bool valid() const { return node >= 0; }
  auto operator<=>(const Value&) const = default;
};

struct Node {
  Op op = Op::input;
  Attrs attrs;
  std::vector<Value> inputs;
  SharedList<Type> types;  ///< one a result
  GraphPtr region;         ///< of a kernel; its inputs and outputs correspond by position
  SharedText where;        ///< "file.cpp:line" of the builder call, or ""
};

struct Output {
  std::string name;
  Value value;
};

class Graph {
 public:
  const std::string& name() const { return name_; }
  Stage stage() const { return stage_; }
  /// Facts about the whole graph: `arena` (bytes) once planned.
  const Attrs& attrs() const { return attrs_; }

  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(int32_t id) const { return nodes_[id]; }
  const Node& node(Value value) const { return nodes_[value.node]; }
  const Type& type(Value value) const { return nodes_[value.node].types[value.result]; }
  int32_t size() const { return static_cast<int32_t>(nodes_.size()); }

  /// The input nodes, in order; they come first among the nodes.
  const std::vector<int32_t>& inputs() const { return inputs_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  bool is_input(Value value) const { return nodes_[value.node].op == Op::input; }
  const std::string& input_name(int32_t id) const { return nodes_[id].attrs.get_string("name"); }
  std::optional<Value> find_input(std::string_view name) const;
  std::optional<Value> find_output(std::string_view name) const;

  /// Names of values (hook names), unique; a value may have several.
  const std::map<std::string, Value, std::less<>>& names() const { return names_; }
  std::optional<Value> find(std::string_view name) const;
  /// The names of each value, sorted; absent values have none.
  std::map<Value, std::vector<std::string>> names_by_value() const;

  /// How often each result of each node is used, outputs of the graph included.
  std::vector<std::vector<int32_t>> use_counts() const;

  bool operator==(const Graph& other) const;

 private:
  friend class GraphEditor;
  friend GraphPtr with_stage(const GraphPtr& graph, Stage stage);
  std::string name_;
  Stage stage_ = Stage::built;
  Attrs attrs_;
  std::vector<Node> nodes_;
  std::vector<int32_t> inputs_;
  std::vector<Output> outputs_;
  std::map<std::string, Value, std::less<>> input_of_, output_of_;  // the first of each name
  std::map<std::string, Value, std::less<>> names_;
};

}  // namespace weir
