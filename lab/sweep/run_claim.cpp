#include "lab/sweep/run_claim.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <sstream>
#include <utility>
#include <vector>

#include "io/hash.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFree = "free-";  // and the machine that had the run last
constexpr const char* kHeld = "held";
constexpr int64_t kBeats = 6;  // in the time after which an owner counts as gone

std::string first_line_of(const char* file) {
  std::string line;
  std::getline(std::ifstream(file) >> std::ws, line);
  return line;
}

// Of another character than these the parts of a name could not be told apart.
std::string host_name() {
  std::array<char, 65> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  std::string host = name.data();
  std::replace_if(
      host.begin(), host.end(),
      [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '-' && c != '_'; },
      '_');
  return host.empty() ? "unknown" : host;
}

std::string random_number() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

// Processes of one machine can be asked whether they live. Containers of one host may have process
// numbers of their own. Of a system that does not say which boot this is, every process counts as a
// machine of its own.
const std::string& this_machine() {
  static const std::string machine = [] {
    const std::string boot = first_line_of("/proc/sys/kernel/random/boot_id");
    std::array<char, 64> space = {};
    const ssize_t length = readlink("/proc/self/ns/pid", space.data(), space.size() - 1);
    if (boot.empty() || length <= 0) return random_number();
    return fmt::format("{:016x}", hash_64(boot + " " + host_name() + " " +
                                          std::string(space.data(), static_cast<size_t>(length))));
  }();
  return machine;
}

constexpr int64_t kUnknownStart = 0, kEnded = -1;

// When a process started, in the kernel's ticks. One that has ended and that nobody has waited for
// is gone.
int64_t start_of(int64_t process) {
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string text;
  if (!std::getline(file, text)) return kUnknownStart;
  // The name of the program, in brackets, may hold anything.
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string word, state;
  rest >> state;
  if (state == "Z" || state == "X") return kEnded;
  constexpr int words_between = 18;  // proc(5): from state, the third, to starttime, the 22nd
  for (int i = 0; i < words_between; ++i) rest >> word;
  int64_t ticks = kUnknownStart;
  return rest >> ticks ? ticks : kUnknownStart;
}

// Whether a process of this machine has ended, by all that can be known: those of other users may
// be hidden, but not from kill().
bool has_ended(const ClaimOwner& owner) {
  if (kill(static_cast<pid_t>(owner.process), 0) != 0 && errno == ESRCH) return true;
  const int64_t start = start_of(owner.process);
  return start != kUnknownStart && owner.ticks != kUnknownStart && start != owner.ticks;
}

double seconds_of(const struct timespec& time) {
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A clock that goes on while the machine sleeps, and that nobody sets.
double precise_boot_seconds() {
  struct timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return seconds_of(now);
}
int64_t boot_seconds() { return static_cast<int64_t>(precise_boot_seconds()); }

// Sets the time of a file to now, by the clock of its file system.
bool touch(const fs::path& file) { return utimensat(AT_FDCWD, file.c_str(), nullptr, 0) == 0; }

// When a file was touched last, by that clock.
std::optional<double> touched(const fs::path& file) {
  struct stat status = {};
  if (stat(file.c_str(), &status) != 0) return std::nullopt;
  return seconds_of(status.st_mtim);
}

// The names in a folder, as they are now: opening it asks the server of a shared file system. None
// if there is no such folder.
std::optional<std::vector<std::string>> names_in(const fs::path& folder) {
  DIR* handle = opendir(folder.c_str());
  if (!handle) return std::nullopt;
  std::vector<std::string> names;
  while (const dirent* entry = readdir(handle)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(handle);
  return names;
}

bool is_free(const std::string& state) { return state.starts_with(kFree); }

// The one file in the folder of a run: "free-MACHINE", or an owner. None in an empty folder, or
// where the file was renamed while the folder was read.
std::optional<std::string> state_in(const fs::path& folder) {
  const auto names = names_in(folder);
  if (!names) return std::nullopt;
  std::optional<std::string> found;
  for (const std::string& name : *names) {
    if (!is_free(name) && !ClaimOwner::of_file_name(name)) continue;
    if (found) return std::nullopt;  // before and after a rename
    found = name;
  }
  return found;
}

bool make_file(const fs::path& file) {
  const int descriptor = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return false;
  close(descriptor);
  return true;
}

[[noreturn]] void cannot(const char* what, const fs::path& path) {
  user_error("sweep", "cannot {} {}: {}.", what, path.string(), std::strerror(errno));
}

}  // namespace

std::string ClaimOwner::file_name() const {
  return fmt::format("{}-{}-{}-{}-{}-{}-{}-{}", kHeld, since, stale_after, process, ticks, machine,
                     number, host);
}

std::optional<ClaimOwner> ClaimOwner::of_file_name(const std::string& name) {
  constexpr size_t parts_before_host = 7;
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t i = 0; i < parts_before_host; ++i) {
    const size_t end = name.find('-', at);
    if (end == std::string::npos) return std::nullopt;
    parts.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  ClaimOwner owner;
  const auto number = [](const std::string& text, int64_t& value) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end;
  };
  if (parts[0] != kHeld || !number(parts[1], owner.since) || !number(parts[2], owner.stale_after) ||
      !number(parts[3], owner.process) || !number(parts[4], owner.ticks))
    return std::nullopt;
  owner.machine = parts[5];
  owner.number = parts[6];
  owner.host = name.substr(at);
  return owner;
}

RunClaim::RunClaim(fs::path file, const ClaimOwner& owner)
    : file_(std::move(file)),
      free_(kFree + owner.machine),
      stale_after_(owner.stale_after),
      last_beat_(boot_seconds()) {
  thread_ = std::thread([this] { beat_until_stopped(); });
}

