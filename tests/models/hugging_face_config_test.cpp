#include "models/hugging_face_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/architecture.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_hugging_face_config(text, "c.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// The keys that a Llama needs, and what is added.
std::string llama(const std::string& more) {
  return R"({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 11,
             "num_attention_heads": 4, "intermediate_size": 24)" +
         more + "}";
}

TEST(HuggingFaceConfig, HasTheDefaultsOfTheLibrary) {
  const ModelConfig c = parse_hugging_face_config(llama(""), "c.json");
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.d_head, 4);
  EXPECT_EQ(c.rms_eps, 1e-6);
  EXPECT_EQ(c.rope_base, 10000);
  EXPECT_FALSE(c.tied);
  const ModelConfig g = parse_hugging_face_config(
      R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 12, "n_head": 3, "vocab_size": 7})", "g");
  EXPECT_EQ(g.architecture, "gpt2");
  EXPECT_EQ(g.d_ff, 48);
  EXPECT_EQ(g.context, 1024);
  EXPECT_TRUE(g.tied);
}

TEST(HuggingFaceConfig, ReadsRotaryScalingInBothForms) {
  const RopeScaling expected{
      .kind = RopeKind::llama3, .factor = 8, .context = 64, .low = 1, .high = 4};
  const std::string numbers = R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 64)";
  ModelConfig c = parse_hugging_face_config(
      llama(R"(, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )" + numbers + "}"),
      "c.json");
  EXPECT_EQ(c.rope_base, 5e5);
  EXPECT_EQ(c.rope_scaling, expected);
  c = parse_hugging_face_config(
      llama(R"(, "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", )" + numbers + "}"),
      "c.json");
  EXPECT_EQ(c.rope_base, 5e5);
  EXPECT_EQ(c.rope_scaling, expected);
}

TEST(HuggingFaceConfig, ListsAllThatIsNotImplemented) {
  EXPECT_EQ(
      error_of(llama(R"(, "hidden_act": "gelu", "attention_bias": 1, "mlp_bias": false,
                 "rope_scaling": {"type": "dynamic", "factor": 4, "beta": 1}, "num_experts": 8,
                 "logit_scale": 2, "use_cache": false, "head_dim": 0, "use_mrope": true,
                 "embedding_scale": null, "rms_norm_eps": null, "quantization_config": {"bits": 4},
                 "layer_types": ["full_attention", "linear_attention"])")),
      "[config.json] 10 problems:\n"
      "  - c.json: head_dim is 0; an integer from 1 to 65536 is needed.\n"
      "  - c.json: rms_norm_eps is null; a value is needed.\n"
      "  - c.json: hidden_act is \"gelu\", which is not implemented; \"silu\" or \"swish\" "
      "is.\n"
      "  - c.json: attention_bias is 1; true or false is needed.\n"
      "  - c.json: use_mrope is true, which is not implemented; false or null is.\n"
      "  - c.json: quantization_config is {\"bits\":4}, which is not implemented; null is.\n"
      "  - c.json: unknown keys, which might change the model: num_experts, logit_scale. "
      "Remove those that do not concern the computation.\n"
      "  - c.json: rope_scaling is of type dynamic, which is not implemented; default, linear, "
      "llama3 and yarn are. Its frequencies depend on the length of the text.\n"
      "  - c.json: rope_scaling.beta is not known.\n"
      "  - c.json: layer_types has \"linear_attention\"; full_attention and sliding_attention "
      "are implemented.");
}

TEST(HuggingFaceConfig, NamesWhatIsNoConfiguration) {
  std::vector<std::string> types;
  for (const Architecture& architecture : architectures())
    for (const ModelType& type : architecture.types) types.emplace_back(type.name);
  EXPECT_EQ(
      error_of(R"({"model_type": "mamba"})"),
      "[config.json] c.json: model_type is \"mamba\"; implemented are " + join(types, ", ") + ".");
  EXPECT_EQ(error_of("[]"), "[config.json] c.json is no JSON object.");
  EXPECT_EQ(error_of("{"),
            "[config.json] c.json is not valid JSON: parse error at line 1, column 2: syntax error "
            "while parsing object key - unexpected end of input; expected string literal.");
  EXPECT_EQ(error_of(llama(",\n \"vocab_size\": 12")),
            "[config.json] c.json: line 3, column 2: the key \"vocab_size\" is given twice in one "
            "object. Remove one of them.");
}

TEST(HuggingFaceConfig, TakesWhatIsMissingFromTheClassOfTheModelType) {
  ModelConfig c = parse_hugging_face_config(R"({"model_type": "mistral"})", "c.json");
  EXPECT_EQ(c.layers, 32);
  EXPECT_EQ(c.d_ff, 14336);
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.context, 131072);
  EXPECT_EQ(c.window, 4096);
  EXPECT_EQ(c.notes,
            (std::vector<std::string>{
                "c.json: the file leaves sizes out, for which the defaults of transformers are "
                "taken: num_hidden_layers 32, hidden_size 4096, num_attention_heads 32, "
                "num_key_value_heads 8, intermediate_size 14336, vocab_size 32000.",
                "c.json: the file leaves sliding_window out: 4096, the default of transformers, is "
                "taken."}));
  c = parse_hugging_face_config(R"({"model_type": "mistral", "sliding_window": null})", "c");
  EXPECT_EQ(c.window, 0);
  c = parse_hugging_face_config(R"({"model_type": "qwen3", "hidden_size": 64})", "c");
  EXPECT_EQ(c.kv_heads, 32);
  EXPECT_EQ(c.d_head, 128);
  EXPECT_EQ(c.vocabulary, 151936);
  EXPECT_EQ(c.window, 0);
  c = parse_hugging_face_config(R"({"model_type": "gpt2"})", "c");
  EXPECT_EQ(c.layers, 12);
  EXPECT_EQ(c.d_ff, 3072);
  EXPECT_EQ(c.vocabulary, 50257);
}

