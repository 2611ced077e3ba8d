#include "io/unicode_age.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>
#include <utility>

namespace weir {
namespace {

/// A property in lower case without "_", and the ranges of a class that tell Unicode 16 from 14.
struct Change {
  std::string_view name;
  const char* came;
  const char* went;
};

constexpr Change kChanges[] = {
#include "io/unicode_16.inc"
};

// Marks and composing letters of Unicode 10 to 16, sometimes with neighbours of the same age.
constexpr std::array<std::pair<char32_t, char32_t>, 44> kOutside = {{
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xCF3, 0xCF3},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},
    {0xECE, 0xECE},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC},
    {0x10EFC, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11380, 0x113E2}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11900, 0x11946}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F00, 0x11F5A}, {0x13440, 0x13455}, {0x1611E, 0x1612F}, {0x16D40, 0x16D79},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E0, 0x1E6FF},
}};

}  // namespace

const char* const kNewestNumbers = R"(\x{11de0}-\x{11de9}\x{16ff4}-\x{16ff6})";

std::optional<std::string> unicode_16_class(std::string_view property, bool negated) {
  std::string plain;
  for (char c : property)
    if (c != '_' && c != '-' && c != ' ')
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto* found = std::find_if(std::begin(kChanges), std::end(kChanges),
                                   [&](const Change& change) { return change.name == plain; });
  if (found == std::end(kChanges)) return std::nullopt;
  std::string out = negated ? "[^" : "[";
  out += "\\p{" + std::string(property) + "}" + found->came;
  if (*found->went != '\0') out += std::string("&&[^") + found->went + "]";
  return out + "]";
}

bool outside_old_normal_form(char32_t character) {
  auto after =
      std::upper_bound(kOutside.begin(), kOutside.end(), character,
                       [](char32_t value, const auto& range) { return value < range.first; });
  return after != kOutside.begin() && character <= std::prev(after)->second;
}

}  // namespace weir
