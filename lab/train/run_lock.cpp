#include "lab/train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lab/train/run_folder.h"
#include "support/clock.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

// Whether flock() reaches every process that can see the file: a file system of this machine
// (statfs(2): ext, XFS, Btrfs, tmpfs, overlay, ZFS, F2FS), or NFS, whose clients ask the server.
bool locks_are_for_all(int descriptor) {
  struct statfs status{};
  if (fstatfs(descriptor, &status) != 0) return false;
  switch (static_cast<unsigned long>(status.f_type)) {
    case 0xEF53:
    case 0x58465342:
    case 0x9123683E:
    case 0x01021994:
    case 0x794C7630:
    case 0x2FC12FC1:
    case 0xF2F52010:
    case 0x6969:
      return true;
    default:
      return false;
  }
}

struct Holder {
  std::string who;   // "process 12 on host a, since T (weir train ...)"
  std::string host;  // "" if nothing is said
};

Holder holder_of(int descriptor) {
  std::string text(4096, '\0');
  const ssize_t got = pread(descriptor, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return {"another process", ""};
  const auto said = [&](const char* key) {
    if (!json.contains(key)) return std::string("?");
    return json[key].is_string() ? json[key].get<std::string>() : json[key].dump();
  };
  return {fmt::format("process {} on host {}, since {} ({})", said("process"), said("host"),
                      said("started"), said("command")),
          said("host")};
}

bool is_file_of(int descriptor, const fs::path& file) {
  struct stat opened{}, named{};
  return fstat(descriptor, &opened) == 0 && stat(file.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

// An open file that is locked, -1 if another process has it.
int locked_file(const fs::path& file, std::string& holder) {
  while (true) {
    const int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
      user_error("train", "cannot write {}: {}.", file.string(), std::strerror(errno));
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      holder = holder_of(descriptor).who;
      close(descriptor);
      if (reason == EWOULDBLOCK) return -1;
      user_error("train", "cannot lock {}: {}. Choose a folder on another file system.",
                 file.string(), std::strerror(reason));
    }
    // Its last holder may have removed it between open() and flock().
    if (is_file_of(descriptor, file)) return descriptor;
    close(descriptor);
  }
}

}  // namespace

RunLock::RunLock(const fs::path& folder, const std::string& command) : file_(folder / kName) {
  std::string holder;
  const int descriptor = locked_file(file_, holder);
  if (descriptor < 0)
    throw RunInUse(
        fmt::format("[train] {} is in use by {}. Wait until that has ended, or choose another "
                    "folder with out=FOLDER.",
                    folder.string(), holder));
  const Holder before = holder_of(descriptor);
  if (!before.host.empty() && before.host != host_name() && !locks_are_for_all(descriptor)) {
    close(descriptor);
    throw RunInUse(fmt::format(
        "[train] {} seems to be in use by {}, which cannot be seen from here. If that process has "
        "ended, remove {}.",
        folder.string(), before.who, file_.string()));
  }
  descriptor_ = descriptor;
  const std::string text = Json{{"process", static_cast<int64_t>(getpid())},
                                {"host", host_name()},
                                {"started", utc_now()},
                                {"command", command}}
                               .dump(-1, ' ', false, Json::error_handler_t::replace) +
                           "\n";
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int reason = errno;
    unlink(file_.c_str());
    close(descriptor);
    user_error("train", "cannot write {}: {}.", file_.string(), std::strerror(reason));
  }
}

void RunLock::forget(const fs::path& folder, const std::string& host) {
  const fs::path file = folder / kName;
  const int descriptor = open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return;
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0 && is_file_of(descriptor, file) &&
      holder_of(descriptor).host == host)
    unlink(file.c_str());
  close(descriptor);
}

RunLock::~RunLock() {
  if (descriptor_ < 0) return;
  unlink(file_.c_str());  // while it is locked: whoever opened it meanwhile sees that it is gone
  close(descriptor_);
}

}  // namespace weir
