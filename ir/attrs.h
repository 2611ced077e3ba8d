#pragma once
// The attributes of a node: a small sorted map from name to value. Which names an op has, and of
// which kind, stands in ops.def.
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ir/op.h"
#include "ir/type.h"
#include "support/shared.h"

namespace weir {

using AttrValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, DType>;

/// An attribute that any planned node may have: where each result lies, as passes/plan_memory says.
/// Text of earlier versions calls it `place`, which is read as well.
inline constexpr std::string_view kOffset = "offset";

/// Copies share their entries until one is changed.
class Attrs {
 public:
  using Entry = std::pair<std::string, AttrValue>;

  Attrs() = default;
  Attrs(std::initializer_list<Entry> entries);

  void set(const std::string& name, AttrValue value);
  void erase(std::string_view name);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  const AttrValue* find(std::string_view name) const;

  /// Typed reads of an attribute that must be there (internal error otherwise).
  int64_t get_int(std::string_view name) const;
  double get_float(std::string_view name) const;
  const std::string& get_string(std::string_view name) const;
  const std::vector<int64_t>& get_ints(std::string_view name) const;
  DType get_dtype(std::string_view name) const;
  /// An absent flag is false.
  bool get_bool(std::string_view name) const;
  int64_t get_int_or(std::string_view name, int64_t otherwise) const;

  bool empty() const { return entries_.empty(); }
  const std::vector<Entry>& entries() const { return entries_; }
  /// Numbers are equal if they print the same: NaN equals itself, -0 differs from 0.
  bool operator==(const Attrs& other) const;

 private:
  SharedList<Entry> entries_;
};

/// "{eps=1e-05, causal=true}", or "" when empty.
std::string to_string(const Attrs& attrs);
std::string to_string(const AttrValue& value);

/// The text in quotes, with \\ before quotes and backslashes, and \\n for the end of a line.
std::string quoted(const std::string& text);

/// Checks names and kinds against the op's row; a user error lists everything wrong.
void check_attributes(Op op, const Attrs& attrs);

}  // namespace weir
