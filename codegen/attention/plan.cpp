#include "codegen/attention/plan.h"

#include <algorithm>

#include "codegen/llvm/elementwise.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

// Queries of a slice, in vectors: wider slices multiply a little faster, but compute more scores
// that a causal mask hides.
constexpr int kSliceVectors = 2;

// Parts of a kernel's scratch memory, one behind the other.
class ScratchParts {
 public:
  // Reserves a part of `floats` elements and returns its offset.
  int64_t add(int64_t floats) {
    const int64_t offset = floats_;
    floats_ += (floats + 15) / 16 * 16;
    return offset;
  }
  int64_t bytes() const { return bytes_in_scratch(floats_); }

 private:
  int64_t floats_ = 0;
};

const Node& attention_node(const Graph& region, std::initializer_list<Op> ops) {
  const Node* found = nullptr;
  for (const Node& node : region.nodes())
    if (std::find(ops.begin(), ops.end(), node.op) != ops.end()) found = &node;
  WEIR_CHECK(found, "no attention in {}", print_graph(region));
  return *found;
}

// From the operands q, k of any attention node.
AttentionPlan common_plan(const Graph& region, const Node& node, const Target& target) {
  const Shape& q = region.type(node.inputs[0]).shape;
  const Shape& k = region.type(node.inputs[1]).shape;
  const AttentionNormalizer normalizer = normalizer_of(node.attrs);
  AttentionPlan plan{};
  plan.B = q[0];
  plan.T = q[1];
  plan.S = k[1];
  plan.H = q[2];
  plan.G = k[2];
  plan.d = q[3];
  plan.key_block = node.attrs.get_int_or("key_block", 0);
  plan.transform = score_transform(node.attrs);
  plan.row_numbers = info(normalizer).row_numbers();
  plan.sums = info(normalizer).sums;
  plan.extra = info(normalizer).extra;
  plan.normalizer = make_normalizer_code(normalizer, plan.transform.difference_scale);
  for (int32_t input : region.inputs())
    plan.elements.push_back(storage_of(region.node(input).types[0].dtype));
  for (const Output& output : region.outputs())
    plan.elements.push_back(storage_of(region.type(output.value).dtype));
  plan.lanes = target.lanes();
  return plan;
}

// Where an operand of an attention node lies among the buffers of its region.
int operand_buffer(const Graph& region, Value operand) {
  const auto& inputs = region.inputs();
  auto found = std::find(inputs.begin(), inputs.end(), operand.node);
  WEIR_CHECK(found != inputs.end(), "an operand of attention is computed inside its kernel");
  if (region.type(operand).dtype != DType::f32)
    user_error("attention", "an operand is {}, but compiled attention takes f32. Convert it.",
               to_string(region.type(operand)));
  return static_cast<int>(found - inputs.begin());
}

// The stride of rows of `floats` elements in scratch memory: whole vectors, and not such that rows
// lie in the same few sets of a cache.
int64_t scratch_stride(int64_t floats, int lanes) {
  const int64_t stride = whole_vectors(floats, lanes);
  return stride % 512 == 0 ? stride + 16 : stride;
}

ForwardBuffers forward_buffers(const Graph& region, const Node& node) {
  ForwardBuffers use{};
  use.q = operand_buffer(region, node.inputs[0]);
  use.k = operand_buffer(region, node.inputs[1]);
  use.v = operand_buffer(region, node.inputs[2]);
  if (node.inputs.size() == 4) use.other = operand_buffer(region, node.inputs[3]);
  const int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o)
    (region.outputs()[o].value.result == 0 ? use.out : use.rows) = base + static_cast<int>(o);
  return use;
}

// Queries of a tile: the more, the less often keys are copied; but slices stay in the second-level
// cache, and there are enough tiles to balance the load. No influence on the result.
int64_t choose_query_block(const ForwardPlan& p, const Target& target) {
  int64_t block = p.slice_width;
  const auto fits = [&](int64_t queries) {
    const int64_t tiles = p.B * p.G * ((p.T + queries - 1) / queries);
    return bytes_in_scratch(p.group() * queries / p.slice_width * p.slice_floats) <=
               target.l2_bytes / 2 &&
           queries <= 512 && queries < p.T + p.slice_width && tiles >= 16 * target.cores;
  };
  while (fits(2 * block)) block *= 2;
  return block;
}

