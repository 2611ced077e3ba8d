#include "passes/probe_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "ir/map_cells.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

constexpr const char* kKnown =
    "batch_sum, sum(axes), mean(axes), max(axes), min(axes), norm(axes), abs, square, "
    "select(axis=i), select(axis=i..j), slice(axis,start,limit), and of an attention pattern "
    "column_mass, column_square, entropy, row_max, row_sum, sink_column, sink_column(key), map(n) "
    "with n up to 256";

constexpr std::array<const char*, 15> kNames = {
    "sum",     "mean",    "max",         "min",         "norm",
    "abs",     "square",  "slice",       "column_mass", "column_square",
    "entropy", "row_max", "sink_column", "row_sum",     "map"};

// A request is a word of the user's, so that what is wrong with it is a mistake of use.
template <typename... Args>
[[noreturn]] void wrong(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError("[probe] " + fmt::format(format, std::forward<Args>(args)...));
}

std::optional<int64_t> parse_index(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// Splits at commas outside parentheses.
std::vector<std::string> split_reductions(std::string_view text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (char c : text) {
    depth += (c == '(') - (c == ')');
    if (c == ',' && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  for (std::string& part : parts) part = std::string(trim(part));
  return parts;
}

// "name(a, b)" -> name and its arguments; a reduction without parentheses has none.
struct Call {
  std::string name;
  std::vector<std::string> arguments;
};

Call parse_call(const std::string& text) {
  size_t open = text.find('(');
  if (open == std::string::npos) return {text, {}};
  if (text.back() != ')') wrong("'{}' does not end with a closing parenthesis.", text);
  Call call{std::string(trim(text.substr(0, open))), {}};
  for (const std::string& part : split(text.substr(open + 1, text.size() - open - 2), ','))
    call.arguments.emplace_back(trim(part));
  return call;
}

[[noreturn]] void wrong_select(const std::string& text) {
  wrong("'{}' is not of the form select(axis=i) or select(axis=i..j).", text);
}

// select(axis=i), select(axis=i..j).
ProbeReduction parse_select(const std::string& text, const Call& call) {
  if (call.arguments.size() != 1) wrong_select(text);
  const std::string& argument = call.arguments[0];
  size_t equals = argument.find('='), dots = argument.find("..");
  if (equals == std::string::npos) wrong_select(text);
  size_t end = dots == std::string::npos ? argument.size() : dots;
  auto first = parse_index(trim(std::string_view(argument).substr(equals + 1, end - equals - 1)));
  auto last = dots == std::string::npos
                  ? first
                  : parse_index(trim(std::string_view(argument).substr(dots + 2)));
  if (!first || !last || *last < *first) wrong_select(text);
  return {ReductionKind::slice, {std::string(trim(argument.substr(0, equals)))}, *first, *last + 1};
}

ProbeReduction parse_slice(const std::string& text, const Call& call) {
  std::optional<int64_t> start, limit;
  if (call.arguments.size() == 3) {
    start = parse_index(call.arguments[1]);
    limit = parse_index(call.arguments[2]);
  }
  if (!start || !limit || *limit <= *start)
    wrong("'{}' is not of the form slice(axis,start,limit) with start < limit.", text);
  return {ReductionKind::slice, {call.arguments[0]}, *start, *limit};
}

ProbeReduction parse_reduction(const std::string& text) {
  Call call = parse_call(text);
  if (call.name == "batch_sum" && call.arguments.empty()) return {ReductionKind::sum, {"batch"}};
  if (call.name == "select") return parse_select(text, call);
  auto found = std::find(kNames.begin(), kNames.end(), call.name);
  if (found == kNames.end()) {
    std::vector<std::string> names(kNames.begin(), kNames.end());
    names.insert(names.end(), {"batch_sum", "select", "raw"});
    wrong("unknown reduction '{}'. Known: {}.{}", text, kKnown, did_you_mean(call.name, names));
  }
  auto kind = static_cast<ReductionKind>(found - kNames.begin());
  if (kind == ReductionKind::slice) return parse_slice(text, call);
  if (kind == ReductionKind::sink_column) {
    auto key = call.arguments.empty() ? 0 : parse_index(call.arguments[0]);
    if (!key || call.arguments.size() > 1)
      wrong("'{}' needs one key index, as in sink_column(0).", text);
    return {kind, {}, *key};
  }
  if (kind == ReductionKind::map) {
    auto side = call.arguments.size() == 1 ? parse_index(call.arguments[0]) : std::nullopt;
    if (!side || *side < 1 || *side > kMaxMapSide)
      wrong("'{}' needs the most cells of a side, 1 to {}, as in map({}).", text, kMaxMapSide,
            kMaxMapSide);
    return {kind, {}, *side};
  }
  bool takes_axes = kind <= ReductionKind::norm;
  bool any_empty = std::any_of(call.arguments.begin(), call.arguments.end(),
                               [](const std::string& axis) { return axis.empty(); });
  if (takes_axes && (call.arguments.empty() || any_empty))
    wrong("'{}' names no axes; give them as in {}(feature).", text, call.name);
  if (!takes_axes && !call.arguments.empty())
    wrong("{} takes no arguments, but '{}' is given.", call.name, text);
  return {kind, call.arguments};
}

}  // namespace

const char* reduction_name(ReductionKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::string to_string(const ProbeReduction& r) {
  if (r.kind == ReductionKind::sum && r.axes == std::vector<std::string>{"batch"})
    return "batch_sum";
  if (r.kind == ReductionKind::slice)
    return fmt::format("slice({},{},{})", r.axes[0], r.start, r.limit);
  if (r.kind == ReductionKind::sink_column) return fmt::format("sink_column({})", r.start);
  if (r.kind == ReductionKind::map) return fmt::format("map({})", r.start);
  if (r.axes.empty()) return reduction_name(r.kind);
  return fmt::format("{}({})", reduction_name(r.kind), join(r.axes, ","));
}

ProbeRequest parse_probe_request(std::string_view text) {
  size_t colon = text.find(':');
  ProbeRequest request{std::string(trim(text)), std::string(trim(text.substr(0, colon)))};
  constexpr std::string_view kGradient = ".grad";
  request.gradient = request.glob.ends_with(kGradient);
  if (request.gradient) request.glob.resize(request.glob.size() - kGradient.size());
  if (request.glob.empty())
    wrong(
        "'{}' names no hook. A request reads GLOB[.grad] : reduction, reduction ..., as in "
        "blocks.*.attn.hook_v.grad : batch_sum, norm(feature).",
        request.text);
  if (colon == std::string_view::npos) return request;
  std::vector<std::string> parts = split_reductions(text.substr(colon + 1));
  if (parts.size() == 1 && parts[0] == "raw") return request;
  for (const std::string& part : parts) request.reductions.push_back(parse_reduction(part));
  return request;
}

std::vector<ProbeRequest> parse_probe_requests(const std::vector<std::string>& texts) {
  UsageProblems problems("probe");
  std::vector<ProbeRequest> requests;
  for (const std::string& text : texts) try {
      requests.push_back(parse_probe_request(text));
    } catch (const UserError& error) {
      std::string message = error.what();
      problems.add(fmt::format("in '{}': {}", trim(text), message.substr(message.find("] ") + 2)));
    }
  problems.raise();
  return requests;
}

}  // namespace weir
