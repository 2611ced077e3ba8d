#pragma once
// The files of a run's folder (what lab/report reads) beside its lines by step (step_lines.h):
// run.json, maps and arrays of probes.
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
RunFacts read_run_json(const std::filesystem::path& folder, const char* topic = "train");

/// What to do about a file of a run that says what nothing else does.
constexpr const char* kPutBack =
    "Put the file back (each ARM/config.json has the keys of its arm), or start another run with "
    "out=FOLDER.";

/// The configuration that a run or one of its arms has in a file. User error of `topic`, with the
/// name of the file, for one that is damaged or of another version.
RunConfig read_run_config(const std::filesystem::path& file, const char* topic);

/// Where the probes of a step are in the folder of an arm: probes/step000100.npz.
std::filesystem::path probes_of_step(int64_t step);
/// The first of the steps of an arm whose probes are not there whole: missing, empty or cut off.
std::optional<int64_t> step_without_probes(const std::filesystem::path& arm,
                                           const std::vector<int64_t>& steps);
/// Whether maps.json of an arm holds no map, or is gone though the manifest lists it.
bool has_damaged_map(const std::filesystem::path& arm);

/// maps.json: one attention map with the texts of its cells' first tokens.
void write_map(const std::filesystem::path& file, int64_t step, const AttentionMap& map,
               const std::vector<std::string>& tokens);

/// The chosen values as f32 arrays of an .npz archive.
void write_probes(const std::filesystem::path& file, const Tensors& values,
                  const std::vector<std::string>& ids);

}  // namespace weir
