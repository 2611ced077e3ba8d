#pragma once
// Where numbers stop being finite: while programs run, every result of every kernel is looked at
// as soon as it is there, so that the first NaN or infinity in the order of computation is known
// with its place, whatever hides it later. Kernels run one after the other for it, with the same
// bits.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/executable.h"

namespace weir {

/// The first result that is not finite.
struct NotFinite {
  std::string value;      ///< hook name, or "" where it has none
  std::string op;         ///< that makes it
  std::string where;      ///< of the definition, "file.cpp:line" or ""
  std::string near;       ///< name of the nearest named value that it is made from, or ""
  std::string kernel;     ///< symbol
  int64_t layer = -1;     ///< by the names; -1 if they do not tell
  int64_t sequence = -1;  ///< -1 where no axis is the batch's
  int64_t token = -1;     ///< likewise
  Type type;
  std::vector<int64_t> index;         ///< of the first such element, row-major
  double element = 0;                 ///< NaN or an infinity
  int64_t count = 0;                  ///< of such elements
  double largest_before = 0;          ///< largest finite |x| of the kernel's operands
  std::vector<std::string> operands;  ///< weights and other inputs that are not finite themselves
};
/// A sentence without its full stop.
std::string to_string(const NotFinite& found);

class FiniteCheck {
 public:
  /// Of programs that outlive this and do not move. `rows`: sequences of a part of a batch, which
  /// are added to the sequence of what is found in later parts.
  explicit FiniteCheck(const Executables& programs, int64_t rows = 0);

  /// For Session::set_kernel_sink; valid as long as this.
  KernelSink sink();
  const std::optional<NotFinite>& first() const { return first_; }
  void clear();

 private:
  struct Call {
    size_t program;
    int32_t node;
    bool hides_infinities;  ///< makes minus infinities on purpose, such as masked scores
  };
  using Memory = RunningMemory;
  void look(const KernelCall& call, const Memory& memory);
  NotFinite describe(const Call& call, Value result, const KernelCall& kernel,
                     const Memory& memory) const;

  const Executables& programs_;
  int64_t rows_;
  std::map<const KernelCall*, Call> calls_;  // last calls of their nodes
  std::map<size_t, int64_t> runs_;           // of the first call of each program
  std::map<const KernelCall*, size_t> first_calls_;
  std::optional<NotFinite> first_;
};

}  // namespace weir
