#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/attention.h"
#include "codegen/attention_normalizer.h"
#include "codegen/attention_shape.h"
#include "codegen/vector_math.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Positions among the kernel's buffers; -1: not wanted.
struct BackwardBuffers {
  int q = -1, k = -1, v = -1, out = -1, lse = -1, dout = -1;
  int dq = -1, dk = -1, dv = -1;
  int mass = -1, square = -1, entropy = -1, sink = -1, largest = -1, row_sum = -1;
  int64_t sink_key = 0;

  bool gradients() const { return dq >= 0 || dk >= 0 || dv >= 0; }
  bool columns() const { return mass >= 0 || square >= 0; }
  /// Statistics of single weights, which are of a[t,s] / r[t].
  bool of_weights() const { return columns() || entropy >= 0 || sink >= 0 || largest >= 0; }
};

// One task owns a sequence and a key head: all its queries, and all rows of the gradients of its
// keys and values, so that no two tasks add to one number.
class AttentionBackward {
 public:
  AttentionBackward(const AttentionShape& shape, const BackwardBuffers& buffers, int lanes)
      : s_(shape),
        use_(buffers),
        lanes_(lanes),
        packed_(shape.packed_keys(lanes)),
        normalizer_(make_normalizer_code(shape.normalizer)),
        divides_(buffers.of_weights() && !info(shape.normalizer).rows_sum_to_one) {}

  int64_t tiles() const { return s_.B * s_.G; }
  int64_t scratch_bytes() const { return 4 * offset(kParts); }

