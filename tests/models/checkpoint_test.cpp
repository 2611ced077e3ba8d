// Checkpoints that are whole, and those that are not; the data are tests/data/models.
#include "models/checkpoint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>

#include "io/file.h"
#include "ir/rewrite_state.h"
#include "models/hugging_face_writer.h"
#include "support/error.h"
#include "testing/reference_data.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

std::string folder_of(const std::string& name) {
  return std::string(WEIR_TEST_DATA) + "/models/" + name;
}

std::vector<float> read(const Checkpoint& checkpoint, const Parameter& parameter) {
  std::vector<float> values(static_cast<size_t>(parameter.type.elements()));
  checkpoint.read(parameter, values.data());
  return values;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// A folder of the test's own, "DIR" in expected messages.
class CheckpointFolder : public ::testing::Test {
 protected:
  std::string path(const std::string& name = "") const {
    return (name.empty() ? folder_ : folder_ / name).string();
  }
  void copy(const std::string& model, const std::vector<std::string>& files) const {
    for (const std::string& file : files)
      fs::copy_file(fs::path(folder_of(model)) / file, folder_ / file);
  }
  // Writes the tensors of a model again after a change.
  void write_changed(const std::string& model,
                     const std::function<void(std::vector<SafetensorsItem>&)>& change) {
    SafetensorsFile source(folder_of(model) + "/model.safetensors");
    std::vector<SafetensorsItem> items;
    for (const SafetensorsEntry& entry : source.entries())
      items.push_back({entry.name, entry.dtype, entry.shape, source.bytes(entry)});
    change(items);
    write_safetensors(path("model.safetensors"), items);
  }
  // Tensors of zeros that outlive the writing.
  SafetensorsItem zeros(const std::string& name, std::vector<int64_t> shape) {
    zeros_.resize(1 << 16);
    return {name, FileDtype::f32, shape,
            std::span(zeros_).first(static_cast<size_t>(*array_bytes(FileDtype::f32, shape)))};
  }
  std::string error() const {
    std::string text = message_of([&] { Checkpoint::open(path()); });
    for (size_t at; (at = text.find(path())) != std::string::npos;)
      text.replace(at, path().size(), "DIR");
    return text;
  }

 private:
  const test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  std::vector<std::byte> zeros_;
};

class GgufCheckpoint : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufCheckpoint, IsTheModelOfTheFolder) {
  const std::string& name = GetParam();
  const Checkpoint folder = Checkpoint::open(folder_of(name));
  const Checkpoint file = Checkpoint::open(folder_of(name) + "/" + name + ".gguf");
  EXPECT_EQ(file.name(), name);
  EXPECT_EQ(file.config().architecture, folder.config().architecture);
  EXPECT_EQ(file.config().rope_scaling, folder.config().rope_scaling);
  EXPECT_EQ(file.config().rope_base, folder.config().rope_base);
  EXPECT_EQ(file.config().rms_eps, folder.config().rms_eps);
  EXPECT_EQ(file.config().context, folder.config().context);
  if (file.config().window != 0) {  // of a Llama with a window GGUF does not say it
    EXPECT_EQ(file.config().window, folder.config().window);
  }
  EXPECT_EQ(file.config().score_width, folder.config().score_width);
  EXPECT_EQ(file.config().score_cap, folder.config().score_cap);
  EXPECT_EQ(file.config().logit_cap, folder.config().logit_cap);
  const Model model = folder.build(1, 2), same = file.build(1, 2);
  ASSERT_EQ(same.parameters.size(), model.parameters.size());
  for (size_t i = 0; i < model.parameters.size(); ++i) {
    EXPECT_EQ(same.parameters[i].type, model.parameters[i].type);
    EXPECT_EQ(read(file, same.parameters[i]), read(folder, model.parameters[i]))
        << model.parameters[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GgufCheckpoint, ::testing::ValuesIn(test::model_cases("*.gguf")),
                         [](const auto& info) { return info.param; });

TEST_F(CheckpointFolder, ListsAllTensorsThatDoNotFit) {
  copy("llama", {"config.json"});
  write_changed("llama", [&](std::vector<SafetensorsItem>& items) {
    for (SafetensorsItem& item : items) {
      if (item.name == "model.norm.weight") item.name = "model.norm.gain";
      if (item.name == "model.layers.0.mlp.up_proj.weight") item.shape = {16, 20};
      if (item.name == "lm_head.weight") item.dtype = FileDtype::i32;
    }
    items.push_back(zeros("model.layers.2.mlp.up_proj.weight", {20, 16}));
  });
  EXPECT_EQ(
      error(),
      "[checkpoint] 4 problems:\n"
      "  - DIR: tensor model.layers.0.mlp.up_proj.weight is F32[16,20], but the configuration "
      "makes it [20,16].\n"
      "  - DIR: tensor lm_head.weight is I32, but weights are real numbers.\n"
      "  - DIR: missing tensors: model.norm.weight.\n"
      "  - DIR: tensors that llama does not have: model.norm.gain, "
      "model.layers.2.mlp.up_proj.weight.");
}

TEST_F(CheckpointFolder, PassesOverTablesThatTheLibraryComputes) {
  copy("gpt2", {"config.json"});
  write_changed("gpt2", [&](std::vector<SafetensorsItem>& items) {
    items.push_back(zeros("transformer.h.0.attn.bias", {1, 1, 16, 16}));
    items.push_back(zeros("h.1.attn.masked_bias", {}));
  });
  EXPECT_EQ(error(), "no error");
}

TEST_F(CheckpointFolder, TakesAnOutputThatEqualsTheEmbeddingItIsTiedTo) {
  copy("qwen2", {"config.json"});
  auto with_head = [&](bool equal) {
    write_changed("qwen2", [&](std::vector<SafetensorsItem>& items) {
      SafetensorsItem head = zeros("lm_head.weight", {37, 16});
      for (const SafetensorsItem& item : items)
        if (equal && item.name == "model.embed_tokens.weight") head.data = item.data;
      items.push_back(head);
      items.push_back(zeros("model.layers.0.self_attn.rotary_emb.inv_freq", {2}));
    });
  };
  with_head(true);
  EXPECT_EQ(error(), "no error");
  with_head(false);
  EXPECT_EQ(error(),
            "[checkpoint] DIR: the configuration says that the output projection is the embedding "
            "(tie_word_embeddings), but lm_head.weight differs from it.");
}

// safetensors keeps one of two names for one array, the first by the alphabet.
TEST_F(CheckpointFolder, TakesTheOutputForTheEmbeddingItIsTiedTo) {
  for (const auto& [model, embedding] : {std::pair("qwen2", "model.embed_tokens.weight"),
                                         std::pair("gpt2", "transformer.wte.weight")}) {
    fs::remove_all(path());
    fs::create_directories(path());
    copy(model, {"config.json"});
    write_changed(model, [&](std::vector<SafetensorsItem>& items) {
      for (SafetensorsItem& item : items)
        if (item.name == embedding) item.name = "lm_head.weight";
    });
    const Checkpoint original = Checkpoint::open(folder_of(model)),
                     renamed = Checkpoint::open(path());
    const Parameter parameter = original.build(1, 1).parameters.at(0);
    EXPECT_EQ(parameter.name, embedding);
    EXPECT_EQ(read(renamed, parameter), read(original, parameter));
  }
  fs::remove(path("config.json"));
  copy("llama", {"config.json"});
  write_changed("llama", [&](std::vector<SafetensorsItem>& items) {
    std::erase_if(items, [](const auto& item) { return item.name == "model.embed_tokens.weight"; });
  });
  EXPECT_EQ(error(), "[checkpoint] DIR: missing tensors: model.embed_tokens.weight.");
}

TEST_F(CheckpointFolder, NamesValuesThatAreNotFinite) {
  copy("llama", {"config.json"});
  std::vector<std::byte> bad;
  write_changed("llama", [&](std::vector<SafetensorsItem>& items) {
    for (SafetensorsItem& item : items) {
      if (item.name != "model.layers.1.mlp.up_proj.weight") continue;
      bad.assign(item.data.begin(), item.data.end());
      auto* values = reinterpret_cast<float*>(bad.data());
      values[16 * 3 + 5] = -std::numeric_limits<float>::infinity();
      values[16 * 7] = std::numeric_limits<float>::quiet_NaN();
      item.data = bad;
    }
  });
  const Checkpoint checkpoint = Checkpoint::open(path());
  EXPECT_NO_THROW(checkpoint.need_finite());
  for (const Parameter& parameter : checkpoint.build(1, 1).parameters) read(checkpoint, parameter);
  const std::string line = path("model.safetensors") +
                           ": tensor model.layers.1.mlp.up_proj.weight has -infinity at [3,5], the "
                           "first of 2 values that are not finite.";
  EXPECT_EQ(checkpoint.not_finite(), (std::vector<std::string>{line}));
  EXPECT_EQ(message_of([&] { checkpoint.need_finite(); }),
            "[checkpoint] 2 problems:\n  - " + line +
                "\n  - Nothing that is computed from such weights means anything. Download or copy "
                "the files again, or repair the values in a copy (weir convert keeps them).");
}

TEST_F(CheckpointFolder, RefusesWeightsThatHalfPrecisionCannotHold) {
  const Checkpoint original = Checkpoint::open(folder_of("llama"));
  const Model model = original.build(1, 1);
  auto weights = [&](const Parameter& p, float* out) {
    original.read(p, out);
    if (p.name == "model.norm.weight") out[0] = 65519, out[1] = 65520, out[2] = -1e30F;
  };
  EXPECT_EQ(
      message_of([&] {
        write_hugging_face(path("new"), original.config(), model.parameters, weights,
                           {.dtype = FileDtype::f16});
      }),
      "[convert] model.norm.weight has 2 values beyond 65504, the largest of f16. Choose bf16 "
      "or f32 (--dtype).");
  EXPECT_FALSE(fs::exists(path("new")));
}

TEST_F(CheckpointFolder, SaysOfWhatIsMissingWhatWasTakenForIt) {
  std::string config = read_file(folder_of("llama") + "/config.json");
  const std::string layers = "\"num_hidden_layers\": 2,";
  ASSERT_NE(config.find(layers), std::string::npos);
  write_file(path("config.json"), config.erase(config.find(layers), layers.size()));
  fs::copy_file(folder_of("llama") + "/model.safetensors", path("model.safetensors"));
  EXPECT_TRUE(
      error().ends_with("  - DIR/config.json: the file leaves sizes out, for which the "
                        "defaults of transformers are taken: num_hidden_layers 32."))
      << error();
}

TEST_F(CheckpointFolder, ChecksTheIndexOfShards) {
  copy("mistral", {"config.json", "model-00001-of-00004.safetensors",
                   "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors"});
  std::string index = read_file(folder_of("mistral") + "/model.safetensors.index.json");
  auto replace = [&](const std::string& from, const std::string& to) {
    ASSERT_NE(index.find(from), std::string::npos);
    index.replace(index.find(from), from.size(), to);
  };
  replace("\"model.embed_tokens.weight\": \"model-00001",
          "\"model.embed_tokens.weight\": \"../model-1");
  replace("input_layernorm.weight\": \"model-00002", "input_layernorm.weight\": \"model-00001");
  write_file(path("model.safetensors.index.json"), index);
  EXPECT_EQ(
      error(),
      "[checkpoint] 5 problems:\n"
      "  - DIR/model.safetensors.index.json: tensor model.embed_tokens.weight is said to be in "
      "\"../model-1-of-00004.safetensors\"; a *.safetensors file in the same folder is needed.\n"
      "  - DIR/model.safetensors.index.json: tensor model.layers.0.input_layernorm.weight is "
      "listed "
      "in model-00001-of-00004.safetensors, which lacks it.\n"
      "  - DIR/model.safetensors.index.json: tensor model.embed_tokens.weight of "
      "model-00001-of-00004.safetensors is not listed.\n"
      "  - DIR/model.safetensors.index.json: tensor model.layers.0.input_layernorm.weight is "
      "listed "
      "in model-00001-of-00004.safetensors, but stored in model-00002-of-00004.safetensors.\n"
      "  - DIR/model.safetensors.index.json: the shard model-00004-of-00004.safetensors is "
      "missing: "
      "5 tensors are listed in it. Download or copy it again.");
  write_file(path("model.safetensors.index.json"), "[[[[");
  EXPECT_EQ(
      error(),
      "[checkpoint] DIR/model.safetensors.index.json is not valid JSON: parse error at line 1, "
      "column 5: syntax error while parsing value - unexpected end of input; expected '[', '{', or "
      "a "
      "literal.");
  write_file(path("model.safetensors.index.json"), "{}");
  EXPECT_EQ(
      error(),
      "[checkpoint] DIR/model.safetensors.index.json has no weight_map, an object from tensor "
      "to file name.");
}

TEST_F(CheckpointFolder, SaysWhatItNeeds) {
  EXPECT_EQ(error(),
            "[checkpoint] DIR holds neither config.json nor a .gguf file, so it is no model.");
  copy("llama", {"config.json"});
  EXPECT_EQ(error(),
            "[checkpoint] DIR holds neither model.safetensors nor model.safetensors.index.json. "
            "Weights in another format (pytorch_model.bin) have to be saved as safetensors first.");
  EXPECT_EQ(message_of([&] { Checkpoint::open(path("config.json")); }),
            "[checkpoint] " + path("config.json") +
                " is no .gguf file. Give one, or the folder that holds config.json and the "
                "safetensors of a model.");
  EXPECT_EQ(message_of([] { Checkpoint::open("/nowhere"); }),
            "[checkpoint] there is no /nowhere. Give the folder of a Hugging Face model or a .gguf "
            "file.");
}

TEST_F(CheckpointFolder, TakesTheOneGgufOfAFolder) {
  copy("qwen3", {"qwen3.gguf"});
  EXPECT_EQ(Checkpoint::open(path()).name(), "qwen3");
  copy("llama3", {"llama3.gguf"});
  EXPECT_EQ(error(),
            "[checkpoint] DIR holds 2 models: DIR/llama3.gguf, DIR/qwen3.gguf. Give one of the "
            "files.");
}

TEST(Checkpoint, RefusesSequencesBeyondWindowOrPositions) {
  const Checkpoint mistral = Checkpoint::open(folder_of("mistral"));
  EXPECT_NO_THROW(mistral.build(1, 16));
  EXPECT_EQ(message_of([&] { mistral.build(1, 17); }),
            "[model] 17 tokens are asked for, but mistral attends through a sliding window of 16, "
            "which is not implemented. Use sequences of at most 16 tokens, where the window is no "
            "limit.");
  const Checkpoint gpt2 = Checkpoint::open(folder_of("gpt2"));
  EXPECT_EQ(message_of([&] { gpt2.build(1, 17); }),
            "[model] 17 tokens are asked for, but gpt2 has 16 positions. Use shorter sequences.");
}

TEST(Checkpoint, WarnsOnceOfSequencesBeyondItsContext) {
  const Checkpoint llama = Checkpoint::open(folder_of("llama"));
  ::testing::internal::CaptureStderr();
  llama.build(1, 64);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  ::testing::internal::CaptureStderr();
  llama.build(1, 65);
  llama.build(2, 66);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "warning: sequences of 65 tokens are longer than the 64 that " + folder_of("llama") +
                " states as its context\n");
}

TEST_F(CheckpointFolder, WarnsOfWhatWasDecided) {
  std::string config = read_file(folder_of("qwen2") + "/config.json");
  write_file(path("config.json"), config.replace(config.rfind('}'), 1, ", \"rope_theta\": 7}"));
  fs::copy_file(folder_of("qwen2") + "/model.safetensors", path("model.safetensors"));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Checkpoint::open(path()).config().rope_base, 10000);
  EXPECT_EQ(
      ::testing::internal::GetCapturedStderr(),
      "warning: " + path("config.json") +
          ": rope_theta is 7, but rope_parameters.rope_theta 10000.0: the latter is taken, as "
          "transformers does.\n");
}

