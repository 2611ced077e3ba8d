// What each op needs, so that a random node of it is valid and well behaved.
#include <cmath>

#include "ir/normalizer.h"
#include "testing/graph_generator.h"

namespace weir::test {
namespace {
constexpr double kLarge = 100;
constexpr int64_t kVocabulary = 3;
}  // namespace

void GraphGenerator::make(Op op) {
  switch (op) {
    case Op::constant:
      return keep(editor_.constant(one_of({-1, 0, 1, 3}), f32({3})), 3, true);
    case Op::iota:
      return keep(editor_.iota(1, f32({2, 3})), 2, true);
    case Op::identity:
    case Op::stop_gradient:
    case Op::neg:
    case Op::abs:
    case Op::relu:
      return make_same_size(op);
    case Op::tanh:
    case Op::sigmoid:
    case Op::sin:
    case Op::cos:
    case Op::erf:
      return keep(add(op, {pick(kLarge).value}), 1);
    case Op::round: {  // a rounding error would decide between two whole numbers
      const Item x = pick_exact();
      return keep(add(op, {x.value}), x.bound + 1, true);
    }
    case Op::random_bits: {
      const int64_t n = 3;
      const Value index = editor_.iota(1, i32({2, n})), key = editor_.constant(5, i32({}));
      const Value bits = add(op, {index, editor_.iota(0, i32({2, n})), key});
      return keep(
          add(Op::mul, {add(Op::convert, {bits}, {{"to", DType::f32}}), constant(0x1p-31).value}),
          1);
    }
    case Op::exp:
      return keep(add(op, {pick(3).value}), 21);
    case Op::log:
    case Op::sqrt:
    case Op::rsqrt:
      return keep(add(op, {in_domain(pick(kLarge), info(op).low, info(op).high).value}), 4);
    case Op::convert:
    case Op::logical_not:
    case Op::logical_and:
    case Op::logical_or:
    case Op::lt:
    case Op::le:
    case Op::gt:
    case Op::ge:
    case Op::eq:
    case Op::ne:
    case Op::select:
      return make_boolean(op);
    case Op::add:
    case Op::sub:
    case Op::mul:
    case Op::div:
    case Op::pow:
    case Op::maximum:
    case Op::minimum:
    case Op::straight_through:
    case Op::swiglu:
      return make_binary(op);
    case Op::reduce_sum:
    case Op::reduce_max:
    case Op::reduce_min:
    case Op::reduce_mean:
      return make_reduction(op);
    case Op::broadcast:
    case Op::reshape:
    case Op::transpose:
    case Op::slice:
    case Op::pad:
    case Op::concat:
      return make_movement(op);
    case Op::matmul:
      return make_matmul();
    case Op::embedding:
    case Op::embedding_grad:
      return make_embedding(op);
    case Op::silu:
    case Op::gelu:
    case Op::softmax:
    case Op::rms_norm:
    case Op::layer_norm:
    case Op::rope:
    case Op::v_scale:
      return make_row(op);
    case Op::attention:
    case Op::attention_lse:
    case Op::attention_head_gate:
    case Op::attention_grad:
    case Op::attention_score_grad:
    case Op::attention_scores:
    case Op::attention_stats:
    case Op::attention_map:
    case Op::attention_identities:
    case Op::attention_pattern:
      return make_attention(op);
    case Op::cross_entropy:
    case Op::linear_cross_entropy:
    case Op::linear_cross_entropy_grad:
      return make_loss(op);
    case Op::adamw:
    case Op::sgd:
    case Op::muon:
      return make_optimiser(op);
    case Op::input:  // they come before everything else
    case Op::probe:  // later stages make these two
    case Op::kernel:
      return;
  }
}

void GraphGenerator::make_same_size(Op op) {
  Item x = pick(kLarge);
  keep(add(op, {x.value}), x.bound, x.exact);
}

void GraphGenerator::make_boolean(Op op) {
  if (op == Op::select) {
    Item x = pick(kLarge), y = partner(x, kLarge);
    Value condition = boolean_for(type(x.value).shape);
    keep(add(op, {condition, x.value, y.value}), kLarge, x.exact && y.exact);
  } else if (op == Op::convert) {
    Value condition = boolean_for({2, 3});
    keep(add(op, {condition}, {{"to", DType::f32}}), 1, true);
  } else if (op == Op::logical_not) {
    booleans_.push_back(add(op, {boolean_for({2, 3})}));
  } else if (op == Op::logical_and || op == Op::logical_or) {
    Value x = boolean_for({2, 3}), y = boolean_for({3});
    booleans_.push_back(add(op, {x, y}));
  } else {
    Item x = pick_exact(), y = random_.chance(0.5) ? constant(1) : x;
    for (int tries = 0; tries < 4; ++tries) {
      Item other = pick_exact();
      if (broadcast_shapes(type(x.value).shape, type(other.value).shape)) y = other;
    }
    booleans_.push_back(add(op, {x.value, y.value}));
  }
}

void GraphGenerator::make_binary(Op op) {
  double low = info(op).low, high = info(op).high;
  Item x = pick(kLarge), y = partner(x, kLarge);
  double bound = x.bound + y.bound;
  if (op == Op::mul || op == Op::swiglu) bound = x.bound * y.bound;
  if (op == Op::div) {
    y = in_domain(y, low, high);
    bound = x.bound / low;
  }
  if (op == Op::pow) {
    x = in_domain(x, low, high);
    y = random_.chance(0.5) ? constant(one_of({-1, 0, 1, 2, 3})) : partner(x, 3);
    bound = 8;
  }
  bool keeps_elements = op == Op::maximum || op == Op::minimum || op == Op::straight_through;
  keep(add(op, {x.value, y.value}), bound, keeps_elements && x.exact && y.exact);
}

void GraphGenerator::make_reduction(Op op) {
  Item x = pick(kLarge);
  int64_t rank = type(x.value).rank();
  if (rank == 0) return;
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < rank; ++axis)
    if (random_.chance(0.5)) axes.push_back(axis);
  if (axes.empty()) axes.push_back(rank - 1);
  bool sum = op == Op::reduce_sum;
  keep(add(op, {x.value}, {{"axes", axes}}),
       sum ? x.bound * static_cast<double>(type(x.value).elements()) : x.bound,
       x.exact && !sum && op != Op::reduce_mean);
}

