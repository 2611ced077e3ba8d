#pragma once
// The files of a run's folder (what lab/report reads): JSON Lines that grow line by line and can be
// cut back to a step, run.json, and arrays of probes.
#include <cstdio>
#include <filesystem>
#include <string>

#include "codegen/host_tensor.h"
#include "lab/attention_map.h"
#include "lab/config.h"

namespace weir {

/// Appends lines to a file; each is handed to the system at once, so that readers see whole lines
/// and a killed run loses none.
class JsonLines {
 public:
  /// Opens `file`, made anew or cut back to the lines whose "step" is below `keep_below`. A last
  /// line that is cut off goes, too; any other damaged line is a user error.
  JsonLines(std::filesystem::path file, int64_t keep_below);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void append(const std::string& line);
  /// Hands everything to the disk.
  void flush();

 private:
  std::filesystem::path file_;
  std::FILE* stream_ = nullptr;
};

/// What run.json says of a run.
struct RunFacts {
  std::string command;  ///< how the run was started
  std::string target;
  std::string started;  ///< UTC, ISO 8601
  double seconds = 0;   ///< 0 while the run is going on
};

void write_run_json(const std::filesystem::path& folder, const RunConfig& config,
                    const RunFacts& facts);

/// {"step", "loss", "lr", "grad_norm", "tokens_per_second"} in one line.
std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second);

/// maps.json: one attention map with the texts of its cells' first tokens.
void write_map(const std::filesystem::path& file, int64_t step, const AttentionMap& map,
               const std::vector<std::string>& tokens);

/// The chosen values as f32 arrays of an .npz archive.
void write_probes(const std::filesystem::path& file, const Tensors& values,
                  const std::vector<std::string>& ids);

/// Now, UTC, ISO 8601.
std::string utc_now();

}  // namespace weir