RunClaim::~RunClaim() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
  }
  wake_.notify_all();
  thread_.join();
  std::error_code taken_over;
  fs::rename(file_, file_.parent_path() / free_, taken_over);
}

bool RunClaim::beat() {
  if (touch(file_)) {
    last_beat_ = boot_seconds();
    return true;
  }
  // Anything else than a name that is gone may pass: a server that does not answer.
  if (errno == ENOENT) lost_ = true;
  return false;
}

void RunClaim::beat_until_stopped() {
  std::unique_lock lock(mutex_);
  const auto pause = std::chrono::milliseconds(std::max<int64_t>(1, stale_after_ * 1000 / kBeats));
  while (!wake_.wait_for(lock, pause, [&] { return stops_; }))
    if (!lost_) beat();
}

bool RunClaim::is_held() {
  if (lost_) return false;
  // Without a heartbeat in time others may take it over, even in this moment: a new one first.
  if (boot_seconds() - last_beat_ >= stale_after_) return beat();
  if (touched(file_) || errno != ENOENT) return true;
  lost_ = true;
  return false;
}

Claims::Claims(fs::path folder, int64_t stale_after)
    : folder_(std::move(folder)), stale_after_(stale_after) {}

ClaimOwner Claims::new_owner() const {
  const int64_t process = getpid();
  return {host_name(),    process,           std::time(nullptr), stale_after_,
          this_machine(), start_of(process), random_number()};
}

void Claims::open() {
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed)
    user_error("sweep", "cannot make the folder {}: {}.", folder_.string(), failed.message());
  for (const std::string& name : names_in(folder_).value_or(std::vector<std::string>())) {
    const auto owner = name.starts_with('.') ? ClaimOwner::of_file_name(name.substr(1))
                                             : std::optional<ClaimOwner>();
    if (owner && !is_alive(*owner, folder_ / name, nullptr)) fs::remove_all(folder_ / name, failed);
  }
}

double Claims::file_system_now() const {
  constexpr double asked_every = 10;  // seconds; between them both clocks go alike
  const double boot = precise_boot_seconds();
  if (!ahead_ || boot - asked_at_ > asked_every) {
    const fs::path clock = folder_ / ("." + new_owner().file_name());
    if (!make_file(clock)) return 0;  // nobody counts as gone by a clock that cannot be read
    const auto now = touched(clock);
    unlink(clock.c_str());
    if (!now) return 0;
    ahead_ = *now - boot;
    asked_at_ = boot;
  }
  return boot + *ahead_;
}

bool Claims::is_alive(const ClaimOwner& owner, const fs::path& file, double* silent) const {
  const bool ended = owner.machine == this_machine() && has_ended(owner);
  if (ended && !silent) return false;
  // A process that is there may still have been stopped for good.
  const auto last = touched(file);
  const double seconds = last ? std::max(0.0, file_system_now() - *last) : 0;
  if (silent) *silent = seconds;
  return !ended && seconds < static_cast<double>(owner.stale_after);
}

// The folder of a run that nobody has claimed before, with the claim in it. Whether that worked is
// seen by the name, whatever a server answers to a request that was sent twice.
bool Claims::make(const std::string& run, const ClaimOwner& owner) {
  const fs::path made = folder_ / ("." + owner.file_name()), place = folder_ / run;
  if (mkdir(made.c_str(), 0777) != 0) cannot("make the folder", made);
  if (!make_file(made / owner.file_name())) cannot("write", made / owner.file_name());
  const bool renamed = rename(made.c_str(), place.c_str()) == 0;
  const int reason = errno;
  const std::optional<std::string> state = state_in(place);
  if (renamed || state == owner.file_name()) return true;
  std::error_code ignored;
  fs::remove_all(made, ignored);
  if (!state && reason != ENOTEMPTY && reason != EEXIST && reason != ENOENT) {
    errno = reason;
    cannot("make the folder", place);
  }
  return false;
}

std::unique_ptr<RunClaim> Claims::take(const std::string& run) {
  constexpr int tries = 50;  // while others rename the file
  const fs::path place = folder_ / run;
  for (int i = 0; i < tries; ++i) {
    const ClaimOwner owner = new_owner();
    const fs::path mine = place / owner.file_name();
    const std::optional<std::string> state = state_in(place);
    std::optional<ClaimOwner> before;
    if (!state) {
      const auto names = names_in(place);
      if (names && !names->empty()) continue;  // in the middle of a rename
      if (!make(run, owner)) continue;
    } else {
      if (!is_free(*state)) {
        before = ClaimOwner::of_file_name(*state);
        if (before && is_alive(*before, place / *state, nullptr)) return nullptr;
      }
      // Touched first: a claim that is new has to look alive at once.
      if (!touch(place / *state) && errno != ENOENT) cannot("write", place / *state);
      if (rename((place / *state).c_str(), mine.c_str()) != 0) {
        if (errno != ENOENT) cannot("write", mine);
        if (state_in(place) != owner.file_name()) continue;
      }
    }
    auto claim = std::make_unique<RunClaim>(mine, owner);
    claim->taken_from = before;
    claim->from_elsewhere =
        state &&
        (before ? before->machine : state->substr(std::string_view(kFree).size())) != owner.machine;
    return claim;
  }
  return nullptr;
}

ClaimView Claims::look(const std::string& run) const {
  const std::optional<std::string> state = state_in(folder_ / run);
  ClaimView view;
  if (!state || is_free(*state)) return view;
  view.owner = ClaimOwner::of_file_name(*state);
  if (view.owner) view.alive = is_alive(*view.owner, folder_ / run / *state, &view.silent_seconds);
  return view;
}

}  // namespace weir