TEST_F(CheckpointFolder, IsWrittenAndReadBack) {
  const Checkpoint original = Checkpoint::open(folder_of("qwen3"));
  const Model model = original.build(1, 1);
  auto weights = [&](const Parameter& p, float* out) { original.read(p, out); };
  ModelConfig config = original.config();
  config.rewrites = {{"v_scale.variant", "full"}};
  const HuggingFaceOptions options{
      .dtype = FileDtype::bf16, .shard_bytes = 3000, .texts = {{"note.txt", "text"}}};
  write_hugging_face(path(), config, model.parameters, weights, options);
  EXPECT_EQ(read_file(path("note.txt")), "text");
  EXPECT_TRUE(fs::exists(path("model.safetensors.index.json")));
  const Checkpoint written = Checkpoint::open(path());
  EXPECT_EQ(written.config().rewrites, config.rewrites);
  EXPECT_EQ(written.stored_dtype(model.parameters[0]), "BF16");
  for (const Parameter& parameter : model.parameters) {
    std::vector<float> expected = read(original, parameter);
    for (float& value : expected) value = bf16_to_f32(f32_to_bf16(value));
    EXPECT_EQ(read(written, parameter), expected) << parameter.name;
  }
  EXPECT_EQ(message_of([&] { write_hugging_face(path(), config, model.parameters, weights); }),
            "[convert] " + path() +
                " holds a model already (config.json). Give another folder, or remove it.");
}

