#include "tools/machine_rates.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "runtime/buffer.h"

namespace weir {
namespace {

constexpr int64_t kSteps = 1 << 21;
constexpr int kChains = 12;  // enough to hide the latency of an addition and multiplication
constexpr int kRounds = 5;

// Each chain stays near one: x <- x a + b with a = 1 - b.
__attribute__((target("avx2,fma"))) float chains_256() {
  __m256 x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = _mm256_set1_ps(1.0f + 0.01f * static_cast<float>(c));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < kSteps; ++i)
    for (__m256& v : x) v = _mm256_fmadd_ps(v, a, b);
  __m256 sum = x[0];
  for (int c = 1; c < kChains; ++c) sum = _mm256_add_ps(sum, x[c]);
  return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float chains_512() {
  __m512 x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = _mm512_set1_ps(1.0f + 0.01f * static_cast<float>(c));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < kSteps; ++i)
    for (__m512& v : x) v = _mm512_fmadd_ps(v, a, b);
  __m512 sum = x[0];
  for (int c = 1; c < kChains; ++c) sum = _mm512_add_ps(sum, x[c]);
  return _mm512_cvtss_f32(sum);
}

// The shortest wall time of `work(thread)` on all threads at once.
double best_seconds(int threads, const std::function<void(int)>& work) {
  using Clock = std::chrono::steady_clock;
  double best = 1e300;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = Clock::now();
    std::vector<std::thread> workers;
    for (int t = 1; t < threads; ++t) workers.emplace_back(work, t);
    work(0);
    for (std::thread& worker : workers) worker.join();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

double peak_flops(const Target& target, int threads) {
  const bool wide = target.vector_bytes == 64;
  std::vector<float> results(static_cast<size_t>(threads) * 16);
  const double seconds = best_seconds(threads, [&](int t) {
    volatile float result = wide ? chains_512() : chains_256();
    results[static_cast<size_t>(t) * 16] = result;
  });
  const double lanes = target.vector_bytes / 4.0;
  return 2.0 * lanes * kChains * static_cast<double>(kSteps) * threads / seconds;
}

Bandwidth memory_bandwidth(const Target& target, int threads) {
  constexpr int64_t kLeast = int64_t{64} << 20, kMost = int64_t{256} << 20;
  const int64_t bytes = std::clamp(2 * target.l3_bytes, kLeast, kMost);
  Buffer a(static_cast<size_t>(bytes)), b(static_cast<size_t>(bytes)),
      c(static_cast<size_t>(bytes));
  auto ax = a.as<float>(), bx = b.as<float>(), cx = c.as<float>();
  std::fill(bx.begin(), bx.end(), 1.0f);
  std::fill(cx.begin(), cx.end(), 2.0f);
  const size_t part = ax.size() / static_cast<size_t>(threads);
  const double seconds = best_seconds(threads, [&](int t) {
    const size_t first = part * static_cast<size_t>(t);
    float* x = ax.data() + first;
    const float *y = bx.data() + first, *z = cx.data() + first;
    for (size_t i = 0; i < part; ++i) x[i] = y[i] + 0.5f * z[i];
  });
  return {3.0 * 4.0 * static_cast<double>(part) * threads / seconds, bytes};
}

}  // namespace weir
