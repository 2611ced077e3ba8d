#pragma once
// The signals that end a run after a checkpoint.
#include <csignal>

namespace weir {

/// While it lives, the first Ctrl-C or SIGTERM is remembered; a second one ends the process. One at
/// a time.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// SIGINT or SIGTERM, 0 if none has come.
  int signal() const;

 private:
  struct sigaction interrupt_ = {}, terminate_ = {};
};

}  // namespace weir
