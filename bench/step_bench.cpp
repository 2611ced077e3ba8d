// Time of a whole training step, and where it goes by kernel.
//
//   step_bench [demo|text|llama-0.1b] [steps] [threads]
//
// `text` is 4 layers, d_model 256, 4 heads, d_ff 704, T 256, batch 16, vocabulary 50257.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "codegen/executable.h"
#include "models/llama.h"
#include "passes/autodiff.h"
#include "passes/loss_head.h"
#include "passes/pipeline.h"
#include "passes/plan_memory.h"
#include "passes/training_step.h"
#include "runtime/random.h"
#include "support/error.h"

namespace weir {
namespace {

struct Setting {
  ModelConfig model;
  int64_t B, T;
};

Setting setting(const std::string& name) {
  if (name == "demo") return {llama_config("demo"), 32, 128};
  if (name == "llama-0.1b") return {llama_config(name), 4, 1024};
  if (name != "text") user_error("step_bench", "unknown setting '{}'.", name);
  ModelConfig model;
  model.layers = 4;
  model.d_model = 256;
  model.heads = 4;
  model.d_ff = 704;
  model.vocabulary = 50257;
  return {model, 16, 256};
}

GraphPtr training_step(const Model& model) {
  DifferentiateOptions differentiation;
  TrainingOptions training;
  for (const Parameter& parameter : model.parameters) {
    differentiation.wrt.push_back(parameter.name);
    if (parameter.decay) training.optimizer.decay.push_back(parameter.name);
  }
  GraphPtr gradients = differentiate(fuse_loss_head(model.graph), differentiation);
  return run_pipeline(make_training_programs(gradients, training).step, {}).graph;
}

void fill(Session& session, const Setting& setting, const Model& model) {
  Random random(1, 0);
  for (const Parameter& parameter : model.parameters) {
    float* data = static_cast<float*>(session.data(parameter.name));
    for (int64_t i = 0; i < parameter.type.elements(); ++i)
      data[i] = parameter.initial == Initial::ones
                    ? 1.0f
                    : static_cast<float>(random.normal() * parameter.deviation);
  }
  for (const char* name : {"tokens", "targets"})
    for (int64_t i = 0; i < setting.B * setting.T; ++i)
      static_cast<int32_t*>(session.data(name))[i] =
          static_cast<int32_t>(random.below(static_cast<uint64_t>(setting.model.vocabulary)));
  auto scalar = [&](const char* name, double value) {
    *static_cast<float*>(session.data(name)) = static_cast<float>(value);
  };
  scalar("loss_scale", 1.0 / static_cast<double>(setting.B * setting.T));
  scalar("rate", 1e-3);
  scalar("bias1", 1);
  scalar("bias2", 1);
}

void run(const std::string& name, int steps, int threads) {
  using Clock = std::chrono::steady_clock;
  auto seconds = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  Setting where = setting(name);
  auto start = Clock::now();
  Model model = build_llama(where.model, where.B, where.T);
  GraphPtr graph = training_step(model);
  double passes = seconds(start);
  Executables programs({graph}, {});
  fmt::print("{}: {} parameters, {}\n", name, model.parameter_count(),
             to_string(memory_need(*graph)));
  fmt::print("passes {:.2f} s, compilation {:.2f} s ({} kernels, {} distinct)\n", passes,
             programs.report().seconds, programs.report().kernels, programs.report().distinct);
  Session session(programs, threads);
  fill(session, where, model);
  session.run(0);
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    start = Clock::now();
    session.run(0);
    times.push_back(seconds(start));
  }
  std::sort(times.begin(), times.end());
  fmt::print("step: median {:.4f} s, best {:.4f} s, loss {:.4f}\n", times[times.size() / 2],
             times.front(), session.scalar_output(0, "loss"));
  std::map<std::string, std::pair<double, int>> by_kernel;
  double total = 0;
  session.run(0, {}, [&](const KernelCall& call, double time) {
    by_kernel[call.name].first += time;
    by_kernel[call.name].second += 1;
    total += time;
  });
  std::vector<std::pair<double, std::string>> ranked;
  for (const auto& [kernel, time] : by_kernel)
    ranked.emplace_back(time.first, fmt::format("{} x{}", kernel, time.second));
  std::sort(ranked.rbegin(), ranked.rend());
  for (size_t i = 0; i < std::min<size_t>(ranked.size(), 25); ++i)
    fmt::print("  {:6.2f} % {:9.3f} ms  {}\n", 100 * ranked[i].first / total, 1e3 * ranked[i].first,
               ranked[i].second);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  try {
    weir::run(argc > 1 ? argv[1] : "demo", argc > 2 ? std::atoi(argv[2]) : 10,
              argc > 3 ? std::atoi(argv[3]) : 0);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
