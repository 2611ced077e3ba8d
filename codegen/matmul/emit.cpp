// Emission of the matrix product. From outside in: tiles of C; blocks of k, for which the tile's
// columns of B are packed unless that is done before or B is read where it lies; strips of rows of
// A, packed unless A is read where it lies; strips of columns; the register block. So a strip of A
// stays in the first-level cache and the columns of B stream from the second, while what comes next
// is asked for.
#include <algorithm>
#include <bit>

#include "codegen/llvm/emitter.h"
#include "codegen/matmul/matmul.h"
#include "codegen/matmul/pack.h"
#include "support/align.h"

namespace weir {
namespace {

using llvm::Value;
using Values = Emitter::Values;

constexpr int depth_unroll = 4;
constexpr int64_t line_bytes = 64;
/// Steps of k after which a register block asks for what comes next: a line of a row of A. Asking
/// costs as much as loading, so each line is asked for once.
constexpr int64_t ask_span = line_bytes / 4;
/// Caches, as Emitter::prefetch counts them.
constexpr int first_level = 3, second_level = 2;
/// Steps of k packed at a time where the elements of a step lie side by side.
constexpr int64_t row_pack_steps = 8;
/// Steps of k that the packed strips are asked for ahead of use: an access of the second level.
constexpr int64_t steps_ahead = 16;

/// What a block of k needs to know while a tile is computed.
struct DepthBlock {
  Value* begin;
  Value* depth;
  Value* is_first;
  Value* is_last;
};

/// A tile of C.
struct Tile {
  Value* batch;
  Value* row_begin;
  Value* column_begin;
  Value* row_strips;     // full ones
  Value* column_strips;  // full ones
  Value* is_last_row;    // tile in its column, which then has the ragged strip
  Value* is_last_column;
};

/// What a register block asks the memory for, to be used by later ones; null: nothing.
struct Ahead {
  /// A place for the chains, or beside them.
  struct Sums {
    Value* at;
    int64_t row_stride;
    Value* wanted;  // whether it is asked for
  };
  Value* rows = nullptr;        // of A
  std::vector<Sums> sums;       // of C
  Value* columns = nullptr;     // of B
  Value* first_line = nullptr;  // of `columns` that this register block asks for
};

class MatmulEmitter {
 public:
  MatmulEmitter(Emitter& e, const MatmulPlan& plan, const MatmulHooks& hooks)
      : e_(e),
        plan_(plan),
        spec_(plan.spec),
        tiles_(plan.tiles),
        hooks_(hooks),
        scratch_(matmul_scratch(e.target(), plan)),
        lanes_(e.lanes()),
        strip_columns_(tiles_.micro_vectors * lanes_) {}

  void product(const std::string& symbol) {
    std::vector<BufferUse> uses = {{}, {}, {.written = true}};
    if (spec_.accumulate == Accumulate::operand) uses.push_back({});
    uses.insert(uses.end(), hooks_.extra_buffers.begin(), hooks_.extra_buffers.end());
    frame_ = e_.begin_kernel(symbol, uses);
    e_.for_loop(frame_.first_tile, frame_.last_tile, 1, [&](Value* tile) { this->tile(tile); });
    e_.end_kernel();
  }

  void pack_b(const std::string& symbol) {
    frame_ = e_.begin_kernel(symbol, {{}, {.written = true}});
    e_.for_loop(frame_.first_tile, frame_.last_tile, 1, [&](Value* tile) {
      if (spec_.b.transposed) {
        pack_one_strip(tile);
      } else {
        pack_some_steps(tile);
      }
    });
    e_.end_kernel();
  }

 private:
  int64_t ragged_rows() const { return spec_.m % tiles_.micro_rows; }
  int64_t ragged_columns() const { return spec_.n % strip_columns_; }
  /// Columns that a strip with `present` columns takes when packed.
  int64_t packed_columns(int64_t present) const { return (present + lanes_ - 1) / lanes_ * lanes_; }

  // --- addresses ---

  Value* operand_offset(const MatmulOperand& operand, Value* batch) {
    return e_.mul(batch, operand.batch_stride);
  }

