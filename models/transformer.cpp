#include "models/transformer.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <optional>

#include "ir/builder.h"
#include "support/error.h"

namespace weir {
namespace {

ModelConfig checked(const ModelConfig& config, const BlockDescription& block, int64_t T) {
  check_config(config);
  if (block.positions == Positions::learned && T > config.context)
    user_error("model", "{} tokens are asked for, but {} has {} positions. Use shorter sequences.",
               T, config.name, config.context);
  if (config.window > 0 && T > config.window)
    user_error("model",
               "{} tokens are asked for, but {} attends through a sliding window of {}, which is "
               "not implemented. Use sequences of at most {} tokens, where the window is no limit.",
               T, config.name, config.window, config.window);
  return resolved(config);
}

// The weights by name, declared in order: inputs come before nodes.
class Weights {
 public:
  Weights(Builder& builder, double deviation) : b_(builder), deviation_(deviation) {}

  /// A normal start; decays.
  void matrix(const std::string& name, Shape shape) {
    declare({name + ".weight", f32(std::move(shape)), Initial::normal, deviation_, true});
  }
  /// The same of rows for tokens or positions.
  void table(const std::string& name, Shape shape) {
    matrix(name, std::move(shape));
    parameters_.back().table = true;
  }
  void gain(const std::string& name, int64_t width, Initial initial) {
    declare({name + ".weight", f32({width}), initial, 0, false});
  }
  void bias(const std::string& name, int64_t width) {
    declare({name + ".bias", f32({width}), Initial::zeros, 0, false});
  }
  const Tensor& weight(const std::string& name) const { return tensors_.at(name + ".weight"); }
  const Tensor& bias(const std::string& name) const { return tensors_.at(name + ".bias"); }
  std::vector<Parameter> parameters() const { return parameters_; }

 private:
  void declare(Parameter parameter) {
    tensors_[parameter.name] = b_.state(parameter.name, parameter.type);
    parameters_.push_back(std::move(parameter));
  }

  Builder& b_;
  double deviation_;
  std::map<std::string, Tensor> tensors_;
  std::vector<Parameter> parameters_;
};

// The two matrices of a norm's gate, behind the norm's name.
constexpr const char *kGateDown = ".gate_down", *kGateUp = ".gate_up";

// The norms of the stream: what they are made of and their hooks.
class Norms {
 public:
  Norms(const ModelConfig& config, const BlockDescription& block, Weights& weights)
      : c_(config), d_(block), weights_(weights) {}

  void declare_gain(const std::string& name, int64_t width) {
    weights_.gain(name, width, d_.norm == NormKind::rms_plus_one ? Initial::zeros : Initial::ones);
  }
  void declare(const std::string& name) {
    declare_gain(name, c_.d_model);
    if (d_.norm == NormKind::layer) weights_.bias(name, c_.d_model);
    if (d_.norm_gate_rank == 0) return;
    weights_.matrix(name + kGateDown, {d_.norm_gate_rank, c_.d_model});
    weights_.matrix(name + kGateUp, {c_.d_model, d_.norm_gate_rank});
  }

  Tensor gain(const std::string& name) const {
    const Tensor& weight = weights_.weight(name);
    return d_.norm == NormKind::rms_plus_one ? weight + 1 : weight;
  }

  Tensor norm(const Tensor& x, const std::string& name, const std::string& hooks) const {
    const Tensor y = plain_norm(x, name);
    if (d_.norm_gate_rank == 0) return y;
    const Tensor inner = silu(linear(y, weights_.weight(name + kGateDown)));
    const Tensor gate = sigmoid(linear(inner, weights_.weight(name + kGateUp)));
    return gate.named(hooks + "hook_gate") * y;
  }

