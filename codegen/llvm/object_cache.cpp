#include "codegen/llvm/object_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <llvm/Config/llvm-config.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "support/cache_folder.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view magic = "weir object 1\n";
constexpr uintmax_t most_bytes = uintmax_t{1} << 30;  // of all objects; the least recently used go

std::string hex128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

/// Why the folder may not be used, "" when it may.
std::string problem_with(const std::string& folder) {
  std::error_code error;
  fs::create_directories(fs::path(folder).parent_path(), error);
  if (error)
    return fmt::format("cannot make {}: {}", fs::path(folder).parent_path().string(),
                       error.message());
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return std::strerror(errno);
  struct stat status;
  if (lstat(folder.c_str(), &status) != 0) return std::strerror(errno);
  if (!S_ISDIR(status.st_mode)) return "it is not a directory";
  if (status.st_uid != geteuid()) return "it belongs to another user";
  if ((status.st_mode & 0777) != 0700)
    return fmt::format("its mode is {:04o}, needed is 0700", status.st_mode & 07777);
  return "";
}

// Whether a file is an object of the cache, by its name, and by its first bytes: others in the
// folder may be a user's.
bool has_object_name(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.size() == 34 && name.ends_with(".o") &&
         name.find_first_not_of("0123456789abcdef") == 32;
}
// A pipe of that name would be waited for.
bool is_regular(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored);
}
bool has_object_content(const fs::path& file) {
  if (!is_regular(file)) return false;
  std::string start(magic.size(), '\0');
  std::ifstream stream(file, std::ios::binary);
  return stream.read(start.data(), static_cast<std::streamsize>(start.size())) && start == magic;
}

/// 0, or the system's reason why not all of the text could be written.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

void drop_oldest(const std::string& folder) {
  struct File {
    fs::path path;
    fs::file_time_type used;
    uintmax_t bytes;
  };
  std::vector<File> files;
  uintmax_t total = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (!has_object_name(entry.path())) continue;
    const uintmax_t bytes = entry.file_size(error);
    if (error) continue;
    files.push_back({entry.path(), entry.last_write_time(error), bytes});
    total += bytes;
  }
  if (total <= most_bytes) return;
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.used < b.used; });
  for (const File& file : files) {
    if (total <= most_bytes / 2) break;
    if (has_object_content(file.path)) fs::remove(file.path, error);
    total -= file.bytes;
  }
}

}  // namespace

std::string default_object_cache() { return cache_subfolder("objects"); }

ObjectCache::ObjectCache(std::string folder, const Target& target)
    // Caches and cores too: tiles are chosen by them.
    : context_(fmt::format("{} {} {} {} {} {} {}\n{}\n{}\n", target.isa(), target.vector_bytes,
                           target.vector_registers, target.l1_bytes, target.l2_bytes,
                           target.l3_bytes, target.cores, LLVM_VERSION_STRING,
                           codegen_build_id())) {
  if (folder.empty()) return;
  const std::string problem = problem_with(folder);
  if (!problem.empty()) {
    log_once(LogLevel::warning,
             fmt::format("object cache {} is not used: {}. {}", folder, problem, cache_advice()));
    return;
  }
  folder_ = std::move(folder);
  drop_oldest(folder_);
}

std::string ObjectCache::full_key(std::string_view key) const {
  return context_ + std::string(key);
}

std::string ObjectCache::path(std::string_view full_key) const {
  return folder_ + "/" + hex128(full_key) + ".o";
}

std::string ObjectCache::load(std::string_view key) const {
  if (!used() || key.empty()) return "";
  const std::string full = full_key(key), file = path(full);
  if (!is_regular(file)) return "";
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return "";
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  const std::string text = std::move(bytes).str();
  // Layout: magic, 32 hex digits over the rest, length of the key, newline, key, object.
  constexpr size_t header = magic.size() + 32;
  if (text.size() < header || text.compare(0, magic.size(), magic) != 0) return "";
  const std::string_view rest = std::string_view(text).substr(header);
  if (hex128(rest) != std::string_view(text).substr(magic.size(), 32)) {
    log_warning("object cache: {} is damaged and is compiled anew", file);
    return "";
  }
  const std::string expected = fmt::format("{}\n{}", full.size(), full);
  if (rest.substr(0, expected.size()) != expected) return "";
  std::error_code error;
  fs::last_write_time(file, fs::file_time_type::clock::now(), error);
  return std::string(rest.substr(expected.size()));
}

void ObjectCache::store(std::string_view key, std::string_view object) const {
  if (!used() || key.empty()) return;
  static std::atomic<unsigned> counter{0};
  const std::string full = full_key(key), file = path(full);
  const std::string rest = fmt::format("{}\n{}{}", full.size(), full, object);
  const std::string temporary = fmt::format("{}.{}.{}", file, getpid(), counter++);
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const std::string text = std::string(magic) + hex128(rest) + rest;
  int failed = fd >= 0 ? write_all(fd, text) : errno;
  if (fd >= 0 && close(fd) != 0 && failed == 0) failed = errno;
  if (failed == 0 && rename(temporary.c_str(), file.c_str()) != 0) failed = errno;
  if (failed == 0) return;
  if (fd >= 0) unlink(temporary.c_str());
  log_once(LogLevel::warning,
           fmt::format("object cache: cannot write to {}: {}. What does not fit there is compiled "
                       "again at the next start. {}",
                       folder_, std::strerror(failed), cache_advice()));
}

}  // namespace weir
