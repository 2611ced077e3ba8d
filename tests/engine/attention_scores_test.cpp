// Attention on scores of every size against the interpreter in f64, measured by what attention
// written out in f32 gives on the same inputs: products that are chains of fused multiply-adds,
// scaled, masked, exp(score - largest) divided by the row's sum, as torch does it in eager mode
// (sums in eight lanes). All kernels: forward, backward with every statistic, the pattern.
//
// WEIR_TEST_ATTENTION_SETS=N tries N sets for every normaliser in place of a few hundred, and
// prints the worst error by result.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "engine/run.h"
#include "ir/edit.h"
#include "runtime/random.h"
#include "support/error.h"
#include "testing/run_op.h"
#include "testing/runnable_targets.h"

namespace weir {
namespace {

constexpr float kFloatInfinity = std::numeric_limits<float>::infinity();

struct Sizes {
  int64_t sets, T, d;
  bool causal;
};

// How the scores of one set come about; one set is one head of one sequence.
enum class Kind : uint8_t {
  normal,      // of one size, up to 10^8
  wild,        // every query and key of a size of its own
  one_hot,     // one key beats all others
  equal,       // all keys are one
  close,       // large scores that differ in their last places
  biased,      // one feature adds the same large number to every score, as Qwen 2's biases do
  no_others,   // all but one key score minus infinity
  far_others,  // all but one key score about -10^38
  denormal,  // scores below the smallest normal number, of small queries and keys or denormal keys
  count
};

struct Rows {
  std::vector<float> q, k;
};

Rows make_scores(Kind kind, const Sizes& s, Random& random) {
  const auto at = [&](int64_t t, int64_t c) { return static_cast<size_t>(t * s.d + c); };
  const auto size = [&](double low, double high) {
    return static_cast<float>(std::pow(10.0, low + (high - low) * random.uniform()));
  };
  Rows rows;
  for (std::vector<float>* x : {&rows.q, &rows.k})
    for (int64_t i = 0; i < s.T * s.d; ++i) x->push_back(static_cast<float>(random.normal()));
  const auto scale_row = [&](std::vector<float>& x, int64_t t, float factor) {
    for (int64_t c = 0; c < s.d; ++c) x[at(t, c)] *= factor;
  };
  const float half = size(-3, 4);
  const auto chosen = static_cast<int64_t>(random.below(static_cast<uint64_t>(s.T)));
  for (int64_t t = 0; t < s.T; ++t) switch (kind) {
      case Kind::normal:
        scale_row(rows.q, t, half);
        scale_row(rows.k, t, half);
        break;
      case Kind::wild:
        scale_row(rows.q, t, size(-3, 4));
        scale_row(rows.k, t, size(-3, 4));
        break;
      case Kind::one_hot:
        scale_row(rows.q, t, size(0, 3));
        rows.q[at(t, 0)] = size(0, 4);
        rows.k[at(t, 0)] = t == chosen ? size(2, 4) : 0;
        break;
      case Kind::equal:
        scale_row(rows.q, t, half);
        for (int64_t c = 0; c < s.d; ++c) rows.k[at(t, c)] = rows.k[at(0, c)];
        break;
      case Kind::close:
      case Kind::biased:
        rows.q[at(t, 0)] = kind == Kind::close ? 1.0f : half;
        rows.k[at(t, 0)] = kind == Kind::close ? half * half : half;
        break;
      case Kind::no_others:
      case Kind::far_others:
        rows.q[at(t, 0)] = 1;
        if (t != chosen % std::max<int64_t>(1, s.T / 3))
          rows.k[at(t, 0)] = kind == Kind::no_others ? -kFloatInfinity : -1e38f;
        break;
      case Kind::denormal:
        scale_row(rows.k, t, half < 1 ? 1e-40f : 1e-20f);
        if (half >= 1) scale_row(rows.q, t, 1e-20f);
        break;
      case Kind::count:
        break;
    }
  return rows;
}

Attrs attributes(const Sizes& s, AttentionNormalizer normalizer) {
  Attrs attrs{{"causal", s.causal}, {"scale", 1 / std::sqrt(static_cast<double>(s.d))}};
  set_normalizer(attrs, normalizer);
  return attrs;
}

// Everything that is computed, in the order of Results.
const std::vector<std::string>& result_names() {
  static const std::vector<std::string> names = {
      "out", "dq", "dk", "dv", "mass", "square", "entropy", "sink", "max", "row_sum", "pattern"};
  return names;
}

GraphPtr program(const Sizes& s, AttentionNormalizer normalizer) {
  GraphEditor editor("scores", Stage::instrumented);
  const Type type = f32({s.sets, s.T, 1, s.d});
  Value q = editor.input("q", type), k = editor.input("k", type), v = editor.input("v", type);
  Value dout = editor.input("dout", type);
  Attrs attrs = attributes(s, normalizer), stats = attrs;
  stats.set("sink", int64_t{0});
  std::vector<Value> operands = {q, k, v};
  if (takes_other_score(normalizer))
    operands.push_back(editor.input("other", f32({s.sets, 1, s.T})));
  std::vector<Value> results = editor.add_node(Op::attention, operands, attrs);
  const Value out = results[0], rows = results[1];
  results = {out};
  for (Value x : editor.add_node(Op::attention_grad, {q, k, v, out, rows, dout}, attrs))
    results.push_back(x);
  for (Value x : editor.add_node(Op::attention_stats, {q, k, rows}, stats)) results.push_back(x);
  results.push_back(editor.add(Op::attention_pattern, {q, k, rows}, attrs));
  for (size_t i = 0; i < results.size(); ++i) editor.output(result_names()[i], results[i]);
  return editor.finish();
}

using Numbers = std::map<std::string, std::vector<double>>;

// Attention as torch computes it in eager mode, of one set, in f32.
class Eager {
 public:
  Eager(const Sizes& s, AttentionNormalizer normalizer) : s_(s), normalizer_(normalizer) {}

