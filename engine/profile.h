#pragma once
// Where the time of programs goes: every kernel call timed by the wall clock while programs run,
// added up over the kernel nodes that share one structure, beside what each run has to compute and
// to move. Kernels run one after the other for it; without a sink they overlap where they can, so
// that a step takes somewhat less than the sum.
#include <map>
#include <string>
#include <vector>

#include "engine/executable.h"
#include "passes/kernel_cost.h"

namespace weir {

/// All kernel nodes of one structure.
struct KernelTime {
  std::string symbol;    ///< the function's name as perf shows it; calls of one node add _0, _1 ...
  std::string schedule;  ///< matmul, attention, row ...
  std::string makes =
      {};  ///< names of its values, layers and numbers as '*': "blocks.*.hook_attn_out"
  std::string shape = {};  ///< of its first result
  int nodes = 0;           ///< in all programs
  int64_t runs = 0;        ///< of these nodes, since the start
  double seconds = 0;      ///< of all runs
  KernelCost cost = {};    ///< of one run
};

class KernelProfile {
 public:
  /// Of programs that outlive this and do not move.
  explicit KernelProfile(const Executables& programs);

  /// For Session::run of any of the programs; valid as long as this.
  ProfileSink sink();
  /// Kernels that ran, those with the most time first.
  std::vector<KernelTime> times() const;

 private:
  struct Call {
    size_t kernel;  ///< position in kernels_
    bool is_first;  ///< of its node
  };
  std::vector<KernelTime> kernels_;
  std::map<const KernelCall*, Call> calls_;
};

/// "blocks.3.attn.hook_z" -> "blocks.*.attn.hook_z": parts that are numbers become '*'.
std::string without_numbers(const std::string& name);

}  // namespace weir
