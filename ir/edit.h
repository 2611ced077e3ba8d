#pragma once
// How graphs are made. GraphEditor appends nodes (inferring types, interning equal pure nodes);
// rewrite() copies a graph node by node, letting a pass replace some; live_graph() drops the dead.
#include <functional>
#include <utility>

#include "ir/graph.h"

namespace weir {

class GraphEditor {
 public:
  explicit GraphEditor(std::string name, Stage stage = Stage::built);

  /// Appends an input; a user error if the name is taken.
  Value input(const std::string& name, const Type& type, bool state = false);
  Value constant(double value, const Type& type);
  /// An i32 or f32 tensor whose elements are their index along `axis`.
  Value iota(int64_t axis, const Type& type);

  /// Appends a node of any op but sources; types are inferred, user errors name the op. An equal
  /// pure node that exists already is returned instead.
  std::vector<Value> add_node(Op op, std::vector<Value> inputs, Attrs attrs = {},
                              SharedText where = {});
  /// The same for the ops of one result.
  Value add(Op op, std::vector<Value> inputs, Attrs attrs = {}, SharedText where = {});
  /// Appends a kernel; the region's inputs and outputs correspond to operands and results.
  std::vector<Value> add_kernel(std::vector<Value> inputs, Attrs attrs, GraphPtr region,
                                SharedText where = {});
  /// Appends node `id` of another graph with the operands given. One whose operands have the types
  /// that it had is not checked and inferred again.
  std::vector<Value> add_like(const Graph& from, int32_t id, std::vector<Value> inputs);
  /// Appends a source with its given type.
  Value add_source(Op op, const Type& type, Attrs attrs, SharedText where = {});

  /// Gives a value a further name; a user error if another value has it.
  void name(Value value, const std::string& name);
  void set_stage(Stage stage) { graph_->stage_ = stage; }
  void set_attribute(const std::string& name, AttrValue value) {
    graph_->attrs_.set(name, std::move(value));
  }
  void output(const std::string& name, Value value);

  const Graph& graph() const { return *graph_; }
  const Type& type(Value value) const { return graph_->type(value); }
  /// Room for so many nodes.
  void reserve(size_t nodes) { graph_->nodes_.reserve(nodes); }
  /// Sets an attribute that says where or how a node runs, never what it computes (`offset`).
  void annotate(int32_t node, const std::string& name, AttrValue value);

  /// The finished graph; the editor is empty afterwards.
  GraphPtr finish();

 private:
  // The nodes that an equal one is looked for among: their numbers by hash, in one open table, so
  // that a node costs no memory of its own here.
  class Interned {
   public:
    /// The number of the node equal to `node`; -1 if there is none.
    int32_t find(const Graph& graph, const Node& node, size_t hash) const;
    void insert(size_t hash, int32_t id);
    void clear();

   private:
    struct Slot {
      size_t hash = 0;
      int32_t id = -1;
    };
    void put(const Slot& slot);
    std::vector<Slot> slots_;  // a power of two of them, or none
    size_t used_ = 0;
  };

  std::vector<Value> append(Node node);
  std::shared_ptr<Graph> graph_;
  Interned interned_;
};

/// The copy of a graph in the making, as a pass sees it.
class Rewriter : public GraphEditor {
 public:
  explicit Rewriter(const Graph& old);
  const Graph& old() const { return old_; }
  /// The new value that stands for an old one.
  Value operator[](Value old_value) const;
  /// The same; an invalid value where nothing stands for it.
  Value find(Value old_value) const { return map_[first_[old_value.node] + old_value.result]; }
  std::vector<Value> operator[](const std::vector<Value>& old_values) const;
  /// Copies the old node as it is.
  std::vector<Value> copy(int32_t old_node);
  /// Declares what stands for the results of an old node.
  void replace(int32_t old_node, const std::vector<Value>& results);
  /// Carries outputs and names over and finishes. A name whose value has no counterpart is an
  /// internal error: names survive every rewrite.
  GraphPtr finish_copy();

 private:
  const Graph& old_;
  // The results of all nodes, those of node n from first_[n] on; invalid where none is known.
  std::vector<Value> map_;
  std::vector<int32_t> first_;
};

/// For each node of `graph` in order, `rule` returns what replaces its results, or nothing to copy
/// it. Returns `graph` itself if the outcome is equal to it.
using RewriteRule = std::function<std::optional<std::vector<Value>>(Rewriter&, int32_t node)>;
GraphPtr rewrite(const GraphPtr& graph, const RewriteRule& rule);

/// Inlines `graph` into `editor` with its inputs replaced; returns its outputs in order.
std::vector<Value> inline_graph(GraphEditor& editor, const Graph& graph,
                                const std::vector<Value>& inputs);

/// The graph without nodes that no output, effect or kept name needs. Inputs always stay. If
/// `keep_named`, named values stay too; otherwise names of dropped values go with them.
GraphPtr live_graph(const GraphPtr& graph, bool keep_named);

/// The same graph at another stage.
GraphPtr with_stage(const GraphPtr& graph, Stage stage);

}  // namespace weir