  /// `other`: the score of another key for each query, null where the normaliser takes none.
  Numbers run(const float* q, const float* k, const float* v, const float* dout,
              const float* other) const {
    const int64_t T = s_.T, d = s_.d;
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
    std::vector<float> a(T * T), ds(T * T);
    Numbers all;
    for (const char* name : {"unit dq", "unit dk", "flush dq", "flush dk"})
      all[name].assign(T * d, 0);
    for (const std::string& name : result_names())
      all[name].assign(name == "pattern" ? T * T : name[0] == 'd' || name == "out" ? T * d : T, 0);
    for (int64_t t = 0; t < T; ++t) {
      const int64_t seen = s_.causal ? t + 1 : T;
      float* row = &a[t * T];
      for (int64_t j = 0; j < seen; ++j) row[j] = chain(d, q + t * d, 1, k + j * d, 1) * scale;
      const std::vector<float> scores(row, row + seen);
      const std::vector<float> slope = weigh(row, seen, other ? other + t : nullptr);
      for (int64_t j = 0; j < seen; ++j) ds[t * T + j] = chain(d, dout + t * d, 1, v + j * d, 1);
      statistics(row, seen, t, all);
      std::vector<float> product(seen);
      for (int64_t j = 0; j < seen; ++j) product[j] = ds[t * T + j] * row[j];
      const float delta = sum(product);
      for (int64_t j = 0; j < seen; ++j) unit(t, j, slope[j], q, k, v, dout, all);
      for (int64_t j = 0; j < seen; ++j) {
        float& gradient = ds[t * T + j];
        gradient = slope[j] *
                   (gradient_or_zero(gradient, scores[j]) - delta_that_counts(delta, scores[j])) *
                   scale;
      }
    }
    for (int64_t t = 0; t < T; ++t)
      for (int64_t c = 0; c < d; ++c) {
        all["out"][t * d + c] = chain(T, &a[t * T], 1, v + c, d);
        all["dq"][t * d + c] = chain(T, &ds[t * T], 1, k + c, d);
        all["dk"][t * d + c] = chain(T, &ds[t], T, q + c, d);
        all["dv"][t * d + c] = chain(T, &a[t], T, dout + c, d);
      }
    all["pattern"].assign(a.begin(), a.end());
    return all;
  }

