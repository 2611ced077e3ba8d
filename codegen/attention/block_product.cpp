#include "codegen/attention/block_product.h"

#include <algorithm>

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = std::vector<Emitted*>;

/// Steps of k that the inner loop takes at once.
constexpr int kDepthUnroll = 4;

Emitted* load(Emitter& e, const KernelArray& array, Emitted* at, int lanes,
              Emitted* mask = nullptr) {
  return e.load(array.element, array.base, at, lanes, mask);
}
void store(Emitter& e, Emitted* value, const KernelArray& array, Emitted* at,
           Emitted* mask = nullptr) {
  e.store(array.element, value, array.base, at, mask);
}

class BlockProductEmitter {
 public:
  BlockProductEmitter(Emitter& e, const BlockProduct& product) : e_(e), p_(product) {}

  void run() {
    const int64_t group = int64_t{p_.tile.vectors} * e_.lanes();
    const int64_t whole = p_.columns / group * group;
    e_.for_loop(e_.index(0), e_.index(whole), group,
                [&](Emitted* column) { columns(column, p_.tile.vectors); });
    if (whole < p_.columns)
      columns(e_.index(whole), static_cast<int>((p_.columns - whole) / e_.lanes()));
  }

 private:
  void columns(Emitted* column, int vectors) {
    Emitted* first = e_.index(0);
    if (p_.first_row) first = e_.mul(e_.div(p_.first_row(column), p_.tile.rows), p_.tile.rows);
    e_.for_loop(first, p_.rows, p_.tile.rows,
                [&](Emitted* row) { register_block(row, column, vectors); });
  }

  void register_block(Emitted* row, Emitted* column, int vectors) {
    const int rows = p_.tile.rows;
    Emitted* at = e_.add(e_.add(p_.c.origin, e_.mul(row, p_.c.row_stride)), column);
    const auto index_of = [&](int r, int v) {
      return e_.add(at, r * p_.c.row_stride + v * lanes());
    };
    Values sums;
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) {
        Emitted* sum =
            p_.accumulate ? load(e_, p_.c.array, index_of(r, v), lanes()) : e_.f32(0, lanes());
        if (!p_.rescale.empty()) sum = e_.ir().CreateFMul(sum, p_.rescale[v]);
        sums.push_back(sum);
      }
    sums = multiply(row, column, vectors, sums);
    if (p_.finish) p_.finish(row, column, sums);
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v)
        store(e_, sums[r * vectors + v], p_.c.array, index_of(r, v));
  }

  // Adds the products over all k to the accumulators.
  Values multiply(Emitted* row, Emitted* column, int vectors, Values values) {
    const auto [begin, end] = p_.depth(row);
    const auto from = [&](const BlockMatrix& m, Emitted* offset) {
      return e_.address(m.array.element, m.array.base, e_.add(m.origin, offset));
    };
    // Carried: where A and B are read, then the accumulators.
    values.insert(
        values.begin(),
        {from(p_.a, e_.add(e_.mul(row, p_.a.row_stride), e_.mul(begin, p_.a.column_stride))),
         from(p_.b, e_.add(e_.mul(begin, p_.b.row_stride), column))});
    const auto steps = [&](int count) {
      return [=, this](Emitted*, const Values& carried) {
        Values next = carried;
        for (int u = 0; u < count; ++u) step(u, vectors, next);
        next[0] = e_.byte_address(carried[0], bytes(p_.a) * p_.a.column_stride * count);
        next[1] = e_.byte_address(carried[1], bytes(p_.b) * p_.b.row_stride * count);
        return next;
      };
    };
    Emitted* count = e_.sub(end, begin);
    Emitted* whole = e_.mul(e_.div(count, kDepthUnroll), kDepthUnroll);
    values = e_.for_loop(e_.index(0), whole, kDepthUnroll, values, steps(kDepthUnroll));
    values = e_.for_loop(whole, count, 1, values, steps(1));
    values.erase(values.begin(), values.begin() + 2);
    return values;
  }

  /// One step of k: one fused multiply-add for every accumulator. `values[0]` and `[1]` stay.
  void step(int unrolled, int vectors, Values& values) {
    Values b(vectors);
    for (int v = 0; v < vectors; ++v)
      b[v] = e_.load(p_.b.array.element, values[1],
                     e_.index(unrolled * p_.b.row_stride + v * lanes()), lanes());
    for (int r = 0; r < p_.tile.rows; ++r) {
      const int64_t at = r * p_.a.row_stride + unrolled * p_.a.column_stride;
      Emitted* a = e_.load_broadcast(p_.a.array.element, values[0], e_.index(at), lanes());
      for (int v = 0; v < vectors; ++v) {
        Emitted*& accumulator = values[2 + r * vectors + v];
        accumulator = e_.fma(a, b[v], accumulator);
      }
    }
  }

  int lanes() const { return e_.lanes(); }
  static int64_t bytes(const BlockMatrix& m) { return storage_bytes(m.array.element); }

  Emitter& e_;
  const BlockProduct& p_;
};

