#include "tools/outputs.h"

#include <fmt/format.h>

#include <fstream>
#include <regex>

#include "io/npy.h"
#include "lab/measure/probe_tensors.h"
#include "lab/report/tidy_csv.h"
#include "support/error.h"

namespace weir {
namespace {

// The begin of a file; what cannot be read is recognised as nothing.
std::string head_of(const std::string& path) {
  std::string head(4096, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  return head;
}

ValueRule own_file(std::string makes, std::function<bool(const std::string&)> is_own) {
  ValueRule rule = output_file();
  rule.makes = std::move(makes);
  rule.is_own = std::move(is_own);
  return rule;
}

// Steps of a training run have the same format, one a line, and are no record of their own; those
// of a series of checkpoints are, and say where they come from.
bool is_record(const std::string& path, const std::string& format) {
  const std::regex begin(fmt::format(
      R"re(^\s*\{{\s*"format"\s*:\s*"{}/[0-9]+"\s*,(?!\s*"step"\s*:(?!\s*[0-9]+\s*,\s*"provenance"\s*:)))re",
      format));
  return std::regex_search(head_of(path), begin);
}

bool is_report(const std::string& path) {
  const std::string head = head_of(path);
  return head.starts_with("<!DOCTYPE html>") &&
         head.find("<meta name=\"generator\" content=\"Weir\">") != std::string::npos;
}

// A ZIP archive, the name of whose first entry is that of a probe: VALUE:REDUCTIONS.npy.
bool is_probes(const std::string& path) {
  constexpr size_t header = 30;  // bytes of a local file header before the name
  const std::string head = head_of(path);
  if (!head.starts_with("PK\x03\x04") || head.size() < header) return false;
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<uint8_t>(head[at])); };
  const std::string name = head.substr(header, byte(26) + 256 * byte(27));
  return name.ends_with(".npy") && name.find(':') != std::string::npos;
}

// The first line of a table of `weir compare`: arm, the keys of a grid, then these.
bool is_compare_csv(const std::string& path) {
  const std::string head = head_of(path);
  const std::string line = head.substr(0, head.find('\n'));
  return line.starts_with("arm,") && line.ends_with(",seed,run,at,step,tokens,quantity,value");
}

bool is_token_array(const std::string& path) {
  if (!head_of(path).starts_with(kNpyMagic)) return false;
  try {
    const NpyArray array = read_npy(path);
    return array.dtype == FileDtype::i32 && (array.shape.size() == 1 || array.shape.size() == 2);
  } catch (const UserError&) {  // damaged, or of a kind that `weir tokens` does not write
    return false;
  }
}

}  // namespace

// The metadata of tensors of probes, which come first and begin with their format.
bool holds_probe_tensors(const std::string& path) {
  constexpr size_t length = 8;  // bytes that say how long the header is
  const std::string head = head_of(path);
  const std::string begin = fmt::format(R"({{"__metadata__":{{"format":"{}")", kProbeTensorsFormat);
  return head.size() > length && head.substr(length).starts_with(begin);
}

ValueRule record_file(const std::string& format) {
  return own_file(fmt::format("a record of the format {}", format),
                  [format](const std::string& path) { return is_record(path, format); });
}

ValueRule report_file() { return own_file("a report of Weir's", is_report); }

ValueRule compare_csv_file() {
  return own_file("a table of `weir compare` as CSV", is_compare_csv);
}

ValueRule probes_file() {
  return own_file("an archive of probes", [](const std::string& path) {
    return is_probes(path) || holds_probe_tensors(path);
  });
}

ValueRule decoded_file() {
  return own_file("", [](const std::string&) { return false; });
}

ValueRule csv_file() {
  return own_file("a CSV that `weir export` writes", [](const std::string& path) {
    return head_of(path).starts_with(std::string(kTidyHeader) + "\n");
  });
}

ValueRule tokens_file() {
  return own_file("an array of token ids as `weir tokens` writes it (.npy, i32)", is_token_array);
}

}  // namespace weir
