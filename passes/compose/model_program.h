#pragma once
// Programs around a differentiated model: its nodes copied, with states before and further nodes
// behind or between them. Training steps and measurements are made this way.
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ir/edit.h"

namespace weir {

/// The programs of one batch. Computed at once there is `step` alone; in parts (micro-batches)
/// `prepare` sets the accumulators, `micro` runs once a part, `finish` completes the result.
struct BatchPrograms {
  GraphPtr step;
  GraphPtr prepare, micro, finish;

  /// Those that there are, in running order.
  std::vector<GraphPtr> in_order() const;
};

/// A state that one or more programs share.
struct ProgramState {
  std::string name;
  Type type;
};

/// A program (stage instrumented) in the making: an editor whose inputs are found by name. Inputs
/// come first, then the model's nodes, then whatever else.
class ModelProgram {
 public:
  /// `model` outlives the program.
  ModelProgram(const std::string& name, const Graph& model)
      : editor_(name, Stage::instrumented), model_(model) {}

  GraphEditor& editor() { return editor_; }
  void input(const ProgramState& input, bool state);
  void state(const ProgramState& added) { input(added, true); }
  /// All inputs of the model, in order.
  void model_inputs();
  /// All nodes and names of the model, whose inputs are there already. `after` is called when a
  /// node of the model has been copied.
  void model_nodes(const std::function<void(int32_t)>& after = {});

  Value at(const std::string& input) const { return inputs_.at(input); }
  bool has(const std::string& input) const { return inputs_.contains(input); }
  /// What stands for a value of the model.
  Value operator[](Value old) const { return map_.at(old.node).at(old.result); }

  /// Named code stays until lowering, so that nodes keep their order whatever is probed.
  GraphPtr finish() { return live_graph(editor_.finish(), true); }

 private:
  GraphEditor editor_;
  const Graph& model_;
  std::map<std::string, Value> inputs_;
  std::vector<std::vector<Value>> map_;
};

}  // namespace weir
