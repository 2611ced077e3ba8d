#pragma once
// Several programs on the weights of one model: compiled together, so that kernels and weights are
// there once, or interpreted in f64. A batch is computed in parts of some sequences, as many as fit
// into memory; whoever runs the programs goes through the parts.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/batch_runner.h"
#include "lab/measure/model_run.h"

namespace weir {

/// A probe's value kept as it is stored: f32 of compiled programs, f64 of the interpreter.
class StoredValue {
 public:
  StoredValue() = default;
  explicit StoredValue(const ProbeValue& value);

  TensorView view() const { return {type_, bytes_.data()}; }

 private:
  Type type_;
  std::vector<char> bytes_;
};

struct SetProgram {
  GraphPtr graph;  ///< of stage built, rewrites made
  std::vector<std::string> probes = {};
  bool loss = false;  ///< whether the output `loss` is computed beside what probes need
};

/// The programs for parts of so many sequences, and the bytes that the caller keeps meanwhile.
struct ProgramPlan {
  std::vector<SetProgram> programs;
  int64_t kept = 0;
};

using NamedInputs = std::vector<std::pair<std::string, TensorView>>;

class ProgramSet {
 public:
  /// Plans and compiles; `topic` is that of messages. User errors: those of graphs and probes; not
  /// enough memory for one sequence.
  ProgramSet(const ModelSource& source, int64_t batch, int64_t length,
             const std::function<ProgramPlan(int64_t rows)>& plan, const Target& target,
             const RunSettings& settings, std::string topic = "dial");
  ~ProgramSet();

  int64_t rows() const { return rows_; }
  const MemoryPeak& memory() const;
  CompileReport compile_report() const;
  bool interpreted() const { return settings_.interpret; }
  /// What was not finite first in all runs; nothing unless RunSettings::check_finite.
  const std::optional<NotFinite>& not_finite() const;

  /// Takes memory and reads the weights, with the states that `graph` has beside them.
  void load(const std::vector<Parameter>& parameters, const std::vector<AddedState>& added);
  /// Runs a program on inputs, of which it takes those that it has; the others keep what they hold
  /// (of the interpreter: all of a program's own are needed). Returns the loss, 0 without one.
  double run(size_t program, const NamedInputs& inputs, const ValueSink& sink);

 private:
  struct Planned;
  Planned planned(int64_t rows) const;
  BatchRunner::Planner planner(int64_t limit);
  double interpret(size_t program, const NamedInputs& inputs, const ValueSink& sink);

  const ModelSource& source_;
  int64_t batch_, length_, rows_ = 0;
  std::function<ProgramPlan(int64_t)> plan_;
  Target target_;
  RunSettings settings_;
  std::string topic_;
  std::vector<bool> has_loss_;
  std::vector<GraphPtr> instrumented_;  // of the interpreter
  std::unique_ptr<BatchRunner> runner_;
  std::optional<FiniteCheck> finite_;
  Tensors weights_;  // of the interpreter
};

}  // namespace weir
