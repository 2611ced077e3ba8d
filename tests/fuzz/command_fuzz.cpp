#include "fuzz/command_fuzz.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

namespace weir::test {

namespace fs = std::filesystem;

namespace {

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

// What only a programmer understands; of the sanitizers, too.
const std::vector<std::string>& bare_words() {
  static const std::vector<std::string> words = {
      "exception",        "what():",          "std::",       "filesystem error",
      "json.exception",   "bad_alloc",        "basic_",      "internal error",
      "bug in Weir",      "terminate called", "TBB Warning", "TBB warning",
      "AddressSanitizer", "runtime error:",   "LLVM ERROR",  "Stack dump",
      "Assertion",        "vector::",         "stoi",        "stod"};
  return words;
}

}  // namespace

CommandFuzz::CommandFuzz(std::string command, fs::path folder, double seconds_limit)
    : command_(std::move(command)),
      folder_(std::move(folder)),
      fixture_(folder_ / "fixture"),
      work_(folder_ / "work"),
      limit_(seconds_limit) {
  setenv("WEIR_CACHE", (folder_ / "cache").c_str(), 1);
  setenv("WEIR_THREADS", "1", 1);
  make_fixture();
}

void CommandFuzz::shell(const std::string& commands) const {
  const std::string line = fmt::format("cd {} && ({}) >/dev/null 2>{}/shell.err", fixture_.string(),
                                       commands, folder_.string());
  if (std::system(line.c_str()) != 0)
    throw std::runtime_error("cannot make the inputs: " + text_of(folder_ / "shell.err"));
}

void CommandFuzz::make_fixture() const {
  fs::remove_all(folder_);
  fs::create_directories(fixture_);
  std::string text;
  for (int i = 0; i < 60; ++i) text += fmt::format("The stream flows {} days to the sea.\n", i * i);
  for (const char* name : {"a.txt", "a,b.txt"}) write(fixture_ / name, text);
  write(fixture_ / "a.jsonl", "{\"text\": \"The stream\"}\n{\"text\": \"and the sea\"}\n");
  write(fixture_ / "bad.jsonl", "{\"text\": \"The stream\"}\n{\"text\": 3}\n{");
  write(fixture_ / "empty.txt", "");
  write(fixture_ / "binary", std::string("\x7f\x45LF\0\1\2\xff\xfe", 9) + std::string(100, '\0'));
  write(fixture_ / "bad.weir", "graph g (x: f32[2]) stage=built\n  A = expp x\n  return A\n");
  write(fixture_ / "big.weir", "graph m (x: f32[100000000000])\n  A = exp x\n  return y = A\n");
  const std::string data = WEIR_TEST_DATA;
  for (const char* model : {"llama", "gpt2", "qwen3"})
    fs::copy(fs::path(data) / "models" / model, fixture_ / model, fs::copy_options::recursive);
  fs::copy(fixture_ / "qwen3" / "qwen3.gguf", fixture_ / "qwen3.gguf");
  fs::copy(fs::path(data) / "tokenizer" / "gpt2.json", fixture_ / "gpt2.json");
  fs::copy(fixture_ / "llama", fixture_ / "broken", fs::copy_options::recursive);
  write(fixture_ / "broken" / "config.json", "{\"architectures\": [");
  const std::string tiny =
      "steps=2 batch=2 length=8 model.layers=1 model.d_model=16 model.heads=2 model.d_ff=24 "
      "optimizer.warmup=1";
  shell(fmt::format(
      "{0} train out=run {1} data.kind=text data.files=a.txt && cp -r "
      "run/run/checkpoints/step000002 model && {0} dump --layers 1 --set batch=2 --set length=8 "
      "--set "
      "model.d_model=16 > g.weir && {0} dump g.weir --stage planned > planned.weir && {0} tokens "
      "--tokenizer bytes --text a.txt --length 10 --batch 2 --out ids.npy && {0} tokens "
      "--tokenizer "
      "bytes --text a.txt --out flat.npy",
      command_, tiny));
}

void CommandFuzz::prepare(const CommandLine& line) const {
  if (!fs::exists(work_)) fs::create_directories(work_);
  fs::remove_all(work_ / "config.json");  // a command may have made a folder of that name
  if (!line.config.empty()) write(work_ / "config.json", line.config);
}

// Names of everything, and times of files, in the folder that commands run in.
std::string CommandFuzz::listing() const {
  std::vector<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(work_))
    // Whether a folder can be written to is tried with a file that goes again, which is no change.
    lines.push_back(
        fmt::format("{} {}", entry.path().string(),
                    entry.is_directory() ? 0 : entry.last_write_time().time_since_epoch().count()));
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, "\n"));
}

