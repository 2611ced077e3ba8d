#pragma once
// Text files, plain or compressed, as lines or as a whole.
#include <memory>
#include <string>

namespace weir {

/// Lines of a text file as ByteStream reads it. Lines end with "\n" or "\r\n"; the last may lack
/// it. User errors: those of ByteStream.
class LineReader {
 public:
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;

  /// The next line without its end, or false after the last one.
  bool next(std::string& line);
  /// Everything not yet returned, line ends kept as they are.
  std::string rest();
  /// Number of the line last returned, counted from 1.
  size_t line_number() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The whole text of a file, plain or compressed.
std::string read_text(const std::string& path);

/// Its first bytes, at most `size`.
std::string read_head(const std::string& path, size_t size);

}  // namespace weir