  void emit(Emitter& e, const KernelFrame& frame) {
    e_ = &e;
    frame_ = &frame;
    for (int part = 0; part < kParts; ++part)
      part_[part] = e.byte_address(frame.scratch, 4 * offset(part));
    e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
      b_ = e.div(tile, s_.G);
      g_ = e.rem(tile, s_.G);
      emit_task();
    });
  }

 private:
  // Parts of the scratch memory, in this order.
  enum Part {
    keys,
    values,
    weights,
    score_grads,
    key_sums,
    value_sums,
    deltas,
    row_sums,  // where statistics divide by them, with their logarithms
    row_logs,
    kParts
  };

  int64_t part_floats(int part) const {
    int64_t padded_d = (s_.d + lanes_ - 1) / lanes_ * lanes_;
    switch (part) {
      case keys:
      case values:
        return packed_ * s_.d;
      case weights:
      case score_grads:
        return s_.query_block * packed_;
      case key_sums:
      case value_sums:
        return s_.key_block * padded_d;
      case deltas:
        return s_.group() * s_.T;
      case row_sums:
      case row_logs:
        return divides_ ? s_.group() * s_.T : 0;
      default:
        internal_error_at("no such part of the scratch memory");
    }
  }
  int64_t offset(int part) const {
    int64_t floats = 0;
    for (int p = 0; p < part; ++p) floats += (part_floats(p) + lanes_ - 1) / lanes_ * lanes_;
    return floats;
  }
  int64_t padded_d() const { return (s_.d + lanes_ - 1) / lanes_ * lanes_; }
  Emitted* buffer(int position) const { return frame_->buffers[position]; }

  BlockMatrix rows_of_keys(int position, Emitted* j0) {
    return head_rows(*e_, buffer(position), b_, g_, j0, s_.S, s_.G, s_.d);
  }
  BlockMatrix rows_of_queries(int position, Emitted* h, Emitted* t0) {
    return head_rows(*e_, buffer(position), b_, h, t0, s_.T, s_.H, s_.d);
  }
  BlockMatrix block(Part part, int64_t row_stride) {
    return {part_[part], e_->index(0), row_stride, 1};
  }
  // Index of row t of head h in a [B,H,T] array.
  Emitted* statistic_row(Emitted* h, Emitted* t) {
    return e_->add(e_->mul(e_->add(e_->mul(b_, s_.H), h), s_.T), t);
  }

  void for_each_head(const std::function<void(Emitted* in_group, Emitted* h)>& body) {
    e_->for_loop(e_->index(0), e_->index(s_.group()), 1, [&](Emitted* in_group) {
      body(in_group, e_->add(e_->mul(g_, s_.group()), in_group));
    });
  }

  void emit_task() {
    Emitter& e = *e_;
    for_each_head([&](Emitted* in_group, Emitted* h) {
      e.for_loop(e.index(0), e.index(s_.T), 1, [&](Emitted* t) { emit_start(in_group, h, t); });
      if (use_.columns())
        e.for_loop(e.index(0), e.index(s_.S), 1, [&](Emitted* j) {
          Emitted* at = e.add(e.mul(e.add(e.mul(b_, s_.H), h), s_.S), j);
          if (use_.mass >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.mass), at);
          if (use_.square >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.square), at);
        });
    });
    if (!use_.gradients() && !use_.of_weights()) return;
    e.for_loop(e.index(0), e.index(s_.S), s_.key_block, [&](Emitted* j0) { emit_key_block(j0); });
  }

  // delta = <dout, out> of a row, and the starting values of what is accumulated over key blocks.
  void emit_start(Emitted* in_group, Emitted* h, Emitted* t) {
    Emitter& e = *e_;
    if (use_.dq >= 0) emit_block_fill(e, e.index(1), s_.d, rows_of_queries(use_.dq, h, t), 0);
    Emitted* row = statistic_row(h, t);
    if (use_.entropy >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.entropy), row);
    if (use_.largest >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.largest), row);
    if (use_.sink >= 0) e.store(Storage::f32, e.f32(0), buffer(use_.sink), row);
    emit_row_sum(e.add(e.mul(in_group, s_.T), t), row);
    if (!use_.gradients()) return;
    BlockMatrix out = rows_of_queries(use_.out, h, t), dout = rows_of_queries(use_.dout, h, t);
    Emitted* sum = e.f32(0, lanes_);
    for (int64_t c = 0; c < s_.d; c += lanes_) {
      Emitted* mask = s_.d - c >= lanes_ ? nullptr : e.mask_below(e.index(s_.d - c), lanes_);
      sum = e.fma(e.load(Storage::f32, out.base, e.add(out.origin, c), lanes_, mask),
                  e.load(Storage::f32, dout.base, e.add(dout.origin, c), lanes_, mask), sum);
    }
    e.store(Storage::f32, e.reduce_add(sum), part_[deltas], e.add(e.mul(in_group, s_.T), t));
  }

  void emit_row_sum(Emitted* in_task, Emitted* row) {
    Emitter& e = *e_;
    if (!divides_ && use_.row_sum < 0) return;
    Emitted* sum = normalizer_->row_sum(e, e.load(Storage::f32, buffer(use_.lse), row, 1));
    if (use_.row_sum >= 0) e.store(Storage::f32, sum, buffer(use_.row_sum), row);
    if (!divides_) return;
    e.store(Storage::f32, sum, part_[row_sums], in_task);
    e.store(Storage::f32, emit_log(e, sum), part_[row_logs], in_task);
  }
  // What a statistic takes for a weight (or its logarithm) of a row: divided by the row's sum.
  Emitted* of_row(Part part, Emitted* in_task, int lanes) {
    return e_->load_broadcast(Storage::f32, part_[part], in_task, lanes);
  }
  Emitted* normalised(Emitted* weight, Emitted* in_task) {
    if (!divides_) return weight;
    return e_->ir().CreateFDiv(weight, of_row(row_sums, in_task, Emitter::lanes_of(weight)));
  }
  Emitted* normalised_log(Emitted* log, Emitted* in_task) {
    if (!divides_) return log;
    return e_->ir().CreateFSub(log, of_row(row_logs, in_task, Emitter::lanes_of(log)));
  }

  void emit_key_block(Emitted* j0) {
    Emitter& e = *e_;
    Emitted* count = e.min_index(e.index(s_.key_block), e.sub(e.index(s_.S), j0));
    emit_block_transpose(e, count, packed_, s_.d, rows_of_keys(use_.k, j0), part_[keys]);
    if (use_.dk >= 0) emit_block_fill(e, count, s_.d, block(key_sums, padded_d()), 0);
    if (use_.gradients())
      emit_block_transpose(e, count, packed_, s_.d, rows_of_keys(use_.v, j0), part_[values]);
    if (use_.dv >= 0) emit_block_fill(e, count, s_.d, block(value_sums, padded_d()), 0);
    // With a causal mask the queries before the block see none of its keys.
    Emitted* first = s_.causal ? e.mul(e.div(j0, s_.query_block), s_.query_block) : e.index(0);
    for_each_head([&](Emitted* in_group, Emitted* h) {
      e.for_loop(first, e.index(s_.T), s_.query_block,
                 [&](Emitted* t0) { emit_query_block(in_group, h, t0, j0, count); });
    });
    if (use_.dk >= 0) copy_out(key_sums, rows_of_keys(use_.dk, j0), count);
    if (use_.dv >= 0) copy_out(value_sums, rows_of_keys(use_.dv, j0), count);
  }

  void copy_out(Part part, const BlockMatrix& to, Emitted* count) {
    Emitter& e = *e_;
    e.for_loop(e.index(0), count, 1, [&](Emitted* row) {
      for (int64_t c = 0; c < s_.d; c += lanes_) {
        Emitted* mask = s_.d - c >= lanes_ ? nullptr : e.mask_below(e.index(s_.d - c), lanes_);
        Emitted* value =
            e.load(Storage::f32, part_[part], e.add(e.mul(row, padded_d()), c), lanes_, mask);
        e.store(Storage::f32, value, to.base, e.add(e.add(to.origin, e.mul(row, to.row_stride)), c),
                mask);
      }
    });
  }

  void emit_query_block(Emitted* in_group, Emitted* h, Emitted* t0, Emitted* j0, Emitted* count) {
    Emitter& e = *e_;
    Emitted* rows = e.min_index(e.index(s_.query_block), e.sub(e.index(s_.T), t0));
    BlockMatrix q = rows_of_queries(use_.q, h, t0);
    emit_block_product(e, rows, packed_, e.index(s_.d), q, block(keys, packed_),
                       block(weights, packed_), false);
    BlockMatrix dout;
    if (use_.gradients()) {
      dout = rows_of_queries(use_.dout, h, t0);
      emit_block_product(e, rows, packed_, e.index(s_.d), dout, block(values, packed_),
                         block(score_grads, packed_), false);
    }
    e.for_loop(e.index(0), rows, 1,
               [&](Emitted* row) { emit_row(in_group, h, row, e.add(t0, row), j0, count); });
    if (use_.columns()) emit_columns(in_group, h, t0, rows, j0, count);
    BlockMatrix by_key{part_[weights], e.index(0), 1, packed_};
    if (use_.dv >= 0)
      emit_block_product(e, count, s_.d, rows, by_key, dout, block(value_sums, padded_d()), true);
    by_key.base = part_[score_grads];
    if (use_.dk >= 0)
      emit_block_product(e, count, s_.d, rows, by_key, q, block(key_sums, padded_d()), true);
    if (use_.dq >= 0)
      emit_block_product(e, rows, s_.d, count, block(score_grads, packed_),
                         rows_of_keys(use_.k, j0), rows_of_queries(use_.dq, h, t0), true);
  }

  // One row of weights from its scores, its score gradients, and its statistics.
  void emit_row(Emitted* in_group, Emitted* h, Emitted* row, Emitted* t, Emitted* j0,
                Emitted* count) {
    Emitter& e = *e_;
    Emitted *at = e.mul(row, packed_), *in_task = e.add(e.mul(in_group, s_.T), t);
    Emitted* lse = e.load_broadcast(Storage::f32, buffer(use_.lse), statistic_row(h, t), lanes_);
    Emitted* delta = nullptr;
    if (use_.gradients()) delta = e.load_broadcast(Storage::f32, part_[deltas], in_task, lanes_);
    Emitted *information = e.f32(0, lanes_), *largest = e.f32(0, lanes_);
    for (int64_t c = 0; c < packed_; c += lanes_) {
      Emitted* score = e.load(Storage::f32, part_[weights], e.add(at, c), lanes_);
      score = e.ir().CreateFMul(score, e.f32(s_.scale, lanes_));
      auto [weight, log] = normalizer_->weight(e, mask_scores(e, s_, score, e.add(j0, c), t), lse);
      e.store(Storage::f32, weight, part_[weights], e.add(at, c));
      if (use_.entropy >= 0) {
        // 0 log 0 = 0, also where a mask made the logarithm infinite.
        Emitted* share = normalised(weight, in_task);
        Emitted* zero = e.ir().CreateFCmpOEQ(share, e.f32(0, lanes_));
        Emitted* term = e.ir().CreateFMul(share, normalised_log(log, in_task));
        information = e.ir().CreateFSub(information, e.select(zero, e.f32(0, lanes_), term));
      }
      if (use_.largest >= 0) largest = e.maximum(largest, weight);
      if (!use_.gradients()) continue;
      Emitted* grad = e.load(Storage::f32, part_[score_grads], e.add(at, c), lanes_);
      grad = normalizer_->score_gradient(e, weight, grad, delta);
      grad = e.ir().CreateFMul(grad, e.f32(s_.scale, lanes_));
      e.store(Storage::f32, grad, part_[score_grads], e.add(at, c));
    }
    emit_row_statistics(statistic_row(h, t), in_task, row, information, largest, j0, count);
  }

  void emit_row_statistics(Emitted* at, Emitted* in_task, Emitted* row, Emitted* information,
                           Emitted* largest, Emitted* j0, Emitted* count) {
    Emitter& e = *e_;
    if (use_.entropy >= 0) {
      Emitted* old = e.load(Storage::f32, buffer(use_.entropy), at, 1);
      e.store(Storage::f32, e.ir().CreateFAdd(old, e.reduce_add(information)), buffer(use_.entropy),
              at);
    }
    if (use_.largest >= 0) {
      Emitted* old = e.load(Storage::f32, buffer(use_.largest), at, 1);
      Emitted* here = normalised(e.reduce_maximum(largest), in_task);
      e.store(Storage::f32, e.maximum(old, here), buffer(use_.largest), at);
    }
    if (use_.sink >= 0) {
      Emitted* sink = e.sub(e.index(use_.sink_key), j0);
      Emitted* here = e.ir().CreateICmpULT(sink, count);
      e.if_then(here, [&] {
        Emitted* weight = e.load(Storage::f32, part_[weights], e.add(e.mul(row, packed_), sink), 1);
        e.store(Storage::f32, normalised(weight, in_task), buffer(use_.sink), at);
      });
    }
  }

  // Column sums: one chain over ascending queries for each key.
  void emit_columns(Emitted* in_group, Emitted* h, Emitted* t0, Emitted* rows, Emitted* j0,
                    Emitted* count) {
    Emitter& e = *e_;
    Emitted* first = e.add(e.mul(in_group, s_.T), t0);
    Emitted* base = e.add(e.mul(e.add(e.mul(b_, s_.H), h), s_.S), j0);
    for (int64_t c = 0; c < packed_; c += lanes_) {
      Emitted* mask = e.mask_below(e.sub(count, e.index(c)), lanes_);
      Emitted* at = e.add(base, c);
      std::vector<Emitted*> sums;
      for (int position : {use_.mass, use_.square})
        sums.push_back(position >= 0 ? e.load(Storage::f32, buffer(position), at, lanes_, mask)
                                     : e.f32(0, lanes_));
      sums = e.for_loop(
          e.index(0), rows, 1, sums, [&](Emitted* row, const std::vector<Emitted*>& carried) {
            Emitted* weight =
                e.load(Storage::f32, part_[weights], e.add(e.mul(row, packed_), c), lanes_);
            weight = normalised(weight, e.add(first, row));
            return std::vector<Emitted*>{e.ir().CreateFAdd(carried[0], weight),
                                         e.fma(weight, weight, carried[1])};
          });
      if (use_.mass >= 0) e.store(Storage::f32, sums[0], buffer(use_.mass), at, mask);
      if (use_.square >= 0) e.store(Storage::f32, sums[1], buffer(use_.square), at, mask);
    }
  }

  AttentionShape s_;
  BackwardBuffers use_;
  int lanes_;
  int64_t packed_;
  std::shared_ptr<const NormalizerCode> normalizer_;
  bool divides_;  ///< statistics are of a[t,s] / r[t]
  Emitter* e_ = nullptr;
  const KernelFrame* frame_ = nullptr;
  Emitted *b_ = nullptr, *g_ = nullptr;
  Emitted* part_[kParts] = {};
};

