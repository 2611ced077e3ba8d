#include "codegen/llvm/vector_math.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "codegen/kernel_test.h"

namespace weir {
namespace {

using llvm::Value;

constexpr float infinity = std::numeric_limits<float>::infinity();
const float nan_value = std::numeric_limits<float>::quiet_NaN();

struct Function {
  const char* name;
  Value* (*emit)(Emitter&, Value*);
  long double (*exact)(long double);
  double bound;  // ulp, as the header states
};

const std::vector<Function> functions = {
    {"exp", emit_exp, [](long double x) { return std::exp(x); }, 1.2},
    {"exp2", emit_exp2, [](long double x) { return x > 127.5L ? infinity : std::exp2(x); }, 1.0},
    {"log", emit_log, [](long double x) { return std::log(x); }, 1.0},
    {"log1p", emit_log1p, [](long double x) { return std::log1p(x); }, 2.5},
    {"expm1", emit_expm1, [](long double x) { return std::expm1(x); }, 3.0},
    {"tanh", emit_tanh, [](long double x) { return std::tanh(x); }, 1.5},
    {"sigmoid", emit_sigmoid, [](long double x) { return 1 / (1 + std::exp(-x)); }, 2.5},
    {"sin", emit_sin, [](long double x) { return std::sin(x); }, 1.6},
    {"cos", emit_cos, [](long double x) { return std::cos(x); }, 1.6},
    {"erf", emit_erf, [](long double x) { return std::erf(x); }, 1.5},
};

/// Applies a function to n floats with vectors of `lanes` and a masked tail.
std::vector<float> apply(const Target& target, int lanes, Value* (*emit)(Emitter&, Value*),
                         const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  GuardedBuffer in(4 * x.size(), false), out(4 * x.size(), false);
  std::copy(x.begin(), x.end(), in.as<float>().begin());
  TestKernel(target, {{}, {.written = true}}, [&](Emitter& e, const KernelFrame& frame) {
    e.for_loop(e.index(0), e.index(n), lanes, [&](Value* i) {
      Value* mask = e.mask_below(e.sub(e.index(n), i), lanes);
      Value* value = e.load(Storage::f32, frame.buffers[0], i, lanes, mask);
      e.store(Storage::f32, emit(e, value), frame.buffers[1], i, mask);
    });
  })({in.data(), out.data()});
  return {out.as<float>().begin(), out.as<float>().end()};
}

/// Every `stride`-th float, and the neighbourhoods of the special ones.
std::vector<float> sample(uint64_t stride) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += stride)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (uint32_t near :
       {0x00000000u, 0x00800000u, 0x3f800000u, 0x3f200000u, 0x7f800000u, 0x42b17218u, 0x42aeac50u,
        0x42ff0000u, 0x42fc0000u, 0x4d800000u, 0x3fc90fdbu, 0x40490fdbu})
    for (int32_t d = -50; d <= 50; ++d)
      for (uint32_t sign : {0u, 0x80000000u}) x.push_back(std::bit_cast<float>((near + d) ^ sign));
  return x;
}

/// |got - exact| in units in the last place of the f32 nearest to `exact`; results below the
/// smallest normal number may be flushed.
double ulp_error(float got, long double exact) {
  const float nearest = static_cast<float>(exact);
  if (std::isnan(nearest)) return std::isnan(got) ? 0 : infinity;
  if (got == nearest) return 0;
  if (std::fabs(exact) < 0x1.000001p-126L && std::fabs(got) <= 0x1p-126f) return 0;
  if (std::isinf(nearest) || !std::isfinite(got)) return infinity;
  const long double ulp = std::nextafter(std::fabs(nearest), infinity) - std::fabs(nearest);
  return static_cast<double>(std::fabs(got - exact) / ulp);
}

float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

TEST(VectorMath, ErrorIsWithinTheStatedBound) {
  const std::vector<float> x = sample(4999);
  for (const Target& target : runnable_targets())
    for (const Function& function : functions) {
      const std::vector<float> y = apply(target, target.lanes(), function.emit, x);
      double worst = 0;
      float where = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = ulp_error(y[i], function.exact(flushed(x[i])));
        if (error > worst) worst = error, where = x[i];
      }
      EXPECT_LE(worst, function.bound) << function.name << " at " << where;
      RecordProperty(function.name, std::to_string(worst));
    }
}

