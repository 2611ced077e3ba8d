#include "passes/identity_formulas.h"

#include "ir/attention_identities.h"
#include "ir/normalizer.h"

namespace weir::identity_formulas {
namespace {

// The shape without its last axis, over which `x` was reduced.
Value without_last(const OpBuilder& e, Value x) {
  Shape shape = e.shape(x);
  shape.pop_back();
  return e.reshape(x, shape);
}

Value inner(const OpBuilder& e, Value x, Value y) { return e.sum_last(e.mul(x, y)); }
Value length(const OpBuilder& e, Value x) { return e.sqrt(inner(e, x, x)); }

// Two vectors that are to be equal. `arrange` brings a number a vector into the shape of reports.
template <typename Arrange>
void add_equal_vectors(const OpBuilder& e, Named& named, const std::string& key, Value left,
                       Value right, Value scale, const Arrange& arrange) {
  named.emplace_back(key + ".left", arrange(length(e, left)));
  named.emplace_back(key + ".right", arrange(length(e, right)));
  named.emplace_back(key + ".error", arrange(length(e, e.sub(left, right))));
  named.emplace_back(key + ".scale", scale);
}

void add_equal_numbers(const OpBuilder& e, Named& named, const std::string& key, Value left,
                       Value right, Value scale) {
  named.emplace_back(key + ".left", left);
  named.emplace_back(key + ".right", right);
  named.emplace_back(key + ".error", e.abs(e.sub(left, right)));
  named.emplace_back(key + ".scale", scale);
}

void add_bound(Named& named, const std::string& key, Value left, Value right, Value scale) {
  named.emplace_back(key + ".left", left);
  named.emplace_back(key + ".right", right);
  named.emplace_back(key + ".scale", scale);
}

// The results of attention_identities, and what is made of them.
class AttentionFormulas {
 public:
  AttentionFormulas(const OpBuilder& e, const AttentionSite& site) : e_(e), site_(site) {
    std::vector<Value> operands = {site.operands[0], site.operands[1], site.operands[2], site.out,
                                   site.dout};
    if (site.operands.size() > 3) operands.push_back(site.operands[3]);
    if (site.dlse.valid()) operands.push_back(site.dlse);
    Attrs attrs = site.attrs;
    attrs.erase("key_block");
    const std::vector<Value> results =
        e.editor().add_node(Op::attention_identities, operands, attrs);
    dv_ = results[0];
    dk_ = results[1];
    dq_ = results[2];
    by_key_ = results[3];
    by_query_ = results[4];
    heads_ = e.shape(site.operands[0])[2];
    groups_ = e.shape(site.operands[1])[2];
    scale_ = std::abs(site.attrs.get_float("scale"));
  }

  Named all() {
    Named named;
    const auto by_head = [&](Value x) { return by_head_of(x); };
    add_equal_vectors(e_, named, "value_gradient", site_.dv, summed_vectors(dv_),
                      summed_numbers(key(KeyNumber::value_scale)), by_head);
    add_equal_vectors(e_, named, "key_gradient", site_.dk, summed_vectors(dk_),
                      summed_numbers(key(KeyNumber::key_scale)), by_head);
    add_equal_vectors(e_, named, "query_gradient", site_.dq, dq_, query(QueryNumber::query_scale),
                      by_head);
    named.emplace_back("first_query.left", e_.slice_axis(by_head(length(e_, site_.dq)), 2, 0, 1));
    add_row_sum(named);
    add_bounds(named);
    named.emplace_back("mass", key(KeyNumber::mass));
    named.emplace_back("square", key(KeyNumber::square));
    named.emplace_back("value_norm", value_norm_);
    named.emplace_back("gradient_square", key(KeyNumber::gradient_square));
    const int64_t first = site_.attrs.get_bool("causal") ? site_.sink : 0;
    const int64_t queries = e_.shape(site_.dout)[1];
    named.emplace_back("gradient_sum",
                       e_.reduce_sum(e_.slice_axis(site_.dout, 1, first, queries), {1}));
    return named;
  }

 private:
  // [B,tokens,heads,1] to [B,heads,tokens].
  Value by_head_of(Value x) const { return e_.transpose(without_last(e_, x), {0, 2, 1}); }
  Value key(KeyNumber number) const { return numbers(by_key_, static_cast<int64_t>(number)); }
  Value query(QueryNumber number) const { return numbers(by_query_, static_cast<int64_t>(number)); }
  Value numbers(Value all, int64_t number) const {
    const Shape shape = e_.shape(all);
    return e_.reshape(e_.slice_axis(all, 2, number, number + 1), {shape[0], shape[1], shape[3]});
  }
  // The sums over the query heads of a group, of [B,S,H,d] and of [B,H,S].
  Value summed_vectors(Value x) const {
    const Shape s = e_.shape(x);
    if (heads_ == groups_) return x;
    const Value split = e_.reshape(x, {s[0], s[1], groups_, heads_ / groups_, s[3]});
    return e_.reshape(e_.reduce_sum(split, {3}), {s[0], s[1], groups_, s[3]});
  }
  Value summed_numbers(Value x) const {
    const Shape s = e_.shape(x);
    if (heads_ == groups_) return x;
    const Value split = e_.reshape(x, {s[0], groups_, heads_ / groups_, s[2]});
    return e_.reshape(e_.reduce_sum(split, {2}), {s[0], groups_, s[2]});
  }

