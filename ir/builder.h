#pragma once
// What users call to define a model: tensors and functions on them. The builder asks the inference
// for types, remembers the source line of each call, and adds nothing else.
//
//   Builder b("mlp");
//   Tensor x = b.input("x", f32({32, 784}));
//   Tensor w = b.state("w", f32({10, 784}));
//   Tensor loss = cross_entropy(matmul(x, w, {.transpose_b = true}), b.input("y", i32({32})), ...);
//   b.output("loss", loss);
//   GraphPtr graph = b.finish();
#include <source_location>

#include "ir/edit.h"
#include "ir/normalizer.h"

namespace weir {

class Builder;

/// The place that a node was built at, as the text of graphs and error messages name it. A front
/// end in another language gives the places of its own source.
struct Where {
  std::string file = "";  ///< as the front end names it; "" if the place is not known
  int64_t line = 0;

  /// The place of the call, as a default argument.
  static Where current(const std::source_location& caller = std::source_location::current()) {
    return {caller.file_name(), caller.line()};
  }
  /// "mlp.cpp:41": the file without its folders; "" if the place is not known.
  std::string text() const;
};

/// A handle of one value of a graph in the making; cheap to copy, valid while its builder lives.
/// Whatever is asked of an empty one is a user error.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Builder* builder, Value value) : builder_(builder), value_(value) {}
  const Type& type() const;
  const Shape& shape() const { return type().shape; }
  Builder& builder() const;
  Value value() const { return value_; }
  bool valid() const { return builder_ != nullptr; }
  /// Gives the value a hook name and returns it.
  Tensor named(const std::string& name) const;

 private:
  Builder* builder_ = nullptr;
  Value value_;
};

/// User errors: whatever is added once the graph is finished; what does not belong together, with
/// the place of the call.
class Builder {
 public:
  explicit Builder(std::string name) : editor_(std::move(name)) {}
  /// Inputs and state come before everything else.
  Tensor input(const std::string& name, const Type& type);
  Tensor state(const std::string& name, const Type& type);
  Tensor constant(double value, const Type& type = f32({}));
  Tensor iota(int64_t axis, const Type& type);
  /// A result of the program; an output named as a state input becomes its new value and has its
  /// type.
  void output(const std::string& name, const Tensor& value);
  /// Adds any op; the functions below are thin names for this.
  std::vector<Tensor> add(Op op, const std::vector<Tensor>& inputs, Attrs attrs,
                          const Where& where);
  /// The graph; nothing can be added any more.
  GraphPtr finish();
  /// User error once the graph is finished.
  GraphEditor& editor();
  /// The graph as far as it is made.
  const Graph& graph() const { return finished_ ? *finished_ : editor_.graph(); }

 private:
  Tensor add_input(const std::string& name, const Type& type, bool state);
  GraphEditor editor_;
  GraphPtr finished_;  ///< null while it is in the making
};

// Of every row of ops.def whose builder is Unary or Binary the function of its name: exp(x),
// relu(x), maximum(x, y) ... A number may stand for one of two operands.
// clang-format off
#define OP(name, op_class, builder, ...) WEIR_BUILDER_##builder(name)
#define WEIR_BUILDER_None(name)
#define WEIR_BUILDER_Written(name)
#define WEIR_BUILDER_Unary(name)                                                        \
  Tensor name(const Tensor& x, const Where& where = Where::current());
#define WEIR_BUILDER_Binary(name)                                                       \
  Tensor name(const Tensor& x, const Tensor& y, const Where& where = Where::current()); \
  Tensor name(const Tensor& x, double y, const Where& where = Where::current());        \
  Tensor name(double x, const Tensor& y, const Where& where = Where::current());
#include "ir/ops.def"
#undef WEIR_BUILDER_None
#undef WEIR_BUILDER_Written
#undef WEIR_BUILDER_Unary
#undef WEIR_BUILDER_Binary
// clang-format on

Tensor select(const Tensor& condition, const Tensor& x, const Tensor& y,
              const Where& where = Where::current());
/// 32 random bits for each element, as i32: a pure function of a 64-bit counter in two halves and a
/// 32-bit key (op random_bits), so that any part can be had on any number of threads.
Tensor random_bits(const Tensor& low, const Tensor& high, const Tensor& key,
                   const Where& where = Where::current());
Tensor convert(const Tensor& x, DType to, const Where& where = Where::current());
/// x/2 (1 + tanh(...)) as GPT-2 has it, or the erf form if `exact`.
Tensor gelu(const Tensor& x, bool exact = false, const Where& where = Where::current());

// Reductions keep the axes as size 1; a negative axis counts from the end.
Tensor reduce_sum(const Tensor& x, std::vector<int64_t> axes,
                  const Where& where = Where::current());
Tensor reduce_mean(const Tensor& x, std::vector<int64_t> axes,
                   const Where& where = Where::current());
Tensor reduce_max(const Tensor& x, std::vector<int64_t> axes,
                  const Where& where = Where::current());
Tensor reduce_min(const Tensor& x, std::vector<int64_t> axes,
                  const Where& where = Where::current());

