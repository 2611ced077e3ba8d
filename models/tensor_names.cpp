#include "models/tensor_names.h"

#include <cctype>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// N stands for the layer. Rows of a name ending in '.' serve its weight and its bias.
struct NameRow {
  const char* weight;
  const char* gguf;
  StoredAs stored = StoredAs::same;
};

// clang-format off
const std::vector<NameRow> kLlama = {
    {"model.embed_tokens.",                   "token_embd."},
    {"model.layers.N.input_layernorm.",       "blk.N.attn_norm."},
    {"model.layers.N.self_attn.q_proj.",      "blk.N.attn_q.", StoredAs::interleaved_q},
    {"model.layers.N.self_attn.k_proj.",      "blk.N.attn_k.", StoredAs::interleaved_k},
    {"model.layers.N.self_attn.v_proj.",      "blk.N.attn_v."},
    {"model.layers.N.self_attn.q_norm.",      "blk.N.attn_q_norm."},
    {"model.layers.N.self_attn.k_norm.",      "blk.N.attn_k_norm."},
    {"model.layers.N.self_attn.o_proj.",      "blk.N.attn_output."},
    {"model.layers.N.post_attention_layernorm.", "blk.N.ffn_norm."},
    {"model.layers.N.mlp.gate_proj.",         "blk.N.ffn_gate."},
    {"model.layers.N.mlp.up_proj.",           "blk.N.ffn_up."},
    {"model.layers.N.mlp.down_proj.",         "blk.N.ffn_down."},
    {"model.norm.",                           "output_norm."},
    {"lm_head.",                              "output."},
};
const std::vector<NameRow> kGpt2 = {
    {"transformer.wte.",                      "token_embd."},
    {"transformer.wpe.",                      "position_embd."},
    {"transformer.h.N.ln_1.",                 "blk.N.attn_norm."},
    {"transformer.h.N.attn.c_attn.",          "blk.N.attn_qkv.", StoredAs::transposed},
    {"transformer.h.N.attn.c_proj.",          "blk.N.attn_output.", StoredAs::transposed},
    {"transformer.h.N.ln_2.",                 "blk.N.ffn_norm."},
    {"transformer.h.N.mlp.c_fc.",             "blk.N.ffn_up.", StoredAs::transposed},
    {"transformer.h.N.mlp.c_proj.",           "blk.N.ffn_down.", StoredAs::transposed},
    {"transformer.ln_f.",                     "output_norm."},
    {"lm_head.",                              "output."},
};
// Stored by Hugging Face beside the weights, in some versions.
const char* const kLlamaTables[] = {"*rotary_emb.inv_freq"};
const char* const kGpt2Tables[] = {"{transformer.,}h.*.attn.bias", "{transformer.,}h.*.attn.masked_bias"};
// clang-format on

const std::vector<NameRow>& rows(Architecture architecture) {
  return architecture == Architecture::gpt2 ? kGpt2 : kLlama;
}

// A name cut into what the table has: "model.layers.12.mlp.up_proj.weight" is
// {"model.layers.N.mlp.up_proj.", "12", "weight"}.
struct CutName {
  std::string row, layer, kind;
};

CutName cut(const std::string& name) {
  CutName result;
  std::vector<std::string> parts = split(name, '.');
  result.kind = parts.back();
  parts.pop_back();
  for (std::string& part : parts) {
    if (result.layer.empty() && !part.empty() && std::isdigit(static_cast<unsigned char>(part[0])))
      result.layer = std::exchange(part, "N");
    result.row += part + ".";
  }
  return result;
}

}  // namespace

std::vector<std::string> hugging_face_names(Architecture architecture, const std::string& weight) {
  const std::string prefix = architecture == Architecture::gpt2 ? "transformer." : "model.";
  std::vector<std::string> names = {weight};
  if (weight.starts_with(prefix)) names.push_back(weight.substr(prefix.size()));
  return names;
}

GgufName gguf_name(Architecture architecture, const std::string& weight) {
  const CutName parts = cut(weight);
  for (const NameRow& row : rows(architecture)) {
    if (parts.row != row.weight) continue;
    GgufName result{row.gguf + parts.kind, row.stored};
    if (size_t at = result.name.find(".N."); at != std::string::npos)
      result.name.replace(at + 1, 1, parts.layer);
    const bool interleaved = row.stored != StoredAs::same && row.stored != StoredAs::transposed;
    if (interleaved && architecture != Architecture::llama) result.stored = StoredAs::same;
    if (row.stored == StoredAs::transposed && parts.kind == "bias") result.stored = StoredAs::same;
    return result;
  }
  internal_error_at("no row for the weight " + weight);
}

bool is_computed_table(Architecture architecture, const std::string& stored) {
  auto matches = [&](const auto& patterns) {
    for (const char* pattern : patterns)
      if (glob_match(pattern, stored)) return true;
    return false;
  };
  return architecture == Architecture::gpt2 ? matches(kGpt2Tables) : matches(kLlamaTables);
}

}  // namespace weir
