#pragma once
// Small text helpers: nearest names for error messages, glob matching, splitting, number printing.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// The up to `count` candidates nearest to `given` by edit distance, nearest first; only those
/// that are plausibly a misspelling (distance at most a third of the longer length, or a common
/// prefix of at least four characters).
std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& candidates,
                                 size_t count = 3);

/// " Did you mean a, b or c?" for the nearest candidates, or "" when none is near.
std::string did_you_mean(std::string_view given, const std::vector<std::string>& candidates);

/// Whether `text` matches a glob of '*' (any run), '?' (one character) and '{a,b}' (either).
bool glob_match(std::string_view pattern, std::string_view text);

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// A name as a terminal can show it, on one line: control characters, and bytes that are no UTF-8,
/// come as escapes such as \\x1b, since words, paths and names of tensors may hold them.
std::string printable(std::string_view text);
/// A message in the same way, whose own ends of lines stay. Those of the names in it that
/// `keep_on_one_line` knows are escaped.
std::string printable_message(std::string_view text);
/// Words of the command line and values of the environment: what stands between their separators
/// may be the name of a file with an end of a line in it. Called before other threads start.
void keep_on_one_line(const std::vector<std::string>& words);

/// The shortest decimal text that reads back as the same double; "inf", "-inf", "nan" otherwise.
std::string shortest(double value);

/// 1536 -> "1.5 KiB".
std::string human_bytes(double bytes);
/// "8GiB", "1.5 g", "500M" or a plain number of bytes (at least 1); units are powers of 1024.
std::optional<int64_t> parse_bytes(std::string_view text);

}  // namespace weir
