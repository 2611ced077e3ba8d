#include "io/text_source.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/byte_stream.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/json_depth.h"
#include "io/json_error.h"
#include "io/json_text.h"
#include "io/line_reader.h"
#include "io/text_kind.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr std::array kJsonEndings = {".json", ".jsonl", ".ndjson"};

bool named_json_lines(const std::string& path) {
  const std::string_view name = without_compression(path);
  return std::any_of(kJsonEndings.begin(), kJsonEndings.end(),
                     [&](const char* ending) { return name.ends_with(ending); });
}

std::vector<std::string> files_in_folder(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    std::string path = entry->path().string();
    bool text = named_json_lines(path) || without_compression(path).ends_with(".txt");
    if (text && fs::is_regular_file(path)) files.push_back(path);
  }
  if (failed) user_error("text", "cannot read the folder {}: {}.", folder, failed.message());
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

namespace {

// "[topic] message" without its topic.
std::string message_of(const UserError& error) {
  const std::string_view text = error.what();
  return std::string(text.substr(text.find("] ") + 2));
}

// The files of one input, none when it is a problem.
std::vector<std::string> files_of(const std::string& input, Problems& problems) {
  std::error_code ignored;
  if (fs::is_directory(input, ignored)) {
    std::vector<std::string> files = files_in_folder(input);
    if (files.empty())
      problems.add(fmt::format(
          "the folder {} holds no text: files ending in .txt, .json, .jsonl or .ndjson, "
          "or these with .gz or .zst, are needed.",
          input));
    return files;
  }
  if (file_exists(input)) return {input};
  if (input.find_first_of("*?[{") != input.npos) {
    std::vector<std::string> files = files_of_glob(input);
    if (files.empty()) problems.add(fmt::format("the pattern {} matches no file.", input));
    return files;
  }
  MappedFile file(input);  // says why it cannot be opened
  return {};
}

}  // namespace

TextSource::TextSource(const std::vector<std::string>& inputs, std::string key)
    : key_(std::move(key)) {
  Problems problems("text");
  if (inputs.empty()) problems.add("no input is given; a file, folder or glob is needed.");
  for (const std::string& input : inputs) {
    try {
      for (const std::string& path : files_of(input, problems)) {
        const std::string head = read_head(path, kTextHead);
        // An empty file of a folder or glob is a part without text, a named one is a mistake.
        if (head.empty() && path == input) problems.add(fmt::format("{} is empty.", path));
        if (const std::string reason = why_no_text(head); !reason.empty())
          problems.add(fmt::format("{} {}.", path, reason));
        files_.push_back(
            {path, named_json_lines(path) || looks_like_json_lines(head, key_), path == input});
      }
    } catch (const UserError& error) {
      problems.add(message_of(error));
    }
  }
  problems.raise();
}

std::string TextSource::names() const {
  constexpr size_t listed = 5;
  std::vector<std::string> names;
  for (const TextFile& file : files_)
    if (names.size() < listed) names.push_back(file.path);
  return join(names, ", ") +
         (files_.size() > listed ? fmt::format(" and {} more", files_.size() - listed) : "");
}

std::vector<std::string> TextSource::leave_out(const TextSource& other) {
  Problems problems("text");
  std::vector<std::string> left_out;
  std::vector<TextFile> kept;
  for (const TextFile& file : files_) {
    const auto same =
        std::find_if(other.files_.begin(), other.files_.end(), [&](const TextFile& candidate) {
          std::error_code ignored;
          return fs::equivalent(file.path, candidate.path, ignored);
        });
    if (same == other.files_.end()) {
      kept.push_back(file);
      continue;
    }
    if (file.named && same->named)
      problems.add(fmt::format("{} is in both. Name it in one.", file.path));
    left_out.push_back(file.path);
  }
  if (kept.empty() && problems.empty())
    problems.add(fmt::format("all files of the one ({}) are in the other, too.", names()));
  problems.raise();
  files_ = std::move(kept);
  return left_out;
}