void GraphGenerator::make_movement(Op op) {
  Item x = pick();
  const Shape shape = type(x.value).shape;
  size_t rank = shape.size();
  Shape first(rank), second(rank);
  Attrs attrs;
  if (op == Op::broadcast) {
    second = shape;
    second.insert(second.begin(), one_of({1, 2, 3}));
    for (int64_t& extent : second)
      if (extent == 1) extent = one_of({1, 2, 5});
    attrs.set("shape", second);
  } else if (op == Op::reshape) {
    return keep(resized(x.value, {one_of({1, 2, 3}), one_of({1, 4, 5})}), x.bound, x.exact);
  } else if (op == Op::transpose) {
    for (size_t i = 0; i < rank; ++i) first[i] = static_cast<int64_t>(i);
    for (size_t i = rank; i > 1; --i) std::swap(first[i - 1], first[random_.bits() % i]);
    attrs.set("permutation", first);
  } else if (op == Op::slice) {
    for (size_t i = 0; i < rank; ++i) {
      first[i] = random_.integer(0, shape[i] - 1);
      second[i] = random_.integer(first[i] + 1, shape[i]);
    }
    attrs = {{"starts", first}, {"limits", second}};
  } else if (op == Op::pad) {
    for (size_t i = 0; i < rank; ++i) {
      first[i] = one_of({0, 1});
      second[i] = one_of({0, 0, 2});
    }
    attrs = {{"low", first}, {"high", second}};
  } else {
    if (rank == 0) return;
    Item y = pick(kLarge);
    Value fitted = resized(y.value, shape);
    return keep(add(op, {x.value, fitted, x.value}, {{"axis", random_.integer(0, rank - 1)}}),
                std::max(x.bound, y.bound), x.exact && y.exact);
  }
  keep(add(op, {x.value}, attrs), x.bound, x.exact);
}

void GraphGenerator::make_embedding(Op op) {
  Item x = pick(kLarge);
  if (op == Op::embedding)
    return keep(add(op, {resized(x.value, {kVocabulary, one_of({1, 3, 4})}), ids_}), x.bound);
  keep(add(op, {ids_, resized(x.value, {5, one_of({1, 3})})}, {{"vocabulary", kVocabulary}}),
       5 * x.bound);
}

