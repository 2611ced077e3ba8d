#include "support/versions.h"

namespace weir {

// The macros come from lab/CMakeLists.txt.
std::vector<std::pair<std::string, std::string>> build_versions() {
  return {{"weir", WEIR_VERSION},
          {"revision", WEIR_REVISION},
          {"llvm", WEIR_LLVM_VERSION},
          {"compiler", WEIR_COMPILER}};
}

}  // namespace weir