TEST_F(CheckpointFolder, KeepsBlocksThatAreNotThoseOfTheArchitecture) {
  for (const char* place : {"pre", "post", "sandwich", "none"})
    for (int64_t rank : {0, 3}) {
      fs::remove_all(path());
      ModelConfig config{.layers = 2, .d_model = 8, .heads = 2, .vocabulary = 5};
      config.norm_place = place;
      config.norm_gate = rank;
      const Model model = build_model(config, 1, 4);
      write_hugging_face(path(), config, model.parameters, [](const Parameter& p, float* out) {
        std::fill(out, out + p.type.elements(), 0.5f);
      });
      const Checkpoint read = Checkpoint::open(path());
      EXPECT_EQ(read.config().norm_place, place);
      EXPECT_EQ(read.config().norm_gate, rank);
      EXPECT_EQ(read.build(1, 4).parameters.size(), model.parameters.size());
      const std::string json = read_file(path("config.json"));
      EXPECT_EQ(json.find("weir_block") == std::string::npos, place == std::string("pre") && !rank);
    }
  std::string json = read_file(path("config.json"));
  const std::string place = "\"norm_place\": \"none\"";
  write_file(path("config.json"),
             json.replace(json.find(place), place.size(), "\"norm_place\": \"peri\", \"x\": 1"));
  const std::string text = error();
  EXPECT_THAT(text, ::testing::HasSubstr(
                        "weir_block: x is 1; norm_place, a text, and norm_gate, an integer, "
                        "are known."));
}

