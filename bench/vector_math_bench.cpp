// Error and speed of the elementary functions over all floats, or every STRIDE-th.
//   vector_math_bench [stride] [target]
// The reference is the C library's long double function. Stride 1 takes hours; 97 about a minute.
#include <fmt/format.h>
#include <time.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "codegen/llvm/emitter.h"
#include "codegen/llvm/jit.h"
#include "codegen/llvm/vector_math.h"
#include "runtime/buffer.h"

namespace {

using namespace weir;

struct Function {
  const char* name;
  llvm::Value* (*emit)(Emitter&, llvm::Value*);
  long double (*exact)(long double);
};

const std::vector<Function> functions = {
    {"exp", emit_exp, [](long double x) { return std::exp(x); }},
    {"exp2", emit_exp2, [](long double x) { return x > 127.5L ? INFINITY : std::exp2(x); }},
    {"log", emit_log, [](long double x) { return std::log(x); }},
    {"tanh", emit_tanh, [](long double x) { return std::tanh(x); }},
    {"sigmoid", emit_sigmoid, [](long double x) { return 1 / (1 + std::exp(-x)); }},
    {"sin", emit_sin, [](long double x) { return std::sin(x); }},
    {"cos", emit_cos, [](long double x) { return std::cos(x); }},
    {"erf", emit_erf, [](long double x) { return std::erf(x); }},
};

constexpr int64_t tile = 1 << 14;

KernelSource kernel(const Function& function) {
  return {function.name, "", [&function](Emitter& e) {
            const KernelFrame frame = e.begin_kernel(function.name, {{}, {.written = true}});
            e.for_loop(e.index(0), e.index(tile), e.lanes(), [&](llvm::Value* i) {
              llvm::Value* x = e.load(Storage::f32, frame.buffers[0], i, e.lanes());
              e.store(Storage::f32, function.emit(e, x), frame.buffers[1], i);
            });
            e.end_kernel();
          }};
}

double ulp_error(float got, long double exact) {
  const float nearest = static_cast<float>(exact);
  if (std::isnan(nearest) && std::isnan(got)) return 0;
  if (got == nearest) return 0;
  if (std::fabs(exact) < 0x1.000001p-126L && std::fabs(got) <= 0x1p-126f) return 0;
  if (!std::isfinite(nearest) || !std::isfinite(got)) return HUGE_VAL;
  const long double ulp = std::nextafter(std::fabs(nearest), HUGE_VALF) - std::fabs(nearest);
  return static_cast<double>(std::fabs(got - exact) / ulp);
}

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t stride = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 97;
  const Target target = parse_target(argc > 2 ? argv[2] : "host");
  fmt::print("{}\nevery {}th of 2^32 arguments\n\n", print(target), stride);
  if (stride == 0) return 2;
  Jit jit(target);
  for (const Function& function : functions) jit.add({kernel(function)});
  Buffer in(4 * tile), out(4 * tile);
  void* buffers[] = {in.data(), out.data()};
  fmt::print("{:8} {:>10} {:>16} {:>12}\n", "", "worst ulp", "at", "ns a value");
  for (const Function& function : functions) {
    const weir_kernel run = jit.kernel(function.name);
    double worst = 0, fastest = HUGE_VAL;
    float where = 0;
    uint64_t bits = 0;
    while (bits < uint64_t{1} << 32) {
      for (float& x : in.as<float>()) {
        x = std::bit_cast<float>(static_cast<uint32_t>(bits));
        bits += stride;
      }
      const double start = thread_seconds();
      run(buffers, 0, 1, nullptr);
      fastest = std::min(fastest, thread_seconds() - start);
      for (int64_t i = 0; i < tile; ++i) {
        const float x = in.as<float>()[i];
        const bool denormal = std::fabs(x) < 0x1p-126f;
        const double error =
            ulp_error(out.as<float>()[i], function.exact(denormal ? std::copysign(0.0f, x) : x));
        if (error > worst) worst = error, where = x;
      }
    }
    fmt::print("{:8} {:10.3f} {:16.8g} {:12.3f}\n", function.name, worst, where,
               1e9 * fastest / static_cast<double>(tile));
  }
  return 0;
}
