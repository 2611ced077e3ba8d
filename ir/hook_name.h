#pragma once
// What hook names say: "blocks.3.attn.hook_v" is the hook "hook_v" of the attention of block 3.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weir {

/// 3 of "blocks.3.attn.hook_v"; nothing of a name that belongs to no block.
std::optional<int64_t> block_of(std::string_view name);

/// The name of a further value made of attention values: "blocks.0.attn.hook_v_scaled" and
/// "gated" give "blocks.0.attn.hook_v_gated". Nothing if `name` is no hook of values, that is,
/// if its last part does not begin with "hook_v".
std::optional<std::string> value_hook(std::string_view name, std::string_view what);

}  // namespace weir