TEST(HuggingFaceConfig, AcceptsWhatPublishedFilesCarry) {
  const ModelConfig c = parse_hugging_face_config(
      llama(R"(, "use_mrope": false, "_num_labels": 1, "auto_map": {"AutoModel": "a.B"},
                "pretraining_tp": 2, "is_llama_config": true, "rope_interleaved": false,
                "transformers.js_config": {"dtype": "q4"}, "unsloth_version": "2024.9",
                "tokenizer_class": "LlamaTokenizer", "max_sequence_length": 2048, "top_p": 0.9,
                "max_length": 20, "quantization_config": null, "pruned_heads": {}, "n_special": 0,
                "sliding_window": null, "torch_dtype": "float16", "dtype": "bfloat16",
                "num_labels": 2, "rope_scaling": null, "attention_bias": false)"),
      "c.json");
  EXPECT_EQ(c.notes.size(), 0U) << c.notes[0];
}

// The order of keys has no meaning in JSON.
TEST(HuggingFaceConfig, SettlesContradictionsAsTheLibraryDoes) {
  for (const char* text :
       {R"(, "rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5})",
        R"(, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rope_theta": 1e4)"}) {
    const ModelConfig c = parse_hugging_face_config(llama(text), "c");
    EXPECT_EQ(c.rope_base, 5e5);
    EXPECT_EQ(c.notes, (std::vector<std::string>{
                           "c: rope_theta is 10000.0, but rope_parameters.rope_theta 500000.0: the "
                           "latter is taken, as transformers does."}));
  }
  ModelConfig c = parse_hugging_face_config(
      llama(R"(, "rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2},
                "rope_parameters": {"rope_theta": 77})"),
      "c");
  EXPECT_EQ(c.rope_base, 10000);
  EXPECT_EQ(c.rope_scaling, RopeScaling());
  EXPECT_EQ(
      c.notes,
      (std::vector<std::string>{
          "c: rope_parameters and rope_scaling differ: the latter is taken whole, as transformers "
          "does.",
          "c: rope_scaling.type is \"linear\", but rope_type \"default\": the latter is taken, as "
          "transformers does.",
          "c: rope_scaling.factor is passed over: rope_type default does not use it."}));
  c = parse_hugging_face_config(
      R"({"model_type": "gpt2", "num_attention_heads": 3, "n_layer": 2, "n_embd": 12, "n_head": 4,
          "vocab_size": 7, "n_positions": 16, "n_ctx": 32})",
      "g");
  EXPECT_EQ(c.heads, 3);
  EXPECT_EQ(c.notes,
            (std::vector<std::string>{
                "g: n_head is 4, but num_attention_heads 3, another name of it: the latter "
                "is taken, as transformers does.",
                "g: n_ctx is 32, but n_positions 16: the latter is taken, as transformers "
                "does."}));
}