Tensor broadcast(const Tensor& x, Shape shape, const Where& where = Where::current());
Tensor reshape(const Tensor& x, Shape shape, const Where& where = Where::current());
Tensor transpose(const Tensor& x, std::vector<int64_t> permutation,
                 const Where& where = Where::current());
Tensor slice(const Tensor& x, std::vector<int64_t> starts, std::vector<int64_t> limits,
             const Where& where = Where::current());
Tensor pad(const Tensor& x, std::vector<int64_t> low, std::vector<int64_t> high,
           const Where& where = Where::current());
Tensor concat(const std::vector<Tensor>& parts, int64_t axis,
              const Where& where = Where::current());

struct MatmulOptions {
  bool transpose_a = false, transpose_b = false;
};
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {},
              const Where& where = Where::current());
/// x[..., in] times a weight [out, in], as Hugging Face stores it: x w^T.
Tensor linear(const Tensor& x, const Tensor& weight, const Where& where = Where::current());
Tensor embedding(const Tensor& table, const Tensor& ids, const Where& where = Where::current());

Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps,
                const Where& where = Where::current());
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps,
                  const Where& where = Where::current());
/// How rotary embedding is slowed down for texts longer than a model was trained on; the kinds and
/// their formulas are those of modeling_rope_utils.py of Hugging Face.
enum class RopeKind : uint8_t {
  none,
  linear,  ///< all features by `factor`
  llama3,  ///< by `factor` those that turn less than `low` times in `context` tokens, those that
           ///< turn more than `high` times not at all, in between linearly in the turns
  yarn,    ///< the same in between `slow` and `fast` turns, but linearly in the feature's number,
           ///< and queries and keys are multiplied by `amplitude`
};
struct RopeScaling {
  RopeKind kind = RopeKind::none;
  double factor = 1;
  int64_t context = 8192;  ///< tokens of a text when the model was trained: llama3 and yarn
  double low = 1, high = 4;
  double fast = 32, slow = 1, amplitude = 1;
  bool whole = true;  ///< yarn's limits are rounded outwards to whole features
  bool operator==(const RopeScaling&) const = default;
};
Tensor rope(const Tensor& x, double base, const RopeScaling& scaling = {},
            const Where& where = Where::current());
struct AttentionResult {
  Tensor out;  ///< [B,T,H,d]
  /// [B,H,2 or 3,T]: what weights are computed from again, for each row a reference score, a sum
  /// and perhaps another number (ir/normalizer.h).
  Tensor rows;
};
/// With a `cap` that is not 0 scores are cap tanh(scale q k^T / cap).
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                          double scale,
                          AttentionNormalizer normalizer = AttentionNormalizer::softmax,
                          double cap = 0, const Where& where = Where::current());
/// With the score [B,H,T] of one more key for each query, which has no value: sink_logit, kv_bias.
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& other,
                          bool causal, double scale, AttentionNormalizer normalizer, double cap = 0,
                          const Where& where = Where::current());
/// The weights [B,H,T,S] of that attention, which it does not keep itself: for a hook name.
Tensor attention_pattern(const Tensor& q, const Tensor& k, const Tensor& rows, bool causal,
                         double scale,
                         AttentionNormalizer normalizer = AttentionNormalizer::softmax,
                         double cap = 0, const Where& where = Where::current());
/// Its scores [B,H,T,S] likewise, minus infinity where a query does not see a key.
Tensor attention_scores(const Tensor& q, const Tensor& k, bool causal, double scale, double cap = 0,
                        const Where& where = Where::current());
/// The log-sum-exp [B,H,T] of that attention's rows: weights are exp(score - lse).
Tensor attention_lse(const Tensor& rows, double scale,
                     AttentionNormalizer normalizer = AttentionNormalizer::softmax, double cap = 0,
                     const Where& where = Where::current());
/// The factor [B,T,H] by which outputs and weights of a softmax attention become those of
/// bayes-softmax (ir/normalizer.h), from its rows and b [H].
Tensor attention_head_gate(const Tensor& rows, const Tensor& bias, double scale, double cap = 0,
                           const Where& where = Where::current());
Tensor v_scale(const Tensor& v, double c, const std::string& variant,
               const Where& where = Where::current());
Tensor v_scale(const Tensor& v, const Tensor& theta, double c, const std::string& variant,
               const Where& where = Where::current());
/// scale * sum over rows of the cross entropy in nats; targets [N] i32, negative ones ignored. With
/// a `cap` that is not 0 logits are cap tanh(logits / cap).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& scale,
                     double cap = 0, const Where& where = Where::current());

Tensor operator+(const Tensor& x, const Tensor& y);
Tensor operator-(const Tensor& x, const Tensor& y);
Tensor operator*(const Tensor& x, const Tensor& y);
Tensor operator/(const Tensor& x, const Tensor& y);
Tensor operator+(const Tensor& x, double y);
Tensor operator-(const Tensor& x, double y);
Tensor operator*(const Tensor& x, double y);
Tensor operator/(const Tensor& x, double y);
Tensor operator*(double x, const Tensor& y);
Tensor operator-(double x, const Tensor& y);
Tensor operator-(const Tensor& x);

}  // namespace weir