  /// Element offset of a strip of a block of k of the B packed ahead.
  Value* packed_offset(Value* batch, Value* strip, const DepthBlock& block) {
    Value* matrix = spec_.b.batch_stride != 0 ? batch : e_.index(0);
    const int64_t columns = packed_columns(spec_.n);
    return e_.add(e_.add(e_.mul(matrix, columns * spec_.k), e_.mul(block.begin, columns)),
                  e_.mul(e_.mul(strip, strip_columns_), block.depth));
  }

  /// Loads from operand A or B.
  StripLoader loader(bool is_a, Value* buffer, Value* batch) {
    const MatmulOperand& operand = is_a ? spec_.a : spec_.b;
    Value* offset = operand_offset(operand, batch);
    return [=, this, &operand](Value* row, Value* column, Value* mask) {
      Value* at = e_.add(e_.add(offset, e_.mul(row, operand.row_stride)), column);
      return e_.load(Storage::f32, buffer, at, static_cast<int>(lanes_), mask);
    };
  }

  /// Asks for what the loader would load.
  StripAsker asker(bool is_a, Value* buffer, Value* batch) {
    const int64_t stride = is_a ? spec_.a.row_stride : spec_.b.row_stride;
    Value* offset = operand_offset(is_a ? spec_.a : spec_.b, batch);
    return [=, this](Value* row, Value* column) {
      ask(buffer, e_.mul(e_.add(e_.add(offset, e_.mul(row, stride)), column), 4), first_level);
    };
  }

  // --- packing ---

  /// The index in the batch of matrix i of C or B. One matrix needs no arithmetic.
  Value* batch_index(Value* i) { return e_.rem(i, spec_.batch); }

  /// A tile of the packing of a transposed B: one strip of columns, whose rows in memory run along
  /// k.
  void pack_one_strip(Value* tile) {
    const int64_t strips = (spec_.n + strip_columns_ - 1) / strip_columns_;
    Value* strip = e_.rem(tile, strips);
    Value* batch = batch_index(e_.div(tile, strips));
    const auto pack = [&](int64_t present) {
      for_depth_blocks([&](const DepthBlock& block) {
        pack_columns(
            frame_.buffers[0], batch, e_.mul(strip, strip_columns_), present, block,
            e_.address(Storage::f32, frame_.buffers[1], packed_offset(batch, strip, block)));
      });
      return Values{};
    };
    e_.if_else(
        e_.ir().CreateICmpSLT(strip, e_.index(spec_.n / strip_columns_)),
        [&] { return pack(strip_columns_); },
        [&] { return ragged_columns() ? pack(ragged_columns()) : Values{}; });
  }

  /// A tile of the packing of an untransposed B: a few steps of a block of k of all strips, so that
  /// rows are read from end to end.
  void pack_some_steps(Value* tile) {
    if (spec_.k == 0) return;
    const int64_t block_tiles = ceil_div(tiles_.depth_block, matmul_pack_steps);
    const int64_t blocks = ceil_div(spec_.k, tiles_.depth_block);
    Value* batch = batch_index(e_.div(tile, blocks * block_tiles));
    Value* block_begin = e_.mul(e_.rem(e_.div(tile, block_tiles), blocks), tiles_.depth_block);
    const DepthBlock block = depth_block_from(block_begin);
    Value* first = e_.mul(e_.rem(tile, block_tiles), matmul_pack_steps);
    Value* depth = e_.min_index(e_.index(matmul_pack_steps), e_.sub(block.depth, first));
    const DepthBlock steps = {e_.add(block_begin, first), depth, e_.ir().getTrue(),
                              e_.ir().getTrue()};
    const auto pack = [&](Value* strip, int64_t present) {
      Value* at =
          e_.add(packed_offset(batch, strip, block), e_.mul(first, packed_columns(present)));
      pack_columns(frame_.buffers[0], batch, e_.mul(strip, strip_columns_), present, steps,
                   e_.address(Storage::f32, frame_.buffers[1], at));
    };
    const int64_t full = spec_.n / strip_columns_;
    e_.for_loop(e_.index(0), e_.index(full), 1, [&](Value* strip) { pack(strip, strip_columns_); });
    if (ragged_columns() > 0) pack(e_.index(full), ragged_columns());
  }

