#pragma once
// The numbers of op attention_identities, which computes by definition, pair by pair of a query t
// and a key s, what the gradients of attention must be and what bounds them. With weights a[t,s],
// upstream gradients g[t], outputs y[t] and
//
//   beta[t,s] = <g[t], v[s] - y[t]> + dlse[t],
//
// where dlse is the gradient at the row log-sum-exp, 0 unless the loss depends on that apart,
// the gradients of exponential normalisers are (Chen, Lin, Yao, arXiv 2603.17771)
//
//   dv[s] = sum_t a g[t],  dk[s] = scale sum_t a beta c q[t],  dq[t] = scale sum_s a beta c k[s],
//
// c being the derivative of a soft cap, 1 without one. Sums over t are over the queries that see
// key s, those over s over the keys that query t sees.
#include <cstdint>

namespace weir {

/// By key and query head, [B,H,count,S].
enum class KeyNumber : uint8_t {
  mass,              ///< sum_t a
  square,            ///< sum_t a^2
  value_scale,       ///< sum_t a |g[t]|: bounds dv and is the scale of its rounding errors
  gradient_square,   ///< sum_t |g[t]|^2
  largest_gradient,  ///< max_t |g[t]|
  largest_beta,      ///< max_t |beta|
  largest_query,     ///< max_t |q[t]|
  key_scale,         ///< scale sum_t a (|g[t]| (|v[s]| + |y[t]|) + |dlse[t]|) |q[t]|: rounding, dk
};
constexpr int64_t kKeyNumbers = 8;

/// By query and query head, [B,H,count,T].
enum class QueryNumber : uint8_t {
  row_sum,          ///< sum_s a beta: of the gradients of a row's scores
  row_scale,        ///< sum_s a (|g[t]| (|v[s]| + |y[t]|) + |dlse[t]|): rounding, row sum
  query_scale,      ///< scale sum_s a (|g[t]| (|v[s]| + |y[t]|) + |dlse[t]|) |k[s]|: dq
  query_bound,      ///< scale sum_s a |beta| |k[s] - kbar[t]|, kbar[t] = sum_s a k[s]
  weight_sum,       ///< sum_s a
  gradient_output,  ///< <g[t], y[t]>
};
constexpr int64_t kQueryNumbers = 6;

}  // namespace weir
