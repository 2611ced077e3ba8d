#pragma once
// What the tests of ir share.
#include <string>

#include "support/error.h"

namespace weir {

template <typename Error, typename F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace weir