  void pack_columns(Value* buffer, Value* batch, Value* column, int64_t present,
                    const DepthBlock& block, Value* to) {
    const PackedStrip strip = {.depth_contiguous = spec_.b.transposed,
                               .width = packed_columns(present),
                               .present = present,
                               .begin = column,
                               .depth_begin = block.begin,
                               .depth = block.depth,
                               .depth_remainder = spec_.k % lanes_,
                               .ragged = block.is_last,
                               .steps_ahead = row_pack_steps};
    emit_pack_strip(e_, strip, loader(false, buffer, batch), asker(false, buffer, batch), to);
  }

  /// Whether strips of A are packed, else read where they lie.
  bool packs_a() const { return tiles_.pack_a; }

  /// Strips of A that are packed, or asked for, together.
  int64_t panel_strips() const { return spec_.a.transposed ? tiles_.panel_strips : 1; }

  /// Packs strips [first, last) of A, of `rows` rows each, for a block of k.
  void pack_rows(const Tile& tile, const DepthBlock& block, Value* first, Value* last,
                 int64_t rows) {
    const auto strips = [&](Value* step, Value* depth) {
      e_.for_loop(first, last, 1, [&](Value* strip) {
        const PackedStrip packed = {
            .depth_contiguous = !spec_.a.transposed,
            .width = rows,
            .present = rows,
            .begin = e_.add(tile.row_begin, e_.mul(strip, tiles_.micro_rows)),
            .depth_begin = e_.add(block.begin, step),
            .depth = depth,
            .depth_remainder = spec_.k % lanes_,
            .ragged = block.is_last,
            .may_spill = true,
            .steps_ahead = row_pack_steps};
        Value* to =
            e_.address(Storage::f32, packed_row_strip(e_.sub(strip, first)), e_.mul(step, rows));
        emit_pack_strip(e_, packed, loader(true, frame_.buffers[0], tile.batch),
                        asker(true, frame_.buffers[0], tile.batch), to);
      });
    };
    if (!spec_.a.transposed) return strips(e_.index(0), block.depth);
    // As with the columns of B: a few steps at a time for all strips.
    e_.for_loop(e_.index(0), block.depth, row_pack_steps, [&](Value* step) {
      strips(step, e_.min_index(e_.index(row_pack_steps), e_.sub(block.depth, step)));
    });
  }
  /// Where the i-th strip of a packed panel lies.
  Value* packed_row_strip(Value* i) {
    return e_.address(Storage::f32, frame_.scratch,
                      e_.mul(i, tiles_.micro_rows * tiles_.depth_block + lanes_));
  }

  /// Element offset of A from a row and a step of k on.
  Value* raw_offset(const Tile& tile, Value* row, Value* step) {
    if (spec_.a.transposed) std::swap(row, step);
    return e_.add(operand_offset(spec_.a, tile.batch),
                  e_.add(e_.mul(row, spec_.a.row_stride), step));
  }

  /// A strip of columns of B: packed ahead, in scratch, or where it lies.
  Value* column_strip_at(const Tile& tile, Value* strip, const DepthBlock& block) {
    if (tiles_.b == BPlace::raw) {
      Value* column = e_.add(tile.column_begin, e_.mul(strip, strip_columns_));
      Value* row = e_.mul(block.begin, spec_.b.row_stride);
      return e_.address(Storage::f32, frame_.buffers[1],
                        e_.add(operand_offset(spec_.b, tile.batch), e_.add(row, column)));
    }
    if (tiles_.b != BPlace::packed_ahead)
      return e_.address(Storage::f32, e_.byte_address(frame_.scratch, scratch_.b_offset),
                        e_.mul(e_.mul(strip, strip_columns_), block.depth));
    Value* first = e_.div(tile.column_begin, strip_columns_);
    Value* at = packed_offset(tile.batch, e_.add(first, strip), block);
    return e_.address(Storage::f32, frame_.buffers[1], at);
  }

  /// Calls `body` for every full strip of columns of the tile, then for the ragged one if it has
  /// it.
  void for_column_strips(const Tile& tile, const std::function<void(Value*, int64_t)>& body) {
    e_.for_loop(e_.index(0), tile.column_strips, 1,
                [&](Value* strip) { body(strip, strip_columns_); });
    if (ragged_columns() > 0)
      e_.if_then(tile.is_last_column, [&] { body(tile.column_strips, ragged_columns()); });
  }

