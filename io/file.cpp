#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "io/hash.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t kBufferBytes = 1 << 18;

std::string reason(int error) { return std::generic_category().message(error); }

/// For a path that does not exist: the part that is missing and similar names beside it.
std::string missing_hint(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  if (!std::filesystem::is_directory(folder, ignored))
    return fmt::format(" The folder {} does not exist.", folder.string());
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry(folder, ignored), end;
       !ignored && entry != end && names.size() < 10000; entry.increment(ignored))
    names.push_back(entry->path().filename().string());
  return did_you_mean(std::filesystem::path(path).filename().string(), names);
}

}  // namespace

void file_error(std::string_view what, const std::string& path, int error) {
  user_error("file", "cannot {} {}: {}.{}", what, path, reason(error),
             error == ENOENT ? missing_hint(path) : "");
}

namespace {

// What is no regular file is not even opened where that can be seen before: a pipe would wait for
// its other end, and opening a device may do something.
void need_regular(const struct stat& status, const std::string& path) {
  if (S_ISDIR(status.st_mode))
    user_error("file", "cannot read {}: it is a folder, a regular file is needed.", path);
  if (!S_ISREG(status.st_mode))
    user_error("file",
               "cannot read {}: it is a device, pipe or socket, a regular file is needed. Write "
               "what it gives into a file first.",
               path);
}

}  // namespace

int open_regular(const std::string& path, size_t& size) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) file_error("open", path, errno);
  need_regular(status, path);
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) file_error("open", path, errno);
  if (::fstat(descriptor, &status) != 0) {
    int error = errno;
    ::close(descriptor);
    file_error("read", path, error);
  }
  try {
    need_regular(status, path);  // it may have been replaced meanwhile
  } catch (const UserError&) {
    ::close(descriptor);
    throw;
  }
  size = static_cast<size_t>(status.st_size);
  return descriptor;
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  int descriptor = open_regular(path, size_);
  if (size_ > 0) {  // an empty map is an error to the system
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int error = errno;
    ::close(descriptor);
    if (data == MAP_FAILED) file_error("map", path, error);
    data_ = static_cast<const std::byte*>(data);
  } else {
    ::close(descriptor);
  }
}

