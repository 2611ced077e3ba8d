#include "ir/attrs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/attr_kinds.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

AttrKind kind_of(const AttrValue& value) {
  constexpr AttrKind kinds[] = {AttrKind::Int,    AttrKind::Float, AttrKind::Bool,
                                AttrKind::String, AttrKind::Ints,  AttrKind::Dtype};
  return kinds[value.index()];
}

template <typename T>
const T& get(const Attrs& attrs, std::string_view name) {
  const AttrValue* value = attrs.find(name);
  WEIR_CHECK(value && std::holds_alternative<T>(*value), "attribute {} in {}", name,
             to_string(attrs));
  return std::get<T>(*value);
}

bool same(const AttrValue& a, const AttrValue& b) {
  const double *x = std::get_if<double>(&a), *y = std::get_if<double>(&b);
  if (!x || !y) return a == b;
  return std::isnan(*x) ? std::isnan(*y) : *x == *y && std::signbit(*x) == std::signbit(*y);
}

// Into its place by name, or over the value that it had.
void put(std::vector<Attrs::Entry>& entries, const std::string& name, AttrValue value) {
  const auto place =
      std::lower_bound(entries.begin(), entries.end(), name,
                       [](const auto& entry, const auto& n) { return entry.first < n; });
  if (place != entries.end() && place->first == name)
    place->second = std::move(value);
  else
    entries.insert(place, {name, std::move(value)});
}

}  // namespace

const AttrKindText& text_of(AttrKind kind) {
  static const AttrKindText rows[] = {
      {AttrKind::Int, "an integer", ""},
      {AttrKind::Float, "a number", ""},
      {AttrKind::Bool, "true or false", ""},
      {AttrKind::String, "a quoted text", "\"row\""},
      {AttrKind::Ints, "a list of integers", "[0,2]"},
      {AttrKind::Dtype, "a dtype", "f32"},
  };
  for (const AttrKindText& row : rows)
    if (row.kind == kind) return row;
  internal_error_at("unknown attribute kind");
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result + "\"";
}

bool Attrs::operator==(const Attrs& other) const {
  return std::equal(
      entries_.begin(), entries_.end(), other.entries_.begin(), other.entries_.end(),
      [](const auto& a, const auto& b) { return a.first == b.first && same(a.second, b.second); });
}

Attrs::Attrs(std::initializer_list<Entry> entries) {
  std::vector<Entry> sorted;
  sorted.reserve(entries.size());
  for (const auto& [name, value] : entries) put(sorted, name, value);
  entries_ = std::move(sorted);
}

void Attrs::set(const std::string& name, AttrValue value) {
  std::vector<Entry> entries = entries_;
  put(entries, name, std::move(value));
  entries_ = std::move(entries);
}

void Attrs::erase(std::string_view name) {
  if (!has(name)) return;
  std::vector<Entry> entries = entries_;
  std::erase_if(entries, [&](const Entry& entry) { return entry.first == name; });
  entries_ = std::move(entries);
}

const AttrValue* Attrs::find(std::string_view name) const {
  for (const auto& [key, value] : entries_)
    if (key == name) return &value;
  return nullptr;
}

int64_t Attrs::get_int(std::string_view name) const { return get<int64_t>(*this, name); }
double Attrs::get_float(std::string_view name) const { return get<double>(*this, name); }
const std::string& Attrs::get_string(std::string_view name) const {
  return get<std::string>(*this, name);
}
const std::vector<int64_t>& Attrs::get_ints(std::string_view name) const {
  return get<std::vector<int64_t>>(*this, name);
}
DType Attrs::get_dtype(std::string_view name) const { return get<DType>(*this, name); }
bool Attrs::get_bool(std::string_view name) const { return has(name) && get<bool>(*this, name); }
int64_t Attrs::get_int_or(std::string_view name, int64_t otherwise) const {
  return has(name) ? get_int(name) : otherwise;
}

std::string to_string(const AttrValue& value) {
  struct Printer {
    std::string operator()(int64_t v) const { return fmt::format("{}", v); }
    std::string operator()(double v) const { return shortest(v); }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const std::string& v) const { return quoted(v); }
    std::string operator()(const std::vector<int64_t>& v) const { return to_string(v); }
    std::string operator()(DType v) const { return dtype_name(v); }
  };
  return std::visit(Printer{}, value);
}

std::string to_string(const Attrs& attrs) {
  if (attrs.empty()) return "";
  std::vector<std::string> parts;
  for (const auto& [name, value] : attrs.entries()) parts.push_back(name + "=" + to_string(value));
  return "{" + join(parts, ", ") + "}";
}

void check_attributes(Op op, const Attrs& attrs) {
  // Every node of every graph passes here, so texts are made only for what is wrong.
  const std::vector<AttrSpec>& specs = info(op).attributes;
  const auto fits = [&](const auto& entry) {
    if (entry.first == kOffset) return true;
    const AttrSpec* spec = info(op).find_attribute(entry.first);
    return spec && spec->kind == kind_of(entry.second);
  };
  if (std::all_of(attrs.entries().begin(), attrs.entries().end(), fits) &&
      std::all_of(specs.begin(), specs.end(),
                  [&](const AttrSpec& spec) { return spec.optional || attrs.has(spec.name); }))
    return;
  Problems problems(op_name(op));
  std::vector<std::string> known;
  for (const AttrSpec& spec : specs) {
    known.push_back(spec.name);
    if (!spec.optional && !attrs.has(spec.name))
      problems.add(
          fmt::format("attribute {} is missing; it is {}.", spec.name, text_of(spec.kind).name));
  }
  for (const auto& [name, value] : attrs.entries()) {
    if (name == kOffset) continue;
    const AttrSpec* spec = info(op).find_attribute(name);
    if (!spec)
      problems.add(fmt::format("unknown attribute {}; known: {}.{}", name,
                               known.empty() ? "none" : join(known, ", "),
                               did_you_mean(name, known)));
    else if (spec->kind != kind_of(value))
      problems.add(fmt::format("attribute {} is {}, but {} is needed.", name, to_string(value),
                               text_of(spec->kind).name));
  }
  problems.raise();
}

}  // namespace weir
