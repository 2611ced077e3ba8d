#include "models/gpt2.h"

#include <fmt/format.h>

#include "models/parts.h"

namespace weir {
namespace {

// Pre-norm blocks; one matrix [in, out] makes q, k and v.
class Gpt2 : ModelParts {
 public:
  using ModelParts::ModelParts;

  Model build() {
    declare_weights();
    Tensor embedded = embedding(weight("transformer.wte.weight"), tokens_).named("hook_embed");
    Tensor rows = slice(weight("transformer.wpe.weight"), {0, 0}, {T_, c_.d_model});
    Tensor positions = broadcast(rows, {B_, T_, c_.d_model}).named("hook_pos_embed");
    Tensor x = embedded + positions;
    for (int64_t l = 0; l < c_.layers; ++l) {
      layer_ = fmt::format("transformer.h.{}.", l);
      hooks_ = fmt::format("blocks.{}.", l);
      x = block(
          x, hooks_, [this](const Tensor& in) { return attention_branch(in); },
          [this](const Tensor& in) { return mlp_branch(in); });
    }
    Tensor n = layer_norm(x, weight("transformer.ln_f.weight"), weight("transformer.ln_f.bias"),
                          c_.rms_eps);
    return finish(n, c_.tied ? "transformer.wte.weight" : "lm_head.weight");
  }

 private:
  void declare_norm(const std::string& name) {
    declare_gain(name + ".weight");
    declare_bias(name + ".bias", c_.d_model);
  }
  void declare_linear(const std::string& name, int64_t in, int64_t out) {
    declare_matrix(name + ".weight", {in, out});
    declare_bias(name + ".bias", out);
  }

  void declare_weights() {
    int64_t D = c_.d_model;
    declare_matrix("transformer.wte.weight", {c_.vocabulary, D});
    declare_matrix("transformer.wpe.weight", {c_.context, D});
    for (int64_t l = 0; l < c_.layers; ++l) {
      std::string layer = fmt::format("transformer.h.{}.", l);
      declare_norm(layer + "ln_1");
      declare_linear(layer + "attn.c_attn", D, 3 * D);
      declare_linear(layer + "attn.c_proj", D, D);
      declare_norm(layer + "ln_2");
      declare_linear(layer + "mlp.c_fc", D, c_.d_ff);
      declare_linear(layer + "mlp.c_proj", c_.d_ff, D);
    }
    declare_norm("transformer.ln_f");
    if (!c_.tied) declare_matrix("lm_head.weight", {c_.vocabulary, D});
  }

  Tensor projection(const Tensor& x, const std::string& name) {
    return matmul(x, weight(layer_ + name + ".weight")) + weight(layer_ + name + ".bias");
  }
  // Part 0, 1 or 2 (q, k, v) of the joint projection.
  Tensor part(const Tensor& qkv, int64_t index) {
    int64_t D = c_.d_model;
    return split_heads(slice(qkv, {0, 0, index * D}, {B_, T_, (index + 1) * D}), c_.heads);
  }

  Tensor attention_branch(const Tensor& x) {
    Tensor n = branch_layer_norm(x, hooks_ + "ln1.", layer_ + "ln_1.weight", layer_ + "ln_1.bias");
    std::string attn = hooks_ + "attn.";
    Tensor qkv = projection(n, "attn.c_attn");
    Tensor q = part(qkv, 0).named(attn + "hook_q");
    Tensor k = part(qkv, 1).named(attn + "hook_k");
    Tensor v = part(qkv, 2).named(attn + "hook_v");
    Tensor z = attend(q, k, v, attn);
    name_results(z, transpose(weight(layer_ + "attn.c_proj.weight"), {1, 0}), attn);
    return projection(z, "attn.c_proj");
  }

  Tensor mlp_branch(const Tensor& x) {
    Tensor m = branch_layer_norm(x, hooks_ + "ln2.", layer_ + "ln_2.weight", layer_ + "ln_2.bias");
    Tensor pre = projection(m, "mlp.c_fc").named(hooks_ + "mlp.hook_pre");
    Tensor post = gelu(pre).named(hooks_ + "mlp.hook_post");
    return projection(post, "mlp.c_proj");
  }

  std::string layer_, hooks_;  // of the block in the making
};

}  // namespace

Model build_gpt2(const ModelConfig& config, int64_t B, int64_t T) {
  return Gpt2(config, B, T).build();
}

}  // namespace weir
