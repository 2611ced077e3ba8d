#pragma once
// What the measurements of several checkpoints of one training say against the step: a table, and a
// report with the curves of the report of a run.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lab/measure/attention_map.h"

namespace weir {

class SeriesReport {
 public:
  SeriesReport();
  ~SeriesReport();
  SeriesReport(const SeriesReport&) = delete;
  SeriesReport& operator=(const SeriesReport&) = delete;

  /// Takes of a record `weir.measure/1` with a "step" what table and report show. User error: steps
  /// that do not ascend.
  void add(const std::string& record);
  bool empty() const;
  /// A row a checkpoint: step, loss, sink rate, score and mass, gradient-sink ratio, norm ratios,
  /// largest activation; then the sentence about very short sequences, if it holds.
  std::string table() const;
  /// Attention maps of the last checkpoint, with the texts of the batch's tokens, [B T].
  void set_maps(const std::vector<AttentionMap>& maps, const std::vector<std::string>& token_texts);
  /// Internal error before the first record.
  std::string page(const std::string& title, const std::string& command) const;
  /// Writes the page, whole or not at all. User error if the file cannot be written.
  void write(const std::string& html, const std::string& title, const std::string& command) const;

  /// Bytes that the numbers of so many checkpoints take at most.
  static int64_t bytes(int64_t checkpoints, int64_t layers, int64_t heads, int64_t length);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
