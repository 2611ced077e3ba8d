#include "testing/browser.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace weir::test {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int kTimeout = 120'000;  // ms, until an answer comes; machines may be busy

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("browser: " + what); }

// The child: reads commands from descriptor 3 and answers on 4, as --remote-debugging-pipe has it.
[[noreturn]] void become_browser(int in, int out, const std::string& program,
                                 const std::string& profile) {
  // Moved up first, since they may be 3 and 4 themselves.
  const int high_in = fcntl(in, F_DUPFD, 10), high_out = fcntl(out, F_DUPFD, 10);
  dup2(high_in, 3);
  dup2(high_out, 4);
  const int nothing = ::open("/dev/null", O_RDWR);
  for (int descriptor : {0, 1, 2}) dup2(nothing, descriptor);
  for (int descriptor = 5; descriptor < 256; ++descriptor) close(descriptor);
  const std::string folder = "--user-data-dir=" + profile;
  execlp(program.c_str(), program.c_str(), "--headless", "--no-sandbox", "--disable-gpu",
         "--no-first-run", "--remote-debugging-pipe", folder.c_str(), "about:blank", nullptr);
  _exit(127);
}

std::string from_base64(const std::string& text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) break;  // padding
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  return bytes;
}

}  // namespace

std::string Browser::program() {
  if (const char* given = std::getenv("WEIR_BROWSER")) return given;
  std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path file = fs::path(folder) / "chromium";
    if (access(file.c_str(), X_OK) == 0) return file.string();
  }
  return "";
}

Browser::Browser() {
  std::string pattern = (fs::temp_directory_path() / "weir-browser-XXXXXX").string();
  if (!mkdtemp(pattern.data())) fail("no temporary folder");
  profile_ = pattern;
  int commands[2], answers[2];
  if (pipe2(commands, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) fail("no pipe");
  process_ = fork();
  if (process_ < 0) fail("no process");
  if (process_ == 0) become_browser(commands[0], answers[1], program(), profile_.string());
  close(commands[0]);
  close(answers[1]);
  to_ = commands[1];
  from_ = answers[0];
  signal(SIGPIPE, SIG_IGN);
  const json target = call("Target.createTarget", {{"url", "about:blank"}});
  session_ = call("Target.attachToTarget", {{"targetId", target["targetId"]}, {"flatten", true}})
                 .at("sessionId");
  call("Page.enable", json::object());
  call("Runtime.enable", json::object());
}

Browser::~Browser() {
  close(to_);  // at which it ends
  close(from_);
  for (int i = 0; i < 100 && waitpid(process_, nullptr, WNOHANG) == 0; ++i) usleep(50'000);
  if (kill(process_, 0) == 0 && waitpid(process_, nullptr, WNOHANG) == 0) {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(profile_, ignored);
}

json Browser::receive() {
  for (;;) {
    if (const size_t end = received_.find('\0'); end != std::string::npos) {
      json message = json::parse(received_.substr(0, end));
      received_.erase(0, end + 1);
      return message;
    }
    pollfd ready{from_, POLLIN, 0};
    if (poll(&ready, 1, kTimeout) <= 0) fail("no answer");
    char buffer[65536];
    const ssize_t size = read(from_, buffer, sizeof buffer);
    if (size <= 0) fail("it has ended");
    received_.append(buffer, static_cast<size_t>(size));
  }
}

json Browser::call(const std::string& method, json parameters) {
  json message = {{"id", ++calls_}, {"method", method}, {"params", std::move(parameters)}};
  if (!session_.empty()) message["sessionId"] = session_;
  const std::string text = message.dump() + '\0';
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t size = write(to_, text.data() + sent, text.size() - sent);
    if (size <= 0) fail(fmt::format("cannot write: {}", std::strerror(errno)));
    sent += static_cast<size_t>(size);
  }
  for (;;) {
    json answer = receive();
    if (answer.value("method", "") == "Runtime.exceptionThrown")
      uncaught_.push_back(answer["params"]["exceptionDetails"].dump());
    if (answer.value("id", int64_t{0}) != calls_) continue;
    if (answer.contains("error")) fail(method + ": " + answer["error"].dump());
    return answer["result"];
  }
}

void Browser::resize(int width, int height, bool mobile) {
  call("Emulation.setDeviceMetricsOverride", {{"width", width},
                                              {"height", height},
                                              {"deviceScaleFactor", mobile ? 2 : 1},
                                              {"mobile", mobile}});
}

void Browser::set_media(const std::string& media) {
  call("Emulation.setEmulatedMedia", {{"media", media}});
}

void Browser::open(const fs::path& file, const std::string& ready) {
  call("Page.navigate", {{"url", "file://" + fs::absolute(file).string()}});
  evaluate(fmt::format(
      "new Promise((done) => {{ const look = () => document.readyState === 'complete' && ({}) "
      "? requestAnimationFrame(done) : setTimeout(look, 50); look(); }})",
      ready));
}

json Browser::evaluate(const std::string& expression) {
  const json result =
      call("Runtime.evaluate",
           {{"expression", expression}, {"returnByValue", true}, {"awaitPromise", true}});
  if (result.contains("exceptionDetails")) fail(result["exceptionDetails"].dump());
  return result["result"].value("value", json());
}

void Browser::write_base64(const fs::path& file, const std::string& text, std::string* bytes) {
  *bytes = from_base64(text);
  fs::create_directories(file.parent_path());
  std::ofstream stream(file, std::ios::binary);
  stream << *bytes;
  if (!stream) fail("cannot write " + file.string());
}

void Browser::write_screenshot(const fs::path& file) {
  std::string bytes;
  const json answer =
      call("Page.captureScreenshot", {{"format", "png"}, {"captureBeyondViewport", true}});
  write_base64(file, answer.at("data"), &bytes);
}

std::string Browser::write_pdf(const fs::path& file) {
  std::string bytes;
  write_base64(file, call("Page.printToPDF", {{"printBackground", false}}).at("data"), &bytes);
  return bytes;
}

}  // namespace weir::test
