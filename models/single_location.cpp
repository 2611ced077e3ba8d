#include "models/single_location.h"

#include <fmt/format.h>

#include "ir/builder.h"
#include "models/random_draws.h"
#include "support/error.h"

namespace weir {

std::string_view activation_name(HeadActivation activation) {
  switch (activation) {
    case HeadActivation::kSoftmax:
      return "softmax";
    case HeadActivation::kSoftmax1:
      return "softmax-1";
    case HeadActivation::kBayesSoftmax:
      return "bayes-softmax";
  }
  internal_error_at("an activation without a name");
}

std::optional<HeadActivation> find_activation(std::string_view name) {
  for (HeadActivation activation : kHeadActivations)
    if (activation_name(activation) == name) return activation;
  return std::nullopt;
}

bool has_bias(HeadActivation activation) { return activation != HeadActivation::kSoftmax; }

namespace {

void check_single_location(const SingleLocationModel& m) {
  Problems problems("single location");
  const auto need = [&](int64_t value, int64_t least, const char* what) {
    if (value < least)
      problems.add(
          fmt::format("{} {} are asked for, but at least {} are needed", value, what, least));
  };
  need(m.runs, 1, "runs");
  need(m.tokens, 2, "tokens");
  need(m.dimension, 2, "dimensions");
  need(m.directions, 1, "directions");
  need(m.heads, 1, "heads");
  need(m.free_keys, 0, "free keys");
  need(m.points, 0, "points");
  if (m.directions > m.dimension)
    problems.add(fmt::format("{} orthonormal directions do not fit into {} dimensions",
                             m.directions, m.dimension));
  // The counter of a draw is an i32.
  if (m.tokens > 0 && m.dimension > (int64_t{1} << 31) / (m.tokens + 1) - m.directions)
    problems.add(fmt::format("{} tokens of {} dimensions are more than 2^31 numbers", m.tokens,
                             m.dimension));
  if (!(m.bias_rate >= 0))
    problems.add(fmt::format("the rate of biases is {}, but a number >= 0 is needed", m.bias_rate));
  problems.raise();
}

class SingleLocationStep {
 public:
  explicit SingleLocationStep(const SingleLocationModel& model)
      : m_(model), b_("single_location") {}

  GraphPtr graph() {
    declare();
    draw_sample();
    const Tensor keys = all_keys();
    const Tensor bias = biases(keys);
    order_parameters(keys, bias);
    const Tensor a = weights(matmul(x_, keys, {.transpose_b = true}), bias).named("weights");
    const Tensor error = matmul(location_ - a, x_);
    const Tensor losses =
        reshape(reduce_sum(error * error, {2}) * (1.0 / static_cast<double>(m_.dimension)),
                {m_.runs})
            .named("losses");
    b_.output("loss", reshape(reduce_sum(losses, {0}), {}));
    b_.output("loss_sum", loss_sum_ + losses);
    b_.output("step", step_ + b_.constant(1, i32({})));
    return b_.finish();
  }

 private:
  int64_t free_keys() const { return m_.free_keys > 0 ? m_.free_keys : m_.heads; }

  void declare() {
    keys_ = b_.state("keys", f32({m_.runs, free_keys(), m_.dimension}));
    if (has_bias(m_.activation)) bias_ = b_.state("bias", f32({m_.runs, m_.heads}));
    step_ = b_.state("step", i32({}));
    loss_sum_ = b_.state("loss_sum", f32({m_.runs}));
    random_key_ = b_.input("random_key", i32({m_.runs}));
    directions_ = b_.input("directions", f32({m_.directions, m_.dimension}));
    if (m_.free_keys > 0) tie_ = b_.input("tie", f32({m_.heads, m_.free_keys}));
    if (m_.points > 0) {
      low_ = b_.input("law.low", f32({m_.points}));
      high_ = b_.input("law.high", f32({m_.points}));
      points_ = b_.input("law.points", f32({m_.points, m_.directions}));
    } else {
      scales_ = b_.input("law.scales", f32({m_.directions}));
    }
  }

