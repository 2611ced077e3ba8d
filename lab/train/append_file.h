#pragma once
// A file that grows part by part, so that a killed process leaves whole parts.
#include <filesystem>
#include <string>
#include <string_view>

namespace weir {

/// Appends parts to a file; each is handed to the system at once, so that readers see whole parts
/// and a killed run loses none.
class AppendFile {
 public:
  /// Opens `file`, made anew with what is in `kept`. `in_place`: a file that begins with it is cut
  /// behind it instead, so that a program which is reading the file goes on; unless it has a second
  /// name, as in a copy of the run by hard links.
  AppendFile(std::filesystem::path file, std::string_view kept, bool in_place = false);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// A part that cannot be written whole is taken back.
  void append(std::string_view part);
  /// Hands everything to the disk.
  void flush();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace weir
