#pragma once
// The model cases of tests/data/reference: configuration, and how two records are compared.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "models/llama.h"
#include "testing/reference_data.h"
#include "testing/small_model.h"

namespace weir::test {

inline bool all_numbers(const nlohmann::json& json) {
  return json.is_array() && !json.empty() &&
         std::all_of(json.begin(), json.end(),
                     [](const nlohmann::json& v) { return v.is_number(); });
}

// |a - b| <= rtol max(|b|, 1e-3 max|array|), innermost lists being the arrays; the rest exactly.
inline void expect_agree(const nlohmann::json& actual, const nlohmann::json& expected, double rtol,
                         const std::string& path, int& compared) {
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      ASSERT_TRUE(actual.contains(key)) << path << " lacks " << key;
      expect_agree(actual.at(key), value, rtol, path + "." + key, compared);
    }
    EXPECT_EQ(actual.size(), expected.size()) << path;
  } else if (expected.is_array() && !all_numbers(expected)) {
    ASSERT_EQ(actual.size(), expected.size()) << path;
    for (size_t i = 0; i < expected.size(); ++i)
      expect_agree(actual[i], expected[i], rtol, fmt::format("{}[{}]", path, i), compared);
  } else if (expected.is_array() || expected.is_number()) {
    nlohmann::json a = actual.is_array() ? actual : nlohmann::json::array({actual});
    nlohmann::json b = expected.is_array() ? expected : nlohmann::json::array({expected});
    ASSERT_EQ(a.size(), b.size()) << path;
    double top = 0;
    for (const nlohmann::json& value : b) top = std::max(top, std::abs(value.get<double>()));
    for (size_t i = 0; i < b.size(); ++i) {
      ASSERT_TRUE(a[i].is_number()) << path << " is " << a[i];
      double want = b[i].get<double>();
      // A zero of the reference, such as the gradient at the first query, is a cancellation in f32.
      const double zero = want == 0 && rtol > 1e-6 ? 1e-6 * std::max(top, 0.1) : 0;
      EXPECT_NEAR(a[i].get<double>(), want,
                  std::max(zero, rtol * std::max(std::abs(want), 1e-3 * top)))
          << path;
      ++compared;
    }
  } else {
    EXPECT_EQ(actual, expected) << path;
  }
}

}  // namespace weir::test
