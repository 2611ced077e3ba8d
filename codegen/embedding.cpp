#include "codegen/embedding.h"

#include <algorithm>
#include <limits>

#include "codegen/llvm/elementwise.h"
#include "codegen/llvm/vector_loop.h"
#include "codegen/single_op_region.h"
#include "ir/print.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

/// Buffers as the region orders them; the last one, the result, is written.
KernelFrame begin(Emitter& e, const std::string& symbol, const SingleOpRegion& op) {
  std::vector<BufferUse> uses(op.workspace);
  uses[op.results[0]].written = true;
  return e.begin_kernel(symbol, uses);
}

/// The id at a position as i32, and whether it is below `vocabulary`.
struct Id {
  Emitted* value;
  Emitted* is_known;
};
Id load_id(Emitter& e, DType dtype, Emitted* ids, Emitted* position, int64_t vocabulary) {
  Emitted* value = e.load(storage_of(dtype), ids, position, 1);
  // As unsigned numbers, negative ids are above every vocabulary.
  const int64_t limit = std::min<int64_t>(vocabulary, int64_t{1} << 31);
  Emitted* wide = e.ir().CreateZExt(value, e.ir().getInt64Ty());
  return {wide, e.ir().CreateICmpULT(wide, e.index(limit))};
}

struct EmbeddingShape {
  SingleOpRegion op;
  DType ids, data;  ///< data: of the table and of what is looked up, or of both gradients
  int64_t positions, vocabulary, width;
  int64_t block;  ///< positions, or columns, of a tile

  int64_t table_bytes() const { return dtype_size(data) * vocabulary * width; }
};

void emit_embedding(Emitter& e, const std::string& symbol, const EmbeddingShape& shape) {
  const KernelFrame frame = begin(e, symbol, shape.op);
  Emitted* table = frame.buffers[shape.op.operands[0]];
  Emitted* ids = frame.buffers[shape.op.operands[1]];
  Emitted* result = frame.buffers[shape.op.results[0]];
  const Storage storage = storage_of(shape.data);
  const auto for_row = [&](const std::function<void(Emitted*, Emitted*)>& body) {
    for_vectors(e, e.index(0), e.index(shape.width), e.lanes(), body);
  };
  Emitted* first = e.mul(frame.first_tile, shape.block);
  Emitted* last = e.min_index(e.index(shape.positions), e.mul(frame.last_tile, shape.block));
  e.for_loop(first, last, 1, [&](Emitted* position) {
    const Id id = load_id(e, shape.ids, ids, position, shape.vocabulary);
    Emitted* to = e.address(storage, result, e.mul(position, shape.width));
    e.if_else(
        id.is_known,
        [&] {
          Emitted* from = e.address(storage, table, e.mul(id.value, shape.width));
          for_row([&](Emitted* column, Emitted* mask) {
            e.store(storage, e.load(storage, from, column, e.lanes(), mask), to, column, mask);
          });
          return Emitter::Values{};
        },
        [&] {
          Emitted* nan = e.f32(std::numeric_limits<double>::quiet_NaN(), e.lanes());
          for_row([&](Emitted* column, Emitted* mask) { e.store(storage, nan, to, column, mask); });
          return Emitter::Values{};
        });
  });
  e.end_kernel();
}

/// Bytes of a tile that sets the gradient to zero.
constexpr int64_t clear_block = int64_t{1} << 18;

void emit_clear(Emitter& e, const std::string& symbol, const EmbeddingShape& shape) {
  const KernelFrame frame = begin(e, symbol, shape.op);
  Emitted* result = frame.buffers[shape.op.results[0]];
  Emitted* bytes = e.index(shape.table_bytes());
  e.for_loop(frame.first_tile, frame.last_tile, 1, [&](Emitted* tile) {
    Emitted* from = e.mul(tile, clear_block);
    Emitted* count = e.min_index(e.index(clear_block), e.sub(bytes, from));
    e.ir().CreateMemSet(e.byte_address(result, from), e.ir().getInt8(0), count, llvm::Align(64));
  });
  e.end_kernel();
}