 private:
  static float chain(int64_t n, const float* x, int64_t x_stride, const float* y,
                     int64_t y_stride) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum = std::fma(x[i * x_stride], y[i * y_stride], sum);
    return sum;
  }
  static float sum(const std::vector<float>& x) {
    std::array<float, 8> lanes = {};
    for (size_t i = 0; i < x.size(); ++i) lanes[i % 8] += x[i];
    for (size_t width = 4; width > 0; width /= 2)
      for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
  }
  // What half a unit in the last place of the products dout v makes of dq and dk, and what it makes
  // of them that weights below 2^-126 are flushed to zero.
  void unit(int64_t t, int64_t j, float weight, const float* q, const float* k, const float* v,
            const float* dout, Numbers& all) const {
    double product = 0;
    for (int64_t c = 0; c < s_.d; ++c)
      product += std::abs(static_cast<double>(dout[t * s_.d + c]) * v[j * s_.d + c]);
    product /= std::sqrt(static_cast<double>(s_.d));
    const double of_score = 0x1p-24 * weight * product, flushed = 0x1p-126 * product;
    for (int64_t c = 0; c < s_.d; ++c) {
      all["flush dq"][t * s_.d + c] += flushed * std::abs(k[j * s_.d + c]);
      all["flush dk"][j * s_.d + c] += flushed * std::abs(q[t * s_.d + c]);
      all["unit dq"][t * s_.d + c] += of_score * std::abs(k[j * s_.d + c]);
      all["unit dk"][j * s_.d + c] += of_score * std::abs(q[t * s_.d + c]);
    }
  }
  // dL/dweight and delta as they enter the gradient of a score.
  float gradient_or_zero(float gradient, float score) const {
    const bool cuts =
        normalizer_ == AttentionNormalizer::softpick || normalizer_ == AttentionNormalizer::relu;
    return cuts && !(score > 0) ? 0 : gradient;
  }
  float delta_that_counts(float delta, float score) const {
    switch (normalizer_) {
      case AttentionNormalizer::softmax:
      case AttentionNormalizer::softmax_1:
      case AttentionNormalizer::sink_logit:
      case AttentionNormalizer::kv_bias:
        return delta;
      case AttentionNormalizer::softpick:
        return score > 0 ? delta : score < 0 ? -delta : 0;
      case AttentionNormalizer::relu:
      case AttentionNormalizer::sigmoid:
        return 0;
      case AttentionNormalizer::bayes_softmax:  // not of one head
        break;
    }
    return 0;
  }
  // Scores to weights; returns what their gradients are multiplied by.
  std::vector<float> weigh(float* row, int64_t seen, const float* other) const {
    const auto keys = static_cast<float>(seen);
    std::vector<float> slope;
    switch (normalizer_) {
      case AttentionNormalizer::softmax:
        weigh_softmax(row, seen, nullptr);
        slope.assign(row, row + seen);
        break;
      case AttentionNormalizer::softmax_1: {
        const float zero = 0;
        weigh_softmax(row, seen, &zero);
        slope.assign(row, row + seen);
        break;
      }
      case AttentionNormalizer::sink_logit:
      case AttentionNormalizer::kv_bias:
        weigh_softmax(row, seen, other);
        slope.assign(row, row + seen);
        break;
      case AttentionNormalizer::softpick:
        slope = weigh_softpick(row, seen);
        break;
      case AttentionNormalizer::relu:
        for (int64_t j = 0; j < seen; ++j) row[j] = std::max(row[j], 0.0f) / keys;
        slope.assign(seen, 1 / keys);
        break;
      case AttentionNormalizer::sigmoid:
        for (int64_t j = 0; j < seen; ++j) {
          row[j] = 1 / (1 + std::exp(std::log(keys) - row[j]));
          slope.push_back(row[j] * (1 - row[j]));
        }
        break;
      case AttentionNormalizer::bayes_softmax:  // not of one head
        break;
    }
    return slope;
  }
  static std::vector<float> weigh_softpick(float* row, int64_t seen) {
    float largest = 0;
    for (int64_t j = 0; j < seen; ++j) largest = std::max(largest, row[j]);
    std::vector<float> slope, terms;
    const float zero = std::exp(-largest);
    for (int64_t j = 0; j < seen; ++j) {
      slope.push_back(std::exp(row[j] - largest));
      terms.push_back(std::abs(slope.back() - zero));
    }
    const float divisor = sum(terms) + 1e-8f * zero;
    for (int64_t j = 0; j < seen; ++j) {
      row[j] = std::max(slope[j] - zero, 0.0f) / divisor;
      slope[j] /= divisor;
    }
    return slope;
  }
  static void weigh_softmax(float* row, int64_t seen, const float* one_more) {
    float largest = one_more ? *one_more : -kFloatInfinity;
    for (int64_t j = 0; j < seen; ++j) largest = std::max(largest, row[j]);
    std::vector<float> relative;
    for (int64_t j = 0; j < seen; ++j) relative.push_back(std::exp(row[j] - largest));
    if (one_more) relative.push_back(std::exp(*one_more - largest));
    const float divisor = sum(relative);
    for (int64_t j = 0; j < seen; ++j) row[j] = relative[j] / divisor;
  }
  void statistics(const float* row, int64_t seen, int64_t t, Numbers& all) const {
    std::vector<float> share(row, row + seen), information;
    const float row_sum = sum(share);
    all["row_sum"][t] = row_sum;
    if (!info(normalizer_).rows_sum_to_one)
      for (float& x : share) x = row_sum == 0 ? 0 : x / row_sum;
    for (int64_t j = 0; j < seen; ++j) {
      all["mass"][j] = static_cast<float>(all["mass"][j] + share[j]);
      all["square"][j] = static_cast<float>(all["square"][j] + share[j] * share[j]);
      information.push_back(share[j] > 0 ? -share[j] * std::log(share[j]) : share[j]);
      all["max"][t] = std::max<double>(all["max"][t], share[j]);
    }
    all["entropy"][t] = sum(information);
    all["sink"][t] = share[0];
  }