TEST_F(CheckpointFolder, KeepsTheStatesOfARewriteItWasTrainedWith) {
  const Checkpoint original = Checkpoint::open(folder_of("llama"));
  Model model = original.build(1, 1);
  ModelConfig config = original.config();
  const Parameter theta{"model.layers.1.self_attn.v_scale.theta", f32({2}), Initial::zeros, 0,
                        false};
  std::vector<Parameter> parameters = model.parameters;
  parameters.push_back(theta);
  auto weights = [&](const Parameter& p, float* out) {
    if (p.name == theta.name)
      out[0] = 3, out[1] = 4;
    else
      original.read(p, out);
  };
  write_hugging_face(path(), config, parameters, weights);
  EXPECT_EQ(error(),
            "[checkpoint] DIR: tensors of a rewrite that config.json does not speak of: "
            "model.layers.1.self_attn.v_scale.theta. If the model was trained with it, put "
            "\"weir_rewrites\": {\"v_scale.variant\": \"learned\"} into config.json; every layer "
            "needs them. Otherwise take them out.");
  fs::remove_all(path());
  config.rewrites = {{"v_scale.variant", "learned"}};
  write_hugging_face(path(), config, parameters, weights);
  const Checkpoint written = Checkpoint::open(path());
  EXPECT_TRUE(written.has(theta));
  EXPECT_FALSE(original.has(theta));
  EXPECT_EQ(read(written, theta), (std::vector<float>{3, 4}));
}

