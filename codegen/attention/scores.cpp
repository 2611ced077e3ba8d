#include "codegen/attention/scores.h"

#include "codegen/llvm/vector_math.h"

namespace weir {

using Emitted = llvm::Value;
using Values = std::vector<Emitted*>;

Emitted* emit_score(Emitter& e, const ScoreTransform& transform, Emitted* product) {
  if (transform.cap == 0) return product;
  return emit_tanh(e, e.ir().CreateFMul(product, e.f32_like(product, transform.tanh_scale)));
}

Emitted* emit_product_gradient(Emitter& e, const ScoreTransform& transform, Emitted* score,
                               Emitted* gradient) {
  Emitted* of_product = e.ir().CreateFMul(gradient, e.f32_like(gradient, transform.scale));
  if (transform.cap == 0) return of_product;
  Emitted* square = e.ir().CreateFMul(score, score);
  return e.ir().CreateFMul(of_product, e.ir().CreateFSub(e.f32_like(score, 1), square));
}

Emitted* keys_seen(Emitter& e, const ScoreTransform& transform, Emitted* count, Emitted* first_key,
                   Emitted* query) {
  if (!transform.causal) return count;
  return e.min_index(count, e.add(e.sub(query, first_key), 1));
}

void emit_score_mask(Emitter& e, const ScoreTransform& transform, const ScoreBlock& block,
                     double masked_score, Values& scores) {
  if (!transform.causal) return;
  const int rows = block.tile.rows, vectors = block.tile.vectors, lanes = e.lanes();
  const auto minimum_of = [&](Emitted* vector, Emitted* index) {
    Emitted* other = e.broadcast(e.ir().CreateTrunc(index, e.i32_type()), lanes);
    return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smin, vector, other);
  };
  Emitted* hides = e.ir().CreateICmpSGT(e.add(block.first_key, rows - 1), block.first_query);
  const auto masked = [&] {
    Values result = scores;
    for (int v = 0; v < vectors; ++v) {
      // The last key that a query sees, counted from the first of the block.
      Emitted* last = e.sub(e.add(block.first_query, v * lanes), block.first_key);
      last = e.broadcast(e.ir().CreateTrunc(last, e.i32_type()), lanes);
      last = e.ir().CreateAdd(last, e.iota(lanes));
      if (block.keys < block.queries)
        last = minimum_of(last, e.sub(e.index(block.keys - 1), block.first_key));
      for (int r = 0; r < rows; ++r) {
        Emitted*& score = result[r * vectors + v];
        score = e.select(e.ir().CreateICmpSGE(last, e.i32_like(last, r)), score,
                         e.f32(masked_score, lanes));
      }
    }
    return result;
  };
  scores = e.if_else(hides, masked, [&] { return scores; });
}

}  // namespace weir
