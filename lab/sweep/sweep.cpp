#include "lab/sweep/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "io/file.h"
#include "lab/sweep/sweep_results.h"
#include "lab/train/run_lock.h"
#include "lab/train/run_place.h"
#include "lab/train/signal_watch.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

// Ends a run whose claim another process has taken over, without a checkpoint.
class ClaimLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A message without the folder of the sweep, which is no result.
std::string without_folder(std::string text, const fs::path& folder) {
  const std::string name = folder.string() + "/";
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at))
    text.erase(at, name.size());
  return text;
}

// A shared folder may show for a while what another machine has changed since: a file that is there
// as absent, or a longer one as it was. So a run that another machine has had, and that cannot be
// gone on with, is looked at again after 1, 2, 4 ... seconds. NFS remembers for 60 by default.
constexpr double kShortestLook = 1, kLongestLook = 32;

// One process's part of a sweep.
class Worker {
 public:
  Worker(const SweepPlan& plan, SweepFolder& folder, const SweepOptions& options)
      : plan_(plan), folder_(folder), options_(options), results_(folder) {
    runs_ = plan.runs();
    if (options.index) runs_ = {&plan.entries.at(static_cast<size_t>(*options.index))};
  }

  SweepOutcome work() {
    SweepOutcome outcome;
    double pause = kSweepPause;
    while (true) {
      bool busy = false, moved = false;
      for (const SweepEntry* run : runs_) {
        if (signals_.signal() != 0) break;
        switch (advance(*run)) {
          case Step::nothing_to_do:
            break;
          case Step::busy:
            busy = true;
            break;
          case Step::moved:
            moved = true;
            break;
        }
      }
      if (signals_.signal() != 0 || (!busy && !moved)) break;
      if (moved) {
        pause = kSweepPause;
        continue;
      }
      if (!options_.waits) break;
      if (!std::exchange(said_waiting_, true))
        log_info("the runs that are left are made by other processes; waiting for them");
      std::this_thread::sleep_for(std::chrono::duration<double>(pause));
      pause = std::min(kLongestSweepPause, 1.5 * pause);
    }
    results_.write(plan_now());
    outcome.signal = signals_.signal();
    for (const SweepEntry* run : runs_)
      ++(folder_.is_done(run->run)   ? outcome.done
         : folder_.failure(run->run) ? outcome.failed
                                     : outcome.unfinished);
    return outcome;
  }

 private:
  enum class Step { nothing_to_do, busy, moved };

  // Whether this process has nothing to do for a run. Of one that is done its lines are checked
  // once.
  bool is_settled(const SweepEntry& entry) {
    if (folder_.failure(entry.run)) return !options_.retries || tried_.contains(entry.run);
    if (!folder_.is_done(entry.run)) return false;
    return whole_.contains(entry.run) ||
           (folder_.is_whole(entry) && whole_.insert(entry.run).second);
  }

  Step advance(const SweepEntry& entry) {
    if (is_settled(entry)) return Step::nothing_to_do;
    const std::unique_ptr<RunClaim> claim = folder_.claims().take(entry.run);
    if (!claim) return Step::busy;
    // Another process may have ended it before it gave back its claim.
    if (is_settled(entry)) return Step::moved;
    if (const std::optional<ClaimOwner>& before = claim->taken_from) {
      log_info("entry {}: {} is gone, its run is taken over", entry.index, before->text());
      RunLock::forget(folder_.run(entry.run), before->host);
    }
    folder_.forget_failure(entry.run);
    tried_.insert(entry.run);
    const Step step = make(entry, *claim);
    if (step == Step::moved && signals_.signal() == 0) results_.write(plan_now());
    return step;
  }

  Step make(const SweepEntry& entry, RunClaim& claim) {
    std::string reason;
    for (double pause = kShortestLook;; pause *= 2) {
      bool began = false;
      if (const std::optional<Step> step = try_to_make(entry, claim, began, reason)) return *step;
      if (began || !claim.from_elsewhere || pause > kLongestLook) break;
      log_warning("entry {}: {} It is looked at again in {} s, since another machine had it.",
                  entry.index, reason, pause);
      if (!wait_for(pause)) return Step::moved;
      if (!claim.is_held()) return Step::busy;
    }
    log_message(LogLevel::error, fmt::format("entry {} has failed: {}", entry.index, reason));
    folder_.set_failure(entry.run, reason);
    return Step::moved;
  }

  // False if a signal comes before that.
  bool wait_for(double seconds) const {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end && signals_.signal() == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return signals_.signal() == 0;
  }

  // Nothing, with the reason, if the run has failed; `began` if it was at its first step or beyond.
  std::optional<Step> try_to_make(const SweepEntry& entry, RunClaim& claim, bool& began,
                                  std::string& reason) {
    RunConfig config = entry.config;
    config.out = folder_.run(entry.run).string();
    TrainOptions options = options_.train;
    options.made_by = "sweep";
    options.resume = is_run(config.out);
    options.signals = &signals_;
    const auto check_claim = [&] {
      if (!claim.is_held())
        throw ClaimLost(fmt::format(
            "entry {}: another process has taken over the run, since this one gave no sign of life",
            entry.index));
    };
    options.on_step = [&](const std::string& arm, int64_t done) {
      began = true;
      if (options_.train.on_step) options_.train.on_step(arm, done);
      check_claim();
    };
    log_info("entry {} of {}: {}, in {}", entry.index, plan_.entries.size(), entry_text(entry),
             config.out);
    try {
      const TrainOutcome outcome = train(config, options);
      if (outcome.signal != 0)
        log_info("entry {}: interrupted at step {}, a checkpoint is written", entry.index,
                 outcome.step);
      return Step::moved;
    } catch (const ClaimLost& lost) {
      log_warning("{}", lost.what());
      return Step::busy;
    } catch (const RunInUse& used) {
      if (said_in_use_.insert(entry.run).second)
        log_warning("entry {}: {}", entry.index, used.what());
      return Step::busy;
    } catch (const std::bad_alloc&) {
      began = true;  // to look again would not help
      reason = "there is not enough memory";
    } catch (const std::exception& error) {
      reason = without_folder(error.what(), folder_.path());
    }
    return std::nullopt;
  }

  // The plan in the folder, to which another process may have added entries.
  SweepPlan plan_now() const {
    const std::string text = read_file(folder_.plan_file().string());
    if (text == sweep_json(plan_)) return plan_;
    UsageProblems problems("sweep");
    SweepPlan plan = read_sweep({text, folder_.plan_file().string()}, problems);
    problems.raise();
    return plan;
  }

  const SweepPlan& plan_;
  SweepFolder& folder_;
  const SweepOptions& options_;
  SignalWatch signals_;
  SweepResults results_;
  std::vector<const SweepEntry*> runs_;
  std::set<std::string> tried_;  ///< runs that this process has begun
  std::set<std::string> whole_;  ///< runs that are done and whose lines are all there
  std::set<std::string> said_in_use_;
  bool said_waiting_ = false;
};

}  // namespace

SweepOutcome run_sweep(const SweepPlan& plan, SweepFolder& folder, const SweepOptions& options) {
  folder.open(plan, options.overwrite);
  return Worker(plan, folder, options).work();
}

}  // namespace weir
