#include "io/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "io/file.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// The format allows windows of 2 GiB, which `zstd --long=31` makes; memory is taken as a frame
// needs it.
constexpr int kLargestWindowLog = 31;

/// What a compressed file may be called in messages.
[[noreturn]] void ends_early(const std::string& path, std::string_view format) {
  user_error("file",
             "cannot read {}: the {} stream ends early; the file is truncated. Copy or download it "
             "again.",
             path, format);
}

[[noreturn]] void damaged(const std::string& path, std::string_view format, std::string_view why) {
  user_error("file", "cannot read {}: the {} stream is damaged ({}). Copy or download it again.",
             path, format, why);
}

size_t read_some(int descriptor, const std::string& path, void* out, size_t size) {
  while (true) {
    const ssize_t got = ::read(descriptor, out, size);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) file_error("read", path, errno);
  }
}

}  // namespace

struct ByteStream::Packed {
  virtual ~Packed() = default;
  virtual size_t read(char* out, size_t size) = 0;
};

class ByteStream::Plain final : public Packed {
 public:
  Plain(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~Plain() override { ::close(descriptor_); }
  Plain(const Plain&) = delete;
  Plain& operator=(const Plain&) = delete;
  size_t read(char* out, size_t size) override { return read_some(descriptor_, path_, out, size); }

 private:
  std::string path_;
  int descriptor_;
};

class ByteStream::Gzip final : public Packed {
 public:
  Gzip(std::string path, int descriptor)
      : path_(std::move(path)), file_(::gzdopen(descriptor, "rb")) {
    if (file_ == nullptr) {
      ::close(descriptor);
      file_error("read", path_, ENOMEM);
    }
    ::gzbuffer(file_, 1 << 17);
  }
  ~Gzip() override { ::gzclose_r(file_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  size_t read(char* out, size_t size) override {
    const int got = ::gzread(file_, out, static_cast<unsigned>(size));
    int code = Z_OK;
    const std::string_view message = ::gzerror(file_, &code);
    if (code == Z_ERRNO) file_error("read", path_, errno);
    // A cut off stream is reported with the bytes before the cut, hence after any read.
    if (code == Z_BUF_ERROR) ends_early(path_, "gzip");
    if (code != Z_OK && code != Z_STREAM_END)
      damaged(path_, "gzip", trim(message.substr(message.rfind(':') + 1)));
    return static_cast<size_t>(got);
  }

 private:
  std::string path_;
  gzFile file_;
};

class ByteStream::Zstandard final : public Packed {
 public:
  Zstandard(std::string path, int descriptor)
      : path_(std::move(path)),
        descriptor_(descriptor),
        context_(::ZSTD_createDCtx()),
        buffer_(::ZSTD_DStreamInSize()) {
    if (context_ == nullptr) {
      ::close(descriptor_);
      file_error("read", path_, ENOMEM);
    }
    ::ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kLargestWindowLog);
  }
  ~Zstandard() override {
    ::ZSTD_freeDCtx(context_);
    ::close(descriptor_);
  }
  Zstandard(const Zstandard&) = delete;
  Zstandard& operator=(const Zstandard&) = delete;

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {buffer_.data(), read_some(descriptor_, path_, buffer_.data(), buffer_.size()), 0};
        // Without input, what is decoded already may still come out.
        if (input_.size == 0 && !more_inside_) {
          if (inside_frame_) ends_early(path_, "zstd");
          return 0;
        }
      }
      const size_t result = ::ZSTD_decompressStream(context_, &output, &input_);
      if (::ZSTD_isError(result) != 0) damaged(path_, "zstd", ::ZSTD_getErrorName(result));
      inside_frame_ = result != 0;
      more_inside_ = inside_frame_ && output.pos == output.size;
    }
    return output.pos;
  }

 private:
  std::string path_;
  int descriptor_;
  ZSTD_DCtx* context_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_ = {nullptr, 0, 0};
  bool inside_frame_ = false, more_inside_ = false;
};

ByteStream::ByteStream(const std::string& path) {
  size_t size = 0;
  const int descriptor = open_regular(path, size);
  std::array<unsigned char, 4> magic{};
  const ssize_t got = ::pread(descriptor, magic.data(), magic.size(), 0);
  if (got < 0) {
    const int error = errno;
    ::close(descriptor);
    file_error("read", path, error);
  }
  const bool gzip = got >= 2 && magic[0] == 0x1F && magic[1] == 0x8B;
  const bool tail = magic[1] == 0xB5 && magic[2] == 0x2F && magic[3] == 0xFD;
  // A file may begin with a skippable frame, 5x 2A 4D 18.
  const bool skippable =
      (magic[0] & 0xF0) == 0x50 && magic[1] == 0x2A && magic[2] == 0x4D && magic[3] == 0x18;
  const bool zstd = got == 4 && ((magic[0] == 0x28 && tail) || skippable);
  for (const auto& [ending, format, is] :
       {std::tuple(".gz", "gzip", gzip), std::tuple(".zst", "zstd", zstd)}) {
    if (!path.ends_with(ending) || is) continue;
    ::close(descriptor);
    user_error("file",
               "cannot read {}: its name ends in {} but its content is not {}. Rename it, or copy "
               "or download it again.",
               path, ending, format);
  }
  if (gzip)
    packed_ = std::make_unique<Gzip>(path, descriptor);
  else if (zstd)
    packed_ = std::make_unique<Zstandard>(path, descriptor);
  else
    packed_ = std::make_unique<Plain>(path, descriptor);
}

ByteStream::~ByteStream() = default;
ByteStream::ByteStream(ByteStream&&) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&&) noexcept = default;

size_t ByteStream::read(char* out, size_t size) { return packed_->read(out, size); }

std::string_view without_compression(std::string_view path) {
  for (std::string_view ending : {".gz", ".zst"})
    if (path.ends_with(ending)) return path.substr(0, path.size() - ending.size());
  return path;
}

}  // namespace weir
