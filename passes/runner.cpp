#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "ir/edit.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "support/error.h"

namespace weir {
namespace {

// A pass that has not settled after this many rounds is taken for one that never does.
constexpr int kMaximumRounds = 100;

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush())
    user_error("WEIR_DEBUG", "cannot write {}. Give a folder that can be written, as in dir=/tmp.",
               path.string());
}

class Runner {
 public:
  Runner(const CompileOptions& options, const DebugOptions& debug)
      : options_(options), debug_(debug) {}

  PipelineResult run(const GraphPtr& graph, const std::vector<Pass>& passes) {
    if (!graph) user_error("pipeline", "the graph is null. Make one with Builder::finish().");
    result_.graph = graph;
    if (graph->stage() > options_.stop)
      user_error("pipeline",
                 "graph {} is {} already, so it cannot be brought to stage {}. Ask for {} or a "
                 "later stage.",
                 graph->name(), stage_name(graph->stage()), stage_name(options_.stop),
                 stage_name(graph->stage()));
    verify("the graph as given");
    for (const Pass& pass : passes) {
      if (pass.before != result_.graph->stage() || pass.after > options_.stop) continue;
      if (debug_.stop && static_cast<int>(result_.passes.size()) >= *debug_.stop) {
        result_.stopped = true;
        break;
      }
      apply(pass);
    }
    if (debug_.time) fmt::print(stderr, "{}", pass_table(result_.passes));
    WEIR_CHECK(result_.stopped || result_.graph->stage() == options_.stop,
               "the passes end at stage {}, but {} is wanted", stage_name(result_.graph->stage()),
               stage_name(options_.stop));
    return std::move(result_);
  }

 private:
  void apply(const Pass& pass) {
    GraphPtr before = result_.graph;
    PassRecord record{pass.name};
    auto start = std::chrono::steady_clock::now();
    if (pass.when(options_)) try {
        transform(pass, record);
      } catch (const InternalError& error) {
        throw InternalError(fmt::format("{} In pass {}; its input is saved as {}.", error.what(),
                                        pass.name, save(pass, *before)));
      }
    result_.graph = with_stage(result_.graph, pass.after);
    record.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    record.nodes = result_.graph->size();
    result_.passes.push_back(record);
    if (debug_.dumps(pass.name)) dump(record);
    if (debug_.verify || pass.before != pass.after) try {
        verify("the graph after pass " + pass.name);
      } catch (const std::exception& error) {
        throw InternalError(fmt::format("{} The input of the pass is saved as {}.", error.what(),
                                        save(pass, *before)));
      }
  }

  void transform(const Pass& pass, PassRecord& record) {
    while (true) {
      GraphPtr next = pass.function(result_.graph, options_);
      ++record.rounds;
      if (next == result_.graph) return;
      record.changed = true;
      result_.graph = next;
      if (pass.how_often == HowOften::once || next->stage() != pass.before) return;
      WEIR_CHECK(record.rounds < kMaximumRounds, "not settled after {} rounds", record.rounds);
    }
  }

  void verify(const std::string& what) {
    if (!pipeline_verifier()) return;
    try {
      pipeline_verifier()(*result_.graph);
    } catch (const InternalError& error) {
      throw InternalError(fmt::format("{} Found in {}.", error.what(), what));
    }
  }

  void dump(const PassRecord& record) {
    std::string head = fmt::format("# after pass {}, {}{}\n", result_.passes.size(), record.pass,
                                   record.rounds == 0 ? " (not asked for)"
                                   : record.changed   ? ""
                                                      : " (unchanged)");
    // Asked for by name, the graph is shown in any case.
    bool show = record.changed || !debug_.dump_all;
    std::string text = head + (show ? print_graph(*result_.graph) : "");
    if (debug_.folder.empty()) {
      fmt::print(stderr, "{}", text);
      return;
    }
    std::error_code ignored;  // write_text reports a folder that could not be made
    std::filesystem::create_directories(debug_.folder, ignored);
    write_text(std::filesystem::path(debug_.folder) /
                   fmt::format("{}-{:02}-{}.weir", result_.graph->name(), result_.passes.size(),
                               record.pass),
               text);
  }

  std::string save(const Pass& pass, const Graph& graph) const {
    std::filesystem::path folder = debug_.folder.empty() ? std::filesystem::temp_directory_path()
                                                         : std::filesystem::path(debug_.folder);
    std::filesystem::path path =
        folder / fmt::format("weir-failed-{}-{}.weir", graph.name(), pass.name);
    std::ofstream(path) << print_graph(graph);
    return path.string();
  }

  const CompileOptions& options_;
  const DebugOptions& debug_;
  PipelineResult result_;
};

}  // namespace

Verifier& pipeline_verifier() {
  static Verifier verifier = weir::verify;
  return verifier;
}

PipelineResult run_pipeline(const GraphPtr& graph, const CompileOptions& options,
                            const std::vector<Pass>& passes, const DebugOptions& debug) {
  return Runner(options, debug).run(graph, passes);
}

PipelineResult run_pipeline(const GraphPtr& graph, const CompileOptions& options) {
  return run_pipeline(graph, options, pipeline(), debug_options(pass_names()));
}

std::string pass_table(const std::vector<PassRecord>& records) {
  std::string text = fmt::format("{:20} {:>9} {:>7} {:>7}\n", "pass", "ms", "rounds", "nodes");
  double total = 0;
  for (const PassRecord& record : records) {
    total += record.seconds;
    text += fmt::format("{:20} {:9.3f} {:7} {:7}{}\n", record.pass, record.seconds * 1e3,
                        record.rounds, record.nodes,
                        record.rounds == 0 ? " (not asked for)"
                        : record.changed   ? ""
                                           : " (unchanged)");
  }
  return text + fmt::format("{:20} {:9.3f}\n", "total", total * 1e3);
}

}  // namespace weir
