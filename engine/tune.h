#pragma once
// Measures tiles of a matrix product on this machine, for tile_table.
#include "codegen/matmul/tile_table.h"

namespace weir {

struct TuneOptions {
  int threads = 0;  ///< 0: all cores
  int rounds = 7;   ///< in which all alternatives take turns; their medians decide
};

struct TunedProduct {
  MatmulTiles usual;   ///< default_tiles
  MatmulTiles tiles;   ///< the fastest, or the usual ones
  double gain = 1;     ///< time with the usual tiles over time with these, median of rounds
  double seconds = 0;  ///< with `tiles`
  int tried = 0;
};

/// Starts from the usual tiles and varies one choice after the other: where B and A are packed, the
/// micro-kernel, kc, nc and mc. A choice is kept if it is faster by 2 % in the median and in three
/// rounds of four, measured again side by side, since clocks and neighbours change within seconds.
/// Needs memory for the operands.
TunedProduct tune_product(const Target& target, const MatmulSpec& spec,
                          const TuneOptions& options = {});

}  // namespace weir