  DepthBlock depth_block_from(Value* begin) {
    const int64_t depth = std::max<int64_t>(spec_.k, 1), block = tiles_.depth_block;
    // A product over no k still stores its zeros or accumulator.
    if (depth <= block)
      return {e_.index(0), e_.index(spec_.k), e_.ir().getTrue(), e_.ir().getTrue()};
    Value* left = e_.sub(e_.index(depth), begin);
    return {begin, e_.min_index(e_.index(block), left), e_.ir().CreateICmpEQ(begin, e_.index(0)),
            e_.ir().CreateICmpSLE(left, e_.index(block))};
  }
  void for_depth_blocks(const std::function<void(const DepthBlock&)>& body) {
    if (spec_.k <= tiles_.depth_block) return body(depth_block_from(e_.index(0)));
    e_.for_loop(e_.index(0), e_.index(spec_.k), tiles_.depth_block,
                [&](Value* begin) { body(depth_block_from(begin)); });
  }

  // --- a tile ---

  void tile(Value* index) {
    Value* row_tile = e_.rem(index, plan_.row_tiles);
    Value* rest = e_.div(index, plan_.row_tiles);
    Value* column_tile = e_.rem(rest, plan_.column_tiles);
    Value* matrix = e_.div(rest, plan_.column_tiles);
    Tile tile;
    tile.batch = batch_index(matrix);
    tile.row_begin = e_.mul(row_tile, tiles_.row_block);
    tile.column_begin = e_.mul(column_tile, tiles_.column_block);
    const auto end = [&](Value* begin, int64_t total, int64_t block) {
      return e_.min_index(e_.index(total), e_.add(begin, block));
    };
    const auto strips = [&](Value* begin, int64_t total, int64_t block, int64_t strip) {
      return e_.div(e_.sub(end(begin, total, block), begin), strip);
    };
    tile.row_strips = strips(tile.row_begin, spec_.m, tiles_.row_block, tiles_.micro_rows);
    tile.column_strips = strips(tile.column_begin, spec_.n, tiles_.column_block, strip_columns_);
    tile.is_last_row = e_.ir().CreateICmpEQ(row_tile, e_.index(plan_.row_tiles - 1));
    tile.is_last_column = e_.ir().CreateICmpEQ(column_tile, e_.index(plan_.column_tiles - 1));

    for_depth_blocks([&](const DepthBlock& block) { depth_block(tile, block); });
  }

  void depth_block(const Tile& tile, const DepthBlock& block) {
    if (tiles_.b == BPlace::packed) pack_tile_columns(tile, block);
    e_.for_loop(e_.index(0), tile.row_strips, panel_strips(), [&](Value* first) {
      panel(tile, block, first, e_.min_index(tile.row_strips, e_.add(first, panel_strips())),
            tiles_.micro_rows);
    });
    if (ragged_rows() > 0)
      e_.if_then(tile.is_last_row, [&] {
        panel(tile, block, tile.row_strips, e_.add(tile.row_strips, 1), ragged_rows());
      });
  }

  /// Multiplies strips [first, last) of A, of `rows` rows each, with the tile's columns of B.
  void panel(const Tile& tile, const DepthBlock& block, Value* first, Value* last, int64_t rows) {
    if (packs_a()) pack_rows(tile, block, first, last, rows);
    e_.for_loop(first, last, 1, [&](Value* strip) {
      Value* row = e_.add(tile.row_begin, e_.mul(strip, tiles_.micro_rows));
      Value* a = packs_a() ? packed_row_strip(e_.sub(strip, first))
                           : e_.address(Storage::f32, frame_.buffers[0],
                                        raw_offset(tile, row, block.begin));
      for_column_strips(tile, [&](Value* column_strip, int64_t columns) {
        Value* column = e_.add(tile.column_begin, e_.mul(column_strip, strip_columns_));
        Ahead ahead;
        ahead.rows = rows_ahead(tile, block, first, last, strip, column_strip);
        ahead.sums = sums_ahead(tile, block, row, column, columns, column_strip);
        if (asks_columns()) {
          ahead.columns = columns_ahead(tile, block);
          Value* number = e_.add(e_.mul(strip, column_strips()), column_strip);
          ahead.first_line = e_.mul(number, columns_asked());
        }
        register_block(tile, block, row, rows, column, columns, a,
                       column_strip_at(tile, column_strip, block), ahead);
      });
    });
  }

