#pragma once
// What a check keeps of the two sides of identities as they come from the program: by head the
// worst error of an identity, the tightness of a bound, and where.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/probe_value.h"
#include "passes/identities.h"

namespace weir {

struct CheckLimits {
  /// An exact identity holds where error <= tolerance x scale, a bound where left <= (1 + slack)
  /// right + tolerance x scale: of 32-bit arithmetic, or of the interpreter's.
  double tolerance = 1e-5, slack = 1e-4;
  /// What 32-bit numbers flush to zero; added to both.
  double smallest = 1e-36;
};
CheckLimits check_limits(bool interpreted);

/// Both sides of an identity at one place.
struct CheckPlace {
  int64_t sequence = 0, head = 0, token = 0;
  double left = 0, right = 0;
  double error = 0, scale = 0;  ///< of exact identities
};

/// Of one head (of norms that are not within heads, there is one).
struct CheckHead {
  double worst = 0;   ///< of exact identities error / scale, of bounds left / (right + tolerance x
                      ///< scale): the largest
  double median = 0;  ///< of bounds: of left / right, where right is not 0
  CheckPlace at;      ///< of the worst
};

struct CheckResult {
  std::vector<CheckHead> heads;
  int64_t places = 0, failures = 0;
  std::optional<CheckPlace> failure;  ///< the first of the worst
};

/// Identity 6: with upstream gradients g of the queries that see key `sink` as mean mu plus noise,
/// sigma^2 the mean squared distance from it and rho the mean covariance of two queries' noise (not
/// below 0), M and S the key's mass and second moment in a sequence,
///
///   mean M^2 |mu|^2  <=  mean |sum_t a_ts g_t|^2  <=  mean (M^2 |mu|^2 + sigma^2 S + rho (M^2 -
///   S)),
///
/// means over sequences. A theorem for suprema in place of estimates: reported, never an error.
struct MeanAndNoise {
  double lower = 0, energy = 0, upper = 0;
};

class CheckValues {
 public:
  CheckValues(std::vector<IdentitySite> sites, CheckLimits limits, int64_t sink)
      : sites_(std::move(sites)), limits_(limits), sink_(sink) {}

  /// A probe's value, or the next part of it along the batch.
  void add(const ProbeValue& value);

  const std::vector<IdentitySite>& sites() const { return sites_; }
  const CheckLimits& limits() const { return limits_; }
  /// Of an identity that applies to the site.
  CheckResult result(size_t site, IdentityId identity) const;
  /// By query head of an attention site.
  std::vector<MeanAndNoise> mean_and_noise(size_t site) const;

 private:
  // Values of one part of the batch, until all sides have come.
  using Sides = std::map<std::string, HostTensor>;
  struct Totals {
    int64_t sequences = 0, places = 0, failures = 0;
    std::vector<CheckHead> heads;
    std::vector<std::vector<double>> ratios;  // of bounds, by head
    std::optional<CheckPlace> failure;
    double failure_excess = 0;
  };
  // One sequence and head.
  struct Moments {
    double mass = 0, square = 0, value_norm = 0, gradient_square = 0;
    std::vector<double> gradient_sum;
  };

  void add_identity(size_t site, const IdentityInfo& identity, const Sides& sides);
  void add_moments(size_t site, const Sides& sides);
  size_t site_of(const std::string& name, std::string& rest) const;

  std::vector<IdentitySite> sites_;
  CheckLimits limits_;
  int64_t sink_;
  std::map<std::pair<size_t, std::string>, Sides> open_;
  std::map<std::pair<size_t, IdentityId>, Totals> totals_;
  struct SiteMoments {
    int64_t queries = 0;  // that see the sink
    std::vector<std::vector<Moments>> by_head;
  };
  std::map<size_t, SiteMoments> moments_;
};

}  // namespace weir
