#include "tools/paths.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>

#include "io/file.h"
#include "tools/kept_files.h"
#include "tools/options.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

// The file that a path leads to, as far as it exists.
std::string place_of(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::absolute(path, error).lexically_normal();
  const fs::path place = fs::weakly_canonical(whole, error);
  return error ? whole.string() : place.string();
}

// Why nothing can be made in a folder that exists; 0 if something can.
int creation_error(const fs::path& folder) {
  constexpr int tries = 100;
  std::string trial;
  int descriptor = -1;
  for (int i = 0; descriptor < 0 && i < tries; ++i) {
    trial = (folder / fmt::format(".weir.{}.{}.tmp", ::getpid(), i)).string();
    descriptor = ::open(trial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    // Of a process with the same number on another machine, or one that was killed.
    if (descriptor < 0 && errno != EEXIST) break;
  }
  if (descriptor < 0) return errno;
  ::close(descriptor);
  ::unlink(trial.c_str());
  return 0;
}

std::string long_name(const std::string& path) {
  constexpr size_t longest_shown = 60;
  return path.size() <= longest_shown ? path : path.substr(0, longest_shown) + "...";
}

// What an option reads: the paths themselves, or the files that its texts name.
std::vector<std::string> files_read(const Option& option) {
  if (option.refused) return {};
  if (!option.rule.reads && option.rule.path == PathKind::input) return option.given;
  std::vector<std::string> files;
  if (option.rule.reads)
    for (const std::string& text : option.given)
      if (!text.empty())
        for (std::string& file : option.rule.reads(text)) files.push_back(std::move(file));
  return files;
}

// A file that a command writes: as it was given, or as it follows from other options.
struct Written {
  std::string name, path;
  const ValueRule* rule = nullptr;
  bool folder = false;
};

std::vector<Written> written_by(const std::deque<Option>& options) {
  std::vector<Written> outputs;
  for (const Option& option : options) {
    const bool folder = option.rule.path == PathKind::output_folder;
    if ((!folder && option.rule.path != PathKind::output_file) || option.refused) continue;
    for (const std::string& path : option.given)
      outputs.push_back({option.name, path, &option.rule, folder});
    if (!option.implied.empty())
      outputs.push_back({option.implied_name, option.implied, &option.rule, folder});
  }
  return outputs;
}

// Whether there is a file that is none that the rule describes.
bool holds_other(const std::string& path, const ValueRule& rule) {
  std::error_code error;
  return rule.is_own && fs::is_regular_file(path, error) && !rule.is_own(path);
}

std::string is_no(const ValueRule& rule) {
  return rule.makes.empty() ? "" : ", which is no " + rule.makes.substr(rule.makes.find(' ') + 1);
}

// Whether both paths lead to one file, by whatever names and links.
bool same_file(const fs::path& one, const fs::path& other) {
  std::error_code error;
  return fs::equivalent(one, other, error) && !error;
}

// Whether a file is in a folder that is read, or is what a link in it leads to.
bool is_within(const std::string& path, const std::string& folder) {
  const std::string inside = (fs::path(place_of(folder)) / "").string();
  if (place_of(path).starts_with(inside)) return true;
  std::error_code error;
  constexpr int deepest = 3;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied,
                                         error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (entry.depth() >= deepest) entry.disable_recursion_pending();
    std::error_code ignored;
    if (!fs::is_directory(entry->path(), ignored) && same_file(entry->path(), path)) return true;
  }
  return false;
}

// Adds whatever is wrong with replacing what is at an output's path.
void check_replacing(const Written& output, const std::deque<Option>& options, bool overwrite,
                     UsageProblems& problems) {
  const std::string& path = output.path;
  // Of a folder that is read, an empty file is a part as well: a tokenizer may have no merges.
  const bool of_another_kind = holds_other(path, *output.rule);
  for (const Option& option : options)
    for (const std::string& input : files_read(option)) {
      std::error_code error;
      if (same_file(input, path) && !fs::is_directory(input, error))
        return problems.add(fmt::format("{} would be written over what {} reads, {}.", output.name,
                                        option.name, path));
      if (of_another_kind && fs::is_directory(input, error) && is_within(path, input))
        return problems.add(
            fmt::format("{} would be written over {}, a file of the folder {} that {} reads{}. "
                        "Give another name.",
                        output.name, path, input, option.name, is_no(*output.rule)));
    }
  std::vector<std::string> inputs;
  for (const Option& option : options)
    for (std::string& input : files_read(option)) inputs.push_back(std::move(input));
  std::string kept = run_file_problem(path, inputs);
  if (kept.empty()) kept = model_file_problem(path, of_another_kind);
  if (!kept.empty()) return problems.add(fmt::format("{}: {}", output.name, kept));
  const std::string replacing = replacing_problem(path, *output.rule);
  if (!replacing.empty() && !overwrite)
    problems.add_failure(fmt::format("{}: {}", output.name, replacing));
}

}  // namespace