// Weights that a rewrite adds, in a checkpoint whose config.json does not name the rewrite.
class UnsaidRewrite : public CheckpointFolder {
 protected:
  void SetUp() override { copy("llama", {"config.json"}); }
  // The model of 2 layers with 4 heads and these tensors of zeros in some layers.
  void write_with(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
                  const std::vector<int>& layers = {0, 1}) {
    write_changed("llama", [&](std::vector<SafetensorsItem>& items) {
      for (int layer : layers)
        for (const auto& [name, shape] : tensors)
          items.push_back(zeros(fmt::format("model.layers.{}.self_attn.{}", layer, name), shape));
    });
  }
  void copy_plain_config() const {
    fs::copy_file(fs::path(folder_of("llama")) / "config.json", path("config.json"),
                  fs::copy_options::overwrite_existing);
  }
  void say(const std::string& rewrites) const {
    std::string config = read_file(folder_of("llama") + "/config.json");
    write_file(path("config.json"),
               config.replace(config.rfind('}'), 1, ", \"weir_rewrites\": " + rewrites + "}"));
  }
};

TEST_F(UnsaidRewrite, MessageSaysWhatToPutIntoTheConfiguration) {
  // Every row of the table, so that a new one has its message too.
  for (const RewriteState& state : rewrite_states()) {
    if (state.published) continue;
    for (const std::string value : {state.value, state.wide_value}) {
      if (value.empty()) continue;
      const std::vector<int64_t> shape = {value == "element" ? 24 : 4, 16};
      fs::remove(path("model.safetensors"));
      copy_plain_config();
      write_with({{state.suffix, shape}});
      const std::string needed = fmt::format("{{\"{}\": \"{}\"}}", state.key, value);
      EXPECT_EQ(error(),
                fmt::format("[checkpoint] DIR: tensors of a rewrite that config.json does not "
                            "speak of: model.layers.0.self_attn.{0}, model.layers.1.self_attn.{0}. "
                            "If the model was trained with it, put \"weir_rewrites\": {1} into "
                            "config.json; every layer needs them. Otherwise take them out.",
                            state.suffix, needed));
      say(needed);
      const Checkpoint checkpoint = Checkpoint::open(path());
      EXPECT_TRUE(checkpoint.has(
          {fmt::format("model.layers.1.self_attn.{}", state.suffix), f32(Shape(shape))}));
    }
  }
}

