// What each op needs, so that a random node of it is valid and well behaved.
#include <cmath>

#include "support/error.h"
#include "testing/graph_generator.h"

namespace weir::test {
namespace {
constexpr double kLarge = 100;
constexpr int64_t kVocabulary = 3;
}  // namespace

void GraphGenerator::make(Op op) {
  switch (info(op).op_class) {
    case OpClass::Source:
      if (op == Op::constant) keep(editor_.constant(one_of({-1, 0, 1, 3}), f32({3})), 3, true);
      if (op == Op::iota) keep(editor_.iota(1, f32({2, 3})), 2, true);
      return;  // inputs come first
    case OpClass::Elementwise:
      return make_elementwise(op);
    case OpClass::Reduction:
      return make_reduction(op);
    case OpClass::Movement:
      return make_movement(op);
    case OpClass::Contraction:
      return make_contraction(op);
    case OpClass::Composite:
      return make_norm(op);
    case OpClass::Effect:
    case OpClass::Kernel:
      return;  // later stages make these
  }
}

void GraphGenerator::make_elementwise(Op op) {
  const OpInfo& row = info(op);
  if (row.has(op_trait::Comparison)) {
    Item x = pick_exact(), y = random_.chance(0.5) ? constant(1) : x;
    for (int tries = 0; tries < 4; ++tries) {
      Item other = pick_exact();
      if (broadcast_shapes(type(x.value).shape, type(other.value).shape)) y = other;
    }
    booleans_.push_back(add(op, {x.value, y.value}));
    return;
  }
  switch (op) {
    case Op::logical_not:
    case Op::logical_and:
    case Op::logical_or: {
      Value x = boolean_for({2, 3}), y = boolean_for({2, 3});
      booleans_.push_back(op == Op::logical_not ? add(op, {x}) : add(op, {x, y}));
      return;
    }
    case Op::select: {
      Item x = pick(kLarge), y = partner(x, kLarge);
      Value condition = boolean_for(type(x.value).shape);
      return keep(add(op, {condition, x.value, y.value}), kLarge, x.exact && y.exact);
    }
    case Op::convert: {
      if (booleans_.empty()) return;
      Value chosen = booleans_[random_.bits() % booleans_.size()];
      return keep(add(op, {chosen}, {{"to", DType::f32}}), 1, true);
    }
    case Op::exp:
      return keep(add(op, {pick(3).value}), 21);
    case Op::log:
    case Op::sqrt:
    case Op::rsqrt:
      return keep(add(op, {in_domain(pick(kLarge), row.low, row.high).value}), 4);
    case Op::div: {
      Item x = pick(kLarge);
      Item y = in_domain(partner(x, kLarge), row.low, row.high);
      return keep(add(op, {x.value, y.value}), x.bound / row.low);
    }
    case Op::pow: {
      Item x = in_domain(pick(kLarge), row.low, row.high);
      Item y = random_.chance(0.5) ? constant(one_of({-1, 0, 1, 2, 3})) : partner(x, 3);
      return keep(add(op, {x.value, y.value}), 8);
    }
    default:
      break;
  }
  Item x = pick(kLarge);
  bool exact = op == Op::identity || op == Op::stop_gradient || op == Op::neg || op == Op::abs;
  if (row.inputs_min == 1) {
    bool unit =
        op == Op::tanh || op == Op::sigmoid || op == Op::sin || op == Op::cos || op == Op::erf;
    return keep(add(op, {x.value}), unit ? 1 : x.bound, exact && x.exact);
  }
  Item y = partner(x, kLarge);
  double bound = op == Op::mul ? x.bound * y.bound : x.bound + y.bound;
  exact = (op == Op::maximum || op == Op::minimum || op == Op::surrogate) && x.exact && y.exact;
  keep(add(op, {x.value, y.value}), bound, exact);
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
  switch (op) {
    case Op::broadcast:
      second = shape;
      second.insert(second.begin(), one_of({1, 2, 3}));
      for (int64_t& extent : second)
        if (extent == 1) extent = one_of({1, 2, 5});
      return keep(add(op, {x.value}, {{"shape", second}}), x.bound, x.exact);
    case Op::reshape:
      return keep(resized(x.value, {one_of({1, 2, 3}), one_of({1, 4, 5})}), x.bound, x.exact);
    case Op::transpose:
      for (size_t i = 0; i < rank; ++i) first[i] = static_cast<int64_t>(i);
      for (size_t i = rank; i > 1; --i) std::swap(first[i - 1], first[random_.bits() % i]);
      return keep(add(op, {x.value}, {{"permutation", first}}), x.bound, x.exact);
    case Op::slice:
      for (size_t i = 0; i < rank; ++i) {
        first[i] = random_.integer(0, shape[i] - 1);
        second[i] = random_.integer(first[i] + 1, shape[i]);
      }
      return keep(add(op, {x.value}, {{"starts", first}, {"limits", second}}), x.bound, x.exact);
    case Op::pad:
      for (size_t i = 0; i < rank; ++i) {
        first[i] = one_of({0, 1});
        second[i] = one_of({0, 0, 2});
      }
      return keep(add(op, {x.value}, {{"low", first}, {"high", second}}), x.bound, x.exact);
    case Op::concat: {
      if (rank == 0) return;
      Item y = pick(kLarge);
      Value fitted = resized(y.value, shape);
      return keep(add(op, {x.value, fitted, x.value}, {{"axis", random_.integer(0, rank - 1)}}),
                  std::max(x.bound, y.bound), x.exact && y.exact);
    }
    default:
      internal_error_at("no movement");
  }
}

void GraphGenerator::make_contraction(Op op) {
  if (op == Op::embedding) {
    Item table = pick();
    Value rows = resized(table.value, {kVocabulary, one_of({1, 3, 4})});
    return keep(add(op, {rows, ids_}), table.bound);
  }
  if (op == Op::embedding_grad) {
    Item dy = pick(kLarge);
    return keep(
        add(op, {ids_, resized(dy.value, {5, one_of({1, 3})})}, {{"vocabulary", kVocabulary}}),
        5 * dy.bound);
  }
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
  keep(add(op, operands, attrs), 100.0 * static_cast<double>(inner) + 10);
}

// The composites of one row or element; the larger ones have makers of their own.
void GraphGenerator::make_norm(Op op) {
  Item x = pick(kLarge);
  int64_t width = type(x.value).rank() ? type(x.value).shape.back() : 0;
  switch (op) {
    case Op::relu:
    case Op::silu:
      return keep(add(op, {x.value}), x.bound, op == Op::relu && x.exact);
    case Op::gelu:
      return keep(add(op, {x.value}, random_.chance(0.5) ? Attrs{{"exact", true}} : Attrs{}),
                  x.bound);
    case Op::swiglu: {
      Item up = partner(x, kLarge);
      return keep(add(op, {x.value, up.value}), x.bound * up.bound);
    }
    case Op::reduce_mean:
      return make_reduction(op);
    case Op::softmax:
      if (width) keep(add(op, {x.value}), 1);
      return;
    case Op::rms_norm:
    case Op::layer_norm: {
      if (!width) return;
      std::vector<Value> operands = {x.value, resized(pick(3).value, {width})};
      if (op == Op::layer_norm && random_.chance(0.5))
        operands.push_back(resized(pick(3).value, {width}));
      return keep(add(op, operands, {{"eps", 0.01}}),
                  3 * std::sqrt(static_cast<double>(width)) + 3);
    }
    case Op::rope: {
      Attrs attrs{{"base", 100.0}};
      if (random_.chance(0.3)) attrs.set("inverse", true);
      return keep(add(op, {resized(x.value, {one_of({1, 2}), 3, 2, one_of({2, 4})})}, attrs),
                  2 * x.bound);
    }
    case Op::v_scale: {
      bool plain = options_.differentiable || random_.chance(0.5);
      bool learned = random_.chance(0.5);
      Attrs attrs{{"c", 0.5}, {"variant", plain ? "full" : "forward"}};
      if (!plain && !learned && random_.chance(0.5)) attrs.set("variant", "backward");
      std::vector<Value> operands = {resized(x.value, {2, 3, one_of({1, 4})})};
      if (learned) operands.push_back(resized(pick(2).value, {3}));
      return keep(add(op, operands, attrs), x.bound);
    }
    case Op::attention:
    case Op::attention_grad:
    case Op::attention_stats:
    case Op::attention_pattern:
      return make_attention(op);
    case Op::cross_entropy:
    case Op::linear_cross_entropy:
    case Op::linear_cross_entropy_grad:
      return make_loss(op);
    case Op::adamw:
    case Op::sgd:
      return make_optimiser(op);
    default:
      internal_error_at(std::string("no maker for ") + op_name(op));
  }
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
  std::vector<Value> forward = editor_.add_node(Op::attention, {q, k, v}, attrs);
  if (op == Op::attention) {
    keep(forward[0], 3);
    if (!options_.differentiable) keep(forward[1], 20);  // lse takes no gradient
    return;
  }
  if (op == Op::attention_grad) {
    Value g = resized(pick(3).value, type(q).shape);
    return keep_all(editor_.add_node(op, {q, k, v, forward[0], forward[1], g}, attrs),
                    {kLarge, kLarge, kLarge});
  }
  if (op == Op::attention_pattern) return keep(add(op, {q, k, forward[1]}, attrs), 1);
  attrs.set("sink", random_.integer(0, keys - 1));
  keep_all(editor_.add_node(op, {q, k, forward[1]}, attrs), {10, 10, 3, 1, 1});
}

void GraphGenerator::make_loss(Op op) {
  Item logits = pick(10);
  Value scale = random_.chance(0.5) ? scalar_between(0.1, 1) : constant(0.25).value;
  if (op == Op::cross_entropy)
    return keep(add(op, {resized(logits.value, {5, one_of({kVocabulary, 7})}), ids_, scale}), 200);
  int64_t width = one_of({1, 4}), vocabulary = one_of({kVocabulary, 6});
  std::vector<Value> results =
      editor_.add_node(op, {resized(logits.value, {5, width}),
                            resized(pick(3).value, {vocabulary, width}), ids_, scale});
  keep_all(results, {200, 30, 200});
}

void GraphGenerator::make_optimiser(Op op) {
  Shape shape = {2, one_of({1, 5})};
  auto tensor = [&] { return resized(pick(kLarge).value, shape); };
  Value p = tensor(), g = tensor(), m = tensor();
  Value rate = scalar_between(0.1, 0.5), factor = scalar_between(0.2, 1);
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
