#include "lab/experiments/check_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lab/measure/statistics.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr const char* kMoments[] = {"mass", "square", "value_norm", "gradient_square",
                                    "gradient_sum"};

// How the numbers of an identity lie: by sequence, head and token.
struct Layout {
  int64_t sequences, heads, tokens;
  bool head_last;

  int64_t index(int64_t b, int64_t h, int64_t t) const {
    return head_last ? (b * tokens + t) * heads + h : (b * heads + h) * tokens + t;
  }
};

Layout layout_of(const Shape& shape, IdentitySiteKind kind) {
  if (kind == IdentitySiteKind::attention) return {shape[0], shape[1], shape[2], false};
  // A norm's or V-scale's numbers: [batch], [batch, tokens] or [batch, tokens ..., heads].
  Layout layout{shape.empty() ? 1 : shape[0], 1, 1, true};
  if (shape.size() > 2) layout.heads = shape.back();
  layout.tokens = element_count(shape) / (layout.sequences * layout.heads);
  return layout;
}

size_t sides_of(IdentityKind kind) {
  switch (kind) {
    case IdentityKind::exact:
      return 4;
    case IdentityKind::zero:
      return 1;
    case IdentityKind::bound:
      return 3;
  }
  internal_error_at("unknown kind of identity");
}

// x / y, where 0 / 0 says that nothing is wrong.
double quotient(double x, double y) {
  if (std::isnan(x) || std::isnan(y)) return kInfinity;
  if (x == 0) return 0;
  return y == 0 ? kInfinity : x / y;
}

}  // namespace

CheckLimits check_limits(bool interpreted) {
  if (interpreted) return {.tolerance = 1e-10, .slack = 1e-9, .smallest = 0};
  return {};
}

size_t CheckValues::site_of(const std::string& name, std::string& rest) const {
  for (size_t i = 0; i < sites_.size(); ++i) {
    const std::string prefix = identity_value(sites_[i], "");
    if (name.starts_with(prefix)) {
      rest = name.substr(prefix.size());
      return i;
    }
  }
  internal_error_at(name + " belongs to no site");
}

void CheckValues::add(const ProbeValue& value) {
  std::string rest;
  const size_t site = site_of(value.id.substr(0, value.id.find(':')), rest);
  const size_t dot = rest.find('.');
  const std::string key = rest.substr(0, dot);
  if (dot == std::string::npos) {
    Sides& sides = open_[{site, ""}];
    sides[key] = value.host();
    if (sides.size() < std::size(kMoments)) return;
    add_moments(site, sides);
    open_.erase({site, ""});
    return;
  }
  const auto identity = std::find_if(all_identities().begin(), all_identities().end(),
                                     [&](const IdentityInfo& row) { return key == row.key; });
  WEIR_CHECK(identity != all_identities().end(), "{} is no identity", key);
  Sides& sides = open_[{site, key}];
  sides[rest.substr(dot + 1)] = value.host();
  if (sides.size() < sides_of(identity->kind)) return;
  if (not_applicable(*identity, sites_[site]).empty()) add_identity(site, *identity, sides);
  open_.erase({site, key});
}

void CheckValues::add_identity(size_t site, const IdentityInfo& identity, const Sides& sides) {
  Totals& totals = totals_[{site, identity.id}];
  const Layout layout = layout_of(sides.at("left").shape(), sites_[site].kind);
  totals.heads.resize(static_cast<size_t>(layout.heads),
                      CheckHead{.worst = -1, .median = 0, .at = {}});
  totals.ratios.resize(static_cast<size_t>(layout.heads));
  const auto number = [&](const char* side, int64_t i) {
    const auto found = sides.find(side);
    return found == sides.end() ? 0.0 : found->second.data[static_cast<size_t>(i)];
  };
  for (int64_t b = 0; b < layout.sequences; ++b)
    for (int64_t h = 0; h < layout.heads; ++h)
      for (int64_t t = 0; t < layout.tokens; ++t) {
        const int64_t i = layout.index(b, h, t);
        CheckPlace place{.sequence = totals.sequences + b,
                         .head = h,
                         .token = t,
                         .left = number("left", i),
                         .right = number("right", i),
                         .error = number("error", i),
                         .scale = number("scale", i)};
        double relative = 0, allowed = 0;
        switch (identity.kind) {
          case IdentityKind::exact:
            relative = quotient(place.error, place.scale);
            allowed = limits_.tolerance * place.scale + limits_.smallest - place.error;
            break;
          case IdentityKind::zero:
            relative = place.error = std::abs(place.left);
            allowed = -place.error;
            break;
          case IdentityKind::bound:
            relative = quotient(place.left, place.right + limits_.tolerance * place.scale);
            allowed = (1 + limits_.slack) * place.right + limits_.tolerance * place.scale +
                      limits_.smallest - place.left;
            totals.ratios[static_cast<size_t>(h)].push_back(relative);
            break;
        }
        CheckHead& head = totals.heads[static_cast<size_t>(h)];
        if (relative > head.worst) {
          head.worst = relative;
          head.at = place;
        }
        ++totals.places;
        if (allowed >= 0) continue;  // not so of NaN
        ++totals.failures;
        if (!totals.failure || relative > totals.failure_excess) {
          totals.failure = place;
          totals.failure_excess = relative;
        }
      }
  totals.sequences += layout.sequences;
}

