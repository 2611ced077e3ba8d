// Attention alone, as in llama-0.1b (8 heads of 64 features, causal), 4096 tokens in sequences of
// T: its share of the machine's peak, forward and backward. Half of the query-key pairs count, two
// products forward and four backward (the scores that the backward kernel computes again do not).
// At T 1024 also with every other normaliser; with bayes-softmax, whose gate across heads is made
// of other kernels, every kernel but that of softmax counts as backward.
//   attention_bench [rounds] [threads]
//   attention_bench serve [threads]      on stdin's demand, for bench/run
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <memory>

#include "bench/rounds.h"
#include "engine/profile.h"
#include "ir/builder.h"
#include "ir/edit.h"
#include "ir/normalizer.h"
#include "passes/pipeline.h"
#include "runtime/machine_rates.h"
#include "runtime/random.h"

namespace {

using namespace weir;
using namespace weir::bench;

constexpr int64_t kTokens = 4096, kHeads = 8, kFeatures = 64;
const std::vector<int64_t> kLengths = {256, 512, 1024, 2048, 4096};
constexpr int64_t kLengthOfNormalizers = 1024;

// What is timed: its name is the length, and the normaliser unless that is softmax.
struct Setting {
  int64_t T;
  AttentionNormalizer normalizer = AttentionNormalizer::softmax;

  std::string name() const {
    if (normalizer == AttentionNormalizer::softmax) return std::to_string(T);
    return fmt::format("{} {}", T, normalizer_name(normalizer));
  }
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (int64_t T : kLengths) all.push_back({T});
  for (AttentionNormalizer normalizer : all_normalizers())
    if (normalizer != AttentionNormalizer::softmax)
      all.push_back({kLengthOfNormalizers, normalizer});
  return all;
}

// Softmax attention with its gate, by the rewrite and its gradient.
GraphPtr across_heads(const Setting& setting) {
  Builder b("attention");
  const Type type = f32({kTokens / setting.T, setting.T, kHeads, kFeatures});
  const Tensor q = b.input("q", type), k = b.input("k", type), v = b.input("v", type),
               dout = b.input("dout", type);
  const Tensor out =
      attention(q, k, v, true, 1 / std::sqrt(static_cast<double>(kFeatures))).out.named("hook_z");
  b.output("out", out);
  b.output("loss", reshape(reduce_sum(out * dout, {0, 1, 2, 3}), {}));
  CompileOptions options{.gradients = {"q", "k", "v", "*"}};
  options.rewrites.attention = setting.normalizer;
  return run_pipeline(b.finish(), options).graph;
}

// Forward and backward, of sequences of T tokens.
GraphPtr attention_program(const Setting& setting) {
  const int64_t T = setting.T;
  GraphEditor editor("attention");
  const Type type = f32({kTokens / T, T, kHeads, kFeatures});
  const Value q = editor.input("q", type), k = editor.input("k", type), v = editor.input("v", type),
              dout = editor.input("dout", type);
  Attrs attrs{{"causal", true}, {"scale", 1 / std::sqrt(static_cast<double>(kFeatures))}};
  set_normalizer(attrs, setting.normalizer);
  if (is_across_heads(setting.normalizer)) return across_heads(setting);
  std::vector<Value> operands = {q, k, v};
  if (takes_other_score(setting.normalizer))
    operands.push_back(editor.input("other", f32({kTokens / T, kHeads, T})));
  const std::vector<Value> out = editor.add_node(Op::attention, operands, attrs);
  const std::vector<Value> gradients =
      editor.add_node(Op::attention_grad, {q, k, v, out[0], out[1], dout}, attrs);
  editor.output("out", out[0]);
  const char* names[] = {"dq", "dk", "dv"};
  for (size_t i = 0; i < 3; ++i) editor.output(names[i], gradients[i]);
  return run_pipeline(with_stage(editor.finish(), Stage::instrumented), {}).graph;
}

struct Times {
  double forward = 0, backward = 0;            // seconds of the kernels
  double forward_work = 0, backward_work = 0;  // operations
};

class Attention {
 public:
  Attention(const Setting& setting, int threads)
      : name(setting.name()),
        programs_({attention_program(setting)}, {}),
        session_(programs_, threads) {
    uint64_t stream = 0;
    for (const std::string& name : session_.names()) {
      Random random(1, stream++);
      float* data = static_cast<float*>(session_.data(name));
      for (int64_t i = 0; i < session_.type(name).elements(); ++i)
        data[i] = static_cast<float>(random.normal());
    }
  }

