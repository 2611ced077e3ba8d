#pragma once
// The outputs of a command that makes a record: --json, the report beside it, --overwrite.
#include <functional>
#include <string>

#include "tools/options.h"

namespace weir {

/// Outlives the table that it is added to.
struct RecordOutputs {
  std::string json, report;
  bool no_report = false, overwrite = false;

  /// --json for a record of that format ("weir.dial"); `when` ends its meaning, e.g. ", at each
  /// step".
  void add_json(OptionTable& table, const std::string& format, const std::string& when = "");
  /// --report, --no-report and --overwrite, and what must hold between them and --json.
  void add_report(OptionTable& table);

  /// The one given, or that beside the record; "" for none.
  std::string report_path() const;
  /// Writes the record where one is asked for; says so if `tells`.
  void write_record(const std::string& record, bool tells = true) const;
  /// Calls `write` with the path of the report where one is asked for, and says so.
  void write_report(const std::function<void(const std::string&)>& write) const;
};

}  // namespace weir
