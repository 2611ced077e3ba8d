#include "lab/train/manifest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json_text.h"
#include "lab/train/run_lock.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kManifestFormat = "weir.manifest/1";

bool stays_inside(const fs::path& path) {
  return !path.empty() && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

// Whether a folder between `folder` and the file is a symbolic link, to somewhere else.
bool is_behind_link(const fs::path& folder, const fs::path& file) {
  fs::path at = folder;
  for (const fs::path& part : file.parent_path()) {
    at /= part;
    std::error_code ignored;
    if (fs::is_symlink(fs::symlink_status(at, ignored))) return true;
  }
  return false;
}

}  // namespace

Manifest Manifest::read(const fs::path& folder) {
  Manifest manifest(folder);
  const fs::path file = folder / kName;
  if (!fs::exists(file)) return manifest;
  const std::string text = read_file(file.string());
  size_t begin = 0;
  for (int line = 1; begin < text.size(); ++line) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut off while it was written, before what it names
    const std::string_view entry = std::string_view(text).substr(begin, end - begin);
    const Json parsed = Json::parse(entry, nullptr, false);
    const Json json = parsed.is_object() && repeated_keys(entry).empty() ? parsed : Json();
    begin = end + 1;
    const auto text_at = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_string()
                 ? json[key].get<std::string>()
                 : "";
    };
    const std::string listed = text_at("file"), made = text_at("folder");
    const bool heading =
        !text_at("made_by").empty() && (line > 1 || text_at("format") == kManifestFormat);
    const std::string path = listed.empty() ? made : listed;
    if ((line == 1 && !heading) || (!heading && !stays_inside(path)))
      user_error(
          "train",
          "{}:{} is damaged, so it is not known what Weir wrote in {}. Move what you want to "
          "keep elsewhere and remove the folder, or choose another with out=FOLDER.",
          file.string(), line, folder.string());
    if (heading)
      manifest.made_by_ = text_at("made_by");
    else
      (listed.empty() ? manifest.folders_ : manifest.files_).insert(path);
    manifest.exists_ = true;
  }
  return manifest;
}

Manifest Manifest::create(const fs::path& folder, const std::string& made_by,
                          const std::string& started, bool adopts) {
  const Json heading = {{"format", kManifestFormat}, {"made_by", made_by}, {"started", started}};
  write_file((folder / kName).string(), heading.dump() + "\n");
  Manifest manifest(folder);
  manifest.exists_ = true;
  manifest.adopts_ = adopts;
  manifest.made_by_ = made_by;
  return manifest;
}

void Manifest::set_made_by(const std::string& command) {
  if (command == made_by_) return;
  enter("made_by", command);
  made_by_ = command;
}

fs::path Manifest::add(const fs::path& path) {
  WEIR_CHECK(stays_inside(path), "{} for a manifest", path.string());
  fs::path folder;
  for (const fs::path& part : path.parent_path()) {
    folder /= part;
    if (folders_.insert(folder.generic_string()).second) enter("folder", folder.generic_string());
  }
  const fs::path whole = folder_ / path;
  if (!files_.insert(path.generic_string()).second) return whole;
  if (!adopts_ && fs::exists(fs::symlink_status(whole)))
    user_error("train",
               "{} is needed by the run, but the file is there already and is none that Weir has "
               "listed in {}. Move it elsewhere.",
               whole.string(), kName);
  enter("file", path.generic_string());
  return whole;
}

// One write, so that a reader never sees half a line but at the end of a process that was killed.
void Manifest::enter(const char* key, const std::string& value) {
  const fs::path file = folder_ / kName;
  const std::string line = Json{{key, value}}.dump() + "\n";
  const int descriptor = open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  const bool written = descriptor >= 0 && write(descriptor, line.data(), line.size()) ==
                                              static_cast<ssize_t>(line.size());
  const int reason = errno;
  if (descriptor >= 0) close(descriptor);
  if (!written) user_error("train", "cannot write {}: {}.", file.string(), std::strerror(reason));
}

// A listed file, or what AtomicFile leaves of one when its process is killed: NAME.tmp.PID.COUNT.
bool Manifest::is_listed(const std::string& name) const {
  const size_t at = name.rfind(".tmp.");
  const bool part = at != std::string::npos && at + 5 < name.size() &&
                    name.find_first_not_of("0123456789.", at + 5) == std::string::npos;
  return files_.contains(name) || (part && files_.contains(name.substr(0, at)));
}

std::vector<std::string> Manifest::files_in_folder() const {
  std::vector<std::string> names;
  if (!fs::is_directory(folder_)) return names;
  for (const auto& entry : fs::recursive_directory_iterator(folder_))
    if (entry.is_symlink() || !entry.is_directory())
      names.push_back(entry.path().lexically_relative(folder_).generic_string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> Manifest::unlisted() const {
  std::vector<std::string> names = files_in_folder();
  std::erase_if(names, [&](const std::string& name) {
    return is_listed(name) || name == kName || name == RunLock::kName;
  });
  return names;
}

void Manifest::remove_files(const std::string& first) const {
  const auto remove = [&](const std::string& name) {
    std::error_code failed;
    fs::remove(folder_ / name, failed);
    if (failed)
      user_error("train", "cannot remove {}: {}.", (folder_ / name).string(), failed.message());
  };
  if (files_.contains(first)) remove(first);
  for (const std::string& name : files_in_folder())
    if (is_listed(name) && !is_behind_link(folder_, name)) remove(name);
  std::error_code stays;  // a folder that holds something else
  for (auto name = folders_.rbegin(); name != folders_.rend(); ++name)
    if (!is_behind_link(folder_, fs::path(*name) / "x")) fs::remove(folder_ / *name, stays);
}

}  // namespace weir