  // A norm with its hooks. `hook_in` is the branch's own use of the stream, so that its gradient is
  // the part that flows through the norm.
  Tensor named_norm(const Tensor& x, const std::string& hooks, const std::string& name) const {
    Tensor in = identity(x).named(hooks + "hook_in");
    Tensor spread = in;
    if (d_.norm == NormKind::layer) spread = in - reduce_mean(in, {-1});
    sqrt(reduce_mean(spread * spread, {-1}) + c_.rms_eps).named(hooks + "hook_scale");
    return norm(in, name, hooks).named(hooks + "hook_normalized");
  }
  // The same hooks where there is no norm.
  Tensor unnormed(const Tensor& x, const std::string& hooks) const {
    const Tensor in = identity(x).named(hooks + "hook_in");
    return identity(in).named(hooks + "hook_normalized");
  }

 private:
  Tensor plain_norm(const Tensor& x, const std::string& name) const {
    switch (d_.norm) {
      case NormKind::rms:
      case NormKind::rms_plus_one:
        return rms_norm(x, gain(name), c_.rms_eps);
      case NormKind::layer:
        return layer_norm(x, weights_.weight(name), weights_.bias(name), c_.rms_eps);
    }
    internal_error_at("unknown norm");
  }

  const ModelConfig& c_;
  const BlockDescription& d_;
  Weights& weights_;
};

// What a block's projections make.
struct Heads {
  Tensor q, k, v;                     ///< [B,T,heads,d]
  std::optional<Tensor> gate_logits;  ///< [B,T,heads,1 or d]
};

// Logits of the gate that the projection to q makes beside the queries.
int64_t gate_width(const ModelConfig& config) {
  switch (config.output_gate) {
    case OutputGate::none:
      return 0;
    case OutputGate::head:
      return config.heads;
    case OutputGate::element:
      return config.heads * config.d_head;
  }
  internal_error_at("unknown gate");
}

// Queries and gates of a projection [B,T,.] that makes both, by key head: the queries of its group,
// then their gates.
void split_gate(const Tensor& both, const ModelConfig& config, Heads& h) {
  const int64_t B = both.type().shape[0], T = both.type().shape[1], G = config.kv_heads;
  const int64_t H = config.heads, Q = H * config.d_head / G, gates = gate_width(config) / G;
  const Tensor by_group = reshape(both, {B, T, G, Q + gates});
  const auto part = [&](int64_t first, int64_t last) {
    return reshape(slice(by_group, {0, 0, 0, first}, {B, T, G, last}),
                   {B, T, H, (last - first) * G / H});
  };
  h.q = part(0, Q);
  h.gate_logits = part(Q, Q + gates);
}

class Transformer {
 public:
  Transformer(const ModelConfig& config, const BlockDescription& block, int64_t B, int64_t T)
      : c_(checked(config, block, T)),
        d_(block),
        names_(d_.names),
        B_(B),
        T_(T),
        b_(config.name),
        tokens_(b_.input("tokens", i32({B_, T_}))),
        targets_(b_.input("targets", i32({B_, T_}))),
        loss_scale_(b_.input("loss_scale", f32({}))),
        weights_(b_, c_.init_deviation),
        norms_(c_, d_, weights_) {}

  Model build() {
    weights_.table(names_.embedding, {c_.vocabulary, c_.d_model});
    if (d_.positions == Positions::learned)
      weights_.table(names_.positions, {c_.context, c_.d_model});
    for (int64_t l = 0; l < c_.layers; ++l) declare_layer(layer(l));
    norms_.declare(names_.final_norm);
    if (!c_.tied) weights_.table(names_.output, {c_.vocabulary, c_.d_model});

    Tensor x = embedded();
    for (int64_t l = 0; l < c_.layers; ++l) x = block(x, {layer(l), fmt::format("blocks.{}.", l)});
    return finish(norms_.norm(x, names_.final_norm, "ln_final."));
  }

 private:
  // Prefixes of one block: of its weights and of its hooks.
  struct Place {
    std::string layer, hooks;
  };
  std::string layer(int64_t l) const { return fmt::format(fmt::runtime(names_.layer), l); }
  bool is_joint() const { return d_.projections == Projections::joint; }

  // ---- weights ----

