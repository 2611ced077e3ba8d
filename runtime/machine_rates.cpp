#include "runtime/machine_rates.h"

#include <immintrin.h>
#include <time.h>

#include <algorithm>

namespace weir {
namespace {

constexpr int64_t kSteps = 1 << 18;
constexpr int kChains = 12;  // enough to hide the latency of an addition and multiplication
constexpr int64_t kPieces = 8;
constexpr int kReadings = 5;

// Each chain stays near one: x <- x a + b with a = 1 - b. The chains are variables, not an array,
// so that they stay in registers at every level of optimisation.
#define WEIR_CHAINS(vector, set, fma, add, first)                                   \
  vector x0 = set(start), x1 = set(start + 0.01f), x2 = set(start + 0.02f);         \
  vector x3 = set(start + 0.03f), x4 = set(start + 0.04f), x5 = set(start + 0.05f); \
  vector x6 = set(start + 0.06f), x7 = set(start + 0.07f), x8 = set(start + 0.08f); \
  vector x9 = set(start + 0.09f), xa = set(start + 0.10f), xb = set(start + 0.11f); \
  const vector a = set(0.999f), b = set(0.001f);                                    \
  for (int64_t i = 0; i < kSteps; ++i) {                                            \
    x0 = fma(x0, a, b), x1 = fma(x1, a, b), x2 = fma(x2, a, b), x3 = fma(x3, a, b); \
    x4 = fma(x4, a, b), x5 = fma(x5, a, b), x6 = fma(x6, a, b), x7 = fma(x7, a, b); \
    x8 = fma(x8, a, b), x9 = fma(x9, a, b), xa = fma(xa, a, b), xb = fma(xb, a, b); \
  }                                                                                 \
  x0 = add(add(add(x0, x1), add(x2, x3)), add(add(x4, x5), add(x6, x7)));           \
  return first(add(x0, add(add(x8, x9), add(xa, xb))));

__attribute__((target("avx2,fma"))) float chains_256(float start) {
  WEIR_CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_cvtss_f32)
}

__attribute__((target("avx512f"))) float chains_512(float start) {
  WEIR_CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_cvtss_f32)
}
#undef WEIR_CHAINS

void run_chains(const Target& target) {
  volatile float start = 1.0f, result = 0.0f;  // so that every call happens
  result = target.vector_bytes == 64 ? chains_512(start) : chains_256(start);
  (void)result;
}

double operations(const Target& target) {
  return 2.0 * target.lanes() * kChains * static_cast<double>(kSteps);
}

double seconds_by(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

size_t stream_bytes(const Target& target) {
  constexpr int64_t kLeast = int64_t{64} << 20, kMost = int64_t{256} << 20;
  return static_cast<size_t>(std::clamp(2 * target.l3_bytes, kLeast, kMost));
}

}  // namespace

double fma_rate(const Target& target, const Workers& workers) {
  const int64_t pieces = kPieces * workers.count();
  const double start = seconds_by(CLOCK_MONOTONIC);
  workers.parallel_tiles(
      pieces,
      [&](int64_t first, int64_t last, int) {
        for (int64_t i = first; i < last; ++i) run_chains(target);
      },
      1);
  return static_cast<double>(pieces) * operations(target) / (seconds_by(CLOCK_MONOTONIC) - start);
}

double own_fma_rate(const Target& target) {
  const double start = seconds_by(CLOCK_THREAD_CPUTIME_ID);
  for (int64_t i = 0; i < kPieces; ++i) run_chains(target);
  return kPieces * operations(target) / (seconds_by(CLOCK_THREAD_CPUTIME_ID) - start);
}

double peak_flops(const Target& target, int threads) {
  const Workers workers(threads);
  double best = 0;
  for (int i = 0; i < kReadings; ++i) best = std::max(best, fma_rate(target, workers));
  return best;
}

MemoryStream::MemoryStream(const Target& target)
    : a_(stream_bytes(target)), b_(stream_bytes(target)), c_(stream_bytes(target)) {
  std::ranges::fill(b_.as<float>(), 1.0f);
  std::ranges::fill(c_.as<float>(), 2.0f);
}

double MemoryStream::rate(const Workers& workers) {
  constexpr int64_t kTile = 1 << 18;
  float* x = a_.as<float>().data();
  const float *y = b_.as<float>().data(), *z = c_.as<float>().data();
  const int64_t tiles = static_cast<int64_t>(a_.as<float>().size()) / kTile;
  const double start = seconds_by(CLOCK_MONOTONIC);
  workers.parallel_tiles(tiles, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first * kTile; i < last * kTile; ++i) x[i] = y[i] + 0.5f * z[i];
  });
  const double seconds = seconds_by(CLOCK_MONOTONIC) - start;
  return 3.0 * sizeof(float) * static_cast<double>(tiles * kTile) / seconds;
}

Bandwidth memory_bandwidth(const Target& target, int threads) {
  MemoryStream stream(target);
  const Workers workers(threads);
  Bandwidth best{0, stream.array_bytes()};
  for (int i = 0; i < kReadings; ++i)
    best.bytes_per_second = std::max(best.bytes_per_second, stream.rate(workers));
  return best;
}

}  // namespace weir
