#pragma once
// The numbers of a heads experiment, from values of its programs.
#include <string>
#include <vector>

#include "interpret/host_tensor.h"
#include "lab/experiments/heads.h"

namespace weir {

/// Sums of a layer over the parts of a batch.
class LayerSums {
 public:
  explicit LayerSums(int64_t heads);
  /// Weights [B,H,T,S].
  void add_pattern(const HostTensor& pattern, bool similarity);
  /// Contributions [B,T,H,D], the branch's output [B,T,D] and the projection's bias [D] or empty.
  void add_results(const HostTensor& results, const HostTensor& output,
                   const std::vector<double>& bias, bool similarity);
  /// Gates [B,T,H,.] or [B,T,H].
  void add_gates(const HostTensor& gates);
  LayerHeads result(bool similarity) const;

 private:
  struct Cosines {
    std::vector<double> sums, counts;  ///< [H,H], above the diagonal
  };
  // Adds the cosines of `heads` rows of `size` numbers, `stride` apart.
  void add_cosines(Cosines& to, const double* rows, int64_t stride, int64_t size) const;
  HeadMatrix matrix(const Cosines& of) const;

  int64_t heads_;
  Cosines maps_, outputs_;
  std::vector<double> sink_, row_sums_, norms_, gates_;
  double sink_queries_ = 0, queries_ = 0, tokens_ = 0, gate_count_ = 0;
  double largest_error_ = 0, largest_output_ = 0;
};

/// Of nats by sequence against those of the unchanged model.
ChangedLoss changed_loss(const std::vector<double>& nats, const std::vector<double>& unchanged,
                         const std::vector<double>& targets);

}  // namespace weir