TEST_F(UnsaidRewrite, SeveralAreNamedTogether) {
  write_with({{"kv_bias.key", {2, 6}},
              {"kv_bias.value", {2, 6}},
              {"qk_norm.query", {6}},
              {"qk_norm.key", {6}}});
  say(R"({"v_scale.variant": "full"})");
  EXPECT_THAT(error(), ::testing::HasSubstr(
                           R"(put "weir_rewrites": {"attention": "kv-bias", "qk_norm": "true", )"
                           R"("v_scale.variant": "full"} into config.json)"));
}

TEST_F(UnsaidRewrite, LearnedSinksSpeakForThemselves) {
  write_with({{"sinks", {4}}});
  ::testing::internal::CaptureStderr();
  const Checkpoint checkpoint = Checkpoint::open(path());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "warning: " + path() +
                ": every layer has sinks, of which config.json does not speak: the model is taken "
                "for one that was trained with \"weir_rewrites\": {\"attention\": "
                "\"sink-logit\"}.\n");
  EXPECT_EQ(checkpoint.config().rewrites,
            (std::map<std::string, std::string>{{"attention", "sink-logit"}}));
  EXPECT_TRUE(checkpoint.has({"model.layers.1.self_attn.sinks", f32({4})}));
}

TEST_F(UnsaidRewrite, SinksThatDoNotFitAreRefused) {
  const char* needed = R"(put "weir_rewrites": {"attention": "sink-logit"} into config.json)";
  write_with({{"sinks", {4}}}, {1});
  EXPECT_THAT(error(), ::testing::HasSubstr(needed));
  fs::remove(path("model.safetensors"));
  write_with({{"sinks", {2}}});
  EXPECT_THAT(error(), ::testing::HasSubstr(needed));
  // Another normaliser is said: they are not ignored in silence.
  say(R"({"attention": "softpick"})");
  EXPECT_EQ(error(),
            "[checkpoint] DIR: tensors that llama with \"weir_rewrites\": {\"attention\": "
            "\"softpick\"} does not have: model.layers.0.self_attn.sinks, "
            "model.layers.1.self_attn.sinks.");
}

TEST_F(UnsaidRewrite, ANormOfQueriesAndKeysIsThatOfAnotherModelType) {
  write_with({{"q_norm.weight", {6}}, {"k_norm.weight", {6}}}, {0});
  EXPECT_EQ(
      error(),
      "[checkpoint] DIR: tensors that llama does not have: "
      "model.layers.0.self_attn.q_norm.weight, model.layers.0.self_attn.k_norm.weight. q_norm "
      "and k_norm are those of the model_type qwen3; if that is what the model is, say so in "
      "config.json.");
}

}  // namespace
}  // namespace weir
