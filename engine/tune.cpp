#include "engine/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "codegen/matmul/product_run.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr double kWorthIt = 1.02;
/// A timing is of at least so many seconds.
constexpr double kShortest = 4e-3;

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Tuner {
 public:
  Tuner(const Target& target, const MatmulSpec& spec, const TuneOptions& options)
      : target_(target),
        spec_(spec),
        rounds_(std::max(options.rounds, 1)),
        workers_(options.threads > 0 ? options.threads : target.cores),
        operands_(spec) {}

  TunedProduct run() {
    TunedProduct result;
    result.usual = default_tiles(target_, spec_);
    best_ = compile({result.usual}).front();
    const auto usual = best_;
    usual->seconds(workers_);  // touches all memory
    repeats_ = static_cast<int>(std::ceil(kShortest / std::max(usual->seconds(workers_), 1e-6)));
    for (const auto vary : {&Tuner::packing_of_b, &Tuner::micro_kernels, &Tuner::depths,
                            &Tuner::columns, &Tuner::rows, &Tuner::packing_of_a})
      improve((this->*vary)(best_->tiles()));
    result.tried = tried_;
    const Comparison last = compare(*usual, *best_);
    if (best_ != usual && last.wins()) result.gain = last.gain;
    result.tiles = result.gain > 1 ? best_->tiles() : result.usual;
    result.seconds = result.gain > 1 ? last.seconds : usual->seconds(workers_);
    return result;
  }

 private:
  // A product with certain tiles.
  class Candidate {
   public:
    Candidate(const MatmulPlan& plan, const ProductOperands& operands, int workers)
        : run_(plan, operands, workers) {}
    double seconds(const Workers& workers, int repeats = 1) const {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < repeats; ++i) run_.run(workers);
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
             repeats;
    }
    const MatmulTiles& tiles() const { return run_.plan().tiles; }
    ProductRun& product() { return run_; }

   private:
    ProductRun run_;
  };
  using CandidatePtr = std::shared_ptr<Candidate>;

  struct Comparison {
    double gain = 1, seconds = 0;
    int better = 0, rounds = 0;
    bool wins() const { return gain > kWorthIt && 4 * better >= 3 * rounds; }
  };

  std::vector<CandidatePtr> compile(const std::vector<MatmulTiles>& all) {
    std::vector<CandidatePtr> candidates;
    std::vector<KernelSource> sources;
    jits_.emplace_back(target_);
    const auto name = [](size_t i) { return fmt::format("candidate{}", i); };
    for (const MatmulTiles& tiles : all) {
      candidates.push_back(std::make_shared<Candidate>(plan_matmul(target_, spec_, tiles),
                                                       operands_, workers_.count()));
      for (const KernelSource& source :
           candidates.back()->product().sources(name(candidates.size())))
        sources.push_back(source);
    }
    jits_.back().add(sources);
    for (size_t i = 0; i < candidates.size(); ++i)
      candidates[i]->product().link(jits_.back(), name(i + 1));
    tried_ += static_cast<int>(candidates.size());
    return candidates;
  }

  // Alternatives that are no tiles, or those that there are, fall away.
  void improve(const std::vector<MatmulTiles>& alternatives) {
    std::vector<MatmulTiles> fresh;
    for (const MatmulTiles& tiles : alternatives)
      if (are_valid(target_, spec_, tiles) && !(tiles == best_->tiles()) &&
          std::find(fresh.begin(), fresh.end(), tiles) == fresh.end())
        fresh.push_back(tiles);
    if (fresh.empty()) return;
    const std::vector<CandidatePtr> candidates = compile(fresh);
    std::vector<std::vector<double>> gains(candidates.size());
    for (const CandidatePtr& candidate : candidates) candidate->seconds(workers_);
    for (int round = 0; round < rounds_; ++round)
      for (size_t i = 0; i < candidates.size(); ++i) {
        const double before = best_->seconds(workers_, repeats_);
        gains[i].push_back(before / candidates[i]->seconds(workers_, repeats_));
      }
    size_t chosen = 0;
    for (size_t i = 1; i < candidates.size(); ++i)
      if (middle(gains[i]) > middle(gains[chosen])) chosen = i;
    if (middle(gains[chosen]) <= kWorthIt) return;
    if (compare(*best_, *candidates[chosen]).wins()) best_ = candidates[chosen];
  }

  Comparison compare(const Candidate& old, const Candidate& candidate) const {
    std::vector<double> gains, seconds;
    for (int round = 0; round < 2 * rounds_; ++round) {
      const double before = old.seconds(workers_, repeats_);
      seconds.push_back(candidate.seconds(workers_, repeats_));
      gains.push_back(before / seconds.back());
    }
    Comparison result{middle(gains), middle(seconds), 0, static_cast<int>(gains.size())};
    for (double gain : gains) result.better += gain > 1;
    return result;
  }

  // --- the choices ---

  // Tiles of whole micro-tiles.
  MatmulTiles fitted(MatmulTiles t) const {
    t.mc = even_block(spec_.m, t.mc, t.mr);
    t.nc = even_block(spec_.n, t.nc, t.nr_vectors * target_.lanes());
    t.panels_per_block = std::clamp<int64_t>(t.panels_per_block, 1, ceil_div(spec_.m, t.mr));
    if (t.kc < spec_.k) t.kc = round_up(t.kc, target_.lanes());
    return t;
  }

  std::vector<MatmulTiles> packing_of_b(const MatmulTiles& from) const {
    std::vector<MatmulTiles> all;
    for (const BPacking place : {BPacking::prepacked, BPacking::packed, BPacking::none}) {
      all.push_back(from);
      all.back().b = place;
    }
    return all;
  }

  std::vector<MatmulTiles> micro_kernels(const MatmulTiles& from) const {
    std::vector<MatmulTiles> all;
    for (const int vectors : {1, 2, 3, 4, 6}) {
      const int most = std::min((target_.vector_registers - vectors - 1) / vectors, 28);
      for (int rows = most; rows > std::max(most - 3, 0); --rows) {
        if (rows > spec_.m || rows * vectors < target_.vector_registers / 2) continue;
        MatmulTiles tiles = from;
        tiles.mr = rows;
        tiles.nr_vectors = vectors;
        all.push_back(fitted(tiles));
      }
    }
    return all;
  }

  std::vector<MatmulTiles> depths(const MatmulTiles& from) const {
    std::vector<MatmulTiles> all;
    for (const int64_t depth : {128, 192, 256, 320, 384, 512, 768, 1024}) {
      MatmulTiles tiles = from;
      tiles.kc = depth >= spec_.k ? spec_.k : even_block(spec_.k, depth, target_.lanes());
      all.push_back(fitted(tiles));
    }
    return all;
  }

  std::vector<MatmulTiles> columns(const MatmulTiles& from) const {
    return scaled(from, &MatmulTiles::nc, spec_.n);
  }
  std::vector<MatmulTiles> rows(const MatmulTiles& from) const {
    return scaled(from, &MatmulTiles::mc, spec_.m);
  }

  std::vector<MatmulTiles> packing_of_a(const MatmulTiles& from) const {
    if (spec_.a.transposed) return scaled(from, &MatmulTiles::panels_per_block, spec_.m);
    MatmulTiles other = from;
    other.pack_a = !from.pack_a;
    return {other};
  }

  std::vector<MatmulTiles> scaled(const MatmulTiles& from, int64_t MatmulTiles::* size,
                                  int64_t most) const {
    std::vector<MatmulTiles> all;
    for (const double factor : {0.25, 0.5, 0.75, 1.5, 2.0, 4.0}) {
      MatmulTiles tiles = from;
      tiles.*size =
          std::clamp<int64_t>(std::lround(static_cast<double>(from.*size) * factor), 1, most);
      all.push_back(fitted(tiles));
    }
    return all;
  }

  const Target& target_;
  const MatmulSpec spec_;
  const int rounds_;
  Workers workers_;
  ProductOperands operands_;
  std::vector<Jit> jits_;
  CandidatePtr best_;
  int repeats_ = 1, tried_ = 0;
};

}  // namespace

TunedProduct tune_product(const Target& target, const MatmulSpec& spec,
                          const TuneOptions& options) {
  return Tuner(target, spec, options).run();
}

}  // namespace weir