std::string replacing_problem(const std::string& path, const ValueRule& rule) {
  std::error_code error;
  // An empty file, as mktemp makes it, has nothing to lose.
  if (!holds_other(path, rule) || fs::file_size(path, error) == 0) return "";
  if (rule.makes.empty())
    return fmt::format(
        "{} is there already, and text does not show whose it is, so it is not replaced. Give "
        "another name, or --overwrite to replace it.",
        path);
  return fmt::format(
      "{} is there already and is not {}, so it is not replaced. Give another name, or --overwrite "
      "to replace it.",
      path, rule.makes);
}

std::string output_problem(const std::string& path, bool folder) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error && error.value() != ENOENT && error.value() != ENOTDIR)
    return fmt::format("{} cannot be written: {}.", long_name(path), error.message());
  if (!folder && fs::is_directory(status))
    return fmt::format("{} is a folder; the name of a file is needed.", path);
  if (folder && fs::exists(status) && !fs::is_directory(status))
    return fmt::format("{} is a file; the name of a folder is needed.", path);
  if (!folder && fs::exists(status) && !fs::is_regular_file(status))
    return fmt::format("{} is a device, pipe or socket; the name of a file is needed.", path);
  if (!folder && path.ends_with('/'))
    return fmt::format("{} names a folder; the name of a file is needed.", path);
  fs::path parent =
      folder && fs::is_directory(status) ? fs::path(path) : fs::path(path).parent_path();
  // A folder is made with those above it; a file needs its folder.
  while (folder && !parent.empty() && !fs::exists(parent, error)) parent = parent.parent_path();
  if (parent.empty()) parent = ".";
  if (!fs::exists(parent, error))
    return fmt::format("{} cannot be written: the folder {} does not exist.", path,
                       parent.string());
  if (!fs::is_directory(parent, error))
    return fmt::format("{} cannot be written: {} is no folder.", path, parent.string());
  if (const int failed = creation_error(parent); failed != 0)
    return fmt::format("{} cannot be written: {}.", path, reason(failed));
  if (folder) return "";
  try {
    AtomicFile trial(path);
  } catch (const UserError& error) {
    const std::string_view message = error.what();
    return std::string(message.substr(message.find("] ") + 2));
  }
  return "";
}

void check_paths(const std::deque<Option>& options, UsageProblems& problems) {
  std::map<std::string, std::string> outputs, inputs;  // place to option
  const bool overwrite = std::any_of(options.begin(), options.end(), [](const Option& option) {
    return option.name == "--overwrite" && !option.given.empty();
  });
  for (const Option& option : options)
    for (const std::string& path : files_read(option)) {
      if (path.empty() || option.rule.path != PathKind::input) continue;
      std::error_code error;
      inputs[place_of(path)] = option.name;
      if (!fs::exists(path, error))
        problems.add_failure(fmt::format("{}: there is no {}{}.", option.name, path,
                                         error ? fmt::format(" ({})", error.message()) : ""));
    }
  for (const Written& output : written_by(options)) {
    const std::string& path = output.path;
    const std::string place = place_of(path);
    if (const auto [other, is_new] = outputs.emplace(place, output.name); !is_new)
      problems.add(
          fmt::format("{} and {} are the same file, {}.", other->second, output.name, path));
    if (const auto input = inputs.find(place); input != inputs.end())
      problems.add(fmt::format("{} would be written over what {} reads, {}.", output.name,
                               input->second, path));
    if (const std::string wrong = output_problem(path, output.folder); !wrong.empty())
      problems.add_failure(fmt::format("{}: {}", output.name, wrong));
    else if (!output.folder && !inputs.contains(place))
      check_replacing(output, options, overwrite, problems);
  }
}

}  // namespace weir
