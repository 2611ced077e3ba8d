#include "tools/standard_output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "support/text.h"

namespace weir {

void prepare_standard_files() {
  // open() takes the lowest free number. For reading only, so that writing fails as it should.
  while (true) {
    const int descriptor = open("/dev/null", O_RDONLY);
    if (descriptor < 0) break;
    if (descriptor > STDERR_FILENO) {
      close(descriptor);
      break;
    }
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

namespace {

// A failed write is remembered without its reason, which one more byte asks for.
int reason_of_failure() {
  errno = 0;
  return write(STDOUT_FILENO, "\n", 1) < 0 ? errno : 0;
}

}  // namespace

int finish_standard_output(int status, const std::string& command) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good()) return status;
  const int reason = reason_of_failure();
  print_error(
      fmt::format("[output] what `{}` prints could not all be written to standard output{}.",
                  command, reason != 0 ? fmt::format(": {}", std::strerror(reason)) : ""));
  return status == 0 ? 1 : status;
}

void print_error(const std::string& message) {
  std::fprintf(stderr, "error: %s\n", printable_message(message).c_str());
}

}  // namespace weir