void CheckValues::add_moments(size_t site, const Sides& sides) {
  const Shape by_key = sides.at("mass").shape(), of_sums = sides.at("gradient_sum").shape();
  const int64_t sequences = by_key[0], heads = by_key[1], keys = by_key[2], width = of_sums[3];
  SiteMoments& all = moments_[site];
  all.by_head.resize(static_cast<size_t>(heads));
  all.queries = sites_[site].queries - (sites_[site].causal ? sink_ : 0);
  for (int64_t b = 0; b < sequences; ++b)
    for (int64_t h = 0; h < heads; ++h) {
      const auto at = static_cast<size_t>((b * heads + h) * keys + sink_);
      const auto number = [&](const char* name) { return sides.at(name).data[at]; };
      Moments moments{
          number("mass"), number("square"), number("value_norm"), number("gradient_square"), {}};
      const double* sum =
          &sides.at("gradient_sum").data[static_cast<size_t>((b * heads + h) * width)];
      moments.gradient_sum.assign(sum, sum + width);
      all.by_head[static_cast<size_t>(h)].push_back(std::move(moments));
    }
}

CheckResult CheckValues::result(size_t site, IdentityId identity) const {
  const auto found = totals_.find({site, identity});
  WEIR_CHECK(found != totals_.end(), "{} of {} has not come", info(identity).key,
             sites_[site].label());
  const Totals& totals = found->second;
  CheckResult result{totals.heads, totals.places, totals.failures, totals.failure};
  for (size_t h = 0; h < totals.heads.size(); ++h)
    if (!totals.ratios[h].empty()) result.heads[h].median = median(totals.ratios[h]);
  return result;
}

std::vector<MeanAndNoise> CheckValues::mean_and_noise(size_t site) const {
  const SiteMoments& all = moments_.at(site);
  std::vector<MeanAndNoise> result;
  for (const std::vector<Moments>& sequences : all.by_head) {
    const auto count = static_cast<double>(sequences.size());
    const auto queries = static_cast<double>(all.queries);
    std::vector<double> mu(sequences.front().gradient_sum.size(), 0);
    double square = 0, pairs = 0;
    for (const Moments& m : sequences) {
      double of_sum = 0;
      for (size_t i = 0; i < mu.size(); ++i) {
        mu[i] += m.gradient_sum[i] / (count * queries);
        of_sum += m.gradient_sum[i] * m.gradient_sum[i];
      }
      square += m.gradient_square / (count * queries);
      if (queries > 1) pairs += (of_sum - m.gradient_square) / (count * queries * (queries - 1));
    }
    double mean_square = 0;
    for (double x : mu) mean_square += x * x;
    const double noise = square - mean_square;
    const double covariance = queries > 1 ? std::max(0.0, pairs - mean_square) : 0;
    MeanAndNoise bounds;
    for (const Moments& m : sequences) {
      const double mass = m.mass * m.mass;
      bounds.energy += m.value_norm * m.value_norm / count;
      bounds.lower += mass * mean_square / count;
      bounds.upper +=
          (mass * mean_square + noise * m.square + covariance * (mass - m.square)) / count;
    }
    result.push_back(bounds);
  }
  return result;
}

}  // namespace weir