  Sizes s_;
  AttentionNormalizer normalizer_;
};

Numbers in_f64(const Sizes& s, AttentionNormalizer normalizer, const Tensors& inputs) {
  const HostTensor &q = inputs.at("q"), &k = inputs.at("k"), &v = inputs.at("v");
  const Attrs attrs = attributes(s, normalizer);
  Attrs stats = attrs;
  stats.set("sink", int64_t{0});
  std::vector<HostTensor> operands = {q, k, v};
  if (takes_other_score(normalizer)) operands.push_back(inputs.at("other"));
  auto forward = test::run_op(Op::attention, operands, attrs);
  std::vector<HostTensor> all = {forward[0]};
  for (HostTensor& x : test::run_op(Op::attention_grad,
                                    {q, k, v, forward[0], forward[1], inputs.at("dout")}, attrs))
    all.push_back(std::move(x));
  for (HostTensor& x : test::run_op(Op::attention_stats, {q, k, forward[1]}, stats))
    all.push_back(std::move(x));
  all.push_back(test::run_op(Op::attention_pattern, {q, k, forward[1]}, attrs)[0]);
  Numbers numbers;
  for (size_t i = 0; i < all.size(); ++i) numbers[result_names()[i]] = all[i].data;
  return numbers;
}

// The worst error of a result, and the set it was found in.
struct Worst {
  double ratio = 0;
  std::string where;
};

class Comparison {
 public:
  Comparison(const Sizes& s, AttentionNormalizer normalizer) : s_(s), normalizer_(normalizer) {}

