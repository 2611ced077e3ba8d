#include "models/llama.h"

#include <fmt/format.h>

#include "models/parts.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

const std::vector<ModelConfig>& named_configs() {
  static const std::vector<ModelConfig> configs = {
      {.name = "demo"},
      {.name = "llama-0.1b",
       .layers = 16,
       .d_model = 512,
       .heads = 8,
       .kv_heads = 8,
       .d_head = 64,
       .d_ff = 1408,
       .vocabulary = 50257,
       .context = 1024},
      {.name = "llama-0.3b",
       .layers = 16,
       .d_model = 1024,
       .heads = 8,
       .kv_heads = 4,
       .d_head = 128,
       .d_ff = 2816,
       .vocabulary = 50257,
       .context = 2048},
      {.name = "llama-1b",
       .layers = 18,
       .d_model = 2048,
       .heads = 16,
       .kv_heads = 8,
       .d_head = 128,
       .d_ff = 5504,
       .vocabulary = 50257,
       .context = 2048},
  };
  return configs;
}

// Pre-norm blocks of attention with rotary embedding (half-split layout) and SwiGLU.
class Llama : ModelParts {
 public:
  using ModelParts::ModelParts;

  Model build() {
    declare_weights();
    Tensor x = embedding(weight("model.embed_tokens.weight"), tokens_).named("hook_embed");
    for (int64_t l = 0; l < c_.layers; ++l) {
      layer_ = fmt::format("model.layers.{}.", l);
      hooks_ = fmt::format("blocks.{}.", l);
      x = block(
          x, hooks_, [this](const Tensor& in) { return attention_branch(in); },
          [this](const Tensor& in) { return mlp_branch(in); });
    }
    Tensor n = rms_norm(x, weight("model.norm.weight"), c_.rms_eps);
    return finish(n, c_.tied ? "model.embed_tokens.weight" : "lm_head.weight");
  }

 private:
  bool qkv_bias() const { return c_.attention_bias || c_.architecture == Architecture::qwen2; }
  bool qk_norm() const { return c_.architecture == Architecture::qwen3; }

  void declare_weights() {
    int64_t D = c_.d_model, Q = c_.heads * c_.d_head, KV = c_.kv_heads * c_.d_head;
    declare_matrix("model.embed_tokens.weight", {c_.vocabulary, D});
    for (int64_t l = 0; l < c_.layers; ++l) {
      std::string layer = fmt::format("model.layers.{}.", l);
      declare_gain(layer + "input_layernorm.weight");
      declare_matrix(layer + "self_attn.q_proj.weight", {Q, D});
      declare_matrix(layer + "self_attn.k_proj.weight", {KV, D});
      declare_matrix(layer + "self_attn.v_proj.weight", {KV, D});
      if (qkv_bias()) {
        declare_bias(layer + "self_attn.q_proj.bias", Q);
        declare_bias(layer + "self_attn.k_proj.bias", KV);
        declare_bias(layer + "self_attn.v_proj.bias", KV);
      }
      if (qk_norm()) {
        declare_gain(layer + "self_attn.q_norm.weight", c_.d_head);
        declare_gain(layer + "self_attn.k_norm.weight", c_.d_head);
      }
      declare_matrix(layer + "self_attn.o_proj.weight", {D, Q});
      if (c_.attention_bias) declare_bias(layer + "self_attn.o_proj.bias", D);
      declare_gain(layer + "post_attention_layernorm.weight");
      declare_matrix(layer + "mlp.gate_proj.weight", {c_.d_ff, D});
      declare_matrix(layer + "mlp.up_proj.weight", {c_.d_ff, D});
      declare_matrix(layer + "mlp.down_proj.weight", {D, c_.d_ff});
      if (c_.mlp_bias) {
        declare_bias(layer + "mlp.gate_proj.bias", c_.d_ff);
        declare_bias(layer + "mlp.up_proj.bias", c_.d_ff);
        declare_bias(layer + "mlp.down_proj.bias", D);
      }
    }
    declare_gain("model.norm.weight");
    if (!c_.tied) declare_matrix("lm_head.weight", {c_.vocabulary, D});
  }

  Tensor projection(const Tensor& n, const std::string& name, bool bias) {
    Tensor y = linear(n, weight(layer_ + name + ".weight"));
    return bias ? y + weight(layer_ + name + ".bias") : y;
  }
  Tensor heads_of(const Tensor& n, const std::string& name, int64_t heads) {
    return split_heads(projection(n, name, qkv_bias()), heads);
  }

  // q or k as the score takes it.
  Tensor rotated(const Tensor& x, const std::string& norm) {
    Tensor n = x;
    if (qk_norm())
      n = rms_norm(x, weight(layer_ + "self_attn." + norm + ".weight"), c_.rms_eps)
              .named(hooks_ + "attn." + norm + ".hook_normalized");
    return rope(n, c_.rope_base, c_.rope_scaling);
  }

  Tensor attention_branch(const Tensor& x) {
    Tensor n = branch_rms_norm(x, hooks_ + "ln1.", layer_ + "input_layernorm.weight");
    std::string attn = hooks_ + "attn.";
    Tensor q = heads_of(n, "self_attn.q_proj", c_.heads).named(attn + "hook_q");
    Tensor k = heads_of(n, "self_attn.k_proj", c_.kv_heads).named(attn + "hook_k");
    Tensor v = heads_of(n, "self_attn.v_proj", c_.kv_heads).named(attn + "hook_v");
    Tensor z = attend(rotated(q, "q_norm"), rotated(k, "k_norm"), v, attn);
    name_results(z, weight(layer_ + "self_attn.o_proj.weight"), attn);
    return projection(z, "self_attn.o_proj", c_.attention_bias);
  }

  Tensor mlp_branch(const Tensor& x) {
    Tensor m = branch_rms_norm(x, hooks_ + "ln2.", layer_ + "post_attention_layernorm.weight");
    std::string mlp = hooks_ + "mlp.";
    Tensor gate = projection(m, "mlp.gate_proj", c_.mlp_bias).named(mlp + "hook_pre");
    Tensor up = projection(m, "mlp.up_proj", c_.mlp_bias).named(mlp + "hook_pre_linear");
    Tensor post = swiglu(gate, up).named(mlp + "hook_post");
    return projection(post, "mlp.down_proj", c_.mlp_bias);
  }

  std::string layer_, hooks_;  // of the block in the making
};

}  // namespace

std::vector<std::string> llama_config_names() {
  std::vector<std::string> names;
  for (const ModelConfig& config : named_configs()) names.push_back(config.name);
  return names;
}

ModelConfig llama_config(const std::string& name) {
  for (const ModelConfig& config : named_configs())
    if (config.name == name) return config;
  user_error("model", "unknown configuration '{}'. Known: {}.{}", name,
             join(llama_config_names(), ", "), did_you_mean(name, llama_config_names()));
}

Model build_llama(const ModelConfig& config, int64_t B, int64_t T) {
  WEIR_CHECK(config.architecture != Architecture::gpt2, "GPT-2 is built by build_gpt2");
  return Llama(config, B, T).build();
}

}  // namespace weir
