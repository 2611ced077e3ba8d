#include "testing/expect_close.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace weir::test {

std::string difference(const HostTensor& actual, const HostTensor& expected, Tolerance tolerance) {
  if (actual.type != expected.type || actual.data.size() != expected.data.size())
    return fmt::format("{} with {} elements instead of {} with {}", to_string(actual.type),
                       actual.data.size(), to_string(expected.type), expected.data.size());
  double largest = 0;
  for (double value : expected.data)
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  size_t count = 0, worst = 0;
  double worst_excess = 0;
  for (size_t i = 0; i < expected.data.size(); ++i) {
    double a = actual.data[i], b = expected.data[i];
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    double allowed =
        tolerance.relative * std::max(std::abs(b), 1e-3 * largest) + tolerance.absolute;
    double excess = std::isfinite(a) && std::isfinite(b) ? std::abs(a - b) / allowed : INFINITY;
    if (excess <= 1) continue;
    if (++count == 1 || excess > worst_excess) {
      worst = i;
      worst_excess = excess;
    }
  }
  if (count == 0) return "";
  return fmt::format(
      "{} of {} elements of {} differ; the worst, element {}, is {:.17g} instead of {:.17g}, "
      "{:.3g} "
      "times the tolerance (largest magnitude {:.3g})",
      count, expected.data.size(), to_string(expected.type), worst, actual.data[worst],
      expected.data[worst], worst_excess, largest);
}

std::string difference(const Tensors& actual, const Tensors& expected, Tolerance tolerance) {
  std::string text;
  for (const auto& [name, tensor] : expected) {
    auto found = actual.find(name);
    std::string one =
        found == actual.end() ? "missing" : difference(found->second, tensor, tolerance);
    if (!one.empty()) text += fmt::format("{}: {}\n", name, one);
  }
  for (const auto& [name, tensor] : actual)
    if (!expected.count(name)) text += fmt::format("{}: not expected\n", name);
  return text;
}

namespace {
::testing::AssertionResult result_of(const std::string& text) {
  return text.empty() ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << text;
}
}  // namespace

::testing::AssertionResult close(const HostTensor& actual, const HostTensor& expected,
                                 Tolerance tolerance) {
  return result_of(difference(actual, expected, tolerance));
}

::testing::AssertionResult close(const Tensors& actual, const Tensors& expected,
                                 Tolerance tolerance) {
  return result_of(difference(actual, expected, tolerance));
}

}  // namespace weir::test
