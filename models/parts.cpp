#include "models/parts.h"

#include <cmath>

#include "support/error.h"

namespace weir {
namespace {

ModelConfig checked(const ModelConfig& config, int64_t T) {
  check_config(config);
  if (config.architecture == Architecture::gpt2 && T > config.context)
    user_error("model", "{} tokens are asked for, but {} has {} positions. Use shorter sequences.",
               T, config.name, config.context);
  if (config.window > 0 && T > config.window)
    user_error("model",
               "{} tokens are asked for, but {} attends through a sliding window of {}, which is "
               "not implemented. Use sequences of at most {} tokens, where the window is no limit.",
               T, config.name, config.window, config.window);
  return resolved(config);
}

}  // namespace

ModelParts::ModelParts(const ModelConfig& config, int64_t B, int64_t T)
    : c_(checked(config, T)), B_(B), T_(T), b_(config.name) {
  tokens_ = b_.input("tokens", i32({B_, T_}));
  targets_ = b_.input("targets", i32({B_, T_}));
  loss_scale_ = b_.input("loss_scale", f32({}));
}

void ModelParts::declare(Parameter parameter) {
  weights_[parameter.name] = b_.state(parameter.name, parameter.type);
  parameters_.push_back(std::move(parameter));
}
void ModelParts::declare_matrix(const std::string& name, Shape shape) {
  declare({name, f32(std::move(shape)), Initial::normal, c_.init_deviation, true});
}
void ModelParts::declare_gain(const std::string& name) { declare_gain(name, c_.d_model); }
void ModelParts::declare_gain(const std::string& name, int64_t width) {
  declare({name, f32({width}), Initial::ones, 0, false});
}
void ModelParts::declare_bias(const std::string& name, int64_t width) {
  declare({name, f32({width}), Initial::zeros, 0, false});
}

Tensor ModelParts::branch_rms_norm(const Tensor& x, const std::string& hooks,
                                   const std::string& gain) {
  Tensor in = identity(x).named(hooks + "hook_in");
  sqrt(reduce_mean(in * in, {-1}) + c_.rms_eps).named(hooks + "hook_scale");
  return rms_norm(in, weight(gain), c_.rms_eps).named(hooks + "hook_normalized");
}

Tensor ModelParts::branch_layer_norm(const Tensor& x, const std::string& hooks,
                                     const std::string& gain, const std::string& bias) {
  Tensor in = identity(x).named(hooks + "hook_in");
  Tensor centred = in - reduce_mean(in, {-1});
  sqrt(reduce_mean(centred * centred, {-1}) + c_.rms_eps).named(hooks + "hook_scale");
  return layer_norm(in, weight(gain), weight(bias), c_.rms_eps).named(hooks + "hook_normalized");
}

Tensor ModelParts::split_heads(const Tensor& x, int64_t heads) {
  return reshape(x, {B_, T_, heads, c_.d_head});
}

Tensor ModelParts::attend(const Tensor& q, const Tensor& k, const Tensor& v,
                          const std::string& hooks) {
  q.named(hooks + "hook_rot_q");
  k.named(hooks + "hook_rot_k");
  double scale = 1.0 / std::sqrt(static_cast<double>(c_.d_head));
  auto [z, rows] = attention(q, k, v, true, scale);
  z.named(hooks + "hook_z");
  attention_lse(rows, scale).named(hooks + "hook_lse");
  attention_pattern(q, k, rows, true, scale).named(hooks + "hook_pattern");
  attention_scores(q, k, true, scale).named(hooks + "hook_attn_scores");
  return reshape(z, {B_, T_, c_.heads * c_.d_head});
}

void ModelParts::name_results(const Tensor& z, const Tensor& output, const std::string& hooks) {
  Tensor by_head = transpose(reshape(z, {B_ * T_, c_.heads, c_.d_head}), {1, 0, 2});
  Tensor w = transpose(reshape(output, {c_.d_model, c_.heads, c_.d_head}), {1, 2, 0});
  Tensor result = transpose(matmul(by_head, w), {1, 0, 2});
  reshape(result, {B_, T_, c_.heads, c_.d_model}).named(hooks + "hook_result");
}

Model ModelParts::finish(const Tensor& normalized, const std::string& output_weight) {
  Tensor n = normalized.named("ln_final.hook_normalized");
  Tensor logits = linear(reshape(n, {B_ * T_, c_.d_model}), weight(output_weight));
  logits.named("hook_logits");
  b_.output("loss", cross_entropy(logits, reshape(targets_, {B_ * T_}), loss_scale_));
  return {b_.finish(), std::move(parameters_)};
}

}  // namespace weir