  int64_t sets() const { return sets_; }
  const std::map<std::string, Worst>& worst() const { return worst_; }
  /// Sets by result whose error is more than four times that of eager mode alone.
  const std::map<std::string, int64_t>& beyond_eager() const { return beyond_eager_; }

  // One batch of sets on one target.
  void run(const Executables& programs, const std::string& target, uint64_t seed) {
    Tensors inputs;
    const Type type = f32({s_.sets, s_.T, 1, s_.d});
    for (const char* name : {"q", "k", "v", "dout"}) inputs[name] = zeros(type);
    const bool takes_other = takes_other_score(normalizer_);
    if (takes_other) inputs["other"] = zeros(f32({s_.sets, 1, s_.T}));
    std::vector<Kind> kinds;
    for (int64_t set = 0; set < s_.sets; ++set) {
      Random random(seed, static_cast<uint64_t>(set));
      kinds.push_back(static_cast<Kind>(random.below(static_cast<uint64_t>(Kind::count))));
      // A score that is flushed to zero has no sign, on which all depends.
      const bool by_sign =
          normalizer_ == AttentionNormalizer::softpick || normalizer_ == AttentionNormalizer::relu;
      if (by_sign && kinds.back() == Kind::denormal) kinds.back() = Kind::normal;
      const Rows rows = make_scores(kinds.back(), s_, random);
      const int64_t place = set * s_.T * s_.d;
      std::copy(rows.q.begin(), rows.q.end(), inputs["q"].data.begin() + place);
      std::copy(rows.k.begin(), rows.k.end(), inputs["k"].data.begin() + place);
      for (const char* name : {"v", "dout"})
        for (int64_t i = 0; i < s_.T * s_.d; ++i)
          inputs[name].data[place + i] = static_cast<float>(random.normal());
      for (int64_t t = 0; takes_other && t < s_.T; ++t)
        inputs["other"].data[set * s_.T + t] = static_cast<float>(3 * random.normal());
    }
    Session session(programs, 1);
    const Tensors got = weir::run(session, inputs).outputs;
    const Numbers want = in_f64(s_, normalizer_, inputs);
    for (int64_t set = 0; set < s_.sets; ++set) {
      const auto part = [&](const char* name) {
        const int64_t count = inputs.at(name).type.elements() / s_.sets;
        const double* from = inputs.at(name).data.data() + set * count;
        return std::vector<float>(from, from + count);
      };
      const std::vector<float> other = takes_other ? part("other") : std::vector<float>();
      const Numbers eager = Eager(s_, normalizer_)
                                .run(part("q").data(), part("k").data(), part("v").data(),
                                     part("dout").data(), takes_other ? other.data() : nullptr);
      const std::string where = fmt::format("{} T {} d {} seed {} set {} kind {}", target, s_.T,
                                            s_.d, seed, set, static_cast<int>(kinds[set]));
      for (const std::string& name : result_names()) {
        const std::vector<double>& of_eager = eager.at(name);
        double unit = 0, flushed = 0x1p-126;
        if (name == "dq" || name == "dk") {
          for (double x : eager.at("unit " + name)) unit = std::max(unit, std::isfinite(x) ? x : 0);
          for (double x : eager.at("flush " + name))
            flushed = std::max(flushed, std::isfinite(x) ? x : 0);
        }
        // A weight below 2^-126 has a logarithm of at least -87, but for denormal ones.
        if (name == "entropy") flushed *= static_cast<double>(88 * s_.T);
        compare(name, got.at(name).data.data() + set * of_eager.size(),
                want.at(name).data() + set * of_eager.size(), of_eager, {unit, flushed}, where);
      }
    }
    sets_ += s_.sets;
  }

 private:
  // Errors below which a yardstick is luck.
  struct Floor {
    double unit, flushed;
  };