TEST(VectorMath, SpecialValues) {
  struct Case {
    const char* name;
    float x, y;
  };
  const std::vector<Case> cases = {{"exp", -infinity, 0},
                                   {"exp", infinity, infinity},
                                   {"exp", 0, 1},
                                   {"exp", 89, infinity},
                                   {"exp2", -infinity, 0},
                                   {"exp2", infinity, infinity},
                                   {"exp2", 0, 1},
                                   {"exp2", -0.0f, 1},
                                   {"exp2", 10, 1024},
                                   {"exp2", -127, 0},
                                   {"exp2", 128, infinity},
                                   {"log", 0, -infinity},
                                   {"log", -0.0f, -infinity},
                                   {"log", 0x1p-130f, -infinity},
                                   {"log", 1, 0},
                                   {"log", infinity, infinity},
                                   {"log", -1, nan_value},
                                   {"log", -infinity, nan_value},
                                   {"log1p", 1e-30f, 1e-30f},
                                   {"log1p", -0.0f, -0.0f},
                                   {"log1p", -1, -infinity},
                                   {"log1p", infinity, infinity},
                                   {"log1p", -2, nan_value},
                                   {"expm1", 1e-30f, 1e-30f},
                                   {"expm1", -0.0f, -0.0f},
                                   {"expm1", -infinity, -1},
                                   {"expm1", infinity, infinity},
                                   {"tanh", infinity, 1},
                                   {"tanh", -infinity, -1},
                                   {"tanh", -0.0f, -0.0f},
                                   {"sigmoid", 0, 0.5f},
                                   {"sigmoid", -infinity, 0},
                                   {"sigmoid", infinity, 1},
                                   {"sin", -0.0f, -0.0f},
                                   {"sin", infinity, nan_value},
                                   {"cos", 0, 1},
                                   {"cos", -infinity, nan_value},
                                   {"erf", -0.0f, -0.0f},
                                   {"erf", infinity, 1},
                                   {"erf", -infinity, -1}};
  for (const Target& target : runnable_targets())
    for (const Function& function : functions) {
      std::vector<float> x = {nan_value}, expected = {nan_value};
      for (const Case& c : cases)
        if (std::strcmp(c.name, function.name) == 0) x.push_back(c.x), expected.push_back(c.y);
      const std::vector<float> y = apply(target, target.lanes(), function.emit, x);
      for (size_t i = 0; i < x.size(); ++i) {
        if (std::isnan(expected[i])) {
          EXPECT_TRUE(std::isnan(y[i])) << function.name << "(" << x[i] << ") = " << y[i];
        } else {
          EXPECT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected[i]))
              << function.name << "(" << x[i] << ") = " << y[i];
        }
      }
    }
}

TEST(VectorMath, SameBitsForEveryLaneCount) {
  std::vector<float> x = sample(1000003);
  x.push_back(0.1f);
  for (const Target& target : runnable_targets())
    for (const Function& function : functions) {
      const std::vector<float> expected = apply(target, target.lanes(), function.emit, x);
      for (int lanes : {1, 2, 4, 8, 16, 32}) {
        const std::vector<float> y = apply(target, lanes, function.emit, x);
        EXPECT_EQ(std::memcmp(y.data(), expected.data(), 4 * y.size()), 0)
            << function.name << " with " << lanes << " lanes";
      }
    }
}

std::vector<float> apply_pow(const Target& target, const std::vector<float>& x,
                             const std::vector<float>& y) {
  const auto n = static_cast<int64_t>(x.size());
  const int lanes = target.lanes();
  Buffer a(4 * x.size()), b(4 * x.size()), out(4 * x.size());
  std::copy(x.begin(), x.end(), a.as<float>().begin());
  std::copy(y.begin(), y.end(), b.as<float>().begin());
  TestKernel(target, {{}, {}, {.written = true}}, [&](Emitter& e, const KernelFrame& frame) {
    e.for_loop(e.index(0), e.index(n), lanes, [&](Value* i) {
      Value* mask = e.mask_below(e.sub(e.index(n), i), lanes);
      Value* base = e.load(Storage::f32, frame.buffers[0], i, lanes, mask);
      Value* exponent = e.load(Storage::f32, frame.buffers[1], i, lanes, mask);
      e.store(Storage::f32, emit_pow(e, base, exponent), frame.buffers[2], i, mask);
    });
  })({a.data(), b.data(), out.data()});
  return {out.as<float>().begin(), out.as<float>().end()};
}

TEST(VectorMath, PowAgreesWithTheLibraryEverywhere) {
  std::vector<float> x, y;
  const std::vector<float> special = {
      0.0f,   -0.0f,       1,           -1,           2,        -2,        3,         -3,     0.5f,
      -0.5f,  16777217.0f, 16777215.0f, -16777215.0f, infinity, -infinity, nan_value, 1e-30f, 1e30f,
      0.999f, 127,         128,         -126,         -127};
  for (float a : special)
    for (float b : special) x.push_back(a), y.push_back(b);
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    x.push_back(flushed(std::bit_cast<float>(i % 4 ? bits & 0x7fffffff : bits)));
    const float wide = std::uniform_real_distribution<float>(-150, 150)(random);
    const float scale = std::fabs(std::log2(std::fabs(x.back())));
    y.push_back(i % 3 == 0 ? std::round(wide / 10) : scale > 1 ? wide / scale : wide);
  }
  for (const Target& target : runnable_targets()) {
    const std::vector<float> z = apply_pow(target, x, y);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error =
          ulp_error(z[i], std::pow(static_cast<long double>(x[i]), static_cast<long double>(y[i])));
      worst = std::max(worst, error);
      ASSERT_LE(error, 1.0) << x[i] << " ^ " << y[i] << " = " << z[i];
    }
    RecordProperty("pow", std::to_string(worst));
  }
}

}  // namespace
}  // namespace weir
