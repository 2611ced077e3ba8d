#pragma once
// How the weights of an architecture are called and laid out in files of Hugging Face and in GGUF,
// by the names in its description.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weir {

struct Architecture;

/// How the stored elements become those of the weight.
enum class StoredAs : uint8_t {
  same,
  transposed,     ///< GGUF stores [out, in] what GPT-2 has as [in, out]
  interleaved_q,  ///< GGUF of Llama: rows of a head permuted for rotary embedding of neighbours
  interleaved_k,
  plus_one,  ///< GGUF stores the gain of a norm whose weight is one less
};

struct GgufName {
  std::string name;
  StoredAs stored = StoredAs::same;
};

/// The names under which files of Hugging Face have the weight, the usual one (its own) first: the
/// library leaves the prefix "model." or "transformer." out when it saves a model without its head.
std::vector<std::string> hugging_face_names(const Architecture& architecture,
                                            const std::string& weight);

/// The name of the weight in GGUF.
GgufName gguf_name(const Architecture& architecture, const std::string& weight);

/// Whether a stored tensor that is no weight can be left aside: tables that the library computes
/// (rotary frequencies, causal masks).
bool is_computed_table(const Architecture& architecture, const std::string& stored);

}  // namespace weir