void emit_embedding_grad(Emitter& e, const std::string& symbol, const EmbeddingShape& shape) {
  const KernelFrame frame = begin(e, symbol, shape.op);
  Emitted* ids = frame.buffers[shape.op.operands[0]];
  Emitted* dy = frame.buffers[shape.op.operands[1]];
  Emitted* result = frame.buffers[shape.op.results[0]];
  Emitted* first = e.mul(frame.first_tile, shape.block);
  Emitted* last = e.min_index(e.index(shape.width), e.mul(frame.last_tile, shape.block));
  const Storage storage = storage_of(shape.data);
  const auto row = [&](Emitted* base, Emitted* i) {
    return e.address(storage, base, e.mul(i, shape.width));
  };
  e.for_loop(e.index(0), e.index(shape.positions), 1, [&](Emitted* position) {
    const Id id = load_id(e, shape.ids, ids, position, shape.vocabulary);
    e.if_then(id.is_known, [&] {
      Emitted* to = row(result, id.value);
      Emitted* from = row(dy, position);
      for_vectors(e, first, last, e.lanes(), [&](Emitted* column, Emitted* mask) {
        Emitted* sum = e.load(storage, to, column, e.lanes(), mask);
        Emitted* term = e.load(storage, from, column, e.lanes(), mask);
        e.store(storage, e.ir().CreateFAdd(sum, term), to, column, mask);
      });
    });
  });
  e.end_kernel();
}

}  // namespace

KernelCode make_embedding_kernel(const GraphPtr& region, const Target&) {
  EmbeddingShape shape;
  shape.op = single_op_region(*region, {Op::embedding});
  const Type& table = region->type(shape.op.node->inputs[0]);
  const Type& ids = region->type(shape.op.node->inputs[1]);
  if (table.dtype == DType::f64)
    user_error("embedding", "the table is {}, but compiled code takes f32, bf16 or f16.",
               to_string(table));
  shape.data = table.dtype;
  shape.ids = ids.dtype;
  shape.positions = ids.elements();
  shape.vocabulary = table.shape[0];
  shape.width = table.shape[1];
  constexpr int64_t tile_elements = 16384;
  shape.block = std::max<int64_t>(1, tile_elements / std::max<int64_t>(1, shape.width));
  return {.tiles = ceil_div(shape.positions, shape.block),
          .scratch_bytes = 0,
          .key = "embedding\n" + structural_key(*region),
          .emit = [region, shape](Emitter& e, const std::string& symbol) {
            emit_embedding(e, symbol, shape);
          }};
}

KernelPhases make_embedding_grad_kernel(const GraphPtr& region, const Target& target) {
  EmbeddingShape shape;
  shape.op = single_op_region(*region, {Op::embedding_grad});
  const Type& ids = region->type(shape.op.node->inputs[0]);
  const Type& dy = region->type(shape.op.node->inputs[1]);
  // Sums of a narrower type would be rounded at every position.
  if (dy.dtype != DType::f32)
    user_error("embedding_grad", "the gradient is {}, but compiled code sums f32. Convert it.",
               to_string(dy));
  shape.data = dy.dtype;
  shape.ids = ids.dtype;
  shape.positions = ids.elements();
  shape.vocabulary = shape.op.node->types[0].shape[0];
  shape.width = shape.op.node->types[0].shape[1];
  // Whole cache lines, so that threads share none.
  const int64_t line = kAlignment / dtype_size(shape.data);
  const int64_t even = ceil_div(shape.width, 2 * int64_t{target.cores});
  shape.block = ceil_div(std::max<int64_t>(1, even), line) * line;
  const std::string key = structural_key(*region);
  KernelPhases phases;
  phases.codes.push_back({.tiles = ceil_div(shape.table_bytes(), clear_block),
                          .scratch_bytes = 0,
                          .key = "embedding_grad clear\n" + key,
                          .emit = [region, shape](Emitter& e, const std::string& symbol) {
                            emit_clear(e, symbol, shape);
                          }});
  phases.codes.push_back({.tiles = ceil_div(shape.width, shape.block),
                          .scratch_bytes = 0,
                          .key = fmt::format("embedding_grad {}\n{}", shape.block, key),
                          .emit = [region, shape](Emitter& e, const std::string& symbol) {
                            emit_embedding_grad(e, symbol, shape);
                          }});
  phases.runs = {{0, {}}, {1, {}}};
  return phases;
}

}  // namespace weir