TEST(HuggingFaceConfig, ReadsLinearScalingAndYarn) {
  ModelConfig c = parse_hugging_face_config(
      llama(R"(, "rope_scaling": {"type": "linear", "factor": 2.5})"), "c");
  EXPECT_EQ(c.rope_scaling, (RopeScaling{.kind = RopeKind::linear, .factor = 2.5}));
  c = parse_hugging_face_config(
      llama(R"(, "max_position_embeddings": 96, "rope_scaling": {"type": "yarn", "factor": 4,
                "finetuned": true, "beta_fast": null, "beta_slow": 2})"),
      "c");
  RopeScaling expected{.kind = RopeKind::yarn, .factor = 4, .context = 96, .slow = 2};
  expected.amplitude = 0.1 * std::log(4.0) + 1;
  EXPECT_EQ(c.rope_scaling, expected);
  EXPECT_EQ(stated_context(c), 384);
  c = parse_hugging_face_config(
      llama(R"(, "max_position_embeddings": 96, "rope_parameters": {"rope_type": "yarn",
                "rope_theta": 5, "factor": null, "original_max_position_embeddings": 24,
                "mscale": 2, "mscale_all_dim": 1, "truncate": false})"),
      "c");
  expected = {.kind = RopeKind::yarn, .factor = 4, .context = 24, .whole = false};
  expected.amplitude = (0.2 * std::log(4.0) + 1) / (0.1 * std::log(4.0) + 1);
  EXPECT_EQ(c.rope_scaling, expected);
  c = parse_hugging_face_config(
      llama(R"(, "rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 1.5})"), "c");
  EXPECT_EQ(c.rope_scaling.amplitude, 1.5);
  EXPECT_EQ(error_of(llama(R"(, "rope_scaling": {"type": "yarn", "attention_factor": 0})")),
            "[config.json] 2 problems:\n"
            "  - c.json: rope_scaling lacks factor, which rope_type yarn needs.\n"
            "  - c.json: rope_scaling.attention_factor is 0; a positive number is needed.");
}

// As transformers 5.24 takes them: what another value or object says may be null beside it.
TEST(HuggingFaceConfig, NullIsNothingWhereTheLibraryHasAnotherSource) {
  for (const char* object : {"rope_parameters", "rope_scaling"}) {
    const std::string inside = fmt::format(
        R"(, "rope_theta": null, "{}": {{"rope_type": "linear", "factor": 2, "rope_theta": 7}})",
        object);
    const ModelConfig c = parse_hugging_face_config(llama(inside), "c");
    EXPECT_EQ(c.rope_base, 7);
    EXPECT_EQ(c.rope_scaling, (RopeScaling{.kind = RopeKind::linear, .factor = 2}));
    EXPECT_EQ(c.notes, parse_hugging_face_config(
                           llama(inside.substr(sizeof ", 'rope_theta': null" - 1)), "c")
                           .notes);
    // Without a base of its own the library has none, and no model.
    EXPECT_EQ(
        error_of(llama(fmt::format(
            R"(, "rope_theta": null, "{}": {{"rope_type": "linear", "factor": 2}})", object))),
        "[config.json] c.json: rope_theta is null; a value is needed.");
    EXPECT_THAT(error_of(llama(fmt::format(R"(, "{}": {{"rope_theta": null}})", object))),
                ::testing::HasSubstr("rope_theta is null"));
  }
  EXPECT_EQ(error_of(llama(R"(, "rope_theta": null)")),
            "[config.json] c.json: rope_theta is null; a value is needed.");
  EXPECT_EQ(error_of(llama(R"(, "rope_theta": null, "rope_parameters": null, "rope_scaling": {})")),
            "[config.json] c.json: rope_theta is null; a value is needed.");
  for (const char* type : {"llama", "mistral", "qwen2", "qwen3"}) {
    const auto config = [&](const std::string& key) {
      return parse_hugging_face_config(
          fmt::format(R"({{"model_type": "{}", "{}": null}})", type, key), "c.json");
    };
    for (const char* key : {"rope_scaling", "rope_parameters", "layer_types", "sliding_window",
                            "partial_rotary_factor", "original_max_position_embeddings"})
      EXPECT_EQ(config(key).rope_base, 1e4) << type << key;
    if (type != std::string("mistral")) {
      EXPECT_EQ(config("num_key_value_heads").kv_heads, 32) << type;
    }
    if (type != std::string("qwen3")) {
      EXPECT_EQ(config("head_dim").d_head, 128) << type;
    }
  }
  for (const auto& [type, key] :
       {std::pair("mistral", "num_key_value_heads"), std::pair("qwen3", "head_dim"),
        std::pair("qwen2", "use_sliding_window"), std::pair("qwen3", "max_window_layers"),
        std::pair("llama", "mlp_bias"), std::pair("gpt2", "n_embd")})
    EXPECT_THAT(error_of(fmt::format(R"({{"model_type": "{}", "{}": null}})", type, key)),
                ::testing::HasSubstr(fmt::format("{} is null; ", key)));
}

