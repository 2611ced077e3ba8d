#include "codegen/llvm/emitter.h"

#include <gmock/gmock.h>
#include <xmmintrin.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "codegen/kernel_test.h"

namespace weir {
namespace {

using llvm::Value;

constexpr float infinity = std::numeric_limits<float>::infinity();
const float nan_value = std::numeric_limits<float>::quiet_NaN();

/// Copies n elements from storage `from` to `to`, by vectors with a masked tail.
TestKernel copy_kernel(const Target& target, int lanes, int64_t n, Storage from, Storage to) {
  return TestKernel(target, {{}, {.written = true}}, [=](Emitter& e, const KernelFrame& frame) {
    e.for_loop(e.index(0), e.index(n), lanes, [&](Value* i) {
      Value* mask = e.mask_below(e.sub(e.index(n), i), lanes);
      Value* x = e.load(from, frame.buffers[0], i, lanes, mask);
      if (is_float(from) && !is_float(to)) x = e.to_i32(x);
      if (!is_float(from) && is_float(to)) x = e.to_f32(x);
      e.store(to, x, frame.buffers[1], i, mask);
    });
  });
}

TEST(Emitter, EveryStorageWithMaskedTailsStaysInsideItsBuffers) {
  for (const Target& target : runnable_targets())
    for (int lanes : {1, 4, 8, 16})
      for (Storage storage : {Storage::f32, Storage::bf16, Storage::f16, Storage::i32, Storage::i8,
                              Storage::u8, Storage::boolean})
        for (int64_t n : {1, 7, 16, 37}) {
          const size_t bytes = static_cast<size_t>(n) * storage_bytes(storage);
          GuardedBuffer in(bytes, false), out(bytes, false);
          for (size_t i = 0; i < bytes; ++i)
            in.as<unsigned char>()[i] = storage == Storage::boolean ? i % 2 : 1 + i % 100;
          copy_kernel(target, lanes, n, storage, storage)({in.data(), out.data()});
          EXPECT_EQ(std::memcmp(in.data(), out.data(), bytes), 0)
              << "storage " << static_cast<int>(storage) << " n " << n << " lanes " << lanes;
        }
}

TEST(Emitter, Bf16RoundsToNearestEvenAndKeepsNaN) {
  const std::vector<std::pair<uint32_t, uint16_t>> cases = {
      {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
      {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}, {0x80000000, 0x8000}};
  for (const Target& target : runnable_targets()) {
    Buffer in(4 * cases.size()), out(2 * cases.size());
    for (size_t i = 0; i < cases.size(); ++i) in.as<uint32_t>()[i] = cases[i].first;
    copy_kernel(target, 8, static_cast<int64_t>(cases.size()), Storage::f32,
                Storage::bf16)({in.data(), out.data()});
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_EQ(out.as<uint16_t>()[i], cases[i].second) << std::hex << cases[i].first;
  }
}

TEST(Emitter, F16ConvertsBothWays) {
  for (const Target& target : runnable_targets()) {
    constexpr int64_t n = 65536;
    Buffer half(2 * n), single(4 * n), back(2 * n);
    for (int64_t i = 0; i < n; ++i) half.as<uint16_t>()[i] = static_cast<uint16_t>(i);
    copy_kernel(target, 16, n, Storage::f16, Storage::f32)({half.data(), single.data()});
    copy_kernel(target, 16, n, Storage::f32, Storage::f16)({single.data(), back.data()});
    EXPECT_EQ(single.as<float>()[0x3c01], 1.0009765625f);
    EXPECT_EQ(single.as<float>()[1], 0x1p-24f);
    for (int64_t i = 0; i < n; ++i) {
      const bool is_nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0;
      ASSERT_EQ(back.as<uint16_t>()[i], is_nan ? i | 0x200 : i);
    }
  }
}

TEST(Emitter, IntegersConvertWithSaturation) {
  const std::vector<std::pair<float, int32_t>> cases = {{1.9f, 1},
                                                        {-1.9f, -1},
                                                        {3e9f, INT32_MAX},
                                                        {-3e9f, INT32_MIN},
                                                        {infinity, INT32_MAX},
                                                        {-infinity, INT32_MIN},
                                                        {nan_value, 0},
                                                        {-0.0f, 0}};
  for (const Target& target : runnable_targets()) {
    Buffer in(4 * cases.size()), out(4 * cases.size());
    for (size_t i = 0; i < cases.size(); ++i) in.as<float>()[i] = cases[i].first;
    copy_kernel(target, 8, static_cast<int64_t>(cases.size()), Storage::f32,
                Storage::i32)({in.data(), out.data()});
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_EQ(out.as<int32_t>()[i], cases[i].second) << cases[i].first;
  }
}

TEST(Emitter, ReductionFollowsTheTree) {
  const std::vector<float> x = {1e8f, 3, -1e8f, 5, 7, 0.25f, 11, -2};
  const float expected = ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
  for (const Target& target : runnable_targets()) {
    Buffer in(32), out(8);
    std::copy(x.begin(), x.end(), in.as<float>().begin());
    TestKernel(target, {{}, {.written = true}}, [](Emitter& e, const KernelFrame& frame) {
      Value* v = e.load(Storage::f32, frame.buffers[0], e.index(0), 8);
      e.store(Storage::f32, e.reduce_add(v), frame.buffers[1], e.index(0));
      e.store(Storage::f32, e.reduce_maximum(v), frame.buffers[1], e.index(1));
    })({in.data(), out.data()});
    EXPECT_EQ(std::bit_cast<uint32_t>(out.as<float>()[0]), std::bit_cast<uint32_t>(expected));
    EXPECT_EQ(out.as<float>()[1], 1e8f);
  }
}

TEST(Emitter, MaximumPropagatesNaNAndOrdersZeros) {
  const std::vector<float> a = {1, nan_value, 2, -0.0f, 0.0f, -infinity};
  const std::vector<float> b = {nan_value, 1, 3, 0.0f, -0.0f, nan_value};
  for (const Target& target : runnable_targets()) {
    Buffer in(64), out(64);
    std::copy(a.begin(), a.end(), in.as<float>().begin());
    std::copy(b.begin(), b.end(), in.as<float>().begin() + 8);
    TestKernel(target, {{}, {.written = true}}, [](Emitter& e, const KernelFrame& frame) {
      Value* x = e.load(Storage::f32, frame.buffers[0], e.index(0), 8);
      Value* y = e.load(Storage::f32, frame.buffers[0], e.index(8), 8);
      e.store(Storage::f32, e.maximum(x, y), frame.buffers[1], e.index(0));
      e.store(Storage::f32, e.minimum(x, y), frame.buffers[1], e.index(8));
    })({in.data(), out.data()});
    const auto result = out.as<float>();
    for (int i : {0, 1, 5}) {
      EXPECT_TRUE(std::isnan(result[i]));
      EXPECT_TRUE(std::isnan(result[8 + i]));
    }
    EXPECT_EQ(result[2], 3);
    for (int i : {3, 4}) {
      EXPECT_FALSE(std::signbit(result[i]));
      EXPECT_TRUE(std::signbit(result[8 + i]));
    }
  }
}

TEST(Emitter, TransposeGatherAndBroadcast) {
  for (const Target& target : runnable_targets()) {
    const int n = target.lanes();
    Buffer in(static_cast<size_t>(4 * n * n)), out(static_cast<size_t>(4 * n * (n + 2)));
    for (int i = 0; i < n * n; ++i) in.as<int32_t>()[i] = i;
    TestKernel(target, {{}, {.written = true}}, [n](Emitter& e, const KernelFrame& frame) {
      Emitter::Values rows;
      for (int i = 0; i < n; ++i)
        rows.push_back(e.load(Storage::i32, frame.buffers[0], e.index(i * n), n));
      rows = e.transpose(rows);
      for (int i = 0; i < n; ++i) e.store(Storage::i32, rows[i], frame.buffers[1], e.index(i * n));
      Value* column = e.ir().CreateMul(e.iota(n), e.i32(n, n));
      e.store(Storage::i32, e.gather(Storage::i32, frame.buffers[0], column), frame.buffers[1],
              e.index(n * n));
      e.store(Storage::i32, e.load_broadcast(Storage::i32, frame.buffers[0], e.index(5), n),
              frame.buffers[1], e.index(n * n + n));
    })({in.data(), out.data()});
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) EXPECT_EQ(out.as<int32_t>()[i * n + j], j * n + i);
      EXPECT_EQ(out.as<int32_t>()[n * n + i], i * n);
      EXPECT_EQ(out.as<int32_t>()[n * n + n + i], 5);
    }
  }
}

TEST(Emitter, LoopsCarryValuesAndEmptyLoopsKeepTheInitialOnes) {
  for (const Target& target : runnable_targets())
    for (int64_t n : {0, 1, 10}) {
      Buffer out(8);
      TestKernel(target, {{.written = true}}, [n](Emitter& e, const KernelFrame& frame) {
        const Emitter::Values sums =
            e.for_loop(e.index(0), e.index(n), 3, {e.i32(100), e.i32(1)},
                       [&](Value* i, const Emitter::Values& carried) {
                         Value* narrow = e.ir().CreateTrunc(i, e.i32_type());
                         return Emitter::Values{e.ir().CreateAdd(carried[0], narrow),
                                                e.ir().CreateMul(carried[1], e.i32(2))};
                       });
        e.store(Storage::i32, sums[0], frame.buffers[0], e.index(0));
        e.store(Storage::i32, sums[1], frame.buffers[0], e.index(1));
      })({out.data()});
      int32_t sum = 100, product = 1;
      for (int64_t i = 0; i < n; i += 3) sum += static_cast<int32_t>(i), product *= 2;
      EXPECT_EQ(out.as<int32_t>()[0], sum);
      EXPECT_EQ(out.as<int32_t>()[1], product);
    }
}

TEST(Emitter, DenormalsAreFlushedInsideAndTheModeIsRestored) {
  for (const Target& target : runnable_targets()) {
    Buffer in(4), out(8);
    in.as<float>()[0] = 0x1p-126f;
    TestKernel kernel(target, {{}, {.written = true}}, [](Emitter& e, const KernelFrame& frame) {
      Value* x = e.load(Storage::f32, frame.buffers[0], e.index(0), 1);
      Value* half = e.ir().CreateFMul(x, e.f32(0.5));
      e.store(Storage::f32, half, frame.buffers[1], e.index(0));
      e.store(Storage::f32, e.fma(x, e.f32(-0.5), x), frame.buffers[1], e.index(1));
    });
    const unsigned before = _mm_getcsr();
    kernel({in.data(), out.data()});
    EXPECT_EQ(_mm_getcsr(), before);
    EXPECT_EQ(out.as<uint32_t>()[0], 0u);
    EXPECT_EQ(out.as<uint32_t>()[1], 0u);
    volatile float outside = 0x1p-126f;
    EXPECT_EQ(outside * 0.5f, 0x1p-127f);
  }
}

}  // namespace
}  // namespace weir
