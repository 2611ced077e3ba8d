#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>

#include "ir/edit.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/usage_error.h"

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

// The graphs that were found right and are still somewhere: graphs do not change, so that one that
// a run returned need not be verified again when another goes on from it.
class Verified {
 public:
  bool contains(const GraphPtr& graph) {
    const std::lock_guard lock(mutex_);
    return graphs_.contains(graph);
  }
  void insert(const GraphPtr& graph) {
    const std::lock_guard lock(mutex_);
    std::erase_if(graphs_, [](const std::weak_ptr<const Graph>& old) { return old.expired(); });
    graphs_.insert(graph);
  }

 private:
  std::mutex mutex_;
  std::set<std::weak_ptr<const Graph>, std::owner_less<>> graphs_;
};

Verified& verified() {
  static Verified graphs;
  return graphs;
}

class Runner {
 public:
  Runner(const CompileOptions& options, const DebugOptions& debug)
      : options_(options), debug_(debug) {}

  PipelineResult run(const std::vector<GraphPtr>& programs, const std::vector<Pass>& passes) {
    WEIR_CHECK(!programs.empty(), "no program is given");
    programs_ = programs;
    for (const GraphPtr& graph : programs_) check(graph);
    for (const Pass& pass : passes) {
      if (pass.before != stage() || pass.after > options_.stop) continue;
      if (debug_.stop && static_cast<int>(result_.passes.size()) >= *debug_.stop) {
        if (!options_.may_stop)
          throw UsageError(
              fmt::format("[WEIR_DEBUG] stop={} ends the passes at stage {}, but stage {} is "
                          "needed here. Leave "
                          "stop out, or look at the graph with `weir dump --stage {}`.",
                          *debug_.stop, stage_name(stage()), stage_name(options_.stop),
                          stage_name(options_.stop)));
        result_.stopped = true;
        break;
      }
      apply(pass);
    }
    if (debug_.time) fmt::print(stderr, "{}", pass_table(result_.passes));
    WEIR_CHECK(result_.stopped || stage() == options_.stop,
               "the passes end at stage {}, but {} is wanted", stage_name(stage()),
               stage_name(options_.stop));
    result_.graph = programs_.front();
    result_.programs = std::move(programs_);
    return std::move(result_);
  }

 private:
  Stage stage() const { return programs_.front()->stage(); }

  void check(const GraphPtr& graph) const {
    if (!graph) user_error("pipeline", "the graph is null. Make one with Builder::finish().");
    if (graph->stage() > options_.stop)
      user_error("pipeline",
                 "graph {} is {} already, so it cannot be brought to stage {}. Ask for {} or a "
                 "later stage.",
                 graph->name(), stage_name(graph->stage()), stage_name(options_.stop),
                 stage_name(graph->stage()));
    WEIR_CHECK(graph->stage() == stage(), "programs of stages {} and {} are given",
               stage_name(stage()), stage_name(graph->stage()));
    if (debug_.verify || !verified().contains(graph)) verify(graph, "the graph as given");
  }

  void apply(const Pass& pass) {
    PassRecord record{pass.name};
    const std::vector<GraphPtr> before = programs_;
    auto start = std::chrono::steady_clock::now();
    if (pass.when(options_)) transform(pass, record);
    for (GraphPtr& graph : programs_) graph = with_stage(graph, pass.after);
    record.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const GraphPtr& graph : programs_) record.nodes += graph->size();
    result_.passes.push_back(record);
    if (debug_.dumps(pass.name)) dump(record);
    if (!debug_.verify && pass.before == pass.after) return;
    for (size_t i = 0; i < programs_.size(); ++i) try {
        verify(programs_[i], "the graph after pass " + pass.name);
      } catch (const std::exception& error) {
        const Graph& input = *before[before.size() == programs_.size() ? i : 0];
        throw InternalError(fmt::format("{} The input of the pass is saved as {}.", error.what(),
                                        save(pass, input)));
      }
  }

  void transform(const Pass& pass, PassRecord& record) {
    std::vector<GraphPtr> results;
    for (const GraphPtr& graph : programs_) try {
        if (const auto* function = std::get_if<GraphPass>(&pass.function)) {
          results.push_back(repeated(pass, *function, graph, record));
        } else {
          record.rounds = 1;
          for (GraphPtr& program : std::get<ComposePass>(pass.function)(graph, options_)) {
            record.changed |= program != graph;
            results.push_back(std::move(program));
          }
        }
      } catch (const InternalError& error) {
        throw InternalError(fmt::format("{} In pass {}; its input is saved as {}.", error.what(),
                                        pass.name, save(pass, *graph)));
      }
    programs_ = std::move(results);
  }

  GraphPtr repeated(const Pass& pass, const GraphPass& function, GraphPtr graph,
                    PassRecord& record) {
    for (int rounds = 1;; ++rounds) {
      GraphPtr next = function(graph, options_);
      record.rounds = std::max(record.rounds, rounds);
      if (next == graph) return graph;
      record.changed = true;
      graph = next;
      if (pass.how_often == HowOften::once || next->stage() != pass.before) return graph;
      WEIR_CHECK(rounds < kMaximumRounds, "not settled after {} rounds", rounds);
    }
  }

  void verify(const GraphPtr& graph, const std::string& what) const {
    if (!pipeline_verifier()) return;
    try {
      pipeline_verifier()(*graph);
      verified().insert(graph);
    } catch (const InternalError& error) {
      throw InternalError(fmt::format("{} Found in {}.", error.what(), what));
    }
  }

  void dump(const PassRecord& record) const {
    std::string head = fmt::format("# after pass {}, {}{}\n", result_.passes.size(), record.pass,
                                   record.rounds == 0 ? " (not asked for)"
                                   : record.changed   ? ""
                                                      : " (unchanged)");
    // Asked for by name, the graph is shown in any case.
    const bool show = record.changed || !debug_.dump_all;
    std::error_code ignored;  // write_text reports a folder that could not be made
    if (!debug_.folder.empty()) std::filesystem::create_directories(debug_.folder, ignored);
    for (const GraphPtr& graph : programs_) {
      const std::string text = head + (show ? print_graph(*graph) : "");
      if (debug_.folder.empty())
        fmt::print(stderr, "{}", text);
      else
        write_text(
            std::filesystem::path(debug_.folder) /
                fmt::format("{}-{:02}-{}.weir", graph->name(), result_.passes.size(), record.pass),
            text);
    }
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
  std::vector<GraphPtr> programs_;
  PipelineResult result_;
};

}  // namespace

Verifier& pipeline_verifier() {
  static Verifier verifier = weir::verify;
  return verifier;
}

PipelineResult run_pipeline(const std::vector<GraphPtr>& programs, const CompileOptions& options,
                            const std::vector<Pass>& passes, const DebugOptions& debug) {
  return Runner(options, debug).run(programs, passes);
}

PipelineResult run_pipeline(const std::vector<GraphPtr>& programs, const CompileOptions& options) {
  return run_pipeline(programs, options, pipeline(), debug_options(pass_names()));
}

PipelineResult run_pipeline(const GraphPtr& graph, const CompileOptions& options) {
  return run_pipeline(std::vector{graph}, options);
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