  /// Packs the tile's columns of B for a block of k.
  void pack_tile_columns(const Tile& tile, const DepthBlock& block) {
    const auto strips = [&](Value* step, Value* depth) {
      const DepthBlock steps = {e_.add(block.begin, step), depth, block.is_first, block.is_last};
      for_column_strips(tile, [&](Value* strip, int64_t columns) {
        Value* column = e_.add(tile.column_begin, e_.mul(strip, strip_columns_));
        Value* to = e_.address(Storage::f32, column_strip_at(tile, strip, block),
                               e_.mul(step, packed_columns(columns)));
        pack_columns(frame_.buffers[1], tile.batch, column, columns, steps, to);
      });
    };
    if (spec_.b.transposed) return strips(e_.index(0), block.depth);
    // The columns of a step of k lie side by side: a few steps at a time for all strips, so that
    // rows are read from end to end.
    e_.for_loop(e_.index(0), block.depth, row_pack_steps, [&](Value* step) {
      strips(step, e_.min_index(e_.index(row_pack_steps), e_.sub(block.depth, step)));
    });
  }

  // --- what is asked of the memory ahead of use ---

  /// Strips of columns in a tile.
  int64_t column_strips() const {
    return ceil_div(std::min(tiles_.column_block, spec_.n), strip_columns_);
  }
  /// Rows of untransposed A that a register block asks for.
  int64_t rows_asked() const { return ceil_div(tiles_.micro_rows, column_strips()); }

  /// Where the part of the next panel of A lies that a register block asks for: some of its rows,
  /// or, where A is transposed, some of its steps of k.
  Value* rows_ahead(const Tile& tile, const DepthBlock& block, Value* first, Value* last,
                    Value* strip, Value* column_strip) {
    Value* ends = e_.ir().CreateICmpSGE(last, tile.row_strips);
    Value* next = e_.add(tile.row_begin, e_.mul(last, tiles_.micro_rows));
    Value* row = e_.select(ends, tile.row_begin, next);
    Value* step = e_.select(ends, e_.add(block.begin, block.depth), block.begin);
    Value* i = e_.add(e_.mul(e_.sub(strip, first), column_strips()), column_strip);
    Value* part = spec_.a.transposed
                      ? e_.div(e_.mul(i, tiles_.depth_block), panel_strips() * column_strips())
                      : e_.mul(i, rows_asked());
    Value* at = e_.add(raw_offset(tile, row, step), e_.mul(part, spec_.a.row_stride));
    return near(frame_.buffers[0], e_.mul(at, 4));
  }

  /// Whether the columns of B that are packed, or read where they lie, next are asked for.
  bool asks_columns() const { return tiles_.b != BPlace::packed_ahead; }
  /// Lines of memory of one stored row of a block of B, rounded up so that divisions are shifts.
  int64_t column_lines() const {
    const int64_t floats = spec_.b.transposed ? std::min(tiles_.depth_block, spec_.k)
                                              : std::min(tiles_.column_block, spec_.n);
    return static_cast<int64_t>(std::bit_ceil(
        static_cast<uint64_t>(ceil_div(std::max<int64_t>(4 * floats, 1), line_bytes))));
  }
  /// Of such lines, how many each register block of a tile asks for.
  int64_t columns_asked() const {
    const int64_t rows = spec_.b.transposed ? std::min(tiles_.column_block, spec_.n)
                                            : std::min(tiles_.depth_block, spec_.k);
    const int64_t row_strips =
        std::max<int64_t>(std::min(tiles_.row_block, spec_.m) / tiles_.micro_rows, 1);
    return ceil_div(rows * column_lines(), row_strips * column_strips());
  }
  /// Where the block of B lies that is used next: the next steps of k, else the first ones of the
  /// tile that follows.
  Value* columns_ahead(const Tile& tile, const DepthBlock& block) {
    Value* step = e_.select(block.is_last, e_.index(0), e_.add(block.begin, block.depth));
    Value* follows = e_.select(tile.is_last_row, e_.add(tile.column_begin, tiles_.column_block),
                               tile.column_begin);
    Value* column = e_.select(block.is_last, follows, tile.column_begin);
    if (spec_.b.transposed) std::swap(step, column);
    Value* at = e_.add(operand_offset(spec_.b, tile.batch),
                       e_.add(e_.mul(step, spec_.b.row_stride), column));
    return near(frame_.buffers[1], e_.mul(at, 4));
  }