// Calls `body(column, mask)` for every vector of a row.
void for_columns(Emitter& e, int64_t columns, const std::function<void(int64_t, Emitted*)>& body) {
  for (int64_t c = 0; c < columns; c += e.lanes())
    body(c, columns - c >= e.lanes() ? nullptr : e.mask_below(e.index(columns - c), e.lanes()));
}

Emitted* row_start(Emitter& e, const BlockMatrix& m, Emitted* row) {
  return e.add(m.origin, e.mul(row, m.row_stride));
}

}  // namespace

BlockTile block_tile(const Target& target, int64_t rows, int64_t columns, int most_vectors) {
  int vectors = std::min(most_vectors, target.vector_registers >= 32 ? 4 : 2);
  while (vectors > 1 && columns <= vectors / 2 * target.lanes()) vectors /= 2;
  // One register for the element of A and one a vector of B.
  const int most = std::min((target.vector_registers - 1 - vectors) / vectors, 14);
  // A register block costs a step of k about one row more than it has.
  const auto cost = [&](int r) {
    const int64_t blocks = (rows + r - 1) / r;
    return static_cast<double>(blocks) * (r + 1.5);
  };
  int best = most;
  for (int r = most - 1; r >= 1; --r)
    if (cost(r) < cost(best)) best = r;
  return {best, vectors};
}

void emit_block_product(Emitter& e, const BlockProduct& product) {
  BlockProductEmitter(e, product).run();
}

void emit_block_copy(Emitter& e, const BlockCopy& copy) {
  e.for_loop(e.index(0), copy.rows, 1, [&](Emitted* row) {
    Emitted* source = copy.last ? e.min_index(row, copy.last) : row;
    Emitted *from = row_start(e, copy.from, source), *to = row_start(e, copy.to, row);
    for_columns(e, copy.columns, [&](int64_t c, Emitted* mask) {
      Emitted* value = load(e, copy.from.array, e.add(from, c), e.lanes(), mask);
      if (copy.map) value = copy.map(row, value);
      store(e, value, copy.to.array, e.add(to, c), mask);
    });
  });
}

void emit_block_transpose(Emitter& e, Emitted* rows, int64_t row_capacity, int64_t columns,
                          const BlockMatrix& source, const KernelArray& packed, double factor) {
  const int lanes = e.lanes();
  Emitted* last = e.add(rows, -1);
  const auto square = [&](Emitted* first, Emitted* column, int64_t width) {
    Emitted* mask = width == lanes ? nullptr : e.mask_below(e.index(width), lanes);
    Values loaded;
    for (int r = 0; r < lanes; ++r) {
      Emitted* at = e.add(row_start(e, source, e.min_index(e.add(first, r), last)), column);
      Emitted* row = load(e, source.array, at, lanes, mask);
      if (factor != 1) row = e.ir().CreateFMul(row, e.f32(factor, lanes));
      loaded.push_back(row);
    }
    Values columns_of = e.transpose(loaded);
    Emitted* to = e.add(first, e.mul(column, row_capacity));
    for (int64_t c = 0; c < width; ++c)
      store(e, columns_of[c], packed, e.add(to, c * row_capacity));
  };
  const int64_t whole = columns / lanes * lanes;
  e.for_loop(e.index(0), e.index(row_capacity), lanes, [&](Emitted* first) {
    e.for_loop(e.index(0), e.index(whole), lanes,
               [&](Emitted* column) { square(first, column, lanes); });
    if (whole < columns) square(first, e.index(whole), columns - whole);
  });
}

void emit_block_fill(Emitter& e, Emitted* rows, int64_t columns, const BlockMatrix& c,
                     double value) {
  e.for_loop(e.index(0), rows, 1, [&](Emitted* row) {
    Emitted* at = row_start(e, c, row);
    for_columns(e, columns, [&](int64_t column, Emitted* mask) {
      store(e, e.f32(value, e.lanes()), c.array, e.add(at, column), mask);
    });
  });
}

}  // namespace weir