void GraphGenerator::make_matmul() {
  int64_t rows = one_of({1, 2, 5}), inner = one_of({1, 3, 8}), columns = one_of({1, 3, 7});
  bool transpose_a = random_.chance(0.3), transpose_b = random_.chance(0.5);
  Shape batch = random_.chance(0.5) ? Shape{2} : Shape{};
  auto matrix = [&](bool with_batch, int64_t n, int64_t m, bool swapped) {
    Shape shape = with_batch ? batch : Shape{};
    shape.push_back(swapped ? m : n);
    shape.push_back(swapped ? n : m);
    return resized(pick(10).value, shape);
  };
  Attrs attrs;
  if (transpose_a) attrs.set("transpose_a", true);
  if (transpose_b) attrs.set("transpose_b", true);
  std::vector<Value> operands = {matrix(true, rows, inner, transpose_a),
                                 matrix(random_.chance(0.5), inner, columns, transpose_b)};
  if (random_.chance(0.3)) operands.push_back(matrix(true, rows, columns, false));
  keep(add(Op::matmul, operands, attrs), 100.0 * static_cast<double>(inner) + 10);
}

// Composites of one operand, and what goes along its last axis.
void GraphGenerator::make_row(Op op) {
  Item x = pick(kLarge);
  double bound = x.bound;
  std::vector<Value> operands = {x.value};
  Attrs attrs;
  if (op == Op::gelu && random_.chance(0.5)) attrs.set("exact", true);
  if (op == Op::softmax || op == Op::rms_norm || op == Op::layer_norm) {
    if (type(x.value).rank() == 0) return;
    bound = 1;
  }
  if (op == Op::rms_norm || op == Op::layer_norm) {
    int64_t width = type(x.value).shape.back();
    operands.push_back(resized(pick(3).value, {width}));
    if (op == Op::layer_norm && random_.chance(0.5))
      operands.push_back(resized(pick(3).value, {width}));
    attrs.set("eps", 0.01);
    bound = 3 * std::sqrt(static_cast<double>(width)) + 3;
  }
  if (op == Op::rope) {
    operands[0] = resized(x.value, {one_of({1, 2}), 3, 2, one_of({2, 4})});
    attrs.set("base", 100.0);
    if (random_.chance(0.3)) attrs.set("inverse", true);
    const int64_t kind = one_of({0, 1, 2, 3});
    if (kind > 0) attrs.set("factor", 8.0);
    if (kind == 2) {
      attrs.set("low", 1.0);
      attrs.set("high", 4.0);
      attrs.set("context", int64_t{12});
    }
    if (kind == 3) {
      attrs.set("begin", 0.0);
      attrs.set("end", 1.5);
      attrs.set("amplitude", 1.25);
    }
    bound = 3 * x.bound;
  }
  if (op == Op::v_scale) {
    bool full = options_.differentiable || random_.chance(0.5), learned = random_.chance(0.5);
    operands[0] = resized(x.value, {2, 3, one_of({1, 4})});
    if (learned) operands.push_back(resized(pick(2).value, {3}));
    bool backward = !full && !learned && random_.chance(0.5);
    attrs = {{"c", 0.5}, {"variant", full ? "full" : backward ? "backward" : "forward"}};
  }
  keep(add(op, operands, attrs), bound);
}