std::string TextSource::fingerprint() const {
  Hasher hasher;
  for (const TextFile& file : files_) {
    MappedFile mapped(file.path);
    const std::string kind = !file.json_lines ? "plain"
                             : key_ == "text" ? "json"
                                              : fmt::format("json of {}", key_);
    hasher.add(fmt::format("{} {}\n", kind, mapped.size()));
    constexpr size_t part = size_t{64} << 20;  // given back before the next is read
    for (size_t at = 0; at < mapped.size(); at += part) {
      const auto bytes = mapped.bytes().subspan(at, std::min(part, mapped.size() - at));
      hasher.add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      mapped.release(bytes);
    }
  }
  return hasher.hex_128();
}

std::vector<std::string> split_inputs(const std::string& word) {
  if (file_exists(word)) return {word};
  const char mark = word.find(';') == word.npos ? ',' : ';';
  std::vector<std::string> inputs(1);
  int depth = 0;
  for (char c : word) {
    depth += (c == '{') - (c == '}');
    if (c == mark && depth <= 0)
      inputs.emplace_back();
    else
      inputs.back() += c;
  }
  for (std::string& input : inputs) input = trim(input);
  std::erase(inputs, "");
  return inputs;
}

struct DocumentReader::State {
  std::vector<TextFile> files;
  std::string key;
  size_t next_file = 0;
  std::optional<LineReader> lines;  ///< of the JSON Lines file being read
  std::string line;

  void parse(size_t number, std::string& text) const {
    const std::string& path = files[next_file - 1].path;
    nlohmann::json json;
    if (!json_is_shallow(line))
      user_error("text", "{}, line {}: nested too deeply for a document.", path, number);
    try {
      json = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      user_error("text", "{}, line {}: not valid JSON: {}.{}", path, number,
                 json_reason(error.what()), number == 1 && begins_as_one_value() ? way_out() : "");
    }
    const std::vector<std::string> twice = repeated_keys(line);
    if (std::find(twice.begin(), twice.end(), key) != twice.end())
      user_error("text", "{}, line {}: the key \"{}\" is given twice. Remove one of them.", path,
                 number, key);
    auto found = json.is_object() ? json.find(key) : json.end();
    if (found != json.end() && found->is_string()) {
      text = std::move(found->get_ref<std::string&>());
      return;
    }
    user_error("text",
               "{}, line {}: {}; a JSON object with a string \"{}\" is needed on every line.{}",
               path, number,
               !json.is_object()     ? fmt::format("a JSON {}", json.type_name())
               : found == json.end() ? fmt::format("no member \"{}\"", key)
                                     : fmt::format("\"{}\" is a JSON {}", key, found->type_name()),
               key, json.is_array() ? way_out() : other_keys(json));
  }

  // Whether the line is the first of a value that goes over several.
  bool begins_as_one_value() const {
    const std::string_view first = trim(line);
    return first == "[" || first == "{" || first == "[{";
  }
  static std::string way_out() {
    return " Where the file is one JSON array, write it as lines: jq -c '.[]' FILE > text.jsonl";
  }
  // The members that could be meant.
  std::string other_keys(const nlohmann::json& json) const {
    std::vector<std::string> names;
    if (json.is_object() && !json.contains(key))
      for (const auto& [name, value] : json.items())
        if (value.is_string() && names.size() < kMaxListed) names.push_back(name);
    return names.empty() ? ""
                         : fmt::format(
                               " Strings of the line are {}: choose one as the text key "
                               "(--text-key, data.text_key).",
                               join(names, ", "));
  }
};

DocumentReader::DocumentReader(const TextSource& source) : state_(std::make_unique<State>()) {
  state_->files = source.files();
  state_->key = source.key();
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
    const TextFile& file = state.files[state.next_file++];
    if (file.json_lines) {
      state.lines.emplace(file.path);
    } else {
      text = read_text(file.path);
      return true;
    }
  }
}

}  // namespace weir