  /// Where the next register block's chains lie in memory, and what the epilogue has beside them.
  std::vector<Ahead::Sums> sums_ahead(const Tile& tile, const DepthBlock& block, Value* row,
                                      Value* column, int64_t columns, Value* column_strip) {
    Value* ends = columns < strip_columns_
                      ? e_.ir().getTrue()
                      : e_.ir().CreateICmpEQ(e_.add(column_strip, 1), tile.column_strips);
    const MatrixSite next = {tile.batch, e_.select(ends, e_.add(row, tiles_.micro_rows), row),
                             e_.select(ends, tile.column_begin, e_.add(column, strip_columns_)),
                             static_cast<int>(lanes_), nullptr};
    std::vector<Ahead::Sums> sums;
    if (!hooks_.store_c || spec_.k > tiles_.depth_block) {
      const auto [base, at] = parking(tile, next);
      const int64_t stride = parking_place() ? spec_.c.row_stride : scratch_.c_row_stride;
      sums.push_back({near(base, e_.mul(at, 4)), stride, e_.ir().getTrue()});
    }
    for (const int position : hooks_.beside_c)
      sums.push_back({near(frame_.buffers[position], e_.mul(c_index(next), 4)), spec_.c.row_stride,
                      block.is_last});
    return sums;
  }

  /// An address that is only asked for, so it may lie outside of its array.
  Value* near(Value* base, Value* bytes) {
    return e_.ir().CreateGEP(e_.ir().getInt8Ty(), base, bytes);
  }
  void ask(Value* base, Value* bytes, int locality) {
    e_.prefetch(near(base, bytes), /*for_write=*/false, locality);
  }

  /// At step k of a register block, and once in ask_span steps.
  void ask_ahead(Value* k, const Ahead& ahead) {
    // Calls `asks` with each of the register block's `lines` lines in turn.
    const auto in_turn = [&](int64_t lines, const std::function<void(Value*)>& asks) {
      const int64_t count = ceil_div(lines, std::max<int64_t>(tiles_.depth_block / ask_span, 1));
      Value* first = e_.mul(e_.div(k, ask_span), count);
      for (int64_t i = 0; i < count; ++i) asks(e_.add(first, i));
    };
    const auto ask_line = [&](Value* base, Value* line, int64_t lines, int64_t row_stride,
                              int64_t bytes, int level) {
      ask(base,
          e_.add(e_.mul(e_.div(line, lines), 4 * row_stride), e_.mul(e_.rem(line, lines), bytes)),
          level);
    };
    for (const Ahead::Sums& sums : ahead.sums)
      e_.if_then(sums.wanted, [&] {
        in_turn(tiles_.micro_rows * tiles_.micro_vectors, [&](Value* line) {
          ask_line(sums.at, line, tiles_.micro_vectors, sums.row_stride, 4 * lanes_, first_level);
        });
      });
    if (ahead.columns)
      in_turn(columns_asked(), [&](Value* line) {
        ask_line(ahead.columns, e_.add(ahead.first_line, line), column_lines(), spec_.b.row_stride,
                 line_bytes, second_level);
      });
    if (!ahead.rows) return;
    if (spec_.a.transposed) {
      // Lines of a step of k, rounded up so that divisions are shifts.
      const auto bytes = static_cast<uint64_t>(4 * tiles_.micro_rows * panel_strips());
      const auto lines = static_cast<int64_t>(std::bit_ceil(bytes / line_bytes + 1));
      in_turn(ceil_div(tiles_.depth_block * lines, panel_strips() * column_strips()),
              [&](Value* line) {
                ask_line(ahead.rows, line, lines, spec_.a.row_stride, line_bytes, second_level);
              });
    } else {
      for (int64_t row = 0; row < rows_asked(); ++row)
        ask(ahead.rows, e_.mul(e_.add(k, row * spec_.a.row_stride), 4), second_level);
    }
  }

