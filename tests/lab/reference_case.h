#pragma once
// The model cases of tests/data/reference: configuration, and how two records are compared.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "models/llama.h"
#include "testing/reference_data.h"

namespace weir::test {

inline ModelConfig config_of(const nlohmann::json& json) {
  ModelConfig config;
  json.at("num_hidden_layers").get_to(config.layers);
  json.at("hidden_size").get_to(config.d_model);
  json.at("num_attention_heads").get_to(config.heads);
  json.at("num_key_value_heads").get_to(config.kv_heads);
  json.at("head_dim").get_to(config.d_head);
  json.at("intermediate_size").get_to(config.d_ff);
  json.at("vocab_size").get_to(config.vocabulary);
  json.at("rms_norm_eps").get_to(config.rms_eps);
  json.at("rope_theta").get_to(config.rope_base);
  json.at("tie_word_embeddings").get_to(config.tied);
  return config;
}

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
      EXPECT_NEAR(a[i].get<double>(), want, rtol * std::max(std::abs(want), 1e-3 * top)) << path;
      ++compared;
    }
  } else {
    EXPECT_EQ(actual, expected) << path;
  }
}

}  // namespace weir::test
