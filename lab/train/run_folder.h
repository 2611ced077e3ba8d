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
  std::string text;   ///< the sound lines of steps below a bound, each step once, ascending
  int64_t last = -1;  ///< the step of the last of these lines
  std::optional<int64_t> missing;  ///< the first of the steps wanted that has no sound line
  bool as_written = true;          ///< whether the file holds just that, up to the bound
};

/// Reads the lines of the steps `wanted`, ascending, that are below `below`. A line that is damaged
/// (so is one without a loss, or with a key twice in an object, of which a reader would have to
/// choose one), cut off, there twice or of another step counts as damage of the file, not as an
/// error; a file that is missing has no lines.
StepLines read_step_lines(const std::filesystem::path& file, const std::vector<int64_t>& wanted,
                          int64_t below);

/// The data of an arm.
struct ArmData {
  DataFacts training, validation;  ///< the latter empty where nothing is held out
  DataFacts initial;               ///< the weights of init=, empty without one
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

/// {"step", "loss", "lr", "grad_norm", "tokens_per_second"} in one line.
std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second);

/// User error if a step that an arm has done has no line in its loss.jsonl, or a measured one none
/// in its metrics.jsonl or, where text is held out, its validation.jsonl; or if one of these has
/// other lines.
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
