#pragma once
// The BPE model of a GGUF file (tokenizer.ggml.*).
#include "io/bpe.h"
#include "io/gguf.h"

namespace weir {

/// tokenizer.ggml.model is "gpt2" or "llama". For gpt2, byte-level BPE, tokenizer.ggml.pre must be
/// one of the known ways to cut text: gpt-2, smollm, starcoder, llama-bpe (llama3, llama-v3), qwen2
/// (deepseek-r1-qwen), tekken, smaug-bpe and dbrx. For llama, SentencePiece's BPE, tokens are
/// joined by tokenizer.ggml.scores, and ids are those of llama.cpp. Control and user-defined tokens
/// (and llama's unknown one) become added tokens. The format does not carry whether they strip
/// white space; they do not here. UserError that names what is missing, unknown or of another kind.
BpeModel gguf_tokenizer(const GgufFile& file);

}  // namespace weir
