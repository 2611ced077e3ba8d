#include "models/llama.h"

#include <fmt/format.h>

#include <cmath>

#include "ir/builder.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

const std::vector<LlamaConfig>& named_configs() {
  static const std::vector<LlamaConfig> configs = {
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

// Builds the graph block by block; weights are declared first, since inputs come before nodes.
class LlamaBuilder {
 public:
  LlamaBuilder(const LlamaConfig& config, int64_t B, int64_t T)
      : c_(config), B_(B), T_(T), b_(config.name) {}

  Model build() {
    Tensor tokens = b_.input("tokens", i32({B_, T_}));
    Tensor targets = b_.input("targets", i32({B_, T_}));
    Tensor loss_scale = b_.input("loss_scale", f32({}));
    declare_weights();
    Tensor x = embedding(weight("model.embed_tokens.weight"), tokens).named("hook_embed");
    for (int64_t l = 0; l < c_.layers; ++l) x = block(l, x);
    Tensor n = rms_norm(x, weight("model.norm.weight"), c_.rms_eps);
    n.named("ln_final.hook_normalized");
    const char* head = c_.tied ? "model.embed_tokens.weight" : "lm_head.weight";
    Tensor logits = linear(reshape(n, {B_ * T_, c_.d_model}), weight(head)).named("hook_logits");
    b_.output("loss", cross_entropy(logits, reshape(targets, {B_ * T_}), loss_scale));
    return {b_.finish(), parameters_};
  }

 private:
  void declare(const std::string& name, Shape shape, Initial initial) {
    Parameter p{name, f32(std::move(shape)), initial, 0, false};
    if (initial == Initial::normal) {
      p.deviation = c_.init_deviation;
      p.decay = true;
    }
    weights_[name] = b_.state(name, p.type);
    parameters_.push_back(std::move(p));
  }
  const Tensor& weight(const std::string& name) const { return weights_.at(name); }
  static std::string layer(int64_t l, const char* rest) {
    return fmt::format("model.layers.{}.{}.weight", l, rest);
  }

  void declare_weights() {
    int64_t D = c_.d_model, Q = c_.heads * c_.d_head, KV = c_.kv_heads * c_.d_head;
    declare("model.embed_tokens.weight", {c_.vocabulary, D}, Initial::normal);
    for (int64_t l = 0; l < c_.layers; ++l) {
      declare(layer(l, "input_layernorm"), {D}, Initial::ones);
      declare(layer(l, "self_attn.q_proj"), {Q, D}, Initial::normal);
      declare(layer(l, "self_attn.k_proj"), {KV, D}, Initial::normal);
      declare(layer(l, "self_attn.v_proj"), {KV, D}, Initial::normal);
      declare(layer(l, "self_attn.o_proj"), {D, Q}, Initial::normal);
      declare(layer(l, "post_attention_layernorm"), {D}, Initial::ones);
      declare(layer(l, "mlp.gate_proj"), {c_.d_ff, D}, Initial::normal);
      declare(layer(l, "mlp.up_proj"), {c_.d_ff, D}, Initial::normal);
      declare(layer(l, "mlp.down_proj"), {D, c_.d_ff}, Initial::normal);
    }
    declare("model.norm.weight", {D}, Initial::ones);
    if (!c_.tied) declare("lm_head.weight", {c_.vocabulary, D}, Initial::normal);
  }

  // The norm of a branch. `hook_in` is the branch's own use of the residual stream, so that its
  // gradient is the part that flows through the norm.
  Tensor branch_norm(const Tensor& x, const std::string& prefix, const std::string& gain) {
    Tensor in = identity(x).named(prefix + "hook_in");
    Tensor scale = sqrt(reduce_mean(in * in, {-1}) + c_.rms_eps);
    scale.named(prefix + "hook_scale");
    return rms_norm(in, weight(gain), c_.rms_eps).named(prefix + "hook_normalized");
  }

  Tensor block(int64_t l, const Tensor& x) {
    std::string prefix = fmt::format("blocks.{}.", l);
    x.named(prefix + "hook_resid_pre");
    Tensor mid = x + attention_branch(l, prefix, x);
    mid.named(prefix + "hook_resid_mid");
    return (mid + mlp_branch(l, prefix, mid)).named(prefix + "hook_resid_post");
  }

  Tensor heads_of(const Tensor& n, int64_t l, const char* projection, int64_t heads) {
    return reshape(linear(n, weight(layer(l, projection))), {B_, T_, heads, c_.d_head});
  }

  Tensor attention_branch(int64_t l, const std::string& prefix, const Tensor& x) {
    Tensor n = branch_norm(x, prefix + "ln1.", layer(l, "input_layernorm"));
    std::string a = prefix + "attn.";
    Tensor q = heads_of(n, l, "self_attn.q_proj", c_.heads).named(a + "hook_q");
    Tensor k = heads_of(n, l, "self_attn.k_proj", c_.kv_heads).named(a + "hook_k");
    Tensor v = heads_of(n, l, "self_attn.v_proj", c_.kv_heads).named(a + "hook_v");
    Tensor rot_q = rope(q, c_.rope_base).named(a + "hook_rot_q");
    Tensor rot_k = rope(k, c_.rope_base).named(a + "hook_rot_k");
    double scale = 1.0 / std::sqrt(static_cast<double>(c_.d_head));
    auto [z, lse] = attention(rot_q, rot_k, v, true, scale);
    z.named(a + "hook_z");
    lse.named(a + "hook_lse");
    attention_pattern(rot_q, rot_k, lse, true, scale).named(a + "hook_pattern");
    const Tensor& output = weight(layer(l, "self_attn.o_proj"));
    result_by_head(z, output).named(a + "hook_result");
    return linear(reshape(z, {B_, T_, c_.heads * c_.d_head}), output)
        .named(prefix + "hook_attn_out");
  }

  // What each head adds to the attention output, [B,T,H,D]; their sum over heads is that output.
  Tensor result_by_head(const Tensor& z, const Tensor& output) {
    Tensor by_head = transpose(reshape(z, {B_ * T_, c_.heads, c_.d_head}), {1, 0, 2});
    Tensor w = transpose(reshape(output, {c_.d_model, c_.heads, c_.d_head}), {1, 2, 0});
    Tensor result = transpose(matmul(by_head, w), {1, 0, 2});
    return reshape(result, {B_, T_, c_.heads, c_.d_model});
  }

  Tensor mlp_branch(int64_t l, const std::string& prefix, const Tensor& x) {
    Tensor m = branch_norm(x, prefix + "ln2.", layer(l, "post_attention_layernorm"));
    Tensor gate = linear(m, weight(layer(l, "mlp.gate_proj"))).named(prefix + "mlp.hook_pre");
    Tensor up = linear(m, weight(layer(l, "mlp.up_proj"))).named(prefix + "mlp.hook_pre_linear");
    Tensor post = swiglu(gate, up).named(prefix + "mlp.hook_post");
    return linear(post, weight(layer(l, "mlp.down_proj"))).named(prefix + "hook_mlp_out");
  }

  LlamaConfig c_;
  int64_t B_, T_;
  Builder b_;
  std::map<std::string, Tensor> weights_;
  std::vector<Parameter> parameters_;
};

}  // namespace

std::vector<std::string> llama_config_names() {
  std::vector<std::string> names;
  for (const LlamaConfig& config : named_configs()) names.push_back(config.name);
  return names;
}

LlamaConfig llama_config(const std::string& name) {
  for (const LlamaConfig& config : named_configs())
    if (config.name == name) return config;
  user_error("model", "unknown configuration '{}'. Known: {}.{}", name,
             join(llama_config_names(), ", "), did_you_mean(name, llama_config_names()));
}

LlamaConfig resolved(LlamaConfig config) {
  if (config.kv_heads == 0) config.kv_heads = config.heads;
  if (config.d_head == 0 && config.heads > 0 && config.d_model % config.heads == 0)
    config.d_head = config.d_model / config.heads;
  return config;
}

void check_config(const LlamaConfig& given) {
  Problems problems("model");
  const LlamaConfig config = resolved(given);
  auto positive = [&](const char* key, int64_t value) {
    if (value < 1) problems.add(fmt::format("{} is {}, but at least 1 is needed.", key, value));
  };
  positive("layers", config.layers);
  positive("d_model", config.d_model);
  positive("heads", config.heads);
  positive("kv_heads", config.kv_heads);
  if (given.d_head == 0 && config.d_head == 0)
    problems.add(
        fmt::format("d_model {} is no multiple of heads {}. Change one of them, or set "
                    "d_head.",
                    config.d_model, config.heads));
  else
    positive("d_head", config.d_head);
  positive("d_ff", config.d_ff);
  positive("vocabulary", config.vocabulary);
  if (config.kv_heads > 0 && config.heads % config.kv_heads != 0)
    problems.add(
        fmt::format("heads {} is no multiple of kv_heads {}. Each key head serves the same "
                    "number of query heads.",
                    config.heads, config.kv_heads));
  if (config.d_head % 2 != 0)
    problems.add(
        fmt::format("d_head is {}, but rotary embedding pairs features, so an even number "
                    "is needed.",
                    config.d_head));
  if (!(config.rms_eps >= 0))
    problems.add(fmt::format("rms_eps is {}, but a number >= 0 is needed.", config.rms_eps));
  if (!(config.rope_base > 1))
    problems.add(fmt::format("rope_base is {}, but a number > 1 is needed.", config.rope_base));
  problems.raise();
}

Model build_llama(const LlamaConfig& config, int64_t B, int64_t T) {
  check_config(config);
  return LlamaBuilder(resolved(config), B, T).build();
}

}  // namespace weir