  // The error of a result in relation to that of the yardstick, which counts as a unit in the last
  // place of the largest element at least: less is luck. dq and dk are sums of differences of
  // products dout v: a quarter of a unit of those in f32 counts for them, too. (The kernel corrects
  // what rounding leaves of a row's sum where it is a share of some millionths of the row's
  // gradients; below that eager mode may be better by luck.)
  void compare(const std::string& name, const double* got, const double* want,
               const std::vector<double>& eager, const Floor& floor, const std::string& where) {
    double largest = 0, error = 0, of_eager = 0;
    for (size_t i = 0; i < eager.size(); ++i) {
      if (!std::isfinite(want[i])) {
        EXPECT_FALSE(std::isfinite(got[i])) << name << " " << where;
        continue;
      }
      if (!std::isfinite(eager[i])) continue;
      largest = std::max(largest, std::abs(want[i]));
      error = std::isfinite(got[i]) ? std::max(error, std::abs(got[i] - want[i]))
                                    : std::numeric_limits<double>::infinity();
      of_eager = std::max(of_eager, std::abs(eager[i] - want[i]));
    }
    // 2^-50 of the products is what f64 itself makes of them.
    of_eager = std::max({of_eager, largest * 0x1p-23, floor.unit * 0x1p-26, floor.flushed});
    if (error > 4 * of_eager) ++beyond_eager_[name];
    of_eager = std::max(of_eager, floor.unit / 2);
    Worst& worst = worst_[name];
    if (error / of_eager > worst.ratio) worst = {error / of_eager, where};
  }

  Sizes s_;
  AttentionNormalizer normalizer_;
  int64_t sets_ = 0;
  std::map<std::string, Worst> worst_;
  std::map<std::string, int64_t> beyond_eager_;
};

class AttentionScores : public testing::TestWithParam<AttentionNormalizer> {};

TEST_P(AttentionScores, OfEverySizeAreAsGoodAsEagerF32) {
  const char* wanted = std::getenv("WEIR_TEST_ATTENTION_SETS");
  const int64_t sets = wanted ? std::atoll(wanted) : 0;
  const std::vector<Sizes> shapes = {{32, 1, 8, true},
                                     {32, 7, 8, true},
                                     {32, 33, 16, true},
                                     {32, 70, 64, true},
                                     {32, 21, 6, false}};
  int64_t tried = 0;
  std::map<std::string, int64_t> beyond;
  std::map<std::string, Worst> worst;
  for (const Sizes& s : shapes) {
    Comparison comparison(s, GetParam());
    for (const Target& target : runnable_targets()) {
      CompileOptions options;
      options.target = target;
      const Executables programs =
          compile(program(s, GetParam()), options, {.target = target, .threads = 1});
      uint64_t seed = 1;
      do comparison.run(programs, target.name, seed++);
      while (comparison.sets() * static_cast<int64_t>(shapes.size()) < sets);
    }
    tried += comparison.sets();
    for (const auto& [name, count] : comparison.beyond_eager()) beyond[name] += count;
    for (const auto& [name, of_shape] : comparison.worst())
      if (of_shape.ratio > worst[name].ratio) worst[name] = of_shape;
  }
  // Softpick's numerators are differences of exponentials, which the kernels have to 1 unit in the
  // last place, std::exp to half a one.
  const double most = GetParam() == AttentionNormalizer::softpick ? 8 : 4;
  for (const auto& [name, of_all] : worst) {
    EXPECT_LE(of_all.ratio, most) << name << ": " << of_all.where;
    if (wanted)
      fmt::print("{} {:8} worst {:5.2f}, {} sets above 4 by eager alone  {}\n",
                 normalizer_name(GetParam()), name, of_all.ratio, beyond[name], of_all.where);
  }
  if (wanted) fmt::print("{} sets\n", tried);
}

INSTANTIATE_TEST_SUITE_P(Normalizers, AttentionScores, testing::ValuesIn(head_normalizers()),
                         [](const auto& p) {
                           std::string name = normalizer_name(p.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace weir