int input_position(const Graph& region, Value value) {
  const auto& inputs = region.inputs();
  auto found = std::find(inputs.begin(), inputs.end(), value.node);
  WEIR_CHECK(found != inputs.end(), "an operand of attention is computed inside its kernel");
  if (region.type(value).dtype != DType::f32)
    user_error("attention", "an operand is {}, but compiled attention takes f32. Convert it.",
               to_string(region.type(value)));
  return static_cast<int>(found - inputs.begin());
}

BackwardBuffers backward_buffers(const Graph& region) {
  BackwardBuffers use;
  for (const Node& node : region.nodes()) {
    if (node.op != Op::attention_grad && node.op != Op::attention_stats) continue;
    use.q = input_position(region, node.inputs[0]);
    use.k = input_position(region, node.inputs[1]);
    if (node.op == Op::attention_stats) {
      use.lse = input_position(region, node.inputs[2]);
      use.sink_key = node.attrs.get_int("sink");
      continue;
    }
    use.v = input_position(region, node.inputs[2]);
    use.out = input_position(region, node.inputs[3]);
    use.lse = input_position(region, node.inputs[4]);
    use.dout = input_position(region, node.inputs[5]);
  }
  int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o) {
    Value value = region.outputs()[o].value;
    int* gradients[] = {&use.dq, &use.dk, &use.dv};
    int* statistics[] = {&use.mass, &use.square,  &use.entropy,
                         &use.sink, &use.largest, &use.row_sum};
    bool gradient = region.node(value).op == Op::attention_grad;
    *(gradient ? gradients[value.result] : statistics[value.result]) = base + static_cast<int>(o);
  }
  return use;
}

}  // namespace

KernelCode attention_backward_kernel(const Graph& region, const Target& target) {
  const Node* attention = nullptr;
  for (const Node& node : region.nodes())
    if (node.op == Op::attention_grad || node.op == Op::attention_stats) attention = &node;
  WEIR_CHECK(attention, "no attention in {}", print_graph(region));
  AttentionBackward kernel(attention_shape(region, *attention, target), backward_buffers(region),
                           target.lanes());
  size_t inputs = region.inputs().size(), buffers = inputs + region.outputs().size();
  return {kernel.tiles(), kernel.scratch_bytes(), "attention backward " + structural_key(region),
          [kernel, inputs, buffers](Emitter& e, const std::string& symbol) mutable {
            std::vector<BufferUse> uses(buffers);
            for (size_t i = inputs; i < buffers; ++i) uses[i].written = true;
            KernelFrame frame = e.begin_kernel(symbol, uses);
            kernel.emit(e, frame);
            e.end_kernel();
          }};
}

}  // namespace weir