TEST(HuggingFaceConfig, HasWindowsWhereTheLibraryHasThem) {
  const auto window = [](const std::string& more) {
    return parse_hugging_face_config(
               R"({"model_type": "qwen2", "num_hidden_layers": 2, "sliding_window": 8)" + more +
                   "}",
               "c.json")
        .window;
  };
  EXPECT_EQ(window(""), 0);
  EXPECT_EQ(window(R"(, "use_sliding_window": true)"), 0);  // from layer 28 on
  EXPECT_EQ(window(R"(, "use_sliding_window": true, "max_window_layers": 1)"), 8);
  EXPECT_EQ(window(R"(, "use_sliding_window": true, "max_window_layers": 0,
                        "layer_types": ["full_attention", "full_attention"])"),
            0);
  EXPECT_EQ(error_of(R"({"model_type": "qwen2", "num_hidden_layers": 2, "sliding_window": 8,
                         "layer_types": ["full_attention", "sliding_attention"]})"),
            "[config.json] c.json: layer_types has sliding_attention, but use_sliding_window is "
            "false; use_sliding_window true and a sliding_window are needed.");
  EXPECT_EQ(
      error_of(R"({"model_type": "mistral", "num_hidden_layers": 1, "sliding_window": null,
                         "layer_types": ["sliding_attention"]})"),
      "[config.json] c.json: layer_types has sliding_attention, but sliding_window is null; a "
      "sliding_window is needed.");
  EXPECT_EQ(error_of(llama(R"(, "layer_types": ["full_attention"])")),
            "[config.json] c.json: layer_types has 1 layers, num_hidden_layers is 2; the same "
            "number is needed.");
}

TEST(HuggingFaceConfig, HasBiasesWhereTheLibraryHasThem) {
  ModelConfig c =
      parse_hugging_face_config(llama(R"(, "attention_bias": true, "mlp_bias": true)"), "c");
  EXPECT_TRUE(c.attention_bias && c.mlp_bias);
  c = parse_hugging_face_config(R"({"model_type": "mistral", "sliding_window": 5, "hidden_size": 32,
      "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 5,
      "intermediate_size": 8, "max_position_embeddings": 64, "attention_bias": true,
      "head_dim": 2})",
                                "c");
  EXPECT_FALSE(c.attention_bias);
  EXPECT_EQ(c.notes,
            (std::vector<std::string>{"c: attention_bias is passed over: transformers does "
                                      "not read it in a model of type mistral."}));
}

TEST(HuggingFaceConfig, RefusesSizesThatNoModelHas) {
  EXPECT_EQ(error_of(R"({"model_type": "llama", "num_hidden_layers": 1000000000, "hidden_size": -3,
                         "vocab_size": 9223372036854775807, "num_attention_heads": 4.5,
                         "intermediate_size": "8"})"),
            "[config.json] 5 problems:\n"
            "  - c.json: num_hidden_layers is 1000000000; an integer from 1 to 4096 is needed.\n"
            "  - c.json: hidden_size is -3; an integer from 1 to 16777216 is needed.\n"
            "  - c.json: num_attention_heads is 4.5; an integer from 1 to 65536 is needed.\n"
            "  - c.json: intermediate_size is \"8\"; an integer from 1 to 16777216 is needed.\n"
            "  - c.json: vocab_size is 9223372036854775807; an integer from 1 to 16777216 is "
            "needed.");
}

TEST(HuggingFaceConfig, IgnoresASlidingWindowThatIsSwitchedOff) {
  const std::string qwen = R"({"model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 16,
      "vocab_size": 11, "num_attention_heads": 4, "num_key_value_heads": 2,
      "intermediate_size": 24, "sliding_window": 8, "max_window_layers": 1,
      "use_sliding_window": )";
  EXPECT_EQ(parse_hugging_face_config(qwen + "false}", "c").window, 0);
  EXPECT_EQ(parse_hugging_face_config(qwen + "true}", "c").window, 8);
}