MappedFile MappedFile::from_memory(std::string name, std::span<const std::byte> bytes) {
  MappedFile file;
  file.path_ = std::move(name);
  file.size_ = bytes.size();
  file.copy_ = std::make_unique<std::byte[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), file.copy_.get());
  file.data_ = file.copy_.get();
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr && copy_ == nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (copy_ != nullptr) return;
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + part.size()) / page * page;
  // A hint: where it is refused the pages stay, and nothing else changes.
  if (first < last) {
    std::byte* pages = const_cast<std::byte*>(data_) + (first - reinterpret_cast<uintptr_t>(data_));
    ::madvise(pages, last - first, MADV_DONTNEED);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      copy_(std::move(other.copy_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(copy_, other.copy_);
  return *this;
}

std::string read_file(const std::string& path) {
  size_t size = 0;
  int descriptor = open_regular(path, size);
  std::string content(size, '\0');
  size_t done = 0;
  while (done < size) {
    ssize_t got = ::read(descriptor, content.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      int error = errno;
      ::close(descriptor);
      file_error("read", path, error);
    }
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  ::close(descriptor);
  content.resize(done);
  return content;
}

bool file_exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored);
}

namespace {

// The name of a file while it is written: NAME.tmp.PID.COUNT.
constexpr const char* kPart = ".tmp.";

// The folder of a file, and what the names of its parts begin with. The end of a name that would
// leave no room for the rest is replaced by its hash, for file systems have names of 255 bytes.
std::string part_begin(const std::string& path) {
  constexpr size_t longest = 200, kept = 160;
  const size_t slash = path.rfind('/');
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  std::string name = path.substr(begin);
  if (name.size() > longest) {
    size_t end = kept;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
    name = fmt::format("{}~{:016x}", name.substr(0, end), hash_64(name));
  }
  return path.substr(0, begin) + name + kPart;
}

bool is_part(std::string_view name, const std::string& begin) {
  if (!name.starts_with(begin)) return false;
  const std::string_view numbers = name.substr(begin.size());
  const size_t point = numbers.find('.');
  return point != 0 && point != numbers.npos && point + 1 < numbers.size() &&
         numbers.find_first_not_of("0123456789.") == numbers.npos &&
         numbers.find('.', point + 1) == numbers.npos;
}

// Removes what processes that were killed have left of the file. Whoever writes holds a lock on its
// part, which ends with the process however it ends, and which holds between machines and
// containers, whose numbers of processes say nothing to each other. Where the file system has no
// locks, parts stay.
void remove_stale_parts(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path whole(path);
  const std::string begin = fs::path(part_begin(path)).filename().string();
  const fs::path folder = whole.has_parent_path() ? whole.parent_path() : fs::path(".");
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (!is_part(entry->path().filename().string(), begin)) continue;
    const int part = ::open(entry->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (part < 0) continue;
    struct stat status{};
    if (::fstat(part, &status) == 0 && S_ISREG(status.st_mode) &&
        ::flock(part, LOCK_EX | LOCK_NB) == 0)
      ::unlink(entry->path().c_str());
    ::close(part);
  }
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  // A link stays, and what it names is written: /dev/stdout is one.
  std::error_code none, dangling;
  if (std::filesystem::is_symlink(path, none)) {
    path_ = std::filesystem::weakly_canonical(path, dangling).string();
    if (dangling || path_.empty())
      user_error("file", "cannot write {}: it is a link that leads nowhere. Name another file.",
                 path);
  }
  // Renaming over a device would replace it.
  struct stat existing{};
  if (::stat(path_.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode))
    user_error("file", "cannot write {}: it is {}, a regular file is needed.", path,
               S_ISDIR(existing.st_mode) ? "a folder" : "a device, pipe or socket");
  remove_stale_parts(path_);
  static std::atomic<unsigned> counter{0};
  for (;;) {
    temporary_ = fmt::format("{}{}.{}", part_begin(path_), ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    // Of a process with the same number on another machine or in another container.
    if (descriptor_ < 0 && errno == EEXIST) continue;
    if (descriptor_ < 0) file_error("write", path_, errno);
    while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
    }
    // Another process may have taken it for stale before it was locked.
    struct stat made{};
    if (::fstat(descriptor_, &made) != 0 || made.st_nlink > 0) return;
    ::close(descriptor_);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

namespace {

void write_all(int descriptor, const char* data, size_t size, const std::string& path) {
  while (size > 0) {
    ssize_t written = ::write(descriptor, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) file_error("write", path, errno);
    data += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

void AtomicFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
}

void AtomicFile::write(std::string_view text) {
  WEIR_CHECK(descriptor_ >= 0, "{} is already committed", path_);
  if (buffer_.size() + text.size() > kBufferBytes) flush();
  if (text.size() > kBufferBytes)
    write_all(descriptor_, text.data(), text.size(), path_);
  else
    buffer_ += text;
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write_at(size_t offset, std::span<const std::byte> bytes) {
  WEIR_CHECK(descriptor_ >= 0, "{} is already committed", path_);
  flush();
  const std::byte* data = bytes.data();
  size_t size = bytes.size();
  while (size > 0) {
    ssize_t written = ::pwrite(descriptor_, data, size, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) file_error("write", path_, errno);
    data += written;
    offset += static_cast<size_t>(written);
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  WEIR_CHECK(descriptor_ >= 0, "{} is already committed", path_);
  flush();
  if (::fsync(descriptor_) != 0) file_error("write", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) file_error("write", path_, errno);
  ::close(std::exchange(descriptor_, -1));
  // The rename itself lasts only once the folder is on the disk. Some file systems cannot sync a
  // folder; the file is complete there all the same.
  std::string folder = std::filesystem::path(path_).parent_path().string();
  int handle = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle >= 0) {
    ::fsync(handle);
    ::close(handle);
  }
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace weir
