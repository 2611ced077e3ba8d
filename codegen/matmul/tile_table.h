#pragma once
// Tiles of matrix products that were found to be faster on a machine than those that follow from
// its caches. Tiles never change a bit (matmul.h), so a table changes time alone.
#include <map>
#include <optional>
#include <string>

#include "codegen/matmul/plan.h"

namespace weir {

class TileTable {
 public:
  /// The table of a target that lies in the folder of the object cache; empty if there is none, or
  /// if it is damaged, which is logged.
  static TileTable load(const std::string& cache, const Target& target);
  /// Writes the table whole or not at all; a user error where it cannot be written.
  void save(const std::string& cache, const Target& target) const;
  /// The file of a target's table: what it depends on is in its name.
  static std::string file(const std::string& cache, const Target& target);

  void set(const MatmulSpec& spec, const MatmulTiles& tiles);
  void erase(const MatmulSpec& spec);
  /// Nothing for a product that is not in the table, or whose entry breaks a rule of matmul.h.
  std::optional<MatmulTiles> find(const Target& target, const MatmulSpec& spec) const;
  size_t size() const { return tiles_.size(); }

 private:
  std::map<std::string, MatmulTiles> tiles_;  // by the numbers of the product
};

/// Tiles in a word, for keys and for people: mr x nr_vectors, mc x nc x kc, micro-panels of a block
/// of A, what is packed: "14x2 1024x256x512 block 1 A packed B prepacked".
std::string print(const MatmulTiles& tiles);

}  // namespace weir
