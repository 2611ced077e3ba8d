#pragma once
// JSON Lines by step, which grow line by line and can be cut back to a step: loss.jsonl,
// metrics.jsonl and validation.jsonl of an arm.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/train/append_file.h"

namespace weir {

/// Appends lines to a file.
class JsonLines {
 public:
  /// Opens `file`, made anew with the lines `kept`.
  JsonLines(const std::filesystem::path& file, const std::string& kept) : file_(file, kept) {}

  /// A line that cannot be written whole is taken back.
  void append(const std::string& line) { file_.append(line + "\n"); }
  /// Hands everything to the disk.
  void flush() { file_.flush(); }

 private:
  AppendFile file_;
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
/// `is_sound`, if given, says of further lines that they are damaged.
using LineCheck = std::function<bool(std::string_view line)>;
StepLines read_step_lines(const std::filesystem::path& file, const std::vector<int64_t>& wanted,
                          int64_t below, const LineCheck& is_sound = {});
/// Whether a line of metrics.jsonl is a record that a report can be made of.
bool is_sound_record(std::string_view line);

/// {"step", "loss", "lr", "grad_norm", "tokens_per_second"} in one line.
std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second);

/// validation.jsonl: {"step", "loss", "tokens"} in one line, `tokens` being the targets of the
/// mean, and "recalled" where it is told.
std::string validation_line(int64_t step, double loss, int64_t tokens,
                            std::optional<double> recalled);

}  // namespace weir
