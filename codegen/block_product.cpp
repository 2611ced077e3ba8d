#include "codegen/block_product.h"

#include <algorithm>

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = std::vector<Emitted*>;

// Accumulators in registers: rows x vectors, leaving room for the vectors of B and one of A.
struct MicroShape {
  int rows, vectors;
};

MicroShape micro_shape(const Target& target, int64_t columns) {
  int64_t needed = (columns + target.lanes() - 1) / target.lanes();
  int vectors = static_cast<int>(std::min<int64_t>(needed, target.vector_registers >= 32 ? 4 : 2));
  int rows = (target.vector_registers - 1 - vectors) / vectors;
  return {std::min(rows, 8), vectors};
}

class BlockProduct {
 public:
  BlockProduct(Emitter& e, Emitted* depth, const BlockMatrix& a, const BlockMatrix& b,
               const BlockMatrix& c, bool accumulate)
      : e_(e), depth_(depth), a_(a), b_(b), c_(c), accumulate_(accumulate) {}

  void run(Emitted* rows, int64_t columns) {
    MicroShape shape = micro_shape(e_.target(), columns);
    int64_t group = shape.vectors * e_.lanes();
    for (int64_t column = 0; column < columns; column += group) {
      int64_t width = std::min(group, columns - column);
      Emitted* whole = e_.mul(e_.div(rows, shape.rows), shape.rows);
      e_.for_loop(e_.index(0), whole, shape.rows,
                  [&](Emitted* row) { micro(row, shape.rows, column, width); });
      e_.for_loop(whole, rows, 1, [&](Emitted* row) { micro(row, 1, column, width); });
    }
  }

 private:
  Emitted* mask(int64_t left) {
    return left >= e_.lanes() ? nullptr : e_.mask_below(e_.index(left), e_.lanes());
  }
  Emitted* at(const BlockMatrix& m, Emitted* row, int64_t column) {
    return e_.add(e_.add(m.origin, e_.mul(row, m.row_stride)), column * m.column_stride);
  }

  void micro(Emitted* row, int rows, int64_t column, int64_t width) {
    int lanes = e_.lanes();
    int vectors = static_cast<int>((width + lanes - 1) / lanes);
    Values sums;
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v)
        sums.push_back(accumulate_ ? e_.load(Storage::f32, c_.base,
                                             at(c_, e_.add(row, r), column + v * lanes), lanes,
                                             mask(width - v * lanes))
                                   : e_.f32(0, lanes));
    sums = e_.for_loop(e_.index(0), depth_, 1, sums, [&](Emitted* k, const Values& carried) {
      Values b, next;
      for (int v = 0; v < vectors; ++v)
        b.push_back(e_.load(Storage::f32, b_.base, at(b_, k, column + v * lanes), lanes,
                            mask(width - v * lanes)));
      Emitted* a_column = e_.add(a_.origin, e_.mul(k, a_.column_stride));
      for (int r = 0; r < rows; ++r) {
        Emitted* a = e_.load_broadcast(
            Storage::f32, a_.base, e_.add(a_column, e_.mul(e_.add(row, r), a_.row_stride)), lanes);
        for (int v = 0; v < vectors; ++v) next.push_back(e_.fma(a, b[v], carried[r * vectors + v]));
      }
      return next;
    });
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v)
        e_.store(Storage::f32, sums[r * vectors + v], c_.base,
                 at(c_, e_.add(row, r), column + v * lanes), mask(width - v * lanes));
  }

  Emitter& e_;
  Emitted* depth_;
  BlockMatrix a_, b_, c_;
  bool accumulate_;
};

}  // namespace

void emit_block_product(Emitter& e, Emitted* rows, int64_t columns, Emitted* depth,
                        const BlockMatrix& a, const BlockMatrix& b, const BlockMatrix& c,
                        bool accumulate) {
  BlockProduct(e, depth, a, b, c, accumulate).run(rows, columns);
}

void emit_block_transpose(Emitter& e, Emitted* rows, int64_t row_capacity, int64_t columns,
                          const BlockMatrix& source, Emitted* packed) {
  const int lanes = e.lanes();
  Emitted* last = e.add(rows, -1);
  e.for_loop(e.index(0), e.index(row_capacity), lanes, [&](Emitted* first) {
    for (int64_t column = 0; column < columns; column += lanes) {
      int64_t width = std::min<int64_t>(lanes, columns - column);
      Emitted* mask = width == lanes ? nullptr : e.mask_below(e.index(width), lanes);
      Values loaded;
      for (int r = 0; r < lanes; ++r) {
        Emitted* row = e.min_index(e.add(first, r), last);
        Emitted* at = e.add(e.add(source.origin, e.mul(row, source.row_stride)), column);
        loaded.push_back(e.load(Storage::f32, source.base, at, lanes, mask));
      }
      Values columns_of = e.transpose(loaded);
      for (int64_t c = 0; c < width; ++c)
        e.store(Storage::f32, columns_of[c], packed, e.add(first, (column + c) * row_capacity));
    }
  });
}

void emit_block_fill(Emitter& e, Emitted* rows, int64_t columns, const BlockMatrix& c,
                     double value) {
  const int lanes = e.lanes();
  e.for_loop(e.index(0), rows, 1, [&](Emitted* row) {
    Emitted* at = e.add(c.origin, e.mul(row, c.row_stride));
    for (int64_t column = 0; column < columns; column += lanes) {
      Emitted* mask =
          columns - column >= lanes ? nullptr : e.mask_below(e.index(columns - column), lanes);
      e.store(Storage::f32, e.f32(value, lanes), c.base, e.add(at, column), mask);
    }
  });
}

}  // namespace weir
