#include "codegen/matmul/tile_table.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/cache_folder.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "weir tiles 2";

// Tables of f32, the only type once, do not name it.
std::string type_suffix(DType dtype) {
  return dtype == DType::f32 ? "" : fmt::format(" {}", dtype_name(dtype));
}

// The 0 here and the 1 below stand for a second, outer batch dimension, which earlier versions had
// and never used: their tables are still read.
std::string text_of(const MatmulOperand& operand) {
  return fmt::format("{} 0 {} {}{}", operand.row_stride, operand.batch_stride,
                     int{operand.transposed}, type_suffix(operand.dtype));
}

std::string text_of(const MatmulSpec& s) {
  return fmt::format("{} {} {} 1 {} {} {} {} {}", s.m, s.n, s.k, s.batch, text_of(s.a),
                     text_of(s.b), text_of(s.c), static_cast<int>(s.accumulate));
}

std::string text_of(const MatmulTiles& t) {
  return fmt::format("{} {} {} {} {} {} {} {}", t.mr, t.nr_vectors, t.mc, t.nc, t.kc,
                     static_cast<int>(t.b), int{t.pack_a}, t.panels_per_block);
}

std::optional<MatmulTiles> tiles_of(const std::string& text) {
  std::istringstream words(text);
  MatmulTiles t;
  int b = 0;
  if (!(words >> t.mr >> t.nr_vectors >> t.mc >> t.nc >> t.kc >> b >> t.pack_a >>
        t.panels_per_block) ||
      b < 0 || b > static_cast<int>(BPacking::none))
    return std::nullopt;
  t.b = static_cast<BPacking>(b);
  return t;
}

std::string context(const Target& target) {
  return fmt::format("{} {} {} {} {} {} {} {}", target.isa(), target.brand, target.vector_bytes,
                     target.vector_registers, target.l1_bytes, target.l2_bytes, target.l3_bytes,
                     target.cores);
}

}  // namespace

std::string TileTable::file(const std::string& cache, const Target& target) {
  const std::string what = context(target);
  return fmt::format("{}/tiles-{:016x}.txt", cache, XXH3_64bits(what.data(), what.size()));
}

TileTable TileTable::load(const std::string& cache, const Target& target) {
  TileTable table;
  if (cache.empty()) return table;
  const std::string path = file(cache, target);
  std::error_code ignored;  // a pipe of that name would be waited for
  if (!std::filesystem::is_regular_file(path, ignored)) return table;
  std::ifstream stream(path);
  if (!stream) return table;
  std::string line;
  bool damaged = !std::getline(stream, line) || line != kFormat || !std::getline(stream, line) ||
                 line != context(target);
  while (!damaged && std::getline(stream, line)) {
    const size_t colon = line.find(": ");
    const auto tiles = colon == std::string::npos ? std::nullopt : tiles_of(line.substr(colon + 2));
    damaged = !tiles;
    if (tiles) table.tiles_[line.substr(0, colon)] = *tiles;
  }
  if (!damaged) return table;
  log_warning("tuned tiles: {} is damaged and is not used; `weir tune` makes it anew", path);
  return {};
}

void TileTable::save(const std::string& cache, const Target& target) const {
  const std::string path = file(cache, target);
  const std::string temporary = fmt::format("{}.{}", path, getpid());
  std::error_code failed;
  fs::create_directories(cache, failed);
  fs::permissions(cache, fs::perms::owner_all, failed);  // as the object cache wants it
  {
    std::ofstream stream(temporary);
    stream << kFormat << "\n" << context(target) << "\n";
    for (const auto& [spec, tiles] : tiles_) stream << spec << ": " << text_of(tiles) << "\n";
    errno = 0;
    stream.close();
    if (!stream || rename(temporary.c_str(), path.c_str()) != 0) {
      const int reason = errno;
      unlink(temporary.c_str());
      user_error("tune", "cannot write {}: {}. {}", path, std::strerror(reason), cache_advice());
    }
  }
}

void TileTable::set(const MatmulSpec& spec, const MatmulTiles& tiles) {
  tiles_[text_of(spec)] = tiles;
}

void TileTable::erase(const MatmulSpec& spec) { tiles_.erase(text_of(spec)); }

std::optional<MatmulTiles> TileTable::find(const Target& target, const MatmulSpec& spec) const {
  const auto found = tiles_.find(text_of(spec));
  if (found == tiles_.end() || !are_valid(target, spec, found->second)) return std::nullopt;
  return found->second;
}

std::string print(const MatmulTiles& t) {
  const char* b = t.b == BPacking::prepacked ? " B prepacked"
                  : t.b == BPacking::packed  ? " B packed"
                                             : "";
  return fmt::format("{}x{} {}x{}x{} block {}{}{}", t.mr, t.nr_vectors, t.mc, t.nc, t.kc,
                     t.panels_per_block, t.pack_a ? " A packed" : "", b);
}

}  // namespace weir
