#pragma once
// The single-location model of Sagitova, Duranthon and Zdeborova, "Specialization of softmax
// attention heads" (arXiv 2603.03993), as a graph: one step of online SGD that draws its own
// samples, for many independent runs side by side.
//
// A sample has L tokens in R^D, x_l = z_l + [l = e] sum_f theta_f k*_f with z_l ~ N(0, I), a hidden
// location e uniform on the tokens, theta drawn from a law, and orthonormal hidden directions
// k*_1 .. k*_F. H heads with keys k_h have the scores chi_hl = x_l . k_h; their activation makes
// weights a_l of them, and the prediction of x_e is sum_l a_l x_l. The loss is |x_e - sum_l a_l
// x_l|^2 / D.
#include <cstdint>
#include <optional>
#include <string_view>

#include "ir/graph.h"

namespace weir {

enum class HeadActivation {
  /// a_l = (1/H) sum_h exp(chi_hl) / sum_l' exp(chi_hl'). A bias of a head cancels.
  kSoftmax,
  /// a_l = sum_h exp(chi_hl - b_h) / (1 + sum_l' exp(chi_hl' - b_h)): a head can switch off.
  kSoftmax1,
  /// a_l = sum_h exp(chi_hl - b_h) / sum_h' sum_l' exp(chi_h'l' - b_h'): one normalisation over
  /// tokens and heads.
  kBayesSoftmax,
};

inline constexpr HeadActivation kHeadActivations[] = {
    HeadActivation::kSoftmax, HeadActivation::kSoftmax1, HeadActivation::kBayesSoftmax};

/// "softmax", "softmax-1", "bayes-softmax".
std::string_view activation_name(HeadActivation activation);
std::optional<HeadActivation> find_activation(std::string_view name);
/// Whether the weights depend on the biases.
bool has_bias(HeadActivation activation);

/// How biases move.
enum class HeadBiases : uint8_t {
  kFixed,
  kTrained,     ///< by their gradient
  kTiedToNorm,  ///< b_h = |k_h|^2 / 2 + offset_h; the gradient goes through the keys
};

struct SingleLocationModel {
  int64_t runs = 1;        ///< S: independent runs, each with its own samples
  int64_t tokens = 2;      ///< L
  int64_t dimension = 2;   ///< D
  int64_t directions = 1;  ///< F
  int64_t heads = 1;       ///< H
  int64_t free_keys = 0;   ///< G, where K = tie K_free; 0: every head has its own
  /// P: theta is one of P points; 0: theta is Gaussian, independent by direction.
  int64_t points = 0;
  HeadActivation activation = HeadActivation::kSoftmax;
  HeadBiases biases = HeadBiases::kFixed;
  double bias_rate = 1;  ///< of trained biases, relative to the rate of keys
};

/// The graph (stage built). User error that lists all numbers out of range.
///
/// States: `keys` [S,G or H,D]; `bias` [S,H] (of softmax: none; with kTiedToNorm: the offsets);
/// `step` i32[], which counts up; `loss_sum` [S], to which every step adds its losses.
/// Inputs: `random_key` i32[S], one a run, so that a run draws the same samples whatever runs are
/// beside it; `directions` [F,D]; `tie` [H,G] if there are free keys; of a discrete law `law.low`
/// and `law.high` [P], between which a uniform number chooses a point, and `law.points` [P,F]; of a
/// Gaussian law `law.scales` [F].
/// Outputs: `loss`, the sum over the runs, of which the gradient is taken; the states.
/// Names for probes: `order.m` [S,H,F] = k_h . k*_f, `order.r` [S,H,H] = k_h . k_h', `order.b`
/// [S,H], `weights` [S,1,L], `sample.x` [S,L,D], `sample.location` [S,1,L], `sample.theta` [S,F],
/// `losses` [S].
GraphPtr single_location_step(const SingleLocationModel& model);

}  // namespace weir