void GraphGenerator::make_attention(Op op) {
  bool causal = random_.chance(0.6);
  int64_t batch = one_of({1, 2}), queries = one_of({1, 3, 6}), width = one_of({1, 3});
  int64_t keys = causal ? queries : one_of({1, 5}), groups = one_of({1, 2});
  int64_t heads = groups * one_of({1, 2});
  Value q = resized(pick(3).value, {batch, queries, heads, width});
  Value k = resized(pick(3).value, {batch, keys, groups, width});
  Value v = resized(pick(3).value, {batch, keys, groups, width});
  Attrs attrs{{"causal", causal}, {"scale", 0.5}};
  const std::vector<AttentionNormalizer>& normalizers = head_normalizers();
  const AttentionNormalizer normalizer = normalizers[static_cast<size_t>(
      random_.integer(0, static_cast<int64_t>(normalizers.size()) - 1))];
  set_normalizer(attrs, normalizer);
  // Of a weight: relu's are as large as scores.
  const double bound = normalizer == AttentionNormalizer::relu ? kLarge : 1;
  if (random_.chance(0.3)) attrs.set("cap", random_.chance(0.5) ? 0.7 : 5.0);
  std::vector<Value> operands = {q, k, v};
  if (takes_other_score(normalizer))
    operands.push_back(resized(pick(3).value, {batch, heads, queries}));
  std::vector<Value> forward = editor_.add_node(Op::attention, operands, attrs);
  if (op == Op::attention) {
    keep(forward[0], 3 * bound);
    if (!options_.differentiable) keep(forward[1], 20 * bound);  // row statistics take no gradient
    return;
  }
  if (op == Op::attention_lse) {
    attrs.erase("causal");
    return keep(add(op, {forward[1]}, attrs), 20);
  }
  const bool of_lse = normalizer == AttentionNormalizer::softmax && random_.chance(0.5);
  if (op == Op::attention_head_gate) {
    attrs.erase("normalizer");
    forward = editor_.add_node(Op::attention, {q, k, v}, attrs);
    attrs.erase("causal");
    return keep(add(op, {forward[1], resized(pick(3).value, {heads})}, attrs), 4);
  }
  if (op == Op::attention_grad || op == Op::attention_score_grad) {
    Value g = resized(pick(3).value, type(q).shape);
    std::vector<Value> of = {q, k, v, forward[0], forward[1], g};
    if (of_lse) of.push_back(resized(pick(3).value, {batch, heads, queries}));
    for (Value result : editor_.add_node(op, of, attrs)) keep(result, kLarge);
    return;
  }
  if (op == Op::attention_scores) {
    attrs.erase("normalizer");
    attrs.set("causal", false);  // no infinities
    return keep(add(op, {q, k}, attrs), kLarge);
  }
  if (op == Op::attention_pattern) return keep(add(op, {q, k, forward[1]}, attrs), bound);
  if (op == Op::attention_map) {
    attrs.set("side", random_.integer(1, 7));
    return keep(add(op, {q, k, forward[1]}, attrs), bound);
  }
  if (op == Op::attention_identities) {
    Value g = resized(pick(3).value, type(q).shape);
    std::vector<Value> of = {q, k, v, forward[0], g};
    if (operands.size() > 3) of.push_back(operands[3]);
    if (of_lse) of.push_back(resized(pick(3).value, {batch, heads, queries}));
    for (Value result : editor_.add_node(op, of, attrs)) keep(result, kLarge);
    return;
  }
  attrs.set("sink", random_.integer(0, keys - 1));
  keep_all(editor_.add_node(op, {q, k, forward[1]}, attrs), {10, 10, 3, 1, 1, 10 * bound});
}

void GraphGenerator::make_loss(Op op) {
  Item logits = pick(10);
  Value scale = random_.chance(0.5) ? scalar_between(0.1, 1) : constant(0.25).value;
  const Attrs attrs = random_.chance(0.3) ? Attrs{{"cap", 4.0}} : Attrs{};
  if (op == Op::cross_entropy)
    return keep(add(op, {resized(logits.value, {5, one_of({kVocabulary, 7})}), ids_, scale}, attrs),
                200);
  int64_t width = one_of({1, 4}), vocabulary = one_of({kVocabulary, 6});
  std::vector<Value> results = editor_.add_node(
      op,
      {resized(logits.value, {5, width}), resized(pick(3).value, {vocabulary, width}), ids_, scale},
      attrs);
  keep_all(results, {200, 30, 200});
}

void GraphGenerator::make_optimiser(Op op) {
  Shape shape = {2, one_of({1, 5})};
  auto tensor = [&] { return resized(pick(kLarge).value, shape); };
  Value p = tensor(), g = tensor(), m = tensor();
  Value rate = scalar_between(0.1, 0.5), factor = scalar_between(0.2, 1);
  if (op == Op::muon)
    return keep_all(editor_.add_node(op, {p, g, m, rate, factor},
                                     {{"momentum", 0.9}, {"weight_decay", 0.1}, {"scale", 0.2}}),
                    {2 * kLarge, 2 * kLarge});
  if (op == Op::sgd)
    return keep_all(
        editor_.add_node(op, {p, g, m, rate, factor}, {{"momentum", 0.9}, {"weight_decay", 0.1}}),
        {3 * kLarge, 3 * kLarge});
  Value v = in_domain({tensor(), kLarge, false}, 0.1, 2).value;
  keep_all(
      editor_.add_node(op, {p, g, m, v, rate, constant(2).value, constant(4).value, factor},
                       {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"weight_decay", 0.1}}),
      {5 * kLarge, 2 * kLarge, kLarge * kLarge});
}

}  // namespace weir::test
