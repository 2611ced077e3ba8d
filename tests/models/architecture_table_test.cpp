// Every row of the table of architectures is whole: what loaders and writers take from it is there.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "io/file.h"
#include "models/architecture.h"
#include "models/hugging_face_config.h"
#include "models/hugging_face_defaults.h"
#include "models/model.h"
#include "models/tensor_names.h"

namespace weir {
namespace {

// With every bias that it can have.
ModelConfig small(const Architecture& architecture) {
  return {.layers = 2,
          .d_model = 16,
          .heads = 2,
          .attention_bias = true,
          .mlp_bias = true,
          .architecture = architecture.name};
}

TEST(ArchitectureTable, WeightsHaveNamesOfTheirOwnInGguf) {
  for (const Architecture& architecture : architectures()) {
    std::set<std::string> names;
    for (const Parameter& parameter : build_model(small(architecture), 1, 4).parameters) {
      const GgufName name = gguf_name(architecture, parameter.name);
      EXPECT_TRUE(names.insert(name.name).second) << architecture.name << ": " << name.name;
      EXPECT_NE(name.name.front(), '.') << parameter.name;
      EXPECT_EQ(name.name.find(".."), std::string::npos) << parameter.name;
    }
  }
}

TEST(ArchitectureTable, KeysAreDistinctAndOfAKindThatGgufHas) {
  for (const Architecture& architecture : architectures()) {
    std::set<std::string> seen;
    for (const ModelKey& key : architecture.keys) {
      if (*key.hugging_face != 0) {
        EXPECT_TRUE(seen.insert(key.hugging_face).second) << key.hugging_face;
      }
      if (*key.gguf == 0) {
        EXPECT_FALSE(key.gguf_needed);
        continue;
      }
      EXPECT_TRUE(seen.insert(std::string("gguf ") + key.gguf).second) << key.gguf;
      const auto* together = std::get_if<TogetherKey>(&key.meaning);
      EXPECT_TRUE(
          std::holds_alternative<SizeKey>(key.meaning) ||
          std::holds_alternative<NumberKey>(key.meaning) ||
          (together && (*together == TogetherKey::rope_base || *together == TogetherKey::window)))
          << key.gguf;
    }
  }
}

// A configuration that is written has no other keys than the library's class, and is read back.
TEST(ArchitectureTable, WhatIsWrittenIsOfTheModelType) {
  const std::set<std::string> general = {"architectures", "model_type", "torch_dtype", "head_dim",
                                         "rope_scaling"};
  for (const Architecture& architecture : architectures())
    for (const ModelType& type : architecture.types) {
      ModelConfig config = small(architecture);
      config.attention_bias = config.mlp_bias = false;
      config.window = type.windowed ? 8 : 0;
      const std::string text = hugging_face_config(config, "float32");
      const auto json = nlohmann::json::parse(text);
      EXPECT_EQ(json.at("model_type"), type.name);
      EXPECT_EQ(json.at("architectures").at(0), type.library_class);
      const auto& defaults = hugging_face_defaults().at(type.name).at("defaults");
      for (const auto& [key, value] : json.items())
        EXPECT_TRUE(defaults.contains(key) || general.contains(key)) << type.name << ": " << key;
      const ModelConfig read = parse_hugging_face_config(text, "c.json");
      EXPECT_EQ(read.architecture, architecture.name);
      EXPECT_TRUE(read.notes.empty()) << type.name;
    }
}

TEST(ArchitectureTable, EveryModelTypeIsComparedWithTheLibrary) {
  std::set<std::string> compared;
  for (const auto& folder :
       std::filesystem::directory_iterator(std::string(WEIR_TEST_DATA) + "/models")) {
    const auto config = (folder.path() / "config.json").string();
    if (file_exists(config))
      compared.insert(nlohmann::json::parse(read_file(config)).at("model_type"));
  }
  for (const Architecture& architecture : architectures())
    for (const ModelType& type : architecture.types)
      EXPECT_TRUE(compared.contains(type.name))
          << "tests/reference/transformers_reference.py makes no model of type " << type.name;
}

}  // namespace
}  // namespace weir
