#include "ir/hook_name.h"

#include <charconv>

namespace weir {

std::optional<int64_t> block_of(std::string_view name) {
  constexpr std::string_view blocks = "blocks.";
  if (!name.starts_with(blocks)) return std::nullopt;
  int64_t block = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + blocks.size(), end, block);
  if (error != std::errc() || block < 0 || (stop != end && *stop != '.')) return std::nullopt;
  return block;
}

std::optional<std::string> value_hook(std::string_view name, std::string_view what) {
  constexpr std::string_view hook = "hook_v";
  const size_t dot = name.rfind('.');
  const size_t start = dot == std::string_view::npos ? 0 : dot + 1;
  if (!name.substr(start).starts_with(hook)) return std::nullopt;
  return std::string(name.substr(0, start)) + std::string(hook) + "_" + std::string(what);
}

}  // namespace weir