  Times run() {
    KernelProfile profile(programs_);
    session_.run(0, {}, profile.sink());
    Times times;
    for (const KernelTime& kernel : profile.times()) {
      const bool forward = kernel.schedule == "attention";
      (forward ? times.forward : times.backward) += kernel.seconds;
      (forward ? times.forward_work : times.backward_work) += kernel.cost.products;
    }
    return times;
  }

  const std::string name;

 private:
  Executables programs_;
  Session session_;
};

// For a fraction of the time of forward and backward.
double peak_of(const Target& target, const Workers& workers) {
  return mean_rate(0.03, [&] { return fma_rate(target, workers); });
}

void print_table(int rounds, int threads) {
  const Workers workers(threads);
  const Target& target = host_target();
  fmt::print("{}\n{} threads, {} tokens, {} heads of {}\n{:<16} {:>9} {:>16} {:>16} {:>16}\n",
             print(target), threads, kTokens, kHeads, kFeatures, "T", "peak", "forward", "backward",
             "both");
  for (const Setting& setting : settings()) {
    Attention attention(setting, threads);
    attention.run();
    Rounds forward, backward, both;
    double before = peak_of(target, workers);
    for (int i = 0; i < rounds; ++i) {
      const Times t = attention.run();
      const double after = peak_of(target, workers);
      forward.add({t.forward_work / t.forward, before, after});
      backward.add({t.backward_work / t.backward, before, after});
      both.add({(t.forward_work + t.backward_work) / (t.forward + t.backward), before, after});
      before = after;
    }
    fmt::print("{:<16} {:9.1f}", attention.name, both.best_peak() / 1e9);
    for (const Rounds* r : {&forward, &backward, &both})
      fmt::print(" {:6.1f} ({:5.1f})%", 100 * r->median_share(), 100 * r->best_share());
    fmt::print("\n");
    std::fflush(stdout);
  }
  fmt::print("Percent of the peak (Gflop/s): median of {} rounds (best rate over best peak).\n",
             rounds);
}

// The name of a setting -> seconds, operations, and the peak around them.
void serve_attention(int threads) {
  const Workers workers(threads);
  const Target& target = host_target();
  std::vector<std::unique_ptr<Attention>> all;
  std::vector<std::string> names;
  for (const Setting& setting : settings()) {
    all.push_back(std::make_unique<Attention>(setting, threads));
    names.push_back(setting.name());
  }
  say({{"ready", true}, {"settings", names}, {"threads", threads}});
  serve([&](const std::vector<std::string>& words) -> nlohmann::json {
    std::string wanted;
    for (const std::string& word : words) wanted += (wanted.empty() ? "" : " ") + word;
    for (const auto& attention : all) {
      if (attention->name != wanted) continue;
      const double before = peak_of(target, workers);
      const Times t = attention->run();
      return {{"forward_seconds", t.forward},
              {"backward_seconds", t.backward},
              {"forward_operations", t.forward_work},
              {"backward_operations", t.backward_work},
              {"peak_before", before},
              {"peak_after", peak_of(target, workers)}};
    }
    return {{"error", "no such setting"}};
  });
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const bool serving = argc > 1 && std::string(argv[1]) == "serve";
    const int threads = argc > 2 ? std::atoi(argv[2]) : host_target().cores;
    if (serving)
      serve_attention(threads);
    else
      print_table(argc > 1 ? std::atoi(argv[1]) : 7, threads);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
