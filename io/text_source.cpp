#include "io/text_source.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "io/hash.h"
#include "io/json_depth.h"
#include "io/json_error.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr std::array kJsonEndings = {".json", ".jsonl", ".ndjson"};

std::string without_gz(const std::string& path) {
  return path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path;
}

std::vector<std::string> files_in_folder(const std::string& folder) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    std::string path = entry.path().string();
    bool text = TextSource::is_json_lines(path) || without_gz(path).ends_with(".txt");
    if (text && entry.is_regular_file()) files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> files_of_glob(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> files;
  if (::glob(pattern.c_str(), GLOB_BRACE, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i)
      if (!fs::is_directory(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

bool TextSource::is_json_lines(const std::string& path) {
  std::string name = without_gz(path);
  return std::any_of(kJsonEndings.begin(), kJsonEndings.end(),
                     [&](const char* ending) { return name.ends_with(ending); });
}

TextSource::TextSource(const std::vector<std::string>& inputs) {
  Problems problems("text");
  if (inputs.empty()) problems.add("no input is given; a file, folder or glob is needed.");
  for (const std::string& input : inputs) {
    std::vector<std::string> files;
    if (fs::is_directory(input)) {
      files = files_in_folder(input);
      if (files.empty())
        problems.add(
            fmt::format("the folder {} holds no text: files ending in .txt, .json, .jsonl "
                        "or these with .gz are needed.",
                        input));
    } else if (file_exists(input)) {
      files = {input};
    } else if (input.find_first_of("*?[{") != input.npos) {
      files = files_of_glob(input);
      if (files.empty()) problems.add(fmt::format("the pattern {} matches no file.", input));
    } else {
      try {
        MappedFile file(input);
      } catch (const UserError& error) {
        std::string_view text = error.what();  // "[file] message"
        problems.add(std::string(text.substr(text.find("] ") + 2)));
      }
    }
    files_.insert(files_.end(), files.begin(), files.end());
  }
  problems.raise();
}

std::string TextSource::fingerprint() const {
  Hasher hasher;
  for (const std::string& path : files_) {
    MappedFile file(path);
    hasher.add(fmt::format("{} {}\n", is_json_lines(path) ? "json" : "plain", file.size()));
    hasher.add(file.text());
  }
  return hasher.hex_128();
}

struct DocumentReader::State {
  std::vector<std::string> files;
  size_t next_file = 0;
  std::optional<LineReader> lines;  ///< of the JSON Lines file being read
  std::string line;

  void parse(size_t number, std::string& text) const {
    const std::string& path = files[next_file - 1];
    nlohmann::json json;
    if (!json_is_shallow(line))
      user_error("text", "{}, line {}: nested too deeply for a document.", path, number);
    try {
      json = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      user_error("text", "{}, line {}: not valid JSON: {}.", path, number,
                 json_reason(error.what()));
    }
    auto found = json.is_object() ? json.find("text") : json.end();
    if (found == json.end() || !found->is_string())
      user_error("text",
                 "{}, line {}: {}; a JSON object with a string \"text\" is needed on every line.",
                 path, number,
                 !json.is_object()     ? fmt::format("a JSON {}", json.type_name())
                 : found == json.end() ? std::string("no member \"text\"")
                                       : fmt::format("\"text\" is a JSON {}", found->type_name()));
    text = std::move(found->get_ref<std::string&>());
  }
};

DocumentReader::DocumentReader(const TextSource& source) : state_(std::make_unique<State>()) {
  state_->files = source.files();
}

DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(std::string& text) {
  State& state = *state_;
  while (true) {
    while (state.lines && state.lines->next(state.line)) {
      if (state.line.find_first_not_of(" \t") == std::string::npos) continue;
      state.parse(state.lines->line_number(), text);
      return true;
    }
    state.lines.reset();
    if (state.next_file == state.files.size()) return false;
    const std::string& path = state.files[state.next_file++];
    if (TextSource::is_json_lines(path)) {
      state.lines.emplace(path);
    } else {
      text = read_text(path);
      return true;
    }
  }
}

}  // namespace weir
