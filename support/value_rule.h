#pragma once
// What a value that a user gives may be: options of the command, keys of a configuration and
// environment variables name their range once, in their table, and are checked by it.
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace weir {

/// The most worker threads that may be asked for.
constexpr int kMaxThreads = 4096;

/// Where a value is kept, which also is its type. Of a list, numbers are separated by ','; texts by
/// the rule's `split`, else by ';', or by ',' where there is neither ';' nor ':'; and texts that
/// end with a line's end stand one a line.
using ValueSlot = std::variant<bool*, int*, int64_t*, uint64_t*, double*, std::string*,
                               std::vector<int64_t>*, std::vector<std::string>*>;

/// What a text means to the command beyond its characters.
enum class PathKind : uint8_t {
  none,
  input,          ///< a file or folder that must exist
  output_file,    ///< a file that will be written
  output_folder,  ///< a folder that will be made, or written into
};

struct ValueRule {
  /// Least and largest number, both allowed; of a list, for each.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};  ///< the texts there are; empty: any
  /// Other spellings that are accepted, each with the choice that it stands for.
  std::vector<std::pair<std::string, std::string>> short_forms = {};
  /// Values that people ask for and that there are not, each with a sentence that says why.
  std::vector<std::pair<std::string, std::string>> refusals = {};
  bool may_be_empty = true;  ///< of a text
  std::string form = {};     ///< what `fits` asks for, e.g. "a size such as 2GiB"
  std::function<bool(const std::string&)> fits = {};
  PathKind path = PathKind::none;
  std::function<std::vector<std::string>(const std::string&)> split = {};  ///< of a list of texts
  /// The files behind a text that names inputs but is no path of one, such as a glob; of `input`,
  /// each must exist.
  std::function<std::vector<std::string>(const std::string&)> reads = {};
  /// Of an output file: what is written, e.g. "a report" (empty: text, which shows no origin), and
  /// whether a file that exists is such a one, which may be replaced. Without `is_own` any file may
  /// be.
  std::string makes = {};
  std::function<bool(const std::string&)> is_own = {};
};

/// Whole numbers, or numbers, from `low` to `high`.
ValueRule within(double low, double high = std::numeric_limits<double>::infinity());
ValueRule one_of(std::vector<std::string> choices,
                 std::vector<std::pair<std::string, std::string>> short_forms = {});
ValueRule any_text();
ValueRule some_text();  ///< not empty
/// A text that `fits`; `form` says what is needed, e.g. "LAYER.HEAD such as 12.3".
ValueRule of_form(std::string form, std::function<bool(const std::string&)> fits);
/// A number of bytes as parse_bytes reads it, or nothing.
ValueRule memory_size();
ValueRule input_path();
ValueRule output_file();
ValueRule output_folder();

/// Reads `text` into the slot. "" if it is a value of the rule, else the whole sentence about
/// `name`, which has what was given and what is needed: the slot is then unchanged.
std::string read_value(const std::string& name, const std::string& text, const ValueSlot& slot,
                       const ValueRule& rule);
/// A value as messages show it: on one line, cut behind 80 bytes.
std::string short_text(const std::string& text);
/// The sentence about a value that is none of the choices, with the nearest of them.
std::string no_choice(const std::string& name, const std::string& text,
                      const std::vector<std::string>& choices);
/// What the rule allows, for help: "1 to 4096", "adamw, sgd"; "" if there is nothing to say.
std::string range_text(const ValueSlot& slot, const ValueRule& rule);

}  // namespace weir
