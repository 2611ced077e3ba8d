#pragma once
// What the architectures share: declared weights, the norm of a branch, attention with its hooks,
// the end of the model. Everything is named as models/README.md lists it.
#include <map>
#include <string>

#include "ir/builder.h"
#include "models/config.h"
#include "models/model.h"

namespace weir {

class ModelParts {
 public:
  /// Checks the configuration, and that T tokens are within what it can do.
  ModelParts(const ModelConfig& config, int64_t B, int64_t T);

 protected:
  // Declared first, in the order of the states: inputs come before nodes.
  void declare_matrix(const std::string& name, Shape shape);  ///< normal start, decays
  void declare_gain(const std::string& name);                 ///< [D] of ones
  void declare_gain(const std::string& name, int64_t width);
  void declare_bias(const std::string& name, int64_t width);  ///< zeros
  const Tensor& weight(const std::string& name) const { return weights_.at(name); }

  /// The norm before a branch, with the hooks `in`, `scale` and `normalized`. `in` is the branch's
  /// own use of the residual stream, so that its gradient is the part that flows through the norm.
  Tensor branch_rms_norm(const Tensor& x, const std::string& hooks, const std::string& gain);
  Tensor branch_layer_norm(const Tensor& x, const std::string& hooks, const std::string& gain,
                           const std::string& bias);

  /// [B,T,heads d] as [B,T,heads,d].
  Tensor split_heads(const Tensor& x, int64_t heads);
  /// Causal attention of q, k (as the score takes them) and v: z as [B,T,H d]. Hooks: rot_q, rot_k,
  /// attn_scores, lse, pattern, z.
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const std::string& hooks);
  /// What each head adds to the attention output, named hook_result; `output` is [D, H d].
  void name_results(const Tensor& z, const Tensor& output, const std::string& hooks);

  /// The residual stream through one block, given its two branches.
  template <typename Attention, typename Mlp>
  Tensor block(const Tensor& x, const std::string& hooks, Attention attention, Mlp mlp) {
    x.named(hooks + "hook_resid_pre");
    Tensor mid = x + attention(x).named(hooks + "hook_attn_out");
    mid.named(hooks + "hook_resid_mid");
    return (mid + mlp(mid).named(hooks + "hook_mlp_out")).named(hooks + "hook_resid_post");
  }

  /// The output projection of the normalised stream, the loss, and the finished graph.
  Model finish(const Tensor& normalized, const std::string& output_weight);

  const ModelConfig c_;
  const int64_t B_, T_;
  Builder b_;
  Tensor tokens_, targets_, loss_scale_;

 private:
  void declare(Parameter parameter);

  std::map<std::string, Tensor> weights_;
  std::vector<Parameter> parameters_;
};

}  // namespace weir
