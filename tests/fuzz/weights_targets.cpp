// Files of weights: safetensors, an index with shards, GGUF; and config.json.
#include <algorithm>

#include "fuzz/scratch.h"
#include "fuzz/targets.h"
#include "io/gguf.h"
#include "io/gguf_test_util.h"
#include "io/safetensors.h"
#include "models/gguf_config.h"
#include "models/hugging_face_config.h"
#include "models/stored_weights.h"
#include "support/error.h"

namespace weir {
namespace {

MappedFile memory(std::string_view bytes) {
  return MappedFile::from_memory("input", std::as_bytes(std::span(bytes)));
}

std::string small_safetensors(const std::vector<std::string>& names) {
  const std::vector<float> data = {1, 2, 3, 4, 5, 6};
  std::vector<SafetensorsItem> items;
  for (const std::string& name : names)
    items.push_back({name, FileDtype::f32, {2, 3}, std::as_bytes(std::span(data))});
  const std::string path = Scratch::instance() / "seed.safetensors";
  write_safetensors(path, items, {{"format", "pt"}});
  return Scratch::get(path);
}

// What is written must be read again, to the same text.
void check_written(const ModelConfig& config) {
  const std::string text = hugging_face_config(config, "float32");
  const std::string again =
      hugging_face_config(parse_hugging_face_config(text, "written"), "float32");
  if (text != again) throw std::logic_error("another configuration: " + text + " and " + again);
}

}  // namespace

bool fuzz_safetensors(std::string_view bytes) try {
  SafetensorsFile file(memory(bytes));
  for (const SafetensorsEntry& entry : file.entries()) (void)file.to_f32(entry.name);
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> safetensors_seeds() {
  return {small_safetensors({"a", "model.norm.weight"}), small_safetensors({})};
}

// Up to the first zero byte it is the index, then the second of two shards.
bool fuzz_shards(std::string_view bytes) try {
  const Scratch& scratch = Scratch::instance();
  static const std::string first = small_safetensors({"a", "b"});
  const size_t zero = std::min(bytes.find('\0'), bytes.size());
  scratch.put("model.safetensors.index.json", bytes.substr(0, zero));
  scratch.put("one.safetensors", first);
  scratch.put("two.safetensors", zero < bytes.size() ? bytes.substr(zero + 1) : "");
  const std::unique_ptr<StoredWeights> weights = open_safetensors_folder(scratch.folder());
  for (size_t i = 0; i < weights->tensors().size(); ++i) {
    const std::vector<int64_t>& shape = weights->tensors()[i].shape;
    const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    size_t count = empty ? 0 : 1;  // the reader has checked that the product is in the file
    for (int64_t size : shape) count *= empty ? 0 : static_cast<size_t>(size);
    std::vector<float> out(count);
    weights->read(i, out.data());
  }
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> shards_seeds() {
  const std::string index =
      R"({"metadata":{"total_size":72},"weight_map":{"a":"one.safetensors","b":"one.safetensors",)"
      R"("c":"two.safetensors"}})";
  return {index + '\0' + small_safetensors({"c"}),
          R"({"weight_map":{"b":"one.safetensors","a":"one.safetensors"}})"};
}

bool fuzz_gguf(std::string_view bytes) try {
  GgufFile file(memory(bytes));
  for (const GgufEntry& entry : file.entries()) (void)file.to_f32(entry.name);
  auto ask = [](auto question) {
    try {
      (void)question();
    } catch (const UserError&) {
    }
  };
  for (const GgufValue& value : file.values()) {
    ask([&] { return value.whole(); });
    ask([&] { return value.number(); });
    ask([&] { return value.flag(); });
    ask([&] { return value.text(); });
    ask([&] { return value.wholes(); });
    ask([&] { return value.numbers(); });
    ask([&] { return value.texts(); });
  }
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> gguf_seeds() {
  GgufBuilder builder;
  builder.text("general.architecture", "llama").value("general.alignment", kU32, raw(32U));
  builder.value("flag", kBoolean, "\1").value("eps", kF32, raw(1e-5F));
  builder.texts("words", {"a", "bc"}).list<uint64_t>("sizes", kU64, {1, 2, 3});
  builder.value(
      "lists", kList,
      raw<uint32_t>(kList) + raw<uint64_t>(1) + raw<uint32_t>(kU8) + raw<uint64_t>(2) + "xy");
  builder.stored("f", {3, 2}, 0, std::string(24, '\1'))
      .stored("q4", {32}, 3, std::string(20, '\2'));
  builder.stored("q6", {256}, 14, std::string(210, '\3')).stored("h", {2}, 1, "abcd");
  GgufBuilder empty;
  empty.version = 2;
  return {builder.build(), empty.build()};
}

bool fuzz_config(std::string_view bytes) try {
  check_written(parse_hugging_face_config(std::string(bytes), "input"));
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> config_seeds() {
  const std::string sizes =
      R"("vocab_size":256,"hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,)"
      R"("num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":128,)"
      R"("rms_norm_eps":1e-05,"rope_theta":10000.0,"hidden_act":"silu","torch_dtype":"float32",)";
  const std::string scaling =
      R"("rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
      R"("high_freq_factor":4.0,"original_max_position_embeddings":64},)";
  const std::string gpt2 =
      R"({"model_type":"gpt2","vocab_size":256,"n_embd":64,"n_layer":2,"n_head":4,)"
      R"("n_positions":128,"activation_function":"gelu_new","layer_norm_epsilon":1e-05})";
  return {R"({"model_type":"llama",)" + sizes + scaling + R"("tie_word_embeddings":true})",
          R"({"model_type":"qwen2",)" + sizes + R"("use_sliding_window":false})",
          R"({"model_type":"qwen3",)" + sizes + R"("head_dim":32,"attention_bias":false})",
          R"({"model_type":"mistral",)" + sizes + R"("sliding_window":null})", gpt2};
}

// The metadata and tensors of a GGUF file as a configuration, as it is before `weir convert` writes
// one.
bool fuzz_gguf_config(std::string_view bytes) try {
  check_written(gguf_model_config(GgufFile(memory(bytes))));
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> gguf_config_seeds() {
  const auto model = [](const std::string& name) {
    GgufBuilder b;
    b.text("general.architecture", name);
    const auto size = [&](const char* key, uint32_t value) {
      b.value(name + key, kU32, raw(value));
    };
    size(".block_count", 2);
    size(".embedding_length", 16);
    size(".feed_forward_length", 24);
    size(".attention.head_count", 2);
    size(".context_length", 32);
    b.stored("token_embd.weight", {16, 3}, 0, std::string(16 * 3 * 4, '\1'));
    return b;
  };
  GgufBuilder llama = model("llama"), qwen3 = model("qwen3"), gpt2 = model("gpt2");
  llama.value("llama.attention.layer_norm_rms_epsilon", kF32, raw(1e-5F));
  llama.list<uint32_t>("llama.attention.head_count_kv", kU32, {1, 1});
  llama.value("llama.rope.freq_base", kF32, raw(1e4F)).text("llama.rope.scaling.type", "none");
  llama.value("llama.rope.dimension_count", kU32, raw<uint32_t>(8));
  // Of 8 features a head; all divisors 1, which a scaling by 1 has.
  llama.stored("rope_freqs.weight", {4}, 0, raw(1.0F) + raw(1.0F) + raw(1.0F) + raw(1.0F));
  qwen3.value("qwen3.attention.layer_norm_rms_epsilon", kF32, raw(1e-6F));
  qwen3.value("qwen3.attention.key_length", kU32, raw<uint32_t>(6));
  qwen3.value("qwen3.attention.value_length", kU32, raw<uint32_t>(6));
  qwen3.stored("output.weight", {16, 3}, 1, std::string(16 * 3 * 2, '\2'));
  gpt2.value("gpt2.attention.layer_norm_epsilon", kF32, raw(1e-5F));
  return {llama.build(), qwen3.build(), gpt2.build()};
}

}  // namespace weir
