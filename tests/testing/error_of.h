#pragma once
// What a user is told.
#include <string>

#include "support/error.h"

namespace weir::test {

/// The message of the UserError that the call throws, "no error" if it throws none.
template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace weir::test
