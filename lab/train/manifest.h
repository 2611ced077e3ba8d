#pragma once
// What Weir wrote in the folder of a run, so that nothing else is ever removed from it:
// manifest.jsonl, a first line {"format", "made_by", "started"}, then {"file"} or {"folder"} a
// line, each there before the file or folder is.
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace weir {

class Manifest {
 public:
  static constexpr const char* kName = "manifest.jsonl";

  /// What a folder's manifest says; one that is empty if there is none. User error: a damaged line
  /// before the last, a path that leads out of the folder.
  static Manifest read(const std::filesystem::path& folder);
  /// Makes a new manifest, in the place of an old one. `adopts`: what is in the folder already is
  /// taken for Weir's as it is written again, as in a run whose manifest is lost.
  static Manifest create(const std::filesystem::path& folder, const std::string& made_by,
                         const std::string& started, bool adopts = false);

  bool exists() const { return exists_; }
  /// The command that made the run: "demo", "train".
  const std::string& made_by() const { return made_by_; }
  /// From now on the folder counts as made by this command.
  void set_made_by(const std::string& command);

  /// `folder`/`path`, entered with the folders on its way. User error: the path is not listed yet,
  /// but there is something.
  std::filesystem::path add(const std::filesystem::path& path);

  /// Whether a file, relative to the folder, is one of those.
  bool lists(const std::string& name) const { return files_.contains(name); }
  /// Folders that were made for listed files.
  const std::set<std::string>& folders() const { return folders_; }
  /// Files in the folder that the manifest does not list, relative, in order. What a process that
  /// was killed left of a listed file is not one of them.
  std::vector<std::string> unlisted() const;
  /// Removes the files listed, `first` before all others, and the folders that become empty. What
  /// lies behind a symbolic link is left alone. The manifest itself stays.
  void remove_files(const std::string& first) const;

 private:
  explicit Manifest(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void enter(const char* key, const std::string& value);
  bool is_listed(const std::string& name) const;
  std::vector<std::string> files_in_folder() const;

  std::filesystem::path folder_;
  bool exists_ = false, adopts_ = false;
  std::string made_by_;
  std::set<std::string> files_, folders_;  // relative, with '/'
};

}  // namespace weir