  void declare_matrix(const std::string& name, int64_t in, int64_t out) {
    weights_.matrix(name, is_joint() ? Shape{in, out} : Shape{out, in});
  }
  // Of joint projections every matrix is followed by its bias, of others those of a group are.
  void declare_group(const std::vector<std::tuple<std::string, int64_t, int64_t>>& group,
                     bool bias) {
    for (const auto& [name, in, out] : group) {
      declare_matrix(name, in, out);
      if (bias && is_joint()) weights_.bias(name, out);
    }
    if (bias && !is_joint())
      for (const auto& [name, in, out] : group) weights_.bias(name, out);
  }

  void declare_layer(const std::string& layer) {
    const int64_t D = c_.d_model, Q = c_.heads * c_.d_head, KV = c_.kv_heads * c_.d_head;
    const bool reads_norm =
        d_.norm_place == NormPlace::before || d_.norm_place == NormPlace::around;
    if (reads_norm) norms_.declare(layer + names_.attention_norm);
    if (is_joint())
      declare_group({{layer + names_.qkv, D, Q + 2 * KV}}, d_.qkv_bias);
    else
      declare_group({{layer + names_.q, D, Q + gate_width(c_)},
                     {layer + names_.k, D, KV},
                     {layer + names_.v, D, KV}},
                    d_.qkv_bias);
    if (d_.qk_norm) {
      norms_.declare_gain(layer + names_.q_norm, c_.d_head);
      norms_.declare_gain(layer + names_.k_norm, c_.d_head);
    }
    declare_group({{layer + names_.attention_out, Q, D}}, d_.attention_out_bias);
    if (d_.norm_place == NormPlace::after) norms_.declare(layer + names_.attention_norm);
    if (d_.norm_place == NormPlace::around) norms_.declare(layer + names_.attention_out_norm);
    if (reads_norm) norms_.declare(layer + names_.mlp_norm);
    switch (d_.mlp) {
      case MlpKind::swiglu:
      case MlpKind::geglu:
        declare_group({{layer + names_.gate, D, c_.d_ff},
                       {layer + names_.up, D, c_.d_ff},
                       {layer + names_.down, c_.d_ff, D}},
                      d_.mlp_bias);
        break;
      case MlpKind::gelu:
        declare_group({{layer + names_.up, D, c_.d_ff}, {layer + names_.down, c_.d_ff, D}},
                      d_.mlp_bias);
        break;
    }
    if (d_.norm_place == NormPlace::after) norms_.declare(layer + names_.mlp_norm);
    if (d_.norm_place == NormPlace::around) norms_.declare(layer + names_.mlp_out_norm);
  }

  // ---- parts ----

  Tensor projection(const Tensor& x, const std::string& name, bool bias) const {
    Tensor y = is_joint() ? matmul(x, weights_.weight(name)) : linear(x, weights_.weight(name));
    return bias ? y + weights_.bias(name) : y;
  }

  /// [B,T,heads d] as [B,T,heads,d].
  Tensor split_heads(const Tensor& x, int64_t heads) const {
    return reshape(x, {B_, T_, heads, c_.d_head});
  }

  // q or k as the score takes it.
  Tensor positioned(const Tensor& x, const Place& at, const char* norm_name,
                    const char* hook) const {
    Tensor n = x;
    if (d_.qk_norm)
      n = rms_norm(x, norms_.gain(at.layer + norm_name), c_.rms_eps)
              .named(at.hooks + "attn." + hook + ".hook_normalized");
    return d_.positions == Positions::rotary ? rope(n, c_.rope_base, c_.rope_scaling) : n;
  }

  // ---- branches ----

