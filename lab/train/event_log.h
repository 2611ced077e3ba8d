#pragma once
// The numbers of an arm for TensorBoard: one event file, which says at any time what the arm's
// JSON Lines say.
#include <filesystem>
#include <string>
#include <unordered_map>

#include "lab/train/append_file.h"

namespace weir {

/// The lines of an arm that is resumed, up to its next step; empty ones of a new arm.
struct KeptLines {
  std::string losses = {}, validations = {}, records = {};
};

class EventLog {
 public:
  /// In the folder of an arm: the name by which TensorBoard finds it.
  static constexpr const char* kName = "events.out.tfevents.weir";

  /// Opens `file` with the events of the lines that are kept. Those that the file has already keep
  /// their time; steps that are computed again, damaged events and a part that was cut off go.
  EventLog(const std::filesystem::path& file, const KeptLines& kept);

  /// A line of loss.jsonl: train/loss, train/lr, train/grad_norm, train/tokens_per_second.
  void add_loss(const std::string& line);
  /// Of validation.jsonl: validation/loss, validation/recalled.
  void add_validation(const std::string& line);
  /// Of metrics.jsonl: summary/NAME of its summary, and layers/L/NAME of the numbers that a report
  /// has by layer: means over heads, the largest head of score and mass, and of what has a value a
  /// token that of the sink, the mean of the others, and their ratio.
  void add_record(const std::string& line);
  /// Hands everything to the disk.
  void flush() { file_.flush(); }

 private:
  AppendFile file_;
};

}  // namespace weir
