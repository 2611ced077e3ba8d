#include "io/line_reader.h"

#include <cstring>
#include <vector>

#include "io/byte_stream.h"

namespace weir {
namespace {

constexpr size_t kLineBufferBytes = 1 << 18;

}  // namespace

struct LineReader::State {
  ByteStream stream;
  std::vector<char> buffer = std::vector<char>(kLineBufferBytes);
  size_t begin = 0;
  size_t end = 0;
  size_t line_number = 0;

  explicit State(const std::string& path) : stream(path) {}

  /// Refills the buffer; false at the end of the file.
  bool fill() {
    begin = 0;
    end = stream.read(buffer.data(), buffer.size());
    return end > 0;
  }
};

LineReader::LineReader(const std::string& path) : state_(std::make_unique<State>(path)) {}

LineReader::~LineReader() = default;
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;

size_t LineReader::line_number() const { return state_->line_number; }

bool LineReader::next(std::string& line) {
  State& state = *state_;
  line.clear();
  bool any = false;
  while (true) {
    if (state.begin == state.end && !state.fill()) break;
    any = true;
    const char* from = state.buffer.data() + state.begin;
    size_t available = state.end - state.begin;
    const void* newline = std::memchr(from, '\n', available);
    size_t length = newline != nullptr
                        ? static_cast<size_t>(static_cast<const char*>(newline) - from)
                        : available;
    line.append(from, length);
    state.begin += length + (newline != nullptr ? 1 : 0);
    if (newline != nullptr) break;
  }
  if (!any) return false;
  if (line.ends_with('\r')) line.pop_back();
  ++state.line_number;
  return true;
}

std::string LineReader::rest() {
  State& state = *state_;
  std::string text;
  while (state.begin != state.end || state.fill()) {
    text.append(state.buffer.data() + state.begin, state.end - state.begin);
    state.begin = state.end;
  }
  return text;
}

std::string read_text(const std::string& path) { return LineReader(path).rest(); }

std::string read_head(const std::string& path, size_t size) {
  ByteStream stream(path);
  std::string head(size, '\0');
  size_t done = 0;
  while (done < size) {
    const size_t got = stream.read(head.data() + done, size - done);
    if (got == 0) break;
    done += got;
  }
  head.resize(done);
  return head;
}

}  // namespace weir
