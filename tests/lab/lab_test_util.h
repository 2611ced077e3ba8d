#pragma once
// A run small enough for tests.
#include <cstdlib>
#include <string>
#include <vector>

#include "lab/train/config.h"
#include "testing/error_of.h"
#include "testing/temporary_folder.h"

namespace weir::test {

/// Keeps compiled kernels in the build's folder while it lives.
class TestCache {
 public:
  TestCache() { setenv("WEIR_CACHE", WEIR_TEST_CACHE, 1); }
  ~TestCache() { unsetenv("WEIR_CACHE"); }
};

/// Two layers, grouped queries, T 12: every part of a real run.
inline RunConfig tiny_run(const std::string& out, const std::vector<std::string>& words = {}) {
  const std::vector<std::string> sizes = {
      "out=" + out,       "steps=6",           "batch=4",          "length=12",
      "threads=2",        "model.layers=2",    "model.d_model=16", "model.heads=2",
      "model.kv_heads=1", "model.d_head=8",    "model.d_ff=24",    "data.symbols=9",
      "data.triggers=2",  "optimizer.warmup=2"};
  return parse_config("", words, parse_config("", sizes));
}

}  // namespace weir::test