  void add_row_sum(Named& named) const {
    const Value left = query(QueryNumber::row_sum);
    Value right = e_.scalar(0, left);
    if (!info(normalizer_of(site_.attrs)).rows_sum_to_one)
      right = e_.sub(e_.scalar(1, left), query(QueryNumber::weight_sum));
    right = e_.mul(right, query(QueryNumber::gradient_output));
    if (site_.dlse.valid())
      right = e_.add(right, e_.mul(query(QueryNumber::weight_sum), site_.dlse));
    add_equal_numbers(e_, named, "row_sum", left, right, query(QueryNumber::row_scale));
  }

  // Of every query head, whose gradients the program does not have: those by definition.
  void add_bounds(Named& named) {
    const auto product = [&](std::initializer_list<Value> factors) {
      Value result = *factors.begin();
      for (auto factor = factors.begin() + 1; factor != factors.end(); ++factor)
        result = e_.mul(result, *factor);
      return result;
    };
    value_norm_ = by_head_of(length(e_, dv_));
    const Value mass = key(KeyNumber::mass), value_scale = key(KeyNumber::value_scale);
    add_bound(named, "value_triangle", value_norm_, value_scale, value_scale);
    add_bound(named, "value_mass", value_norm_, product({mass, key(KeyNumber::largest_gradient)}),
              value_scale);
    // Two roots, as the product of the sums may be too small for f32.
    add_bound(named, "value_moment", value_norm_,
              product({e_.sqrt(key(KeyNumber::square)), e_.sqrt(key(KeyNumber::gradient_square))}),
              value_scale);
    const Value largest =
        product({key(KeyNumber::largest_query), key(KeyNumber::largest_beta), mass});
    add_bound(named, "key_bound", by_head_of(length(e_, dk_)), e_.mul(largest, scale_),
              key(KeyNumber::key_scale));
    add_bound(named, "query_bound", by_head_of(length(e_, dq_)), query(QueryNumber::query_bound),
              query(QueryNumber::query_scale));
  }

  const OpBuilder& e_;
  const AttentionSite& site_;
  Value dv_, dk_, dq_, by_key_, by_query_, value_norm_;
  int64_t heads_ = 0, groups_ = 0;
  double scale_ = 0;
};

}  // namespace

Named attention(const OpBuilder& e, const AttentionSite& site) {
  return AttentionFormulas(e, site).all();
}

// With u = gamma dL/dn and s^2 the mean of squares plus eps (the variance of LayerNorm):
// dL/dx = (u - x <x, u> / (D s^2)) / s; of LayerNorm with x and u less their means.
Named norm(const OpBuilder& e, const NormSite& site) {
  const auto width = static_cast<double>(e.shape(site.x).back());
  const auto centred = [&](Value x) { return site.centred ? e.sub(x, e.mean_last(x)) : x; };
  const Value x = centred(site.x);
  const Value square = e.add(e.mean_square_last(x, site.eps), site.eps);
  const Value s = e.sqrt(square);
  const Value whole = e.mul(site.dout, site.gamma), u = centred(whole);
  const Value along = inner(e, x, u);
  // x / s first: its square is of the size of the width, whatever that of x is.
  const Value unit = e.div(x, s);
  const Value right = e.div(e.sub(u, e.mul(unit, e.div(inner(e, unit, u), width))), s);
  const Value size = length(e, whole);
  const auto arrange = [&](Value number) { return without_last(e, number); };
  Named named;
  add_equal_vectors(e, named, "norm_gradient", site.dx, right, arrange(e.div(size, s)), arrange);
  const Value gains = e.reshape(e.abs(site.gamma), {e.type(site.gamma).elements()});
  const Value largest = e.reshape(e.reduce_max(gains, {0}), {});
  add_bound(named, "norm_bound", arrange(length(e, site.dx)),
            arrange(e.div(e.mul(length(e, site.dout), largest), s)), arrange(e.div(size, s)));
  const Value radial = e.mul(e.div(along, s), e.div(e.scalar(site.eps, s), square));
  add_equal_numbers(e, named, "norm_radial", arrange(inner(e, x, site.dx)), arrange(radial),
                    arrange(e.div(e.mul(length(e, x), size), s)));
  return named;
}

// J = phi I + 2 C / (r + C)^2 v v^T with r = |v|^2, phi = r / (r + C).
Named v_scale(const OpBuilder& e, const VScaleSite& site) {
  const auto arrange = [&](Value number) { return without_last(e, number); };
  const Value size = length(e, site.dout), left = length(e, site.dv);
  Named named;
  if (!site.constant.valid()) {
    add_equal_vectors(e, named, "v_scale_gradient", site.dv, site.dout, arrange(size), arrange);
    return named;
  }
  const Value r = inner(e, site.v, site.v), c = site.constant;
  const Value sum = e.add(r, c), phi = e.div(r, sum);
  const Value along = e.div(e.mul(inner(e, site.v, site.dout), e.mul(e.div(c, sum), 2.0)), sum);
  const Value right = e.add(e.mul(site.dout, phi), e.mul(site.v, along));
  add_equal_vectors(e, named, "v_scale_gradient", site.dv, right, arrange(size), arrange);
  add_bound(named, "v_scale_bound", arrange(left), arrange(e.mul(e.mul(e.div(r, c), size), 3.0)),
            arrange(size));
  return named;
}

Value v_scale_constant(GraphEditor& editor, const std::vector<Value>& operands,
                       const Attrs& attrs) {
  const OpBuilder e(editor);
  const Value c = e.scalar(attrs.get_float("c"), operands[0]);
  if (operands.size() < 2) return e.identity(c);
  return e.mul(e.reshape(e.exp(operands[1]), {e.shape(operands[1])[0], 1}), c);
}

}  // namespace weir::identity_formulas
