#pragma once
// The files of a run's folder (what lab/report reads): JSON Lines that grow line by line and can be
// cut back to a step, run.json, and arrays of probes.
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "interpret/host_tensor.h"
#include "lab/measure/attention_map.h"
#include "lab/train/batches.h"
#include "lab/train/config.h"

namespace weir {

/// Appends lines to a file; each is handed to the system at once, so that readers see whole lines
/// and a killed run loses none.
class JsonLines {
 public:
  /// Opens `file`, made anew with the lines `kept`.
  JsonLines(std::filesystem::path file, const std::string& kept);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  /// A line that cannot be written whole is taken back.
  void append(const std::string& line);
  /// Hands everything to the disk.
  void flush();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path file_;
  int descriptor_ = -1;
};

/// What a file of lines by "step" holds of a run.
struct StepLines {
  std::string text;  ///< the sound lines of steps below a bound, each step once, ascending
  std::optional<int64_t> missing;  ///< the first of the steps wanted that has no sound line
  bool as_written = true;          ///< whether the file holds just that, up to the bound
};

/// Reads the lines whose step is below `below`. A line that is damaged (so is one with a key twice
/// in an object, of which a reader would have to choose one), cut off or there twice
/// counts as damage of the file, not as an error; one file that is missing has no lines.
StepLines read_step_lines(const std::filesystem::path& file, const std::vector<int64_t>& wanted,
                          int64_t below);

/// The data of an arm.
struct ArmData {
  DataFacts training, validation;  ///< the latter empty where nothing is held out
  int64_t evaluated_tokens = 0;    ///< targets that a validation loss is the mean of
};

/// What run.json says of a run.
struct RunFacts {
  std::string command;  ///< how the run was started
  std::string target;
  std::string started;  ///< UTC, ISO 8601
  double seconds = 0;   ///< of all processes that brought it to its end; 0 while it is going on
  std::vector<std::pair<std::string, std::string>> resumed = {};  ///< when, and by what command
  std::map<std::string, ArmData> data = {};                       ///< by arm
};

void write_run_json(const std::filesystem::path& folder, const RunConfig& config,
                    const RunFacts& facts);
/// What it says of its start, its resumptions and its data; what is missing there stays empty.
RunFacts read_run_json(const std::filesystem::path& folder);

/// The configuration that a run or one of its arms has in a file. User error of `topic`, with the
/// name of the file, for one that is damaged or of another version.
RunConfig read_run_config(const std::filesystem::path& file, const char* topic);

/// Where the probes of a step are in the folder of an arm: probes/step000100.npz.
std::filesystem::path probes_of_step(int64_t step);
/// The first of the steps of an arm whose probes are not there whole: missing, empty or cut off.
std::optional<int64_t> step_without_probes(const std::filesystem::path& arm,
                                           const std::vector<int64_t>& steps);
/// Whether maps.json of an arm is there and no JSON.
bool has_damaged_map(const std::filesystem::path& arm);

/// {"step", "loss", "lr", "grad_norm", "tokens_per_second"} in one line.
std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second);

/// User error if a step that an arm has done has no line in its loss.jsonl, or a measured one none
/// in its metrics.jsonl or, where text is held out, its validation.jsonl, or no probes where there
/// are to be some; or if maps.json is damaged.
void check_lines(const std::filesystem::path& run);
/// validation.jsonl: {"step", "loss", "tokens"} in one line.
std::string validation_line(int64_t step, double loss, int64_t tokens);

/// maps.json: one attention map with the texts of its cells' first tokens.
void write_map(const std::filesystem::path& file, int64_t step, const AttentionMap& map,
               const std::vector<std::string>& tokens);

/// The chosen values as f32 arrays of an .npz archive.
void write_probes(const std::filesystem::path& file, const Tensors& values,
                  const std::vector<std::string>& ids);

}  // namespace weir
