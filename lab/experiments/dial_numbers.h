#pragma once
// The numbers of one setting of a dial, from what its programs hand out; in f64.
#include <functional>
#include <string>
#include <vector>

#include "interpret/host_tensor.h"
#include "lab/experiments/dial.h"

namespace weir {

/// The largest value that a claim's left side took in units of its right side, or an error.
class WorstCase {
 public:
  WorstCase(std::string name, double limit) : check_{.name = std::move(name), .limit = limit} {}
  /// A value that is NaN is worse than any other.
  void see(double value, const std::function<std::string()>& where);
  const DialCheck& check() const { return check_; }

 private:
  DialCheck check_;
};

/// What the claims of a dial of attention are compared with.
struct AttentionChecks {
  explicit AttentionChecks(double tolerance)
      : by_sum("|dv| <= sum a |g|", 1 + tolerance),
        by_mass("|dv| <= M max |g|", 1 + tolerance),
        by_moment("|dv| <= sqrt(S) sqrt(sum |g|^2)", 1 + tolerance),
        identity("dv = sum a g", tolerance) {}

  WorstCase by_sum, by_mass, by_moment;  ///< identity 5 of the theory
  WorstCase identity;                    ///< |dv - sum a g| / sum a |g|
};

/// Sums over sequences for the heads asked for.
class AttentionSums {
 public:
  explicit AttentionSums(std::vector<int64_t> heads);

  /// Adds sequences: `weights` [B,T,H] of every query on the key, `gradients` [B,H,d] at the key's
  /// value by queries behind it, `upstream` [B,T,H,d]. `where` names a sequence and a head.
  void add(const HostTensor& weights, const HostTensor& gradients, const HostTensor& upstream,
           int64_t key, AttentionChecks& checks,
           const std::function<std::string(int64_t sequence, int64_t head)>& where);
  /// Of masked keys: their mass alone. `weights` [B,T,H,K].
  void add_mass(const HostTensor& weights, const std::vector<int64_t>& keys);
  AttentionPoint mean() const;

 private:
  std::vector<int64_t> heads_;
  int64_t sequences_ = 0;
  AttentionPoint sums_;
};

/// Sums over sequences of the norm dial, from rows [B,1,D] of the dialled token.
class NormSums {
 public:
  /// `centred`: of LayerNorm, whose eps stands beside the variance.
  explicit NormSums(bool centred) : centred_(centred) {}
  void add(const HostTensor& input, const HostTensor& input_gradient,
           const HostTensor& output_gradient);
  NormPoint mean() const;

 private:
  bool centred_;
  int64_t sequences_ = 0;
  double inputs_ = 0, input_gradients_ = 0, output_gradients_ = 0;
  double least_ = 0;
};

}  // namespace weir
