#pragma once
// Other programs, in the virtual environment of `make peers`, that read what Weir writes.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::test {

/// $WEIR_PEERS, else the Python of build/peers, if it can import all of the modules; "" if not.
std::string peers_with(const std::vector<std::string>& modules);

/// What tests/peers/SCRIPT prints for the arguments, none of which has a quote in it. A
/// std::runtime_error if it fails, with what it said.
nlohmann::json ask_peer(const std::string& python, const std::string& script,
                        const std::vector<std::string>& arguments);

}  // namespace weir::test