// The keys of google/gemma-2-27b as they are published.
TEST(HuggingFaceConfig, ReadsGemma2) {
  const std::string rest = R"("attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
      "head_dim": 128, "hidden_act": "gelu_pytorch_tanh",
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608, "initializer_range": 0.02,
      "intermediate_size": 36864, "max_position_embeddings": 8192, "model_type": "gemma2",
      "num_attention_heads": 32, "num_hidden_layers": 46, "num_key_value_heads": 16,
      "pad_token_id": 0, "query_pre_attn_scalar": 144, "rms_norm_eps": 1e-06,
      "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
      "use_cache": true, "vocab_size": 256000})";
  ModelConfig c = parse_hugging_face_config(
      R"({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, )" + rest, "c");
  EXPECT_EQ(c.score_cap, 50);
  EXPECT_EQ(c.logit_cap, 30);
  EXPECT_EQ(c.score_width, 144);
  EXPECT_EQ(c.window, 4096);
  EXPECT_TRUE(c.tied);
  EXPECT_TRUE(c.notes.empty());
  const ModelConfig defaults = parse_hugging_face_config("{" + rest, "c");
  EXPECT_EQ(defaults.score_cap, 50);
  EXPECT_EQ(defaults.logit_cap, 30);
  c = parse_hugging_face_config(
      R"({"attn_logit_softcapping": null, "final_logit_softcapping": null, )" + rest, "c");
  EXPECT_EQ(c.score_cap, 0);
  EXPECT_EQ(c.logit_cap, 0);
  // What stands for nothing is written as null, as its absence would be the default.
  c.window = 0;
  const ModelConfig again = parse_hugging_face_config(hugging_face_config(c, "float32"), "c");
  EXPECT_EQ(again.score_cap, 0);
  EXPECT_EQ(again.logit_cap, 0);
  EXPECT_EQ(again.window, 0);
  EXPECT_EQ(again.score_width, 144);
  EXPECT_EQ(error_of(R"({"use_bidirectional_attention": true, )" + rest),
            "[config.json] c.json: use_bidirectional_attention is true, which is not implemented; "
            "false is.");
  // Quotients by it have to stay within f32.
  for (const char* cap : {"1e+39", "1e-05"})
    EXPECT_EQ(error_of(R"({"attn_logit_softcapping": )" + std::string(cap) + ", " + rest),
              fmt::format("[config.json] c.json: attn_logit_softcapping is {}; a number from "
                          "0.0001 to 1000000 is needed.",
                          cap));
}

TEST(HuggingFaceConfig, IsReadBackAsItWasWritten) {
  for (const Architecture& each : architectures()) {
    const std::string architecture = each.name;
    ModelConfig c{.layers = 3, .d_model = 24, .heads = 4, .d_ff = 17, .vocabulary = 91};
    c.architecture = architecture;
    c.context = 77;
    c.rms_eps = 3e-6;
    c.tied = true;
    if (each.block.positions == Positions::rotary) {
      c.kv_heads = 2;
      c.d_head = 10;
      c.rope_base = 777;
      c.rope_scaling = {.kind = RopeKind::llama3, .factor = 3, .context = 32, .low = 2, .high = 5};
      if (architecture == "qwen2") c.rope_scaling = {RopeKind::linear, 1.5};
      if (architecture == "qwen3")
        c.rope_scaling = {.kind = RopeKind::yarn,
                          .factor = 3,
                          .context = 32,
                          .fast = 16,
                          .slow = 2,
                          .amplitude = 1.25,
                          .whole = false};
      c.attention_bias = architecture == "qwen3";
      c.window = 9;
    }
    const ModelConfig r = parse_hugging_face_config(hugging_face_config(c, "float32"), "c");
    c = resolved(c);
    EXPECT_EQ(r.architecture, c.architecture);
    EXPECT_EQ(r.layers, c.layers);
    EXPECT_EQ(r.d_model, c.d_model);
    EXPECT_EQ(r.heads, c.heads);
    EXPECT_EQ(r.kv_heads, c.kv_heads);
    EXPECT_EQ(r.d_head, c.d_head);
    EXPECT_EQ(r.d_ff, c.d_ff);
    EXPECT_EQ(r.vocabulary, c.vocabulary);
    EXPECT_EQ(r.context, c.context);
    EXPECT_EQ(r.rms_eps, c.rms_eps);
    EXPECT_EQ(r.rope_base, c.rope_base);
    EXPECT_EQ(r.rope_scaling, c.rope_scaling);
    EXPECT_EQ(r.window, c.window);
    EXPECT_EQ(r.attention_bias, c.attention_bias);
    EXPECT_EQ(r.tied, c.tied);
  }
}

}  // namespace
}  // namespace weir