  // Draws number `first` and following of this step, for each run: [S] followed by `shape`.
  DrawAt draw(int64_t first, const Shape& shape) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    const Tensor index =
        b_.iota(0, i32({count})) + b_.constant(static_cast<double>(first), i32({}));
    Shape by_run = {m_.runs};
    by_run.resize(1 + shape.size(), 1);
    return {reshape(index, shape), step_, reshape(random_key_, by_run)};
  }

  void draw_sample() {
    const int64_t noise = m_.tokens * m_.dimension;
    location_ = random_one_hot(draw(noise, {1, 1}), m_.tokens).named("sample.location");
    const Tensor theta = draw_theta(noise + 1).named("sample.theta");
    const Tensor signal = reshape(matmul(theta, directions_), {m_.runs, 1, m_.dimension});
    const Tensor here = transpose(location_, {0, 2, 1});
    x_ = (random_normal(draw(0, {m_.tokens, m_.dimension})) + here * signal).named("sample.x");
  }

  // [S,F].
  Tensor draw_theta(int64_t first) {
    if (m_.points == 0) return random_normal(draw(first, {m_.directions})) * scales_;
    const Tensor u = random_uniform(draw(first, {1}));
    const Tensor chosen = convert(logical_and(ge(u, low_), lt(u, high_)), DType::f32);
    const Shape by_point = {m_.runs, m_.points, 1};
    return reshape(reduce_sum(reshape(chosen, by_point) * points_, {1}), {m_.runs, m_.directions});
  }

  // [S,H,D].
  Tensor all_keys() {
    if (m_.free_keys == 0) return keys_;
    const Shape shape = {m_.runs, m_.heads, m_.free_keys};
    return matmul(broadcast(tie_, shape), keys_);
  }

  // [S,H,1], or nothing.
  Tensor biases(const Tensor& keys) {
    if (!has_bias(m_.activation)) return {};
    const Shape column = {m_.runs, m_.heads, 1};
    switch (m_.biases) {
      case HeadBiases::kFixed:
        return reshape(stop_gradient(bias_), column);
      case HeadBiases::kTrained:  // the value of the bias with `bias_rate` times its gradient
        return reshape(straight_through(bias_, bias_ * m_.bias_rate), column);
      case HeadBiases::kTiedToNorm:
        return reduce_sum(keys * keys, {2}) * 0.5 + reshape(stop_gradient(bias_), column);
    }
    internal_error_at("unknown rule of biases");
  }

  void order_parameters(const Tensor& keys, const Tensor& bias) {
    matmul(keys, directions_, {.transpose_b = true}).named("order.m");
    matmul(keys, keys, {.transpose_b = true}).named("order.r");
    if (bias.valid()) reshape(bias, {m_.runs, m_.heads}).named("order.b");
  }

  // a [S,1,L] of scores [S,L,H].
  Tensor weights(const Tensor& scores, const Tensor& bias) {
    const Tensor by_head = transpose(scores, {0, 2, 1});  // [S,H,L]
    switch (m_.activation) {
      case HeadActivation::kSoftmax:
        return reduce_mean(softmax(by_head), {1});
      case HeadActivation::kSoftmax1: {
        // One more token of score 0, which has no value.
        const Tensor none = broadcast(b_.constant(0), {m_.runs, m_.heads, 1});
        const Tensor all = softmax(concat({by_head - bias, none}, 2));
        const Tensor shares = slice(all, {0, 0, 0}, {m_.runs, m_.heads, m_.tokens});
        return reduce_sum(shares, {1});
      }
      case HeadActivation::kBayesSoftmax: {
        const Tensor joint = softmax(reshape(by_head - bias, {m_.runs, m_.heads * m_.tokens}));
        return reduce_sum(reshape(joint, {m_.runs, m_.heads, m_.tokens}), {1});
      }
    }
    internal_error_at("unknown activation");
  }

  SingleLocationModel m_;
  Builder b_;
  Tensor keys_, bias_, step_, loss_sum_, random_key_, directions_, tie_;
  Tensor low_, high_, points_, scales_;
  Tensor location_;  ///< one-hot, [S,1,L]
  Tensor x_;         ///< [S,L,D]
};

}  // namespace

GraphPtr single_location_step(const SingleLocationModel& model) {
  check_single_location(model);
  return SingleLocationStep(model).graph();
}

}  // namespace weir