  // --- a register block ---

  MatrixSite site(const Tile& tile, Value* row, Value* column, int64_t vector, int64_t columns,
                  int64_t vectors = 1) {
    const int lanes = static_cast<int>(vectors * lanes_);
    return {tile.batch, row, e_.add(column, vector * lanes_), lanes,
            e_.mask_below(e_.index(columns - vector * lanes_), lanes)};
  }

  Value* c_index(const MatrixSite& at) {
    return e_.add(e_.add(operand_offset(spec_.c, at.batch), e_.mul(at.row, spec_.c.row_stride)),
                  at.column);
  }

  /// Position in the frame of the matrix in which chains are parked; none: in scratch.
  std::optional<int> parking_place() const { return hooks_.store_c ? hooks_.parking : 2; }

  /// Base and index of where the chain of a site is parked between blocks of k.
  std::pair<Value*, Value*> parking(const Tile& tile, const MatrixSite& at) {
    if (const auto place = parking_place()) return {frame_.buffers[*place], c_index(at)};
    Value* row = e_.sub(at.row, tile.row_begin);
    Value* column = e_.sub(at.column, tile.column_begin);
    return {e_.byte_address(frame_.scratch, scratch_.c_offset),
            e_.add(e_.mul(row, scratch_.c_row_stride), column)};
  }

  Value* chain_start(const MatrixSite& at) {
    switch (spec_.accumulate) {
      case Accumulate::none:
        return e_.f32(0, at.lanes);
      case Accumulate::in_place:
        return e_.load(Storage::f32, frame_.buffers[2], c_index(at), at.lanes, at.mask);
      case Accumulate::operand:
        return e_.load(Storage::f32, frame_.buffers[3], c_index(at), at.lanes, at.mask);
    }
    return nullptr;
  }

  void finish(const MatrixSite& at, Value* sum) {
    if (hooks_.store_c) {
      hooks_.store_c(e_, frame_, at, sum);
    } else {
      e_.store(Storage::f32, sum, frame_.buffers[2], c_index(at), at.mask);
    }
  }

  /// The vectors of a row are handed over as one where they are a power of two, so that their long
  /// chains of operations take turns.
  void finish_in_loop(const Tile& tile, Value* row, int64_t rows, Value* column, int64_t columns,
                      const Values& sums) {
    const int64_t vectors = packed_columns(columns) / lanes_;
    const int64_t together = std::has_single_bit(static_cast<uint64_t>(vectors)) ? vectors : 1;
    Value* memory = e_.byte_address(frame_.scratch, scratch_.block_offset);
    for (int64_t i = 0; i < rows * vectors; ++i)
      e_.store(Storage::f32, sums[i], memory, e_.index(i * lanes_));
    e_.for_loop(e_.index(0), e_.index(rows), 1, [&](Value* r) {
      for (int64_t v = 0; v < vectors; v += together) {
        const MatrixSite at = site(tile, e_.add(row, r), column, v, columns, together);
        Value* place = e_.add(e_.mul(r, vectors * lanes_), v * lanes_);
        finish(at, e_.load(Storage::f32, memory, place, at.lanes));
      }
    });
  }

  void register_block(const Tile& tile, const DepthBlock& block, Value* row, int64_t rows,
                      Value* column, int64_t columns, Value* a, Value* b, const Ahead& ahead) {
    const int64_t vectors = packed_columns(columns) / lanes_;
    std::vector<MatrixSite> sites;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t v = 0; v < vectors; ++v)
        sites.push_back(site(tile, e_.add(row, r), column, v, columns));
    const Values start = e_.if_else(
        block.is_first,
        [&] {
          Values values;
          for (const MatrixSite& at : sites) values.push_back(chain_start(at));
          return values;
        },
        [&] {
          Values values;
          for (const MatrixSite& at : sites) {
            const auto [base, i] = parking(tile, at);
            values.push_back(e_.load(Storage::f32, base, i, at.lanes, at.mask));
          }
          return values;
        });
    const Values sums = chains(block.depth, rows, columns, a, b, start, ahead);
    e_.if_else(
        block.is_last,
        [&] {
          if (hooks_.store_in_loop) {
            finish_in_loop(tile, row, rows, column, columns, sums);
          } else {
            for (size_t i = 0; i < sites.size(); ++i) finish(sites[i], sums[i]);
          }
          return Values{};
        },
        [&] {
          for (size_t i = 0; i < sites.size(); ++i) {
            const auto [base, j] = parking(tile, sites[i]);
            e_.store(Storage::f32, sums[i], base, j, sites[i].mask);
          }
          return Values{};
        });
  }