BackwardBuffers backward_buffers(const Graph& region) {
  BackwardBuffers use;
  for (const Node& node : region.nodes()) {
    if (node.op != Op::attention_grad && node.op != Op::attention_stats) continue;
    use.q = operand_buffer(region, node.inputs[0]);
    use.k = operand_buffer(region, node.inputs[1]);
    if (node.op == Op::attention_stats) {
      use.rows = operand_buffer(region, node.inputs[2]);
      use.sink_key = node.attrs.get_int("sink");
      continue;
    }
    use.v = operand_buffer(region, node.inputs[2]);
    use.out = operand_buffer(region, node.inputs[3]);
    use.rows = operand_buffer(region, node.inputs[4]);
    use.dout = operand_buffer(region, node.inputs[5]);
    if (node.inputs.size() > 6) use.dlse = operand_buffer(region, node.inputs[6]);
  }
  const int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o) {
    Value value = region.outputs()[o].value;
    int* gradients[] = {&use.dq, &use.dk, &use.dv};
    int* statistics[] = {&use.column_sum, &use.column_sum_sq, &use.entropy,
                         &use.sink,       &use.largest,       &use.row_sum};
    const bool gradient = region.node(value).op == Op::attention_grad;
    *(gradient ? gradients[value.result] : statistics[value.result]) = base + static_cast<int>(o);
  }
  return use;
}

// Blocks of keys in a panel: the more, the less often queries are copied, but their five arrays
// stay in half of the second-level cache.
int64_t choose_panel(const BackwardPlan& p, const Target& target) {
  const int64_t bytes = bytes_in_scratch(5 * p.padded_keys * p.stride);
  const int64_t all = (p.S + p.key_block - 1) / p.key_block;
  return std::clamp<int64_t>(target.l2_bytes / 2 / bytes, 1, std::min<int64_t>(all, 8));
}

BackwardScratch backward_scratch(const BackwardPlan& p, ScratchParts& parts) {
  const BackwardBuffers& use = p.use;
  const bool gradients = use.gradients();
  const int64_t task_rows = p.group() * p.T;
  BackwardScratch at;
  at.k_transposed = parts.add(p.panel_blocks * p.padded_keys * p.d);
  if (gradients) at.v_transposed = parts.add(p.panel_blocks * p.padded_keys * p.d);
  if (use.dq >= 0) at.keys = parts.add(p.panel_blocks * p.key_block * p.stride);
  if (use.dk >= 0) at.key_sums = parts.add(p.panel_blocks * p.key_rows * p.stride);
  if (use.dv >= 0) at.value_sums = parts.add(p.panel_blocks * p.key_rows * p.stride);
  at.queries = parts.add(p.query_rows * p.stride);
  if (gradients) at.out_grads = parts.add(p.query_rows * p.stride);
  if (use.dq >= 0) at.query_sums = parts.add(p.query_rows * p.stride);
  // The products by key read a register block beyond the last row's keys.
  at.weights = parts.add(p.query_rows * p.padded_keys + p.key_tile.rows);
  if (gradients) at.score_grads = parts.add(p.query_rows * p.padded_keys + p.key_tile.rows);
  if (gradients) at.deltas = parts.add(task_rows);
  if (p.corrects) {
    at.row_sums = parts.add(2 * task_rows);
    at.corrected_blocks = parts.add(p.group() * p.query_blocks());
    at.any_corrected = parts.add(1);
  }
  at.row_factors = parts.add(task_rows);
  if (p.divides) at.share_factors = parts.add(task_rows);
  if (p.divides) at.shares = parts.add(p.query_rows * p.padded_keys);
  if (use.entropy >= 0) at.row_logs = parts.add(task_rows);
  return at;
}

}  // namespace

int64_t whole_vectors(int64_t count, int lanes) { return (count + lanes - 1) / lanes * lanes; }

RowState AttentionPlan::row_state(const std::function<llvm::Value*(int i)>& number) const {
  RowState row{number(0), {}};
  for (int i = 1; i <= sums; ++i) row.sums.push_back(number(i));
  if (extra != RowExtra::none) row.extra = number(row_numbers - 1);
  return row;
}

int64_t BackwardPlan::register_blocks() const {
  const int64_t of_scores = query_rows / score_tile.rows;
  const int64_t by_key = key_rows / key_tile.rows, by_query = query_rows / query_tile.rows;
  return (use.gradients() ? 2 : 1) * of_scores + (use.dv >= 0 ? by_key : 0) +
         (use.dk >= 0 ? by_key : 0) + (use.dq >= 0 ? by_query : 0);
}