CommandFuzz::Outcome CommandFuzz::execute(const CommandLine& line) const {
  const std::string out = (folder_ / "out").string(), err = (folder_ / "err").string();
  std::vector<std::string> words = line.words;
  words.insert(words.begin(), command_);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto onto = [](const char* path, int flags, int descriptor) {
      ::dup2(::open(path, flags, 0600), descriptor);
    };
    onto("/dev/null", O_RDONLY, 0);
    onto(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 1);
    onto(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 2);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (const auto& [name, value] : line.variables) ::setenv(name.c_str(), value.c_str(), 1);
    if (::chdir(work_.c_str()) == 0) ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  Outcome outcome;
  int status = 0;
  const auto start = std::chrono::steady_clock::now();
  while (::waitpid(child, &status, WNOHANG) == 0) {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (taken.count() > limit_ && !outcome.late) {
      outcome.late = true;
      ::kill(child, SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.out = text_of(out);
  outcome.err = text_of(err);
  return outcome;
}

std::string CommandFuzz::problem(const CommandLine& line, const Outcome& outcome,
                                 bool changed) const {
  if (outcome.late) return fmt::format("it took more than {} s", limit_);
  if (outcome.signal != 0) return fmt::format("signal {}", outcome.signal);
  if (outcome.status > 2) return fmt::format("exit status {}", outcome.status);
  // A dump holds names of its own; what is said goes to stderr.
  for (const std::string& word : bare_words()) {
    if (outcome.err.find(word) == std::string::npos) continue;
    const bool given = std::any_of(line.words.begin(), line.words.end(), [&](const std::string& w) {
      return w.find(word) != std::string::npos;
    });
    if (!given) return fmt::format("the message has '{}'", word);
  }
  constexpr size_t longest = 6000;
  if (outcome.err.size() > longest) return fmt::format("{} bytes of messages", outcome.err.size());
  if (outcome.status != 0 && outcome.err.find("error: ") == std::string::npos)
    return "a failure without a message";
  if (outcome.status == 2 && !outcome.out.empty()) return "output before a usage error";
  if (outcome.status == 2 && changed) return "files changed before a usage error";
  return "";
}

FuzzResult CommandFuzz::run(uint64_t seed, uint64_t first, uint64_t count) {
  constexpr uint64_t fresh_every = 20;
  FuzzResult result;
  for (uint64_t number = first; number < first + count; ++number) {
    const CommandLine line = make_command_line(seed, number, "../fixture");
    if (number % fresh_every == 0) fs::remove_all(work_);
    prepare(line);
    const std::string before = listing();
    const Outcome outcome = execute(line);
    const bool changed = listing() != before;
    ++result.runs;
    ++result.statuses[outcome.signal != 0 ? 128 + outcome.signal : outcome.status];
    ++result.commands[line.words.empty() ? "" : line.words[0]];
    const std::string wrong = problem(line, outcome, changed);
    if (wrong.empty()) continue;
    ++result.findings;
    result.report += fmt::format("seed {} number {}: {}\n  {}\n  {}\n", seed, number, wrong,
                                 line.text(), outcome.err.substr(0, 1500));
    if (!fs::exists(fixture_ / "a.txt")) {
      result.report += "  the inputs are gone\n";
      make_fixture();
    }
  }
  return result;
}

}  // namespace weir::test
