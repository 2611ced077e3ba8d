#pragma once
// Workers that share out the tiles of a kernel. Which worker computes which tile is left to the
// moment; results do not depend on it, because a tile's work does not.
#include <cstdint>
#include <functional>
#include <memory>

namespace weir {

/// Tiles that a worker takes at a time of so many: about eight chunks a worker, all for one alone.
int64_t tiles_at_once(int64_t tiles, int workers);

/// Computes tiles [first, last); `worker` in [0, count) belongs to the calling thread alone for the
/// duration of the call, and picks its scratch.
using TileFunction = std::function<void(int64_t first, int64_t last, int worker)>;

class Workers {
 public:
  /// `count` >= 1 workers, the calling thread among them; more than the machine has cores is
  /// allowed.
  explicit Workers(int count);
  ~Workers();
  Workers(Workers&&) noexcept;
  Workers& operator=(Workers&&) noexcept;

  int count() const;

  /// Runs every tile of [0, tiles) exactly once and returns when all are done. Workers take tiles
  /// in ascending order, `chunk` at a time (0: tiles_at_once). An exception thrown by
  /// `function` is rethrown here after the others have stopped.
  void parallel_tiles(int64_t tiles, const TileFunction& function, int64_t chunk = 0) const;

  /// Calls `work` on the calling thread and on the others as they become free, with the number of
  /// a worker that belongs to that thread alone meanwhile; returns when all calls have.
  /// `work` throws nothing, and ends though no other worker may ever come.
  void together(const std::function<void(int worker)>& work) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