ForwardPlan plan_attention(const Graph& region, const Target& target) {
  const Node& node = attention_node(region, {Op::attention});
  ForwardPlan p{common_plan(region, node, target)};
  p.use = forward_buffers(region, node);
  p.score_tile = block_tile(target, p.key_block, p.T, kSliceVectors);
  p.sum_tile = block_tile(target, p.d, p.T, kSliceVectors);
  p.slice_width = int64_t{p.score_tile.vectors} * p.lanes;
  p.key_stride = scratch_stride(p.d, p.lanes);
  p.value_stride = scratch_stride(std::max(p.d, p.sum_tile.padded(p.d)), p.lanes);
  p.out_stride = whole_vectors(p.d, p.lanes);
  p.slice_floats = p.slice_width * (p.d + p.sum_tile.padded(p.d) + p.row_numbers);
  p.query_block = choose_query_block(p, target);
  ScratchParts parts;
  p.keys = parts.add(p.score_tile.padded(p.key_block) * p.key_stride);
  p.values = parts.add(p.key_block * p.value_stride);
  p.scores = parts.add(p.slice_width * std::max(p.score_tile.padded(p.key_block), p.out_stride));
  p.largest = parts.add(p.slice_width);
  p.slices = parts.add(p.slice_count() * p.slice_floats);
  p.tiles = p.B * p.G * p.query_blocks();
  p.scratch_bytes = parts.bytes();
  return p;
}

BackwardPlan plan_attention_backward(const Graph& region, const Target& target) {
  const Node& node = attention_node(region, {Op::attention_grad, Op::attention_stats});
  BackwardPlan p{common_plan(region, node, target)};
  p.use = backward_buffers(region);
  p.padded_keys = whole_vectors(p.key_block, p.lanes);
  p.query_block = std::min<int64_t>(32, whole_vectors(p.T, p.lanes));
  // Narrow with a causal mask, which hides whole groups of keys then.
  const bool narrow = p.causal() && p.T <= 2 * p.key_block;
  p.score_tile = block_tile(target, p.query_block, p.padded_keys, narrow ? 2 : 4);
  p.query_tile = block_tile(target, p.query_block, p.d, 4);
  p.key_tile = block_tile(target, p.key_block, p.d, 4);
  p.stride = scratch_stride(p.d, p.lanes);
  p.query_rows = std::max(p.score_tile.padded(p.query_block), p.query_tile.padded(p.query_block));
  p.key_rows = p.key_tile.padded(p.key_block);
  p.panel_blocks = choose_panel(p, target);
  p.divides = p.use.of_weights() && !info(normalizer_of(node.attrs)).rows_sum_to_one;
  p.corrects = p.use.score_gradients() && p.normalizer->gradients_cancel();
  ScratchParts parts;
  p.scratch = backward_scratch(p, parts);
  p.tiles = p.B * p.G;
  p.scratch_bytes = parts.bytes();
  return p;
}

MapPlan plan_attention_map(const Graph& region, const Target& target) {
  const Node& node = attention_node(region, {Op::attention_map});
  MapPlan p{common_plan(region, node, target)};
  p.use = {operand_buffer(region, node.inputs[0]), operand_buffer(region, node.inputs[1]),
           operand_buffer(region, node.inputs[2]), static_cast<int>(region.inputs().size())};
  const int64_t side = node.attrs.get_int("side");
  p.row_cells = map_cells(p.T, side);
  p.column_cells = map_cells(p.S, side);
  p.padded_keys = whole_vectors(p.key_block, p.lanes);
  p.query_block = std::min<int64_t>(32, p.T);
  p.tile = block_tile(target, p.query_block, p.padded_keys, 4);
  p.stride = scratch_stride(p.d, p.lanes);
  ScratchParts parts;
  p.keys = parts.add(p.padded_keys * p.d);
  p.queries = parts.add(p.tile.padded(p.query_block) * p.stride);
  p.weights = parts.add(p.tile.padded(p.query_block) * p.padded_keys);
  p.sums = parts.add(p.padded_keys);
  p.tiles = p.B * p.H * p.row_cells.count();
  p.scratch_bytes = parts.bytes();
  return p;
}

IdentitiesPlan plan_attention_identities(const Graph& region, const Target& target) {
  const Node& node = attention_node(region, {Op::attention_identities});
  IdentitiesPlan p{common_plan(region, node, target)};
  int* last = p.extra == RowExtra::other ? &p.use.other : &p.use.dlse;
  int* operands[] = {&p.use.q, &p.use.k, &p.use.v, &p.use.out, &p.use.dout, last};
  for (size_t i = 0; i < node.inputs.size(); ++i)
    *operands[i] = operand_buffer(region, node.inputs[i]);
  int* results[] = {&p.use.dv, &p.use.dk, &p.use.dq, &p.use.by_key, &p.use.by_query};
  const int base = static_cast<int>(region.inputs().size());
  for (size_t o = 0; o < region.outputs().size(); ++o)
    *results[region.outputs()[o].value.result] = base + static_cast<int>(o);
  p.padded_keys = whole_vectors(p.S, p.lanes);
  ScratchParts parts;
  p.keys = parts.add(p.padded_keys * p.d);
  for (int64_t* part : {&p.key_norms, &p.value_norms, &p.scores, &p.numerators, &p.gradients})
    *part = parts.add(p.padded_keys);
  p.tiles = p.B * p.H;
  p.scratch_bytes = parts.bytes();
  return p;
}

}  // namespace weir
