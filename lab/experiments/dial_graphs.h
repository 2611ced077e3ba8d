#pragma once
// The programs of a dial, made of one model's graph.
#include <string>
#include <vector>

#include "lab/experiments/dial.h"
#include "lab/experiments/program_set.h"
#include "passes/dial.h"

namespace weir {

/// Inputs of the programs beside `dial.keys`, `dial.amount`, `targets` and `loss_scale`: the
/// residual stream before the layer; the operands of its attention; what is handed back to the
/// layer when g is frozen.
inline constexpr const char* kStream = "dial.stream";
inline constexpr const char* kQueries = "dial.q";
inline constexpr const char* kKeyRows = "dial.k";
inline constexpr const char* kValueRows = "dial.v";
inline constexpr const char* kUpstream = "dial.upstream";

/// Names by which a layer's values are probed.
struct DialNames {
  explicit DialNames(int64_t layer, DialBranch branch);
  std::string stream, q, k, v, z;              ///< added to the graph by name_values
  std::string norm_in, norm_out, scaled_hook;  ///< of models/: the norm's, and of form stream
};

/// The model of one part with its rewrites, and names of DialNames for all layers asked for. User
/// errors: hooks and attention that the model lacks.
GraphPtr dial_model(const ModelSource& source, const DialTask& task, int64_t rows, int64_t length,
                    std::vector<AddedState>* added = nullptr);

DialOptions dial_options(const DialTask& task, const DialNames& names, int64_t attention);

/// What the inputs `dial.keys` and `dial.amount` are set to.
struct DialSetting {
  HostTensor keys, amount;
};
/// `heads`: query heads of the layer, of which those of the task are turned. Unless `turned` the
/// dial is neutral, with the keys of the value.
DialSetting dial_setting(const DialTask& task, const DialValue& value, int64_t heads,
                         bool turned = true);
/// Whether the value leaves the model as it is; what it gives is then known already.
bool is_neutral(const DialTask& task, const DialValue& value);
/// The key whose mass is measured, and its place among those of the dial.
int64_t measured_key(const DialTask& task, const DialValue& value);
int64_t measured_place(const DialTask& task);

/// The unchanged model, which gives what the sweeps start from.
SetProgram base_program(const GraphPtr& model, const DialTask& task,
                        const std::vector<int64_t>& layers);
/// What lies behind the stream before the layer, and behind the operands of its attention unless
/// the norm before it is dialled, with the dial: the loss and, where the dial is
/// about gradients, g.
SetProgram suffix_program(const GraphPtr& model, const DialTask& task, int64_t layer);
/// The layer's attention alone, or its norm, from operands and g: weights on the key and the
/// gradient at values, or the gradient at the norm's input.
SetProgram layer_program(const GraphPtr& model, const DialTask& task, int64_t layer);

/// The id of a probe of the whole value, and of one token of it.
std::string raw_id(const std::string& name);
std::string token_request(const std::string& name, int64_t token);
std::string token_id(const std::string& name, int64_t token);

/// Eps of the norm whose output has this name. User error for a value that is no norm's.
double norm_eps(const Graph& model, const std::string& name, bool* centred = nullptr);

}  // namespace weir
