#include "lab/train/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/file.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

bool can_be_cut(const fs::path& file, std::string_view kept) {
  std::error_code error;
  return fs::is_regular_file(fs::symlink_status(file, error)) &&
         fs::hard_link_count(file, error) == 1 && fs::file_size(file, error) > 0 &&
         MappedFile(file.string()).text().starts_with(kept);
}

}  // namespace

AppendFile::AppendFile(fs::path file, std::string_view kept, bool in_place)
    : file_(std::move(file)) {
  const bool cut = in_place && can_be_cut(file_, kept);
  if (!cut) write_file(file_.string(), kept);
  descriptor_ = open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0 || (cut && ftruncate(descriptor_, static_cast<off_t>(kept.size())) != 0))
    fail();
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

void AppendFile::fail() const {
  user_error("train", "cannot write {}: {}.", file_.string(), std::strerror(errno));
}

void AppendFile::append(std::string_view part) {
  const off_t before = lseek(descriptor_, 0, SEEK_END);
  ssize_t written = -1;
  do written = write(descriptor_, part.data(), part.size());
  while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(part.size())) return;
  const int reason = written < 0 ? errno : ENOSPC;  // a part fits where the disk is full
  if (written > 0 && ftruncate(descriptor_, before) != 0)
    user_error("train", "cannot write {}: {}; its last line is cut off.", file_.string(),
               std::strerror(errno));
  errno = reason;
  fail();
}

void AppendFile::flush() {
  if (fsync(descriptor_) != 0) fail();
}

}  // namespace weir