  Heads heads_of(const Tensor& x, const Place& at) const {
    Heads h;
    if (is_joint()) {
      const Tensor qkv = projection(x, at.layer + names_.qkv, d_.qkv_bias);
      const int64_t Q = c_.heads * c_.d_head, KV = c_.kv_heads * c_.d_head;
      const auto part = [&](int64_t first, int64_t last, int64_t heads) {
        return split_heads(slice(qkv, {0, 0, first}, {B_, T_, last}), heads);
      };
      h.q = part(0, Q, c_.heads);
      h.q.named(at.hooks + "attn.hook_q");
      h.k = part(Q, Q + KV, c_.kv_heads);
      h.k.named(at.hooks + "attn.hook_k");
      h.v = part(Q + KV, Q + 2 * KV, c_.kv_heads);
      h.v.named(at.hooks + "attn.hook_v");
      return h;
    }
    const auto made = [&](const char* name, int64_t heads, const char* hook) {
      return split_heads(projection(x, at.layer + name, d_.qkv_bias), heads)
          .named(at.hooks + "attn." + hook);
    };
    if (gate_width(c_) > 0) {
      split_gate(projection(x, at.layer + names_.q, d_.qkv_bias), c_, h);
      h.q.named(at.hooks + "attn.hook_q");
    } else {
      h.q = made(names_.q, c_.heads, "hook_q");
    }
    h.k = made(names_.k, c_.kv_heads, "hook_k");
    h.v = made(names_.v, c_.kv_heads, "hook_v");
    return h;
  }

  Tensor attention_branch(const Tensor& x, const Place& at) const {
    const std::string hooks = at.hooks + "attn.";
    const Heads h = heads_of(x, at);
    const Tensor k = positioned(h.k, at, names_.k_norm, "k_norm");
    const Tensor q = positioned(h.q, at, names_.q_norm, "q_norm");
    q.named(hooks + "hook_rot_q");
    k.named(hooks + "hook_rot_k");
    const double scale = 1.0 / std::sqrt(static_cast<double>(c_.score_width)), cap = c_.score_cap;
    const auto softmax = AttentionNormalizer::softmax;  // others by passes/attention_normalizer
    const auto [given, rows] = attention(q, k, h.v, true, scale, softmax, cap);
    Tensor heads = given;
    if (h.gate_logits) heads = heads * sigmoid(*h.gate_logits).named(hooks + "hook_gate");
    heads.named(hooks + "hook_z");
    attention_lse(rows, scale, softmax, cap).named(hooks + "hook_lse");
    attention_pattern(q, k, rows, true, scale, softmax, cap).named(hooks + "hook_pattern");
    attention_scores(q, k, true, scale, cap).named(hooks + "hook_attn_scores");
    const Tensor z = reshape(heads, {B_, T_, c_.heads * c_.d_head});
    const Tensor& out = weights_.weight(at.layer + names_.attention_out);
    name_results(z, is_joint() ? transpose(out, {1, 0}) : out, hooks);
    return projection(z, at.layer + names_.attention_out, d_.attention_out_bias);
  }

  // What each head adds to the attention output, named hook_result; `output` is [D, H d].
  void name_results(const Tensor& z, const Tensor& output, const std::string& hooks) const {
    Tensor by_head = transpose(reshape(z, {B_ * T_, c_.heads, c_.d_head}), {1, 0, 2});
    Tensor w = transpose(reshape(output, {c_.d_model, c_.heads, c_.d_head}), {1, 2, 0});
    Tensor result = transpose(matmul(by_head, w), {1, 0, 2});
    reshape(result, {B_, T_, c_.heads, c_.d_model}).named(hooks + "hook_result");
  }

  Tensor mlp_branch(const Tensor& x, const Place& at) const {
    const std::string hooks = at.hooks + "mlp.";
    const auto made = [&](const char* name, const char* hook) {
      return projection(x, at.layer + name, d_.mlp_bias).named(hooks + hook);
    };
    Tensor post;
    switch (d_.mlp) {
      case MlpKind::swiglu: {
        const Tensor gate = made(names_.gate, "hook_pre");
        post = swiglu(gate, made(names_.up, "hook_pre_linear"));
        break;
      }
      case MlpKind::geglu: {
        const Tensor gate = gelu(made(names_.gate, "hook_pre"));
        post = gate * made(names_.up, "hook_pre_linear");
        break;
      }
      case MlpKind::gelu:
        post = gelu(made(names_.up, "hook_pre"));
        break;
    }
    post.named(hooks + "hook_post");
    return projection(post, at.layer + names_.down, d_.mlp_bias);
  }