  /// Continues the chains of a register block over `depth` steps of k, and asks for the strip of B
  /// and the rows of A that come next.
  Values chains(Value* depth, int64_t rows, int64_t columns, Value* a, Value* b, Values start,
                const Ahead& ahead) {
    // Carried: the places in the strips, then the chains.
    start.insert(start.begin(), {a, b});
    const int64_t a_step = packs_a() ? rows : spec_.a.transposed ? spec_.a.row_stride : 1;
    const auto steps = [&](int count) {
      return [=, this](Value*, const Values& carried) {
        Values next = carried;
        for (int u = 0; u < count; ++u) step(u, rows, columns, next);
        next[0] = e_.byte_address(carried[0], 4 * a_step * count);
        next[1] = e_.byte_address(carried[1], 4 * b_step(columns) * count);
        return next;
      };
    };
    Value* spans = e_.mul(e_.div(depth, ask_span), ask_span);
    Values values =
        e_.for_loop(e_.index(0), spans, ask_span, start, [&](Value* k, const Values& carried) {
          ask_ahead(k, ahead);
          return e_.for_loop(e_.index(0), e_.index(ask_span), depth_unroll, carried,
                             steps(depth_unroll));
        });
    values = e_.for_loop(spans, depth, 1, values, steps(1));
    values.erase(values.begin(), values.begin() + 2);
    return values;
  }

  /// Elements from one step of k to the next in a strip of B.
  int64_t b_step(int64_t columns) const {
    return tiles_.b == BPlace::raw ? spec_.b.row_stride : packed_columns(columns);
  }

  /// One step of k: every chain takes one fused multiply-add. `values[0]` and `[1]` stay.
  void step(int unrolled, int64_t rows, int64_t columns, Values& values) {
    const int64_t vectors = packed_columns(columns) / lanes_;
    const bool raw = tiles_.b == BPlace::raw;
    Values b(vectors);
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t at = unrolled * b_step(columns) + v * lanes_;
      Value* mask =
          raw ? e_.mask_below(e_.index(columns - v * lanes_), static_cast<int>(lanes_)) : nullptr;
      b[v] = e_.load(Storage::f32, values[1], e_.index(at), static_cast<int>(lanes_), mask);
      // Of B where it lies, lines of many steps may crowd in few sets of the cache.
      ask(values[1], e_.index(4 * (at + (raw ? steps_ahead / 2 : steps_ahead) * b_step(columns))),
          first_level);
    }
    if (packs_a()) ask(values[0], e_.index(4 * rows * (unrolled + steps_ahead)), first_level);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = packs_a()            ? unrolled * rows + r
                         : spec_.a.transposed ? unrolled * spec_.a.row_stride + r
                                              : r * spec_.a.row_stride + unrolled;
      Value* element =
          e_.load_broadcast(Storage::f32, values[0], e_.index(at), static_cast<int>(lanes_));
      for (int64_t v = 0; v < vectors; ++v) {
        Value*& chain = values[2 + r * vectors + v];
        chain = e_.fma(element, b[v], chain);
      }
    }
  }

  Emitter& e_;
  const MatmulPlan& plan_;
  const MatmulSpec& spec_;
  const MatmulTiles& tiles_;
  const MatmulHooks& hooks_;
  MatmulScratch scratch_;
  int64_t lanes_;
  int64_t strip_columns_;
  KernelFrame frame_;
};

}  // namespace

void emit_matmul(Emitter& e, const std::string& symbol, const MatmulPlan& plan,
                 const MatmulHooks& hooks) {
  MatmulEmitter(e, plan, hooks).product(symbol);
}

void emit_matmul_pack(Emitter& e, const std::string& symbol, const MatmulPlan& plan) {
  const MatmulHooks hooks;
  MatmulEmitter(e, plan, hooks).pack_b(symbol);
}

}  // namespace weir