  // ---- a block ----

  // A branch with what stands before and behind it, up to where it is added to the stream.
  template <typename Branch>
  Tensor normed_branch(const Tensor& x, const Place& at, const char* ln, const char* norm_name,
                       const char* out_norm, const char* hook, Branch branch) const {
    const std::string hooks = at.hooks + ln + ".";
    const auto input = [&] {
      switch (d_.norm_place) {
        case NormPlace::before:
        case NormPlace::around:
          return norms_.named_norm(x, hooks, at.layer + norm_name);
        case NormPlace::after:  // whose hooks are those of the norm behind the branch
          return identity(x);
        case NormPlace::none:
          return norms_.unnormed(x, hooks);
      }
      internal_error_at("unknown place of a norm");
    };
    Tensor out = branch(input());
    if (d_.norm_place == NormPlace::around)
      out = norms_.named_norm(out, at.hooks + ln + "_post.", at.layer + out_norm);
    return out.named(at.hooks + hook);
  }
  // The stream behind a branch.
  Tensor added(const Tensor& x, const Tensor& branch, const Place& at, const char* ln,
               const char* norm_name) const {
    const Tensor sum = x + branch;
    if (d_.norm_place != NormPlace::after) return sum;
    return norms_.named_norm(sum, at.hooks + ln + ".", at.layer + norm_name);
  }

  Tensor block(const Tensor& x, const Place& at) const {
    x.named(at.hooks + "hook_resid_pre");
    const Tensor attention =
        normed_branch(x, at, "ln1", names_.attention_norm, names_.attention_out_norm,
                      "hook_attn_out", [&](const Tensor& in) { return attention_branch(in, at); });
    Tensor mid = added(x, attention, at, "ln1", names_.attention_norm);
    mid.named(at.hooks + "hook_resid_mid");
    const Tensor mlp =
        normed_branch(d_.parallel ? x : mid, at, "ln2", names_.mlp_norm, names_.mlp_out_norm,
                      "hook_mlp_out", [&](const Tensor& in) { return mlp_branch(in, at); });
    return added(mid, mlp, at, "ln2", names_.mlp_norm).named(at.hooks + "hook_resid_post");
  }

  Tensor embedded() const {
    Tensor x = embedding(weights_.weight(names_.embedding), tokens_);
    if (d_.scaled_embedding) x = x * std::sqrt(static_cast<double>(c_.d_model));
    x.named("hook_embed");
    if (d_.positions == Positions::rotary) return x;
    const Tensor rows = slice(weights_.weight(names_.positions), {0, 0}, {T_, c_.d_model});
    return x + broadcast(rows, {B_, T_, c_.d_model}).named("hook_pos_embed");
  }

  // The output projection of the normalised stream, the loss, and the finished graph.
  Model finish(const Tensor& normalized) {
    Tensor n = normalized.named("ln_final.hook_normalized");
    Tensor logits = linear(reshape(n, {B_ * T_, c_.d_model}),
                           weights_.weight(c_.tied ? names_.embedding : names_.output));
    const double cap = c_.logit_cap;
    (cap != 0 ? tanh(logits * (1 / cap)) * cap : logits).named("hook_logits");
    b_.output("loss", cross_entropy(logits, reshape(targets_, {B_ * T_}), loss_scale_, cap));
    return {b_.finish(), weights_.parameters()};
  }

  const ModelConfig c_;
  const BlockDescription d_;
  const WeightNames& names_;
  const int64_t B_, T_;
  Builder b_;
  const Tensor tokens_, targets_, loss_scale_;
  Weights weights_;
  Norms norms_;
};

}  // namespace

Model build_transformer(const ModelConfig& config, const BlockDescription& block, int64_t B,
                        int64_t T) {
  return Transformer(config, block, B, T).build();
}

}  // namespace weir
